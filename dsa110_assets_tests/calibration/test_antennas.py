"""Figures of antennas agree with a real solution; dead, turned and drifting antennas are told from good ones."""

from __future__ import annotations

import numpy as np
import pytest

from dsa110_assets.calibration.antennas import AntennaNight, AntennaWord, figures_of_antennas, state_of, turns_of_array
from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets_tests.reference_data import reference_data, unpack


def test_figures_of_a_real_solution(tmp_path):
    tables = [
        read_caltable(unpack(reference_data(f"caltables/2025-10-13T13-28-03_all_{name}.tar.gz"), tmp_path)) for name in ("bpcal", "gpcal")
    ]
    found = figures_of_antennas(tables)
    assert len(found) == 96, "117 slots, 21 are never connected"
    assert {name for name, one in found.items() if one["amplitude"] == [None, None]} >= {"110", "111", "112", "113"}
    assert np.median([one["amplitude"][0] for one in found.values() if one["amplitude"][0] is not None]) == pytest.approx(1.0, abs=1e-3)
    assert found["103"]["phase_deg"] == pytest.approx([0.0, 0.0], abs=10.0), "phases refer to it"
    row = tables[0].antenna_names.index("24")
    bandpass = tables[0].gain[0, row, ~tables[0].flag[0, row, :, 0], 0].mean() * tables[1].gain[0, row, :, 0].mean()
    assert found["24"]["phase_deg"][0] == pytest.approx(np.degrees(np.angle(bandpass)), abs=0.1)


def night(day: int, phase: float = 10.0, amplitude: float | None = 1.0, flagged: float = 0.05, refant: str = "103") -> AntennaNight:
    return AntennaNight(f"2026-03-{day:02d}", refant, flagged, (amplitude, 1.0), (phase, phase), 0.03)


def test_an_antenna_without_solutions_is_dead_since_its_last_one():
    gone = AntennaNight("2026-03-03", "103", 1.0, (None, None), (None, None), None)
    state = state_of([night(1), night(2), gone])
    assert state.word is AntennaWord.DEAD
    assert state.reason == "no solution since 2026-03-02"
    assert state_of([night(1), night(2, amplitude=None)]).word is AntennaWord.HALF_DEAD


def test_a_jump_of_one_antenna_is_a_turn_and_one_of_the_whole_array_is_not():
    still = {str(name): [night(day, phase=name) for day in range(1, 6)] for name in range(20)}
    turned = [*(night(day) for day in range(1, 5)), night(5, phase=-170.0)]
    turns = turns_of_array(still | {"99": turned})
    assert state_of(turned, turns).word is AntennaWord.TURNED
    assert "+180" in state_of(turned, turns).reason or "-180" in state_of(turned, turns).reason
    assert {state_of(nights, turns).word for nights in still.values()} == {AntennaWord.GOOD}
    all_turned = {str(name): [*(night(day, phase=name) for day in range(1, 5)), night(5, phase=name + 100.0)] for name in range(20)}
    assert {state_of(nights, turns_of_array(all_turned)).word for nights in all_turned.values()} == {AntennaWord.GOOD}


def test_with_few_nights_nothing_is_called_turned():
    """The first nights cannot say whether a phase is steady; a restart of the correlator changes all of them."""
    for number in range(1, 4):
        nights = [*(night(day, phase=10.0) for day in range(1, number)), night(number, phase=150.0)]
        assert state_of(nights).word is AntennaWord.GOOD


def test_another_reference_antenna_turns_nothing():
    nights = [*(night(day) for day in range(1, 5)), night(5, phase=150.0, refant="104")]
    assert state_of(nights).word is AntennaWord.GOOD


@pytest.mark.parametrize(("last", "word"), [(0.7, AntennaWord.DRIFTING), (0.95, AntennaWord.GOOD)])
def test_a_slow_change_of_gain_is_a_drift(last: float, word: AntennaWord):
    nights = [night(day, amplitude=1.0 + (last - 1.0) * (day - 1) / 8) for day in range(1, 10)]
    assert state_of(nights).word is word
    assert state_of([night(day, phase=170.0 + 6 * day) for day in range(1, 10)]).word is AntennaWord.DRIFTING, "across 180 deg"
