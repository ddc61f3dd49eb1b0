"""Antennas: which are dead, turned or drifting, their solutions over the nights, and marks of people on them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Opened
from dsa110_assets.api.pages import fields
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes import antenna_marks, antennas
from dsa110_assets.api.routes.marks import MarkAnswer
from dsa110_assets.calibration.antennas import DEAD, AntennaWord

router = APIRouter()
LEVELS = {
    AntennaWord.DEAD: "bad",
    AntennaWord.HALF_DEAD: "bad",
    AntennaWord.TURNED: "warning",
    AntennaWord.DRIFTING: "warning",
    AntennaWord.GOOD: "good",
}
_MOSTLY_FLAGGED = 0.5
_MOST_MARKS = 200


@router.get("/ui/antennas")
def list_antennas(
    request: Request,
    opened: Opened,
    solutions: Annotated[int, Query(ge=1, le=antennas.MOST_SOLUTIONS)] = 14,
    state: str = "",
    again: Annotated[int | None, Query(ge=0, le=10**9, description="So many Measurement Sets are to be made again.")] = None,
) -> Response:
    """Show all antennas, the worst first, or those in one state; and the marks on them."""
    found = antennas.list_antennas(opened, solutions)
    marks = antenna_marks.list_antenna_marks(opened, request, limit=_MOST_MARKS)["items"]
    counts = {word: sum(one.state == word for one in found.antennas) for word in AntennaWord}
    shown = [one for one in found.antennas if state in ("", one.state)]
    return page(
        request,
        "antennas.html",
        found=found,
        shown=shown,
        cells={one.name: {part.group_id: _cell(part) for part in one.solutions} for one in shown},
        counts={word.value: number for word, number in counts.items() if number},
        levels={word.value: level for word, level in LEVELS.items()},
        state=state,
        asked=solutions,
        missing=sum(not one.has_antennas for one in found.solutions),
        marks=marks,
        again=again,
    )


@router.post("/ui/antennas/marks")
def put_mark(
    opened: Opened,
    person: Editor,
    antenna: Annotated[str, Form(min_length=1, max_length=50)],
    since: Annotated[datetime, Form()],
    reason: Annotated[str, Form(min_length=1, max_length=1000)],
    until: Annotated[fields.When, Form()] = None,
) -> Response:
    """Mark an antenna as bad."""
    wanted = antenna_marks.WantedAntennaMark.model_validate({"antenna": antenna, "since": since, "until": until, "reason": reason})
    return _said(antenna_marks.put_antenna_mark(opened, person, wanted))


@router.post("/ui/antennas/marks/{mark_id}/remove")
def remove_mark(opened: Opened, person: Editor, mark_id: antenna_marks.MarkId) -> Response:
    """Take a mark away."""
    return _said(antenna_marks.delete_antenna_mark(opened, person, mark_id))


def _said(answer: MarkAnswer) -> Response:
    return RedirectResponse(f"/ui/antennas?again={len(answer.changes)}#marks", 303)


def _cell(part: antennas.AntennaInSolution) -> tuple[str, str, str]:
    """Sign, color and words of an antenna in one solution."""
    values = ", ".join(
        f"{receptor} gain {amplitude:.2f}, phase {phase:+.0f} deg" if amplitude is not None and phase is not None else f"{receptor} none"
        for receptor, amplitude, phase in zip("XY", part.amplitude, part.phase_deg, strict=True)
    )
    words = f"{100 * part.flagged:.0f} % flagged; {values}"
    if part.flagged >= DEAD or part.amplitude == [None, None]:
        return "✗", "bad", words
    if None in part.amplitude:
        return "½", "bad", words
    return ("!", "warning", words) if part.flagged > _MOSTLY_FLAGGED else ("✓", "good", words)
