"""Marks of people: set on the pages of an observation and of antennas, listed here, with what they make again."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor, ObservationId
from dsa110_assets.api.pages import fields
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes import antenna_marks, marks, operations
from dsa110_assets.registry.schema import MarkDecision, MarkKind
from dsa110_assets.stages.operations.mark_plans import expected

router = APIRouter()
_MOST_ON_ANTENNAS = 200
Reason = Annotated[str, Form(min_length=1, max_length=1000, pattern=r"^[^\x00-\x1f\x7f]+$")]


@router.get("/ui/marks")
def list_marks(request: Request, opened: Opened, removed: bool = False, cursor: Cursor = None) -> Response:
    """List marks, the newest first."""
    listed = marks.list_marks(opened, request, not removed, cursor, 100)
    on_antennas = antenna_marks.list_antenna_marks(opened, request, valid=not removed, limit=_MOST_ON_ANTENNAS)["items"]
    return page(request, "marks.html", listed=listed, on_antennas=on_antennas, removed=removed)


@router.get("/ui/marks/again")
def plan_marked(request: Request, opened: Opened) -> Response:
    """Say what all marks make again."""
    plan = operations.backfill(opened, "", operations.BackfillRequest.model_validate({"only_marked": True}))
    return page(request, "marks_again.html", plan=plan)


@router.post("/ui/marks/again")
def make_marked(opened: Opened, person: Editor) -> Response:
    """Make again what marks have made stale."""
    wanted = operations.BackfillRequest.model_validate({"only_marked": True, "dry_run": False})
    operations.backfill(opened, person, wanted)
    return RedirectResponse("/ui/marks", 303)


@router.get("/ui/observations/{group_id}/mark")
def plan_mark(
    request: Request,
    opened: Opened,
    group_id: ObservationId,
    kind: MarkKind,
    decision: fields.Optional[MarkDecision] = None,
    reason: Annotated[str, Query(max_length=1000, pattern=r"^[^\x00-\x1f\x7f]*$")] = "",
) -> Response:
    """Say what a mark would make stale, or, without a decision, its removal; change nothing."""
    found = expected(opened.platform, kind, group_id, decision)
    return page(
        request,
        "observation_mark.html",
        group_id=group_id,
        kind=kind,
        decision=decision,
        reason=reason,
        expected=found,
        products=found.by_product(),
    )


@router.post("/ui/observations/{group_id}/marks")
def put_mark(
    opened: Opened,
    group_id: ObservationId,
    person: Editor,
    kind: Annotated[MarkKind, Form()],
    decision: Annotated[MarkDecision, Form()],
    reason: Reason,
) -> Response:
    """Mark the tile or the solution of an observation."""
    marks.put_mark(opened, person, kind, group_id, marks.WantedMark(decision=decision, reason=reason))
    return RedirectResponse(f"/ui/observations/{group_id}#do", 303)


@router.post("/ui/observations/{group_id}/marks/remove")
def remove_mark(opened: Opened, group_id: ObservationId, person: Editor, kind: Annotated[MarkKind, Form()]) -> Response:
    """Take a mark away."""
    marks.delete_mark(opened, person, kind, group_id)
    return RedirectResponse(f"/ui/observations/{group_id}#do", 303)
