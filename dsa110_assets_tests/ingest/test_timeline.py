"""A slot through which an observation runs is empty, not missing; gaps have their length."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

import pytest

from dsa110_assets.ingest.timeline import MOST_SKIPPED, SlotState, Span, day_of, skipped_slots
from dsa110_assets.times import datetime_to_mjd

NIGHT = date(2026, 3, 1)
MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
LENGTH = timedelta(seconds=309)
LONG_AFTER = datetime(2026, 4, 1, tzinfo=UTC)


def span(start: datetime) -> Span:
    return Span(f"{start:%Y-%m-%dT%H:%M:%S}", datetime_to_mjd(start), datetime_to_mjd(start + LENGTH))


def whole_day(without: range = range(0)) -> list[Span]:
    """Observations that follow each other, from before midnight to after the next one."""
    starts = [MIDNIGHT - LENGTH / 2 + number * LENGTH for number in range(282)]
    return [span(start) for number, start in enumerate(starts) if number not in without]


def test_a_day_without_a_pause_has_empty_slots_and_no_missing_ones() -> None:
    day = day_of(NIGHT, whole_day(), LONG_AFTER, date(2026, 1, 1))
    states = [slot.state for slot in day.slots]
    assert len(states) == 288
    assert states.count(SlotState.EMPTY) == 288 - sum(len(slot.group_ids) for slot in day.slots) > 5
    assert SlotState.MISSING not in states
    assert day.gaps == ()


def test_two_lost_observations_are_a_gap_of_their_length() -> None:
    day = day_of(NIGHT, whole_day(without=range(100, 102)), LONG_AFTER, date(2026, 1, 1))
    assert [gap.seconds for gap in day.gaps] == [pytest.approx(618, abs=1e-3)]
    assert sum(slot.missing_s for slot in day.slots) == pytest.approx(618, abs=1e-3)
    assert 2 <= [slot.state for slot in day.slots].count(SlotState.MISSING) <= 3


@pytest.mark.parametrize("without", [range(0), range(100, 102), range(180, 181)], ids=str)
def test_the_slots_between_consecutive_observations_are_those_of_the_day(without: range) -> None:
    spans = whole_day(without=without)
    skipped = [one for before, after in pairwise(spans) for one in skipped_slots(before, after)]
    assert {(one.slot, one.state, round(one.missing_s)) for one in skipped if one.night == NIGHT.isoformat()} == {
        (slot.slot, slot.state, round(slot.missing_s))
        for slot in day_of(NIGHT, spans, LONG_AFTER, date(2026, 1, 1)).slots
        if not slot.group_ids
    }


def test_a_long_pause_names_the_slots_of_its_last_day() -> None:
    skipped = skipped_slots(span(MIDNIGHT), span(MIDNIGHT + timedelta(days=9)))
    assert len(skipped) == MOST_SKIPPED
    assert {one.state for one in skipped} == {SlotState.MISSING}
    assert skipped[-1].night == "2026-03-09"


def test_what_has_not_come_yet_is_not_missing() -> None:
    now = MIDNIGHT + timedelta(hours=12)
    seen = [one for one in whole_day() if one.end_mjd < datetime_to_mjd(now - timedelta(minutes=10))]
    day = day_of(NIGHT, seen, now, date(2026, 1, 1))
    assert day.gaps == ()
    assert {slot.state for slot in day.slots[144:]} == {SlotState.NOT_YET}


def test_silence_up_to_now_is_a_gap() -> None:
    now = MIDNIGHT + timedelta(hours=12)
    seen = [one for one in whole_day() if one.end_mjd < datetime_to_mjd(now - timedelta(hours=3))]
    day = day_of(NIGHT, seen, now, date(2026, 1, 1))
    assert [round(gap.seconds / 3600, 1) for gap in day.gaps] == [2.8]


def test_time_before_the_first_observation_is_not_missing() -> None:
    day = day_of(NIGHT, [span(MIDNIGHT + timedelta(hours=5))], LONG_AFTER, NIGHT)
    assert {slot.state for slot in day.slots[:60]} == {SlotState.BEFORE}
    assert day.gaps[0].start == MIDNIGHT + timedelta(hours=5) + LENGTH
    assert day_of(NIGHT, [], LONG_AFTER, None).gaps == ()
