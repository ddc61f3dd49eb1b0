"""Antennas over the nights, from the calibration solutions."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import utc_now
from dsa110_assets.registry.queries import antenna_marks
from dsa110_assets.registry.queries import antennas as queries
from dsa110_assets.times import datetime_to_mjd

router = APIRouter()
MOST_SOLUTIONS = 60


class Solution(BaseModel):
    """Tables solved on an observation. ``has_antennas``: false for tables of releases without numbers of antennas."""

    night: date
    group_id: str
    calibrator: str
    refant: str
    accepted: bool
    has_antennas: bool


class AntennaInSolution(BaseModel):
    """An antenna in one solution; two values are of X and Y, null without a solution.

    ``amplitude``: relative to the array's median. ``phase_deg``: to the reference antenna. ``bandpass_scatter``: of the
    bandpass's amplitude along the band, relative.
    """

    group_id: str
    flagged: float
    amplitude: list[float | None]
    phase_deg: list[float | None]
    bandpass_scatter: float | None


class Antenna(BaseModel):
    """An antenna: how it does, and its solutions in order of time.

    ``is_refant``: of the newest solution. ``is_marked_bad``: a person's mark holds now (`/api/antennas/marks`).
    """

    name: str
    state: str
    reason: str
    is_refant: bool
    is_marked_bad: bool
    solutions: list[AntennaInSolution]


class Antennas(BaseModel):
    """Antennas, the worst first, and the solutions in order of time."""

    solutions: list[Solution]
    antennas: list[Antenna]


@router.get("/api/antennas", tags=["calibration"])
def list_antennas(
    opened: Opened, solutions: Annotated[int, Query(ge=1, le=MOST_SOLUTIONS, description="Number of the newest solutions.")] = 14
) -> Antennas:
    """Flags, gains, phases and bandpass of each antenna in the newest solutions; which are dead, turned or drifting."""
    from dsa110_assets.calibration.antennas import WORST_FIRST, state_of, turns_of_array

    with opened.session() as session:
        rows = queries.solutions(session, limit=solutions)
        now = datetime_to_mjd(utc_now())
        marked = {one["antenna"] for one in antenna_marks.between(session, now, now)}
    known = [row for row in rows if row[queries.ANTENNAS]]
    names = sorted({name for row in known for name in row[queries.ANTENNAS]}, key=_by_number)
    nights = {name: [_night(row, name) for row in known if name in row[queries.ANTENNAS]] for name in names}
    turns = turns_of_array(nights)
    states = {name: state_of(nights[name], turns) for name in names}
    refant = known[-1]["refant"] if known else None
    return Antennas(
        solutions=[
            Solution(**{k: v for k, v in row.items() if k != queries.ANTENNAS}, has_antennas=bool(row[queries.ANTENNAS])) for row in rows
        ],
        antennas=[
            Antenna(
                name=name,
                state=states[name].word,
                reason=states[name].reason,
                is_refant=name == refant,
                is_marked_bad=name in marked,
                solutions=[
                    AntennaInSolution(group_id=row["group_id"], **row[queries.ANTENNAS][name])
                    for row in known
                    if name in row[queries.ANTENNAS]
                ],
            )
            for name in sorted(names, key=lambda name: (WORST_FIRST.index(states[name].word), _by_number(name)))
        ],
    )


def _night(row: dict[str, Any], name: str) -> Any:
    from dsa110_assets.calibration.antennas import AntennaNight

    found = row[queries.ANTENNAS][name]
    return AntennaNight(
        row["night"].isoformat(),
        row["refant"],
        found["flagged"],
        tuple(found["amplitude"]),
        tuple(found["phase_deg"]),
        found["bandpass_scatter"],
    )


def _by_number(name: str) -> tuple[int, str]:
    return (int(name) if name.isdigit() else 10**9, name)
