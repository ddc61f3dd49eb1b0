"""Marks of people: a tile, an antenna or a calibration solution is bad, or a refused one is good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.stages.operations.mark_plans import Expected
    from dsa110_assets.stages.operations.marks import Consequences

app = typer.Typer(no_args_is_help=True)
Observation = Annotated[str, typer.Argument(metavar="ID", help="Observation, YYYY-MM-DDTHH:MM:SS.")]
Bad = Annotated[bool, typer.Option("--bad/--good", help="Do not use it, or use it although it was refused.")]
Reason = Annotated[str, typer.Option(help="Why.")]
_MOST_SHOWN = 40
_MOST_KEYS = 4
By = Annotated[str, typer.Option(help="Your name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List all that it would make stale; change nothing.")]


@app.callback()
def _group() -> None:
    """Mark tiles, antennas and solutions as bad, or as good. What it changes is stale.

    Example: `dsa110 mark tile 2025-12-01T05:10:27 --bad --reason "satellite" --by "J. Doe"`
    """


@app.command("tile")
def tile(observation: Observation, *, bad: Bad, reason: Reason, by: By, dry_run: DryRun = False) -> None:
    """Mark the tile of an observation. Mosaics leave a bad one out, and take a good one although it was refused.

    Example: `dsa110 mark tile 2025-12-01T05:10:27 --bad --reason "satellite" --by "J. Doe"`
    """
    _mark("tile", observation, bad=bad, reason=reason, by=by, dry_run=dry_run)


@app.command("solution")
def solution(observation: Observation, *, bad: Bad, reason: Reason, by: By, dry_run: DryRun = False) -> None:
    """Mark the tables solved on an observation. Bad ones are applied to nothing, good ones although refused.

    Example: `dsa110 mark solution 2025-12-01T05:10:27 --good --reason "few antennas, but fine" --by "J. Doe"`
    """
    _mark("solution", observation, bad=bad, reason=reason, by=by, dry_run=dry_run)


@app.command("antenna")
def antenna(
    name: Annotated[str, typer.Argument(metavar="ANTENNA", help="Name of the antenna.")],
    *,
    since: Annotated[str, typer.Option("--from", metavar="TIME", help="From this time (UTC).")],
    until: Annotated[str | None, typer.Option("--to", metavar="TIME", help="To this time; without it, for all later observations.")] = None,
    reason: Reason,
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Mark an antenna as bad. It is flagged in all observations of the span.

    The same antenna with the same --from again replaces the mark: so it gets an end once the antenna is repaired.

    Example: `dsa110 mark antenna 24 --from 2025-12-01T05:00 --dry-run --reason "warm" --by "J. Doe"`

    Example: `dsa110 mark antenna 24 --from 2025-12-01T05:00 --to 2025-12-03T18:30 --reason "warm" --by "J. Doe"`
    """
    from dsa110_assets.cli.times import mjd_of
    from dsa110_assets.stages.operations.antenna_marks import mark_antenna
    from dsa110_assets.stages.platform import Platform

    from_mjd, to_mjd = mjd_of(since), None if until is None else mjd_of(until)
    if dry_run:
        from dsa110_assets.stages.operations.mark_plans import expected_of_antenna

        _show_plan(expected_of_antenna(Platform.open(), name, from_mjd=from_mjd, to_mjd=to_mjd))
        return
    _show(mark_antenna(Platform.open(), name, from_mjd=from_mjd, to_mjd=to_mjd, reason=reason, person=by))


@app.command("remove")
def remove(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="tile, solution or antenna.")],
    subject: Annotated[str, typer.Argument(metavar="ID", help="Observation; of an antenna the number of the mark.")],
    *,
    by: By,
    dry_run: DryRun = False,
) -> None:
    """Take a mark away. The verdict of the checks counts again.

    Example: `dsa110 mark remove tile 2025-12-01T05:10:27 --by "J. Doe"`
    """
    from dsa110_assets.errors import InvalidRequestError
    from dsa110_assets.registry.schema import MarkKind
    from dsa110_assets.stages.operations.antenna_marks import unmark_antenna
    from dsa110_assets.stages.operations.mark_plans import expected, expected_without_antenna_mark
    from dsa110_assets.stages.operations.marks import unmark
    from dsa110_assets.stages.platform import Platform

    if kind == "antenna":
        if not subject.isdecimal() or len(subject) > 18:
            raise InvalidRequestError(subject, "is not the number of a mark", "take it from `dsa110 mark antennas`")
        if dry_run:
            _show_plan(expected_without_antenna_mark(Platform.open(), int(subject)))
        else:
            _show(unmark_antenna(Platform.open(), int(subject), person=by))
        return
    if kind not in set(MarkKind):
        raise InvalidRequestError(kind, "cannot be marked", "give tile, solution or antenna")
    if dry_run:
        _show_plan(expected(Platform.open(), MarkKind(kind), subject, None))
    else:
        _show(unmark(Platform.open(), MarkKind(kind), subject, person=by))


@app.command("list")
def list_marks(
    *,
    every: Annotated[bool, typer.Option("--all", help="Also marks that were removed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of marks, the newest.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List marks on tiles and solutions, the newest first.

    Example: `dsa110 mark list --all`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries import marks
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        found = marks.newest(session, valid_only=not every, after=None, limit=limit).rows
    if json:
        emit_json(found)
    elif not found:
        typer.echo("no marks")
    else:
        columns = ("kind", "group_id", "decision", "reason", "marked_by", "marked_at", "removed_by")
        emit_table(columns, [tuple(str(one[name] or "") for name in columns) for one in found])


@app.command("antennas")
def list_antennas(
    *,
    every: Annotated[bool, typer.Option("--all", help="Also marks that were removed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Number of marks, the newest.")] = 100,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List marks on antennas with their numbers, the newest first.

    Example: `dsa110 mark antennas --all`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries import antenna_marks
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.times import mjd_to_datetime

    with Platform.open().database.session() as session:
        found = antenna_marks.newest(session, valid_only=not every, after=None, limit=limit).rows
    if json:
        emit_json(found)
    elif not found:
        typer.echo("no marks on antennas")
    else:
        times = [
            [None if one[name] is None else f"{mjd_to_datetime(one[name]):%Y-%m-%dT%H:%M:%S}" for name in ("from_mjd", "to_mjd")]
            for one in found
        ]
        emit_table(
            ("number", "antenna", "from", "to", "reason", "marked_by", "removed_by"),
            [
                (one["mark_id"], one["antenna"], *span, one["reason"], one["marked_by"], one["removed_by"])
                for one, span in zip(found, times, strict=True)
            ],
        )


def _mark(kind: str, observation: str, *, bad: bool, reason: str, by: str, dry_run: bool) -> None:
    from dsa110_assets.registry.schema import MarkDecision, MarkKind
    from dsa110_assets.stages.operations.mark_plans import expected
    from dsa110_assets.stages.operations.marks import mark
    from dsa110_assets.stages.platform import Platform

    decision = MarkDecision.BAD if bad else MarkDecision.GOOD
    if dry_run:
        _show_plan(expected(Platform.open(), MarkKind(kind), observation, decision))
    else:
        _show(mark(Platform.open(), MarkKind(kind), observation, decision, reason=reason, person=by))


def _show_plan(found: Expected) -> None:
    """Say what would be stale, and for how long it is made again."""
    from dsa110_assets.cli.output import emit_table

    if found.products:
        rows = [
            (product, str(len(keys)), ", ".join(keys[:_MOST_KEYS]) + (" ..." if len(keys) > _MOST_KEYS else ""))
            for product, keys in found.by_product().items()
        ]
        emit_table(("would be stale", "number", "which"), rows)
    else:
        typer.echo("nothing that was made would come out differently")
    if found.total_s is not None:
        typer.echo(f"about {found.total_s / 3600:.1f} h to make them again, one after another")
    if found.settled:
        typer.echo(f"{found.settled} products that marks have made stale would not be stale any more")
    _show_exceptions(found)


def _show(found: Consequences) -> None:
    """Say what is to be made again."""
    from dsa110_assets.cli.output import emit_table
    from dsa110_assets.stages.operations.staleness import partition_of

    if found.products:
        rows = [(product, partition_of(product, key) or key) for product, key in found.products]
        emit_table(("comes out differently", "partition"), rows[:_MOST_SHOWN])
        if len(rows) > _MOST_SHOWN:
            typer.echo(f"and {len(rows) - _MOST_SHOWN} more")
        typer.echo("`dsa110 backfill --marked` makes these again, and what is made from them; `--dry-run` lists all of it")
    else:
        typer.echo("nothing that was made comes out differently")
    _show_exceptions(found)


def _show_exceptions(found: Consequences | Expected) -> None:
    """Say what cannot be made again."""
    for name in found.without_tiles:
        typer.echo(f"{name} loses its last good tile: `dsa110 lightcurve exclude {name} --reason TEXT --by NAME` takes it out")
    if found.without_files:
        nights = sorted({one[:10] for one in found.without_files})
        typer.echo(
            f"{len(found.without_files)} observations of {nights[0]} to {nights[-1]} have no Measurement Set any more (retention) and "
            "stay as they are; where raw files exist, `dsa110 backfill NIGHT --from measurement_set` makes them again"
        )
