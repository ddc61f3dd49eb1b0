"""A day in slots of five minutes: observed, empty or missing; and its gaps.

An observation lasts 309 s, so about every 33rd slot has no start of an observation although the telescope observed
through it: it is *empty*. A slot is *missing* if nothing observed during a part of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum

from dsa110_assets.times import SLOT_MINUTES, mjd_to_datetime, slot_window, tile_partition

SHORTEST_GAP = timedelta(seconds=60)
"""Shorter pauses are between two observations, not gaps."""
LATE = timedelta(minutes=15)
"""The newest observation may be on its way for so long; then its time counts as missing."""


class SlotState(StrEnum):
    """What a slot of five minutes holds."""

    OBSERVED = "observed"
    EMPTY = "empty"
    """No observation begins in it; one that began before runs through it."""
    MISSING = "missing"
    NOT_YET = "not yet"
    BEFORE = "before the first observation"


@dataclass(frozen=True)
class Interval:
    """Time without an observation, UTC."""

    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """Its length."""
        return (self.end - self.start) / timedelta(seconds=1)


@dataclass(frozen=True)
class Span:
    """An observation and its times (UTC MJD)."""

    group_id: str
    start_mjd: float
    end_mjd: float


@dataclass(frozen=True)
class Slot:
    """A slot: its start (``HH:MM``, UTC), the observations that begin in it, and the time that is missing in it."""

    slot: str
    state: SlotState
    group_ids: tuple[str, ...]
    missing_s: float


@dataclass(frozen=True)
class Day:
    """The slots of a UTC day in order of time, and its gaps."""

    slots: tuple[Slot, ...]
    gaps: tuple[Interval, ...]


def gaps_between(spans: Sequence[Span], begin: datetime, end: datetime) -> list[Interval]:
    """Gaps of an interval that no observation covers, of at least `SHORTEST_GAP`.

    Args:
        spans: observations, in order of time.
        begin, end: the interval.
    """
    found: list[Interval] = []
    covered = begin
    for span in spans:
        start, stop = mjd_to_datetime(span.start_mjd), mjd_to_datetime(span.end_mjd)
        if start > covered:
            found.append(Interval(covered, min(start, end)))
        covered = max(covered, stop)
        if covered >= end:
            break
    if covered < end:
        found.append(Interval(covered, end))
    return [gap for gap in found if gap.end - gap.start >= SHORTEST_GAP]


MOST_SKIPPED = 24 * 60 // SLOT_MINUTES
"""Slots of a longer pause that `skipped_slots` names: its last day."""


@dataclass(frozen=True)
class SkippedSlot:
    """A slot of a night in which no observation begins, between two observations: `EMPTY` or `MISSING`."""

    night: str
    slot: str
    state: SlotState
    missing_s: float


def skipped_slots(before: Span, after: Span) -> list[SkippedSlot]:
    """Slots between those in which two consecutive observations begin, in order of time, at most `MOST_SKIPPED`."""
    length = timedelta(minutes=SLOT_MINUTES)
    first, last = (_slot_start(span) for span in (before, after))
    gap_begin, gap_end = mjd_to_datetime(before.end_mjd), mjd_to_datetime(after.start_mjd)
    low = max(first + length, last - MOST_SKIPPED * length)
    found: list[SkippedSlot] = []
    while low < last:
        missing = max(min(gap_end, low + length) - max(gap_begin, low), timedelta())
        state = SlotState.MISSING if missing >= SHORTEST_GAP else SlotState.EMPTY
        found.append(SkippedSlot(f"{low:%Y-%m-%d}", f"{low:%H:%M}", state, missing / timedelta(seconds=1)))
        low += length
    return found


def _slot_start(span: Span) -> datetime:
    return slot_window(*tile_partition(span.group_id))[0]


def day_of(night: date, spans: Sequence[Span], now: datetime, first_ever: date | None) -> Day:
    """Slots and gaps of a UTC day.

    Args:
        night: the day.
        spans: observations of the day in order of time, and the ones before and after it.
        now: time that tells what has not come yet.
        first_ever: day of the platform's first observation; time before that observation is not missing.
    """
    midnight = datetime.combine(night, time(), UTC)
    begin, end = midnight, midnight + timedelta(days=1)
    if first_ever is None or night < first_ever:
        begin = end
    elif night == first_ever and spans:
        begin = max(begin, mjd_to_datetime(spans[0].start_mjd))
    following = bool(spans) and mjd_to_datetime(spans[-1].start_mjd) >= end
    horizon = end if following else max(midnight, min(end, now - LATE))
    gaps = gaps_between(spans, begin, horizon) if begin < horizon else []
    starts: dict[str, list[str]] = {}
    for span in spans:
        day, slot = tile_partition(span.group_id)
        if day == night.isoformat():
            starts.setdefault(slot, []).append(span.group_id)
    length = timedelta(minutes=SLOT_MINUTES)
    slots: list[Slot] = []
    for number in range(24 * 60 // SLOT_MINUTES):
        low = midnight + number * length
        name = f"{low:%H:%M}"
        missing = sum((max(min(gap.end, low + length) - max(gap.start, low), timedelta()) for gap in gaps), timedelta())
        if name in starts:
            state = SlotState.OBSERVED
        elif low + length <= begin:
            state = SlotState.BEFORE
        elif low >= horizon:
            state = SlotState.NOT_YET
        else:
            state = SlotState.MISSING if missing >= SHORTEST_GAP else SlotState.EMPTY
        slots.append(Slot(name, state, tuple(starts.get(name, ())), missing / timedelta(seconds=1)))
    return Day(tuple(slots), tuple(gaps))
