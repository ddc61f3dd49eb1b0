"""Pitfall 14: solutions of another strip or night, unreported; newest, not nearest; valid only forward; wall clock."""

import inspect
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsa110_assets.calibration import select
from dsa110_assets.calibration.select import CalCandidate, to_compare, valid_tables
from dsa110_assets.errors import NoCalibrationError
from dsa110_assets.times import mjd_to_datetime


def tables(mid_mjd, declination_deg=54.6, *, accepted=True):
    return CalCandidate(
        Path(f"/cal/{mid_mjd:.4f}_{declination_deg}"), mid_mjd, declination_deg, f"{mjd_to_datetime(mid_mjd):%Y-%m-%d}", accepted
    )


def ranked(candidates, mid_mjd, declination_deg=54.6, **options):
    return valid_tables(
        candidates, mid_mjd=mid_mjd, declination_deg=declination_deg, night=f"{mjd_to_datetime(mid_mjd):%Y-%m-%d}", **options
    )


def choose(*arguments, **options):
    return ranked(*arguments, **options)[0]


def test_pitfall_14_nearest_in_time_not_newest_and_two_sided():
    before, after, newest = tables(61_100.20), tables(61_100.45), tables(61_100.90)
    assert choose([before, after, newest], 61_100.25).candidate == before
    assert choose([before, after, newest], 61_100.40).candidate == after  # solved after the observation, but nearest
    assert choose([after, newest, before], 61_100.25).hours_away == pytest.approx(-1.2)


def test_pitfall_14_the_data_decide_between_the_nearest_of_both_sides_and_those_applied():
    early, before, after, late = (tables(61_100.0 + day) for day in (0.05, 0.20, 0.45, 0.90))
    choices = ranked([late, before, early, after], 61_100.40)
    assert [one.candidate for one in choices] == [after, before, early, late]
    assert [one.candidate for one in to_compare(choices)] == [after, before]
    assert [one.candidate for one in to_compare(choices, str(late.path))] == [after, before, late]
    assert [one.candidate for one in to_compare(ranked([late, after], 61_100.40))] == [after]  # nothing lies before
    assert [one.candidate for one in to_compare(ranked([after], 61_100.40), "/cal/refused since")] == [after]


def test_pitfall_14_another_strip_is_never_used():
    other = tables(61_100.25, 16.3)
    assert choose([other, tables(61_099.25)], 61_100.25).candidate.declination_deg == 54.6
    with pytest.raises(NoCalibrationError, match=r"declination 54\.60.*38\.30 deg off"):
        choose([other], 61_100.25)


def test_pitfall_14_borrowing_from_another_night_is_reported_and_limited():
    choice = choose([tables(61_098.25)], 61_100.25)
    assert (choice.rung, choice.nights_away) == ("borrowed", -2)
    assert choose([tables(61_100.75)], 61_100.25).rung == "same-night"
    with pytest.raises(NoCalibrationError, match="4 nights away, the limit is 3"):
        choose([tables(61_096.25)], 61_100.25)
    with pytest.raises(NoCalibrationError, match="1 nights away, the limit is 0"):
        choose([tables(61_099.3)], 61_100.25, borrow_days=0)


def test_pitfall_14_the_nearest_tables_may_lie_across_midnight():
    """Tables 35 minutes away across midnight are nearer than tables 20 hours away on the same date."""
    choice = choose([tables(61_100.13), tables(61_101.005)], 61_100.98)
    assert choice.candidate.mid_mjd == 61_101.005
    assert (choice.rung, choice.nights_away) == ("same-night", 1)


def test_pitfall_14_refused_tables_are_skipped():
    good, bad = tables(61_099.3), tables(61_100.25, accepted=False)
    assert choose([bad, good], 61_100.25).candidate == good
    with pytest.raises(NoCalibrationError, match="1 refused"):
        choose([bad], 61_100.25)


def test_pitfall_14_the_selection_reads_no_clock():
    source = inspect.getsource(select)
    assert "import time" not in source
    assert ".now(" not in source
    assert ".today(" not in source


@given(
    st.lists(st.tuples(st.floats(61_095, 61_105), st.sampled_from([54.6, 54.8, 16.3]), st.booleans()), max_size=8),
    st.floats(61_099, 61_101),
)
def test_pitfall_14_the_rule_holds_for_any_candidates(drawn, mid_mjd):
    """Compare with the definition: no valid candidate is nearer."""
    candidates = [tables(m, d, accepted=a) for m, d, a in drawn]
    valid = [
        abs(m - mid_mjd)
        for m, d, a in drawn
        if a and abs(d - 54.6) <= 0.5 and abs((mjd_to_datetime(m).date() - mjd_to_datetime(mid_mjd).date()).days) <= 3
    ]
    if not valid:
        with pytest.raises(NoCalibrationError):
            choose(candidates, mid_mjd)
        return
    assert abs(choose(candidates, mid_mjd).candidate.mid_mjd - mid_mjd) == pytest.approx(np.min(valid), abs=1e-12)
