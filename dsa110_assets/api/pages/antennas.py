"""Antennas: which are dead, turned or drifting, their solutions over the nights, and marks of people on them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, NamedTuple

from fastapi import APIRouter, Form, Path, Query, Request, Response
from fastapi.responses import RedirectResponse

from dsa110_assets.api.access import Access, Opened
from dsa110_assets.api.answers import Moment, mjd_of, utc
from dsa110_assets.api.pages import drawings, fields, formats
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.pages.visitor import Editor
from dsa110_assets.api.routes import antenna_marks, antennas
from dsa110_assets.api.routes.marks import MarkAnswer
from dsa110_assets.calibration.antennas import DEAD, RECEPTORS, AntennaWord
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import antenna_marks as queries
from dsa110_assets.stages.operations.antenna_marks import no_antenna_mark
from dsa110_assets.stages.operations.mark_plans import Expected, expected_of_antenna, expected_without_antenna_mark
from dsa110_assets.times import datetime_to_mjd

router = APIRouter()
LEVELS = {
    AntennaWord.DEAD: "bad",
    AntennaWord.HALF_DEAD: "bad",
    AntennaWord.TURNED: "warning",
    AntennaWord.DRIFTING: "warning",
    AntennaWord.GOOD: "good",
}
SOLUTIONS = 14
"""The newest solutions that count unless a person asks for others."""
_MOSTLY_FLAGGED = 0.5
_MOST_MARKS = 200


@router.get("/ui/antennas")
def list_antennas(
    request: Request,
    opened: Opened,
    solutions: Annotated[int, Query(ge=1, le=antennas.MOST_SOLUTIONS)] = SOLUTIONS,
    state: str = "",
    again: Annotated[int | None, Query(ge=0, le=10**9, description="So many Measurement Sets are to be made again.")] = None,
    antenna: Annotated[str, Query(max_length=50)] = "",
) -> Response:
    """Show all antennas, the worst first, or those in one state; and the marks on them. ``antenna``: to be marked."""
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
        antenna=antenna,
    )


@router.get("/ui/antennas/{name}")
def show_antenna(
    request: Request,
    opened: Opened,
    name: Annotated[str, Path(max_length=50)],
    solutions: Annotated[int, Query(ge=1, le=antennas.MOST_SOLUTIONS)] = antennas.MOST_SOLUTIONS,
) -> Response:
    """Show an antenna's flags, gains, phases and bandpass over the nights."""
    found = antennas.list_antennas(opened, solutions)
    one = next((one for one in found.antennas if one.name == name), None)
    if one is None:
        raise NotFoundError(f"antenna {name}", f"is in none of the newest {solutions} solutions", "take a name of /ui/antennas")
    of = {solution.group_id: solution for solution in found.solutions}
    return page(
        request,
        "antenna.html",
        found=found,
        one=one,
        solutions=of,
        trends=_trends(one, of),
        levels={word.value: level for word, level in LEVELS.items()},
        asked=solutions,
        most=antennas.MOST_SOLUTIONS,
    )


class Living(NamedTuple):
    """Antennas in the newest solutions: all, those with a solution, and those in each state that is not good."""

    antennas: int
    alive: int
    ailing: dict[str, int]


def living(opened: Access) -> Living | None:
    """Count the antennas of `/ui/antennas` by state; None without figures."""
    states = [one.state for one in antennas.list_antennas(opened, SOLUTIONS).antennas]
    ailing = {word.value: states.count(word) for word in AntennaWord if word is not AntennaWord.GOOD and word in states}
    gone = states.count(AntennaWord.DEAD) + states.count(AntennaWord.ABSENT)
    return Living(len(states), len(states) - gone, ailing) if states else None


@router.get("/ui/antennas/marks/new")
def plan_mark(
    request: Request,
    opened: Opened,
    antenna: Annotated[str, Query(min_length=1, max_length=50)],
    since: Moment,
    reason: Annotated[str, Query(min_length=1, max_length=1000)],
    until: fields.When = None,
) -> Response:
    """Say what a mark would make stale; change nothing."""
    wanted = _wanted(antenna, since, until, reason)
    from_mjd, to_mjd = datetime_to_mjd(utc(wanted.since)), mjd_of(wanted.until)
    found = expected_of_antenna(opened.platform, wanted.antenna, from_mjd=from_mjd, to_mjd=to_mjd)
    with opened.session() as session:
        replaced = queries.valid_from(session, wanted.antenna, from_mjd)
    mark = {"antenna": wanted.antenna, "from_mjd": from_mjd, "to_mjd": to_mjd, "reason": wanted.reason}
    form = wanted.model_dump(mode="json", exclude_none=True)
    return _plan(request, found, mark, form, replaced)


@router.get("/ui/antennas/marks/{mark_id}/remove")
def plan_removal(request: Request, opened: Opened, mark_id: antenna_marks.MarkId) -> Response:
    """Say what would be stale without a mark; change nothing."""
    with opened.session() as session:
        mark = queries.valid_mark(session, mark_id)
    if mark is None:
        raise no_antenna_mark(mark_id)
    return _plan(request, expected_without_antenna_mark(opened.platform, mark_id), mark)


def _plan(
    request: Request,
    found: Expected,
    mark: dict[str, Any],
    form: dict[str, Any] | None = None,
    replaced: dict[str, Any] | None = None,
) -> Response:
    return page(request, "antenna_mark.html", expected=found, products=found.by_product(), mark=mark, form=form, replaced=replaced)


@router.post("/ui/antennas/marks")
def put_mark(
    opened: Opened,
    person: Editor,
    antenna: Annotated[str, Form(min_length=1, max_length=50)],
    since: Annotated[Moment, Form()],
    reason: Annotated[str, Form(min_length=1, max_length=1000)],
    until: Annotated[fields.When, Form()] = None,
) -> Response:
    """Mark an antenna as bad."""
    return _said(antenna_marks.put_antenna_mark(opened, person, _wanted(antenna, since, until, reason)))


def _wanted(antenna: str, since: datetime, until: datetime | None, reason: str) -> antenna_marks.WantedAntennaMark:
    given = {"antenna": antenna, "since": since, "until": until, "reason": reason}
    return antenna_marks.WantedAntennaMark.model_validate(given)


@router.post("/ui/antennas/marks/{mark_id}/remove")
def remove_mark(opened: Opened, person: Editor, mark_id: antenna_marks.MarkId) -> Response:
    """Take a mark away."""
    return _said(antenna_marks.delete_antenna_mark(opened, person, mark_id))


def _said(answer: MarkAnswer) -> Response:
    return RedirectResponse(f"/ui/antennas?again={len(answer.changes)}#marks", 303)


def _trends(one: antennas.Antenna, of: dict[str, antennas.Solution]) -> list[tuple[str, drawings.Trend | None, str]]:
    """Title, drawing and newest value of each figure of an antenna."""
    newest = of[one.solutions[-1].group_id].refant
    wanted: list[tuple[str, Callable[[antennas.AntennaInSolution], float | None], Callable[[float | None], str]]] = [
        ("Flagged fraction", lambda part: part.flagged, formats.percent),
        *((f"Gain {receptor}", lambda part, p=p: part.amplitude[p], formats.number) for p, receptor in enumerate(RECEPTORS)),
        *((f"Phase {receptor}, deg", lambda part, p=p: part.phase_deg[p], formats.number) for p, receptor in enumerate(RECEPTORS)),
        ("Bandpass scatter", lambda part: part.bandpass_scatter, formats.percent),
    ]
    found: list[tuple[str, drawings.Trend | None, str]] = []
    for title, value, write in wanted:
        rows: list[dict[str, Any]] = []
        for part in one.solutions:
            solution = of[part.group_id]
            other = title.startswith("Phase") and solution.refant != newest
            reason = f"reference antenna {solution.refant}" if other else ""
            rows.append(
                {
                    "key": part.group_id,
                    "value": value(part),
                    "limit_low": None,
                    "limit_high": DEAD if title.startswith("Flagged") else None,
                    "passed": None if other else part.flagged < DEAD,
                    "reason": reason,
                }
            )
        found.append((title, drawings.trend(rows, "/ui/observations/{}"), write(value(one.solutions[-1]))))
    return found


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
