"""`dsa110 shift`: the log of the shifts, and the morning report."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dsa110_assets.stages.operations.morning_report import Report

app = typer.Typer(invoke_without_command=True)
Night = Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Night (UTC date).")]


@app.callback()
def shift(
    context: typer.Context,
    *,
    night: Night = None,
    last: Annotated[int, typer.Option(min=1, max=1000, help="Number of entries.")] = 20,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the newest entries of the shift's log.

    With --night those about a night.

    Example: `dsa110 shift --last 5`
    """
    if context.invoked_subcommand is not None:
        return
    from dsa110_assets.cli.output import emit_json
    from dsa110_assets.registry.queries.shift import entries
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        rows = entries(session, night=None if night is None else night.date(), limit=last).rows
    if json:
        emit_json(rows)
        return
    for row in reversed(rows):
        names = ", ".join(str(row[name]) for name in ("night", "group_id", "source") if row[name] is not None)
        about = f" ({names})" if names else ""
        typer.echo(f"{row['written_at']:%Y-%m-%d %H:%M} UTC  {row['person']}{about}: {row['text']}")
    if not rows:
        typer.echo("no entry; write one with `dsa110 shift write TEXT --by NAME`")


@app.command("write")
def write(
    text: Annotated[str, typer.Argument(help="What you saw or did.")],
    *,
    by: Annotated[str, typer.Option(help="Your name.")],
    night: Night = None,
    observation: Annotated[str | None, typer.Option(help="Observation that it is about, YYYY-MM-DDTHH:MM:SS.")] = None,
    source: Annotated[int | None, typer.Option(min=0, max=2**62, help="Number of the source that it is about.")] = None,
) -> None:
    """Add an entry to the shift's log. Entries are never changed; correct one with another.

    Example: `dsa110 shift write "antenna 24 was restarted" --by "J. Doe"`
    """
    from dsa110_assets.stages.operations.shift import write as add
    from dsa110_assets.stages.platform import Platform

    with Platform.open().database.session() as session:
        number = add(session, text, person=by, group_id=observation, source_id=source, night=None if night is None else night.date())
    typer.echo(f"entry {number}")


@app.command("report")
def report(*, night: Night = None, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the morning report: a night in figures.

    The default is the last night that is over. A night is a UTC date.

    Example: `dsa110 shift report`
    """
    from dataclasses import asdict

    from dsa110_assets.cli.output import emit_json
    from dsa110_assets.stages.operations import morning_report
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.attempts import now

    chosen = morning_report.last_night(now()) if night is None else night.date()
    made = morning_report.report(Platform.open(), chosen, now())
    if json:
        emit_json(asdict(made))
    else:
        typer.echo("\n".join(_lines(made)))


def _lines(made: Report) -> list[str]:
    observed, lost, quality, waiting = made.observed, made.lost, made.quality, made.waiting
    states = ", ".join(f"{number} {state}" for state, number in observed.by_state.items()) or "none"
    medians = ", ".join(f"{name} {value:.3g}" for name, value in quality.medians.items() if value is not None) or "not measured"
    lines = [
        f"Night of {made.night}{'' if made.is_over else ' (not over yet)'}",
        f"observed    {observed.observations} observations ({states}), {observed.hours:.1f} h of {observed.possible_hours:.1f} h, "
        f"{observed.n_gaps} gaps" + (f", the longest {observed.gaps[0].minutes:g} min" if observed.gaps else ""),
        f"lost        {lost.n_failed} failed, {lost.n_incomplete} incomplete, {len(lost.refused_files)} raw files refused",
        *(f"            {one.group_id} {one.state}: {one.reason}" for one in lost.observations),
        *(f"            {one['path']}: {one['reason']}" for one in lost.refused_files),
        f"quality     {quality.good} good, {quality.refused} refused, {quality.not_measured} not measured tiles"
        + (f": {quality.causes}" if quality.causes else ""),
        f"            medians: {medians}",
        *(f"            tables of {one['calibrator']}: {'accepted' if one['accepted'] else 'refused'}" for one in quality.tables),
        *(f"            antenna {one['antenna']} is marked bad: {one['reason']} ({one['marked_by']})" for one in quality.bad_antennas),
        f"candidates  {len(made.candidates)} as of the night, "
        f"{sum(one['first_night'] == made.night for one in made.candidates)} new, {waiting.unlabeled_candidates} without a label",
        *(f"            {one['rank']}. {one['name']}: score {one['score']:.1f}" for one in made.candidates[:5]),
        f"alerts      {len(made.alerts)} appeared in the night",
        *(f"            {one['opened_at']:%H:%M} {one['title']}" for one in made.alerts),
        f"waits       {waiting.pending} pending observations ({waiting.awaiting_calibration} for calibration), "
        f"{sum(one.acknowledged is None for one in waiting.open_alerts)} open alerts",
        *(f"            {one.line()}" for one in waiting.open_alerts),
        f"log         {len(made.entries)} entries",
        *(f"            {one['written_at']:%H:%M} {one['person']}: {one['text']}" for one in made.entries),
    ]
    return [" ".join(line.split("\n")) for line in lines]
