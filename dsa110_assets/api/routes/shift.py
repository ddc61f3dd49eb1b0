"""The log of the shifts, and the morning report."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field

from dsa110_assets.api.access import Access, Opened, Person
from dsa110_assets.api.answers import NOT_BLANK, Cursor, Day, Limit, key_of, model_of, page_of, paged, utc_now
from dsa110_assets.api.routes.attention import present_alerts
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.queries import shift as queries
from dsa110_assets.registry.schema import Source
from dsa110_assets.stages.operations import morning_report, shift
from dsa110_assets.stages.operations.morning_report import Report

router = APIRouter()
Entry = model_of("ShiftEntry", queries.ENTRY, optional=(Source.name.label("source"),))
_OBSERVATION = r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$"
AboutObservation = Annotated[str | None, Query(pattern=_OBSERVATION, description="Only entries about this observation.")]
AboutSource = Annotated[int | None, Query(ge=0, le=2**62, description="Only entries about this source.")]


class NewEntry(BaseModel):
    """An entry of the shift's log, perhaps about an observation, a source or a night."""

    text: str = Field(min_length=1, max_length=shift.LONGEST_TEXT, pattern=NOT_BLANK)
    group_id: str | None = Field(None, pattern=_OBSERVATION)
    source_id: int | None = Field(None, ge=0, le=2**62)
    night: Day | None = None


class Written(BaseModel):
    """The number of a new entry."""

    entry_id: int


@router.get("/api/shift", tags=["operation"], response_model=page_of(Entry))
def list_entries(
    opened: Opened,
    request: Request,
    night: Annotated[Day | None, Query(description="Only entries about this night.")] = None,
    group_id: AboutObservation = None,
    source_id: AboutSource = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> dict[str, Any]:
    """Entries of the shift's log, newest first."""
    with opened.session() as session:
        page = queries.entries(session, night=night, group_id=group_id, source_id=source_id, after=key_of(cursor, int), limit=limit)
    return paged(request, page)


@router.post("/api/shift", tags=["operation"], status_code=201)
def write_entry(opened: Opened, person: Person, wanted: Annotated[NewEntry, Body()]) -> Written:
    """Add an entry to the shift's log. Entries are never changed; correct one with another."""
    return Written(entry_id=write_as(opened, person, wanted))


@router.get("/api/shift/report", tags=["operation"])
def show_report(
    opened: Opened, request: Request, night: Annotated[Day | None, Query(description="Default: the last night that is over.")] = None
) -> Report:
    """One night in figures: observed, lost, quality, candidates, alerts, entries, and what waits now."""
    opened.ping()
    now = utc_now()
    return morning_report.report(opened.platform, night or morning_report.last_night(now), now, present_alerts(opened, request))


def write_as(opened: Access, person: str, wanted: NewEntry) -> int:
    """Add an entry of a person; return its number."""
    with opened.session() as session:
        number = shift.write(session, wanted.text, person=person, group_id=wanted.group_id, source_id=wanted.source_id, night=wanted.night)
        people.record_action(session, person, "write_entry", str(number), {})
    return number
