"""Marks of people on tiles and calibration solutions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Body, Query, Request
from pydantic import BaseModel, Field

from dsa110_assets.api.access import Opened, Person
from dsa110_assets.api.answers import Cursor, Limit, ObservationId, key_of, list_of, model_of, page_of, paged
from dsa110_assets.registry.queries import marks, people
from dsa110_assets.registry.schema import MarkDecision, MarkKind

if TYPE_CHECKING:
    from dsa110_assets.stages.operations.marks import Consequences

router = APIRouter()
MarkModel = model_of("Mark", marks.MARK)


class WantedMark(BaseModel):
    """A decision about a tile or a solution: ``good``: used although refused; ``bad``: not used."""

    decision: MarkDecision
    reason: str = Field(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$", description="Why.")


class Change(BaseModel):
    """A product that comes out differently."""

    product: str
    key: str


class MarkAnswer(BaseModel):
    """What is to be made again because of a mark, without what is made from it.

    A backfill with ``only_marked`` makes all of it. ``without_tiles``: hourly mosaics that lose their last good tile;
    exclude their epochs. ``without_files``: observations whose Measurement Set retention has removed; a backfill from
    ``measurement_set`` on makes them again where raw files exist.
    """

    changes: list[Change]
    without_tiles: list[str]
    without_files: list[str]


@router.get("/api/marks", tags=["marks"], response_model=page_of(MarkModel))
def list_marks(
    opened: Opened,
    request: Request,
    valid: Annotated[bool, Query(description="Only marks that are valid.")] = True,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> dict[str, Any]:
    """Marks on tiles and solutions, the newest first."""
    with opened.session() as session:
        page = marks.newest(session, valid_only=valid, after=key_of(cursor, int), limit=limit)
    return paged(request, page)


@router.get("/api/data/observations/{group_id}/marks", tags=["marks"], response_model=list_of(MarkModel))
def show_marks(opened: Opened, group_id: ObservationId) -> list[dict[str, Any]]:
    """All marks that the tile and the solution of an observation ever had, the newest first."""
    with opened.session() as session:
        return marks.history(session, [group_id])


@router.put("/api/data/observations/{group_id}/marks/tile", tags=["marks"])
def mark_tile(opened: Opened, person: Person, group_id: ObservationId, wanted: Annotated[WantedMark, Body()]) -> MarkAnswer:
    """Mark the tile of an observation: mosaics leave a bad one out, and take a good one although it was refused."""
    return put_mark(opened, person, MarkKind.TILE, group_id, wanted)


@router.put("/api/data/observations/{group_id}/marks/solution", tags=["marks"])
def mark_solution(opened: Opened, person: Person, group_id: ObservationId, wanted: Annotated[WantedMark, Body()]) -> MarkAnswer:
    """Mark the tables solved on an observation: bad ones are applied to nothing, good ones although refused."""
    return put_mark(opened, person, MarkKind.SOLUTION, group_id, wanted)


@router.delete("/api/data/observations/{group_id}/marks/tile", tags=["marks"])
def unmark_tile(opened: Opened, person: Person, group_id: ObservationId) -> MarkAnswer:
    """Take the mark on a tile away; its checks count again."""
    return delete_mark(opened, person, MarkKind.TILE, group_id)


@router.delete("/api/data/observations/{group_id}/marks/solution", tags=["marks"])
def unmark_solution(opened: Opened, person: Person, group_id: ObservationId) -> MarkAnswer:
    """Take the mark on a solution away; its own verdict counts again."""
    return delete_mark(opened, person, MarkKind.SOLUTION, group_id)


def put_mark(opened: Opened, person: str, kind: MarkKind, group_id: str, wanted: WantedMark) -> MarkAnswer:
    """Mark something, and record who did."""
    from dsa110_assets.stages.operations.marks import mark

    found = mark(opened.platform, kind, group_id, wanted.decision, reason=wanted.reason, person=person)
    with opened.session() as session:
        people.record_action(session, person, f"mark_{kind}", group_id, wanted.model_dump(mode="json"))
    return answer_of(found)


def delete_mark(opened: Opened, person: str, kind: MarkKind, group_id: str) -> MarkAnswer:
    """Take a mark away, and record who did."""
    from dsa110_assets.stages.operations.marks import unmark

    found = unmark(opened.platform, kind, group_id, person=person)
    with opened.session() as session:
        people.record_action(session, person, f"unmark_{kind}", group_id, {})
    return answer_of(found)


def answer_of(found: Consequences) -> MarkAnswer:
    """Shape the consequences of a mark."""
    return MarkAnswer(
        changes=[Change(product=product, key=key) for product, key in found.products],
        without_tiles=list(found.without_tiles),
        without_files=list(found.without_files),
    )
