"""`dsa110 clean`: remove what the retention rules allow."""

from __future__ import annotations

from typing import Annotated

import typer


def clean(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed; remove nothing.")] = False,
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Also walk all product folders for what releases without a staging journal left.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove what is no longer needed.

    That is: leftovers of crashes in staging, model columns, captured output of old runs, superseded versions. Raw files
    and current products are never removed; Measurement Sets only if PIPELINE_KEEP_MEASUREMENT_SETS_DAYS is set. The
    platform does this once a day (job `housekeeping`). Settings hold the rules: `dsa110 config show`.

    Example: `dsa110 clean --dry-run`
    """
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.stages.operations import housekeeping
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    platform, when = Platform.open(), now()
    removals = housekeeping.plan(platform, when, thorough=thorough)
    if not dry_run:
        housekeeping.carry_out(platform, removals, when)
    if json:
        emit_json({"removed": not dry_run, "removals": [asdict(one) for one in removals]})
        return
    if removals:
        emit_table(("rule", "what", "MB", "why"), [(o.rule, o.what, f"{o.size_bytes / 1e6:.1f}", o.reason) for o in removals])
    verb = "would be" if dry_run else "was"
    typer.echo(f"{sum(one.size_bytes for one in removals) / 1e6:.1f} MB {verb} removed")
