"""`dsa110 clean`: remove what the retention rules allow."""

from __future__ import annotations

from typing import Annotated

import typer


def clean(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed; remove nothing.")] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough", help="Also walk all product folders for staging that is not in the journal, and retry what could not be removed."
        ),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remove what is no longer needed.

    That is: what crashes left in staging, parts of products and rows of the registry that are older than their setting
    (PIPELINE_KEEP_...), captured output of old runs. Raw files are never removed. The platform does this once a day
    (job `housekeeping`). `dsa110 config show` explains the settings. Exit code 1: something could not be removed.

    Example: `dsa110 clean --dry-run`
    """
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.stages.operations import disk, housekeeping
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    platform, when = Platform.open(), now()
    removals = housekeeping.plan(platform, when, thorough=thorough)
    if not dry_run:
        removals = housekeeping.carry_out(platform, removals, when)
    problems = sum(bool(one.problem) for one in removals)
    full = disk.forecast(platform, when)
    if json:
        emit_json(
            {
                "removed": not dry_run,
                "removals": [asdict(one) for one in removals],
                "days_until_full": {str(place): days for place, days in full.items()},
            }
        )
        raise typer.Exit(1 if problems else 0)
    if removals:
        rows = [(o.rule, o.what, f"{o.size_bytes / 1e6:.1f}", o.problem or o.reason) for o in removals]
        emit_table(("rule", "what", "MB", "why"), rows)
    freed = sum(one.size_bytes for one in removals if not one.problem)
    typer.echo(f"{freed / 1e6:.1f} MB {'would be' if dry_run else 'was'} removed" + (f"; {problems} could not be" if problems else ""))
    for place, days in full.items():
        typer.echo(f"at the present rate the disk of {place} is full in {days} days")
    raise typer.Exit(1 if problems else 0)
