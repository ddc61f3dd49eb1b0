"""Observations along time: counts of nights, and a night in slots with its gaps."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi import Path as InPath
from pydantic import BaseModel

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Day
from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.ingest import timeline as days
from dsa110_assets.quality.gate import TileWord
from dsa110_assets.registry.queries import timeline as queries
from dsa110_assets.registry.schema import GroupState, TileStage
from dsa110_assets.times import mjd_to_datetime

MOST_NIGHTS = 100
router = APIRouter()


class NightOnTimeline(BaseModel):
    """A UTC day: its observations, and how long it observed and did not.

    ``noise_over_thermal``: median of the images; null unless asked for, or without images.
    """

    night: date
    observations: int
    completed: int
    failed: int
    unfinished: int
    observed_hours: float
    missing_hours: float
    calibrators: list[str]
    noise_over_thermal: float | None


class Timeline(BaseModel):
    """Days from ``first`` to ``last``; those without an observation are left out. ``ever``: of the whole platform."""

    first: date
    last: date
    first_ever: date | None
    last_ever: date | None
    nights: list[NightOnTimeline]


class ObservationInSlot(BaseModel):
    """An observation that begins in a slot. ``verdict``: on its image. ``tables``: how far its tables came from."""

    group_id: str
    state: GroupState
    stage: TileStage
    calibrator: str | None
    verdict: TileWord | None
    tables: str | None


class SlotOnTimeline(BaseModel):
    """Five minutes. ``missing_s``: time in it that nothing observed."""

    slot: str
    state: days.SlotState
    observations: list[ObservationInSlot]
    missing_s: float


class Gap(BaseModel):
    """Time that nothing observed (UTC)."""

    start: datetime
    end: datetime
    seconds: float


class NightInSlots(BaseModel):
    """The slots of a UTC day, and its gaps."""

    night: date
    slots: list[SlotOnTimeline]
    gaps: list[Gap]


@router.get("/api/data/timeline", tags=["observations"])
def show_timeline(
    opened: Opened,
    last: Annotated[Day | None, Query(description="Last day (UTC). Default: the newest with an observation.")] = None,
    nights: Annotated[int, Query(ge=1, le=MOST_NIGHTS, description="Number of days.")] = 31,
    noise: Annotated[bool, Query(description="With the median noise over thermal noise.")] = False,
) -> Timeline:
    """Observations of each UTC day of some months: counts, time observed and missing."""
    now = datetime.now(UTC)
    with opened.session() as session:
        ever = queries.first_and_last_night(session)
        newest = ever[1] if ever else now.date()
        end = newest if last is None else last
        begin = date.fromordinal(max(1, end.toordinal() - nights + 1))
        counts = queries.counts_of_nights(session, begin, end)
        noises = queries.noise_of_nights(session, begin, end) if noise else {}
    return Timeline(
        first=begin,
        last=end,
        first_ever=ever[0] if ever else None,
        last_ever=ever[1] if ever else None,
        nights=[
            NightOnTimeline(
                night=one.night,
                observations=one.observations,
                completed=one.completed,
                failed=one.failed,
                unfinished=one.observations - one.completed - one.failed,
                observed_hours=one.observed_s / 3600,
                missing_hours=_missing_hours(one, now, is_first=ever is not None and one.night == ever[0]),
                calibrators=list(one.calibrators),
                noise_over_thermal=noises.get(one.night),
            )
            for one in counts
        ],
    )


@router.get("/api/data/timeline/{night}", tags=["observations"])
def show_night(opened: Opened, night: Annotated[Day, InPath(description="UTC day.")]) -> NightInSlots:
    """A UTC day in slots of five minutes, and its gaps. An empty slot is one through which an observation runs."""
    from dsa110_assets.stages.products.gates import verdicts

    if not date(1900, 1, 2) <= night <= date(9998, 12, 30):
        raise InvalidRequestError("night", f"{night} is out of range", "give a day with observations")
    with opened.session() as session:
        ever = queries.first_and_last_night(session)
        rows = queries.around_day(session, night)
        known = {row.group_id: row for row in rows}
        judged = verdicts(session, known)
        rungs = queries.rungs_of(session, known)
    spans = [days.Span(row.group_id, row.start_mjd, row.end_mjd) for row in rows]
    day = days.day_of(night, spans, datetime.now(UTC), ever[0] if ever else None)

    def described(group_id: str) -> ObservationInSlot:
        row, verdict = known[group_id], judged.get(group_id)
        return ObservationInSlot(
            group_id=group_id,
            state=GroupState(row.state),
            stage=TileStage(row.stage),
            calibrator=row.calibrator,
            verdict=None if verdict is None else verdict.word,
            tables=rungs.get(group_id),
        )

    return NightInSlots(
        night=night,
        slots=[
            SlotOnTimeline(
                slot=one.slot, state=one.state, observations=[described(name) for name in one.group_ids], missing_s=one.missing_s
            )
            for one in day.slots
        ],
        gaps=[Gap(start=one.start, end=one.end, seconds=one.seconds) for one in day.gaps],
    )


def _missing_hours(one: queries.NightCounts, now: datetime, *, is_first: bool) -> float:
    """Hours of a UTC day that have passed without an observation; on the very first day, since its first one."""
    midnight = datetime.combine(one.night, time(), UTC)
    begin = mjd_to_datetime(one.first_mjd) if is_first else midnight
    passed = (min(midnight + timedelta(days=1), now) - begin) / timedelta(hours=1)
    return max(0.0, passed - one.observed_s / 3600)
