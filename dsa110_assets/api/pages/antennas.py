"""Antennas: which are dead, turned or drifting, and their solutions over the nights."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from dsa110_assets.api.access import Opened
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.routes import antennas
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


@router.get("/ui/antennas")
def list_antennas(
    request: Request, opened: Opened, solutions: Annotated[int, Query(ge=1, le=antennas.MOST_SOLUTIONS)] = 14, state: str = ""
) -> Response:
    """Show all antennas, the worst first, or those in one state."""
    found = antennas.list_antennas(opened, solutions)
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
    )


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
