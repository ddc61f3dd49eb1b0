"""`dsa110 stale`: which products would come out differently today, and why."""

from __future__ import annotations

from typing import Annotated

import typer


def stale(
    *,
    night: Annotated[str | None, typer.Option(help="Only this night, YYYY-MM-DD.")] = None,
    partitions: Annotated[bool, typer.Option("--partitions", help="List each partition instead of totals for each asset.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List products that would come out differently today.

    They were made by other code, with other settings, or from inputs that have changed since.

    `dsa110 backfill --stale` remakes exactly these. Exit code 1: something is stale.

    Example: `PIPELINE_BRIGGS_ROBUST=0 dsa110 stale --partitions`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.stages.operations.staleness import stale_partitions, summary
    from dsa110_assets.stages.platform import Platform

    found = [one for one in stale_partitions(Platform.open()) if night is None or one.night == night]
    if json:
        emit_json(
            [{"asset": o.asset, "partition": o.partition, "key": o.key, "reasons": list(o.reasons), "made_at": o.made_at} for o in found]
        )
    elif not found:
        typer.echo("nothing is stale")
    elif partitions:
        rows = [(o.asset, o.partition or o.key, ", ".join(o.reasons), f"{o.made_at:%Y-%m-%d %H:%M}") for o in found]
        emit_table(("asset", "partition", "reasons", "made (UTC)"), rows)
    else:
        emit_table(("asset", "stale", "reasons", "first night", "last night"), [tuple(row.values()) for row in summary(found)])
    raise typer.Exit(1 if found else 0)
