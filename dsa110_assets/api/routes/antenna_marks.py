"""Marks of people on antennas: bad from a time on, or between two times."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from fastapi import Path as InPath
from pydantic import BaseModel, Field

from dsa110_assets.api.access import Opened, Person
from dsa110_assets.api.answers import Cursor, Limit, Moment, Text, key_of, mjd_of, model_of, page_of, paged, utc
from dsa110_assets.api.routes.marks import MarkAnswer, answer_of
from dsa110_assets.registry.queries import antenna_marks, people
from dsa110_assets.times import datetime_to_mjd

router = APIRouter()
AntennaMarkModel = model_of("AntennaMark", antenna_marks.MARK)
MarkId = Annotated[int, InPath(ge=0, le=2**62, description="Number of the mark.")]
_TEXT = r"^[^\x00-\x1f\x7f]+$"


class WantedAntennaMark(BaseModel):
    """An antenna that is bad. The same antenna and ``since`` again replace the mark, so that it gets an end."""

    antenna: str = Field(min_length=1, max_length=50, pattern=_TEXT, description="Name of the antenna.")
    since: Moment = Field(description="Observations from this time on are flagged; UTC unless it names an offset.")
    until: Moment | None = Field(None, description="Observations before this time; without it, all later ones.")
    reason: str = Field(min_length=1, max_length=1000, pattern=_TEXT, description="Why.")


@router.get("/api/antennas/marks", tags=["marks"], response_model=page_of(AntennaMarkModel))
def list_antenna_marks(
    opened: Opened,
    request: Request,
    antenna: Text = None,
    valid: Annotated[bool, Query(description="Only marks that are valid.")] = True,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Marks on antennas, the newest first."""
    with opened.session() as session:
        page = antenna_marks.newest(session, antenna=antenna, valid_only=valid, after=key_of(cursor, int), limit=limit)
    return paged(request, page)


@router.post("/api/antennas/marks", tags=["marks"], status_code=201)
def put_antenna_mark(opened: Opened, person: Person, wanted: Annotated[WantedAntennaMark, Body()]) -> MarkAnswer:
    """Mark an antenna as bad: it is flagged in all observations of the span."""
    from dsa110_assets.stages.operations.antenna_marks import mark_antenna

    found = mark_antenna(
        opened.platform,
        wanted.antenna,
        from_mjd=datetime_to_mjd(utc(wanted.since)),
        to_mjd=mjd_of(wanted.until),
        reason=wanted.reason,
        person=person,
    )
    with opened.session() as session:
        people.record_action(session, person, "mark_antenna", wanted.antenna, wanted.model_dump(mode="json"))
    return answer_of(found)


@router.delete("/api/antennas/marks/{mark_id}", tags=["marks"])
def delete_antenna_mark(opened: Opened, person: Person, mark_id: MarkId) -> MarkAnswer:
    """Take a mark on an antenna away; observations of its span are no longer flagged."""
    from dsa110_assets.stages.operations.antenna_marks import unmark_antenna

    found = unmark_antenna(opened.platform, mark_id, person=person)
    with opened.session() as session:
        people.record_action(session, person, "unmark_antenna", str(mark_id), {})
    return answer_of(found)
