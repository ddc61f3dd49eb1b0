"""`dsa110 targets`: positions that people add to the list of monitored positions."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Positions to measure in every mosaic. They come beside the observer's file.

    Example: `dsa110 targets add "my source" "08:34:54.9 +55:34:21" --by "J. Doe"`
    """


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="Name of the target; new.")],
    position: Annotated[str, typer.Argument(help="ICRS, such as 08:34:54.9 +55:34:21 or 128.729 +55.572, as one argument.")],
    *,
    by: Annotated[str, typer.Option(help="Who adds it.")],
    reason: Annotated[str, typer.Option(help="Why.")] = "",
) -> None:
    """Add a target. It is measured in each new mosaic, and runs of the platform measure it in past ones.

    Example: `dsa110 targets add "my source" "08:34:54.9 +55:34:21" --by "J. Doe" --reason "flare in X-rays"`
    """
    from dsa110_assets.common.position_lists import position_of
    from dsa110_assets.errors import PositionsError
    from dsa110_assets.stages.operations import targets
    from dsa110_assets.stages.platform import Platform

    where = position_of(position)
    if where is None:
        raise PositionsError(f"target {name}", f"{position!r} is no position", "write it as 08:34:54.9 +55:34:21 or 128.729 +55.572")
    added = targets.add_target(Platform.open(), name, *where, person=by, reason=reason)
    past = "; the platform measures it in past mosaics now" if added.past_mosaics else "; there is no past mosaic"
    typer.echo(f"{added.name} is source {added.source_id}{past}")


@app.command("list")
def show(*, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the targets, newest first.

    Example: `dsa110 targets list`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries.positions import targets
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        rows = targets(session)
    if json:
        emit_json(rows)
        return
    columns = ("name", "source_id", "ra_deg", "dec_deg", "person", "added_at", "reason")
    emit_table(columns, [[row[column] for column in columns] for row in rows])


@app.command("remove")
def remove(name: Annotated[str, typer.Argument(help="Name of the target.")]) -> None:
    """Remove a target. Its light curve stays, and gets no new points.

    Example: `dsa110 targets remove "my source"`
    """
    from dsa110_assets.stages.operations import targets
    from dsa110_assets.stages.platform import Platform

    targets.remove_target(Platform.open(), name)
    typer.echo(f"{name} is no longer measured")
