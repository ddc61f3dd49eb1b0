"""Candidates: the ranking with light curves, cut-outs, reasons and labels by keyboard; one event with its history."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor
from dsa110_assets.api.pages import fields
from dsa110_assets.api.pages.curves import small_curve
from dsa110_assets.api.pages.layout import address, page
from dsa110_assets.api.pages.sources import nearby, shades
from dsa110_assets.api.pages.visitor import Editor, visitor
from dsa110_assets.api.routes.candidates import EventId, event_of, list_candidates
from dsa110_assets.api.routes.epochs import cutout_address
from dsa110_assets.registry.queries import events, labels
from dsa110_assets.stages.operations import labels as operations

router = APIRouter()
AROUND_D = 60.0
"""Days before and after an event in the small light curve."""
EACH_SIDE = 4
"""Cut-outs before and after the middle of an event."""
Night = Annotated[date | None, Query(), fields.EMPTY_IS_NONE]
Without = Annotated[Literal["me", "anybody"] | None, Query(), fields.EMPTY_IS_NONE]
Word = Annotated[str, Form(max_length=60, pattern=r"^[^\x00-\x1f\x7f]*$")]
Note = Annotated[str, Form(max_length=2000, pattern=r"^[^\x00]*$")]


@router.get("/ui/candidates")
def candidates(
    request: Request,
    opened: Opened,
    night: Night = None,
    min_score: fields.Number = None,
    max_score: fields.Number = None,
    label: fields.Text = None,
    without: Without = None,
    sort: Literal["rank", "score", "depth", "time"] = "rank",
    order: fields.Order = None,
    cursor: Cursor = None,
) -> Response:
    """Show the candidates as of a night, best first."""
    person = visitor(request).person
    chosen: dict[str, Any] = {"night": night, "min_score": min_score, "max_score": max_score, "label": label}
    ordered: dict[str, Any] = {"sort": sort, "order": order}
    hidden: dict[str, Any] = {"unlabeled": without == "anybody", "unlabeled_by": person if without == "me" else None}
    listed: Any = list_candidates(opened, request, **chosen, **hidden, **ordered, cursor=cursor, limit=50)
    with opened.session() as session:
        known = labels.labels_of(session, [one["event_id"] for one in listed["items"]])
    for one in listed["items"]:
        one["labels"] = known[one["event_id"]]
    return page(
        request,
        "candidates.html",
        listed=listed,
        chosen=chosen | {"without": without} | ordered,
        filtered=any(value is not None for value in (*chosen.values(), without)),
        export=address("/api/candidates", chosen, **hidden, **ordered),
        usual=operations.USUAL,
    )


@router.get("/ui/candidates/{event_id}")
def candidate(request: Request, opened: Opened, event_id: EventId) -> Response:
    """Show one event: everybody's labels with their history, other events of its source, what is near."""
    from dsa110_assets.stages.products.candidates import stored_neighbors  # imports the domain

    with opened.session() as session:
        found = event_of(session, event_id)
    stored = [] if found["night"] is None else stored_neighbors(opened.paths, found["night"].isoformat(), found["source_id"])
    near = stored or nearby(request, opened, found)
    return page(request, "candidate.html", one=found, usual=operations.USUAL, near=near, catalog=bool(stored))


@router.get("/ui/candidates/{event_id}/look")
def look(request: Request, opened: Opened, event_id: EventId) -> Response:
    """Light curve and cut-outs around an event, as a part of a page."""
    with opened.session() as session:
        found = event_of(session, event_id)
        number, peak = found["source_id"], found["peak_mjd"]
        points = events.curve_between(session, number, found["first_mjd"] - AROUND_D, found["last_mjd"] + AROUND_D)
        epochs = events.epochs_around(session, number, peak, each_side=EACH_SIDE)
    low, high = shades(max((point["flux_jy"] for point in (*points, *epochs)), default=0.0))
    for one in epochs:
        one["image"] = cutout_address(number, one["mosaic_name"], int(one["created_at"].timestamp()), low, high)
        one["during"] = found["first_mjd"] <= one["time_mjd"] <= found["last_mjd"]
    return page(
        request, "candidate_look.html", one=found, curve=small_curve(points, (found["first_mjd"], found["last_mjd"])), epochs=epochs
    )


@router.post("/ui/candidates/{event_id}/label")
def label(request: Request, opened: Opened, person: Editor, event_id: EventId, word: Word = "") -> Response:
    """Give an event your label, or remove it; your note stays."""
    with opened.session() as session:
        operations.set_label(session, event_id, person=person, label=word.strip() or None)
    return _labels(request, opened, event_id)


@router.post("/ui/candidates/{event_id}/note")
def note(request: Request, opened: Opened, person: Editor, event_id: EventId, comment: Note = "") -> Response:
    """Write your note on an event, or remove it; your label stays."""
    with opened.session() as session:
        operations.set_comment(session, event_id, person=person, comment=comment.strip() or None)
    return _labels(request, opened, event_id)


@router.post("/ui/candidates/{event_id}/undo")
def undo(request: Request, opened: Opened, person: Editor, event_id: EventId) -> Response:
    """Take back your last label or note on an event."""
    with opened.session() as session:
        operations.undo(session, event_id, person=person)
    return _labels(request, opened, event_id)


def _labels(request: Request, opened: Opened, event_id: int) -> Response:
    """The labels of an event for a script, its page for a form."""
    if "HX-Request" not in request.headers:
        return RedirectResponse(f"/ui/candidates/{event_id}", 303)
    with opened.session() as session:
        known = labels.labels_of(session, [event_id])[event_id]
    return page(request, "candidate_labels.html", one={"event_id": event_id, "labels": known}, usual=operations.USUAL)
