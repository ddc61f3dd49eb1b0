"""`dsa110 backfill`: remake partitions through the running platform, as a Dagster backfill that the UI shows."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer


def backfill(
    night: Annotated[
        datetime | None, typer.Argument(formats=["%Y-%m-%d"], help="First night (UTC). Optional with --stale or --only-failed.")
    ] = None,
    *,
    to: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="Last night. Default: the first night.")
    ] = None,
    start: Annotated[str | None, typer.Option("--from", help="First asset to remake, such as calibrated_ms.")] = None,
    only_failed: Annotated[bool, typer.Option("--only-failed", help="Only failed observations.")] = False,
    observation: Annotated[str | None, typer.Option(metavar="ID", help="Only what is made from this observation.")] = None,
    stale: Annotated[bool, typer.Option("--stale", help="Only stale products.")] = False,
    marked: Annotated[bool, typer.Option("--marked", help="Only what marks of people have made stale.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be made; make nothing.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Remake the products of a night or a range of nights.

    Live data have priority over these runs. Exit code 1: there is nothing to make.

    Example: `dsa110 backfill 2025-12-01 --to 2025-12-03 --from calibrated_ms`

    Example: `dsa110 backfill --observation 2025-12-01T05:10:27 --from tile_image --dry-run`

    Example: `dsa110 backfill --stale --dry-run`
    """
    from dsa110_assets.api.dagster import Dagster
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.stages.operations.backfill import plan
    from dsa110_assets.stages.platform import Platform

    platform = Platform.open()
    first, last = night.date() if night else None, to.date() if to else None
    chosen = plan(
        platform, first, last, start=start, only_failed=only_failed, only_stale=stale, only_marked=marked, observation=observation
    )
    days = " .. ".join(str(day) for day in (first, last) if day)
    title = "stale products" if stale else "failed observations" if only_failed else "marked products" if marked else observation or days
    dagster = Dagster(platform.config)
    backfill_id = dagster.launch_backfill(chosen, title) if chosen.partitions and not dry_run else None
    if json:
        emit_json({"partitions": {a: list(k) for a, k in chosen.partitions.items()}, "left_out": chosen.left_out, "backfill": backfill_id})
    else:
        if chosen.partitions:
            emit_table(("asset", "partitions", "which"), [tuple(row.values()) for row in chosen.rows()])
        for line in chosen.left_out:
            typer.echo(f"left out: {line}")
        if backfill_id:
            typer.echo(f"backfill {backfill_id}: {dagster.url}/runs/b/{backfill_id}")
        elif not chosen.partitions:
            typer.echo("there is nothing to make")
    raise typer.Exit(0 if chosen.partitions else 1)
