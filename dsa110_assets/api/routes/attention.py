"""What needs a person: open alerts and answers to them, refused raw files, and what people have changed."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field

from dsa110_assets.api.access import Access, Opened, Person
from dsa110_assets.api.answers import NOT_BLANK, Cursor, Limit, Moment, Text, key_of, model_of, page_of, paged, utc, utc_now
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.registry.queries import people, today
from dsa110_assets.stages.operations import attention
from dsa110_assets.stages.operations.alert_table import Alert
from dsa110_assets.stages.operations.attention import OpenAlert

router = APIRouter()
RefusedFile = model_of("RefusedFile", today.REFUSED_FILE)
Action = model_of("Action", people.ACTION)
AlertKey = Annotated[str, Field(min_length=3, max_length=400, pattern=r"^[a-z-]+/[^\x00-\x1f\x7f]+$")]


class Acknowledgement(BaseModel):
    """Which alert becomes quiet, why, and until when (null: as long as it lasts)."""

    key: AlertKey
    reason: str = Field(min_length=1, max_length=1000, pattern=NOT_BLANK)
    until: Moment | None = None


class TakenBack(BaseModel):
    """Which alert is no longer quiet."""

    key: AlertKey


@router.get("/api/alerts", tags=["operation"])
def alerts(opened: Opened, request: Request) -> list[OpenAlert]:
    """Open alerts, those that nobody has acknowledged first; with what people answered. At most ten seconds old."""
    opened.ping()
    found = present_alerts(opened, request)
    with opened.session() as session:
        return attention.open_alerts(session, found, utc_now())


def present_alerts(opened: Access, request: Request) -> list[Alert]:
    """What there is to alert of, at most ten seconds old: many pages need it, and it takes a tenth of a second."""
    from dsa110_assets.stages.operations.alerts import conditions

    return request.app.state.alerts.get(lambda: conditions(opened.platform, utc_now()))


@router.post("/api/alerts/acknowledge", tags=["operation"], status_code=204)
def acknowledge(opened: Opened, person: Person, wanted: Annotated[Acknowledgement, Body()]) -> None:
    """Make an open alert quiet: it stays in the list, and nothing is sent about it.

    If it is still open when the time is over, it is sent again.
    """
    acknowledge_as(opened, person, wanted)


@router.post("/api/alerts/take-back", tags=["operation"], status_code=204)
def take_back(opened: Opened, person: Person, wanted: Annotated[TakenBack, Body()]) -> None:
    """Take an acknowledgement back; an alert that is still open is sent again."""
    take_back_as(opened, person, wanted)


@router.get("/api/data/refused-files", tags=["ingest"], response_model=page_of(RefusedFile))
def list_refused_files(
    opened: Opened,
    request: Request,
    kind: Reason | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Raw files that ingest did not accept, by name and reason, the newest decision first."""
    with opened.session() as session:
        page = today.refused_files(session, kind=None if kind is None else kind.value, after=key_of(cursor, datetime, str), limit=limit)
    return paged(request, page)


@router.get("/api/actions", tags=["operation"], response_model=page_of(Action))
def list_actions(
    opened: Opened,
    request: Request,
    person: Text = None,
    action: Annotated[str | None, Query(max_length=100, pattern=r"^[a-z_]+$")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """What people changed through the API and the pages, newest first."""
    with opened.session() as session:
        page = people.actions(session, person=person, action=action, after=key_of(cursor, int), limit=limit)
    return paged(request, page)


def acknowledge_as(opened: Access, person: str, wanted: Acknowledgement) -> None:
    """Acknowledge an alert, and record who did it."""
    until = None if wanted.until is None else utc(wanted.until)
    attention.acknowledge(opened.platform, wanted.key, person=person, reason=wanted.reason, until=until, now=utc_now())
    with opened.session() as session:
        people.record_action(session, person, "acknowledge_alert", wanted.key, wanted.model_dump(mode="json"))


def take_back_as(opened: Access, person: str, wanted: TakenBack) -> None:
    """Take an acknowledgement back, and record who did it."""
    with opened.session() as session:
        attention.take_back(session, wanted.key)
        people.record_action(session, person, "take_back_acknowledgement", wanted.key, {})
