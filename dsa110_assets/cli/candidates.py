"""`dsa110 candidates`: list candidates, and give their events a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
EventNumber = Annotated[int, typer.Argument(metavar="EVENT", help="Number of the event, from `list`.", min=0, max=2**62)]
By = Annotated[str, typer.Option(help="Your name. A label belongs to a person.")]


@app.callback()
def _group() -> None:
    """List candidates, and label their events.

    Example: `dsa110 candidates list --unlabeled`
    """


@app.command("list")
def show_list(
    *,
    night: Annotated[str | None, typer.Option(help="UTC date. Default: the newest night.")] = None,
    unlabeled: Annotated[bool, typer.Option("--unlabeled", help="Only events that nobody labeled.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number.")] = 50,
    json: Json = False,
) -> None:
    """List candidates, best first, with the newest label.

    Example: `dsa110 candidates list --unlabeled`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.cli.times import night_of
    from dsa110_assets.registry.queries.events import candidates

    as_of = night_of(night)
    with _platform().database.session() as session:
        page = candidates(session, night=as_of, min_score=None, label=None, unlabeled=unlabeled, after=None, limit=limit)
    if page.next_key is not None:
        typer.echo(f"only the best {limit}; use --limit", err=True)
    columns = ("event_id", "rank", "name", "kind", "score", "depth", "reasons", "label", "labeled_by", "comment")
    if json:
        emit_json(page.rows)
    else:
        emit_table(columns, [[_cell(row[column]) for column in columns] for row in page.rows])


@app.command("label")
def label(
    event: EventNumber,
    word: Annotated[
        str | None, typer.Argument(help="Label, such as ese, maybe, variable, artifact, calibration. None removes yours.")
    ] = None,
    *,
    by: By,
    comment: Annotated[str | None, typer.Option(help="A note.")] = None,
) -> None:
    """Give an event your label and note.

    Those of others stay. Your earlier ones stay in its history.

    Example: `dsa110 candidates label 12 ese --by "J. Doe" --comment "deep, and clean neighbors"`
    """
    from dsa110_assets.stages.operations import labels

    with _platform().database.session() as session:
        labels.label(session, event, person=by, label=word, comment=comment)
    typer.echo(f"event {event}: {word or 'no label'} by {by}")


@app.command("undo")
def undo(event: EventNumber, *, by: By) -> None:
    """Take back your last label or note on an event.

    Again: the one before.

    Example: `dsa110 candidates undo 12 --by "J. Doe"`
    """
    from dsa110_assets.stages.operations import labels

    with _platform().database.session() as session:
        labels.undo(session, event, person=by)
    typer.echo(f"event {event}: the last label of {by} is undone")


@app.command("history")
def history(event: EventNumber, *, json: Json = False) -> None:
    """Show what people said about an event, newest first.

    Example: `dsa110 candidates history 12`
    """
    from dsa110_assets.cli.output import emit_json, emit_table
    from dsa110_assets.registry.queries.labels import history_of

    with _platform().database.session() as session:
        rows = history_of(session, event)
    columns = ("person", "label", "comment", "labeled_at", "superseded_at", "undone")
    if json:
        emit_json(rows)
    else:
        emit_table(columns, [[row[column] for column in columns] for row in rows])


def _platform() -> Platform:
    from dsa110_assets.stages.platform import Platform

    return Platform.open()


def _cell(value: Any) -> Any:
    return f"{value:.3g}" if isinstance(value, float) else value
