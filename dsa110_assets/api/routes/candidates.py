"""Candidates and the labels that people give to their events."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi import Path as InPath
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from dsa110_assets.api.access import Opened, Person
from dsa110_assets.api.answers import (
    Cursor,
    Day,
    Limit,
    Number,
    Order,
    TableFormat,
    Text,
    descending,
    key_of,
    model_of,
    page_of,
    paged,
    table,
)
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import events, labels
from dsa110_assets.registry.queries.pages import MOST_ROWS
from dsa110_assets.stages.operations import labels as operations

router = APIRouter()
Candidate = model_of("Candidate", events.CANDIDATE)
MOST_EXPORTED = 10_000
"""Rows of a table of candidates."""
EventId = Annotated[int, InPath(ge=0, le=2**62, description="Number of the candidate's event.")]
_TABLES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/csv": {}, "application/x-votable+xml": {}, "application/vnd.apache.parquet": {}}}
}


class Label(BaseModel):
    """A person's label and comment on a candidate; null removes them."""

    label: str | None = Field(None, min_length=1, max_length=60, pattern=r"^[^\x00-\x1f\x7f]+$")
    comment: str | None = Field(None, min_length=1, max_length=2000, pattern=r"^[^\x00]+$")


class Labeled(BaseModel):
    """What a person says about an event now."""

    person: str
    label: str | None
    comment: str | None
    labeled_at: datetime


class Said(Labeled):
    """What a person said: until ``superseded_at``, null for now. ``undone``: the person took it back."""

    superseded_at: datetime | None
    undone: bool


class OtherEvent(BaseModel):
    """An event of a source. ``label``: the newest of anybody."""

    event_id: int
    source_id: int
    kind: str
    peak_mjd: float
    first_mjd: float
    last_mjd: float
    depth: float
    score: float
    first_night: date
    first_seen_at: datetime
    last_seen_at: datetime
    label: str | None


class Event(OtherEvent):
    """An event with its source, the newest ranking that found it, all labels, and other events of the source."""

    name: str
    ra_deg: float
    dec_deg: float
    night: date | None
    rank: int | None
    false_alarm_probability: float | None
    reasons: str | None
    labels: list[Labeled]
    history: list[Said]
    others: list[OtherEvent]


@router.get("/api/candidates", tags=["candidates"], response_model=page_of(Candidate), responses=_TABLES)
def list_candidates(
    opened: Opened,
    request: Request,
    night: Annotated[Day | None, Query(description="As of this night; default: the newest.")] = None,
    min_score: Number = None,
    label: Text = None,
    unlabeled: bool = False,
    unlabeled_by: Text = None,
    cursor: Cursor = None,
    limit: Limit = 100,
    form: Annotated[TableFormat, Query(alias="format")] = TableFormat.JSON,
    max_score: Number = None,
    sort: Literal["rank", "score", "depth", "time"] = "rank",
    order: Order = None,
) -> dict[str, Any] | Response:
    """ESE candidates as of a night, best, deepest or latest first, or as ``order`` says.

    ``label``, ``comment``, ``labeled_by`` are the newest of anybody.

    The filter ``label``: somebody gave this label; ``unlabeled``: nobody labeled the event; ``unlabeled_by``: this
    person did not. As CSV, VOTable or Parquet the list is whole, up to 10 000 rows.
    """
    with opened.session() as session:

        def one_page(after: tuple[Any, ...] | None, rows: int) -> events.Page:
            return events.candidates(
                session,
                night=night,
                min_score=min_score,
                max_score=max_score,
                label=label,
                unlabeled=unlabeled,
                unlabeled_by=unlabeled_by,
                sort=sort,
                descending=descending(order),
                after=after,
                limit=rows,
            )

        if form is TableFormat.JSON:
            return paged(request, one_page(key_of(cursor, int if sort == "rank" else float, int), limit))
        as_of = night or events.newest_night(session)
        found, after = [], None
        while len(found) < MOST_EXPORTED:
            page = one_page(after, MOST_ROWS)
            found += page.rows
            if (after := page.next_key) is None:
                break
    import pandas as pd

    frame = pd.DataFrame(found, columns=[str(column.key) for column in events.CANDIDATE])
    return table(frame, form, f"candidates_{as_of or 'none'}")


@router.get("/api/candidates/{event_id}", tags=["candidates"], response_model=Event)
def show_event(opened: Opened, event_id: EventId) -> dict[str, Any]:
    """One event: its newest ranking, everybody's labels with their history, other events of the source."""
    with opened.session() as session:
        return event_of(session, event_id)


@router.put("/api/candidates/{event_id}/label", tags=["candidates"], status_code=204)
def put_label(opened: Opened, person: Person, event_id: EventId, wanted: Annotated[Label, Body()]) -> None:
    """Set your label and comment on a candidate's event, or remove them. Those of others stay."""
    with opened.session() as session:
        operations.label(session, event_id, person=person, label=wanted.label, comment=wanted.comment)


@router.post("/api/candidates/{event_id}/label/undo", tags=["candidates"], status_code=204)
def undo_label(opened: Opened, person: Person, event_id: EventId) -> None:
    """Take back your last label or comment on an event; again: the one before."""
    with opened.session() as session:
        operations.undo(session, event_id, person=person)


def event_of(session: Session, event_id: int) -> dict[str, Any]:
    """An event with labels, history and the other events of its source.

    Raises:
        NotFoundError: there is no such event.
    """
    found = events.event(session, event_id)
    if found is None:
        raise NotFoundError(f"event {event_id}", "there is no event of this number", "list candidates: /api/candidates")
    return found | {
        "labels": labels.labels_of(session, [event_id])[event_id],
        "history": labels.history_of(session, event_id),
        "others": events.events_of_source(session, found["source_id"], without=event_id),
    }
