"""Solutions equal the true gains, the published Measurement Set does not change, a CASA that fails is an error."""

import json

import numpy as np
import pytest
from casacore.tables import table

from dsa110_assets.calibration.averaged import average_for_solving
from dsa110_assets.calibration.caltable import read_caltable
from dsa110_assets.calibration.casa_child import run_tasks
from dsa110_assets.calibration.solve import REFANT_ORDER, refant_order, solve
from dsa110_assets.errors import CalibrationQualityError, ChildFailedError, ConfigurationError
from dsa110_assets_tests.calibration.conftest import HALF_DEAD, listing
from dsa110_assets_tests.calibration.small_ms import write_small_ms


def test_gains_equal_the_true_ones_within_a_percent(solved):
    bandpass, gain = read_caltable(solved.report.bandpass), read_caltable(solved.report.gain)
    assert gain.time_s.size >= 3
    active = np.arange(100, 110)
    works = np.ones((10, 8, 2), dtype=bool)
    works[HALF_DEAD - 100, :, 1] = False
    np.testing.assert_array_equal(~bandpass.flag[0, active], works)  # a dead receptor does not flag the other
    np.testing.assert_array_equal(~gain.flag[0, active], works[:, :1])
    found = np.where(works, (bandpass.gain * gain.gain.mean(axis=0, keepdims=True))[0, active], solved.tile.gain[active])
    truth = solved.tile.gain[active]
    np.testing.assert_allclose(np.abs(found), np.abs(truth), rtol=0.03)
    ratio = np.abs(found) / np.abs(truth)
    assert np.abs(ratio.mean(axis=1) - 1).max() < 0.01  # a receptor's gain
    assert abs(ratio.mean() - 1) < 0.002  # the flux scale: twice this in flux
    rotation = found / truth * np.conj(found[2] / truth[2])[None]  # relative to the reference antenna
    assert np.degrees(np.abs(np.angle(rotation[works]))).max() < 2.0


def test_bandpass_is_normalized_and_gains_carry_the_scale(solved):
    quality = solved.report.quality
    assert quality["bandpass.cal"].median_amplitude == pytest.approx(1, abs=0.05)
    assert quality["gain.cal"].median_amplitude == pytest.approx(0.068, rel=0.2)
    assert solved.report.accepted


def test_the_published_measurement_set_is_only_read(solved):
    assert listing(solved.tile.path) == solved.files_before
    with table(str(solved.tile.path), ack=False) as ms:
        assert "MODEL_DATA" not in ms.colnames()


def test_only_products_remain_in_the_directory(solved):
    left = {p.name for p in solved.report.bandpass.parent.iterdir()}
    assert left == {"bandpass.cal", "gain.cal", "quality.json", *(p.name for p in solved.report.plots.values())}
    written = json.loads((solved.report.bandpass.parent / "quality.json").read_text())
    assert written["refant"] == "103"
    assert written["quality"]["gain.cal"]["accepted"] is True


def test_averaged_data_and_model_agree_through_the_gains(tmp_path, calibrator_sky):
    """Sources at the edge of the beam smear equally in data and model, which causes no error in the gains."""
    tile = write_small_ms(tmp_path / "tile.ms", calibrator_sky, n_time=4, gain_scale=1.0)
    average_for_solving(tile.path, tmp_path / "out.ms", sky=calibrator_sky, integrations=4, smearing=False)
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        data, model, a1, a2 = (ms.getcol(c) for c in ("DATA", "MODEL_DATA", "ANTENNA1", "ANTENNA2"))
    assert data.shape[0] == 45  # one row for each of the cross-correlations
    expected = model * tile.gain[a1] * tile.gain[a2].conj()
    assert np.abs(data - expected).max() < 3e-6 * np.abs(data).max()


def test_flagged_data_do_not_reach_the_solver(tmp_path, calibrator_sky):
    tile = write_small_ms(tmp_path / "tile.ms", calibrator_sky, n_time=3, gain_scale=1.0)
    with table(str(tile.path), readonly=False, ack=False) as ms:
        data, flag = ms.getcol("DATA"), ms.getcol("FLAG")
        flag[::7, 2] = True
        data[flag] = 1e6
        data[5, 1, 0] = np.nan  # not flagged, but not usable
        ms.putcol("DATA", data)
        ms.putcol("FLAG", flag)
    average_for_solving(tile.path, tmp_path / "out.ms", sky=calibrator_sky, integrations=3)
    with table(str(tmp_path / "out.ms"), ack=False) as ms:
        assert np.abs(ms.getcol("DATA")).max() < 30
        assert np.isfinite(ms.getcol("DATA")).all()


@pytest.mark.parametrize("solint", ["soon", "0s", "5h"])
def test_an_invalid_solution_interval_is_refused(tmp_path, solved, calibrator_sky, solint):
    with pytest.raises(ConfigurationError, match="interval"):
        solve(solved.tile.path, tmp_path, sky=calibrator_sky, gain_solint=solint)


def test_a_reference_antenna_that_a_person_named_must_exist(tmp_path, solved, calibrator_sky):
    with pytest.raises(ConfigurationError, match="the array has no antenna '999'"):
        solve(solved.tile.path, tmp_path, sky=calibrator_sky, refant="999", must_have_refant=True)


def test_a_mostly_flagged_reference_antenna_is_replaced_in_the_observatorys_order(tmp_path, calibrator_sky):
    tile = write_small_ms(tmp_path / "tile.ms", calibrator_sky, n_time=1)
    with table(str(tile.path), readonly=False, ack=False) as ms:
        flag = ms.getcol("FLAG")
        for number in (102, 103):  # their names are 103 and 104
            flag[(ms.getcol("ANTENNA1") == number) | (ms.getcol("ANTENNA2") == number)] = True
        ms.putcol("FLAG", flag)
    averaged = average_for_solving(tile.path, tmp_path / "out.ms", sky=calibrator_sky, integrations=1)
    assert refant_order(averaged, "103") == ["105", "106", "107", "108", "109", "110"]
    assert " ".join(REFANT_ORDER) == "104 105 106 107 108 109 110 111 112 113 114 115 116 103"
    assert refant_order(averaged, "101")[0] == "101"


def test_a_tile_without_data_is_refused(tmp_path, calibrator_sky):
    tile = write_small_ms(tmp_path / "tile.ms", calibrator_sky, n_time=1)
    with table(str(tile.path), readonly=False, ack=False) as ms:
        ms.putcol("FLAG", np.ones_like(ms.getcol("FLAG")))
    with pytest.raises(CalibrationQualityError, match="flagged"):
        solve(tile.path, tmp_path / "tables", sky=calibrator_sky)


def test_a_hanging_casa_is_stopped(tmp_path):
    with pytest.raises(ChildFailedError, match="did not end within"):
        run_tasks([("listobs", {"vis": "absent.ms"})], work_dir=tmp_path, timeout_s=0.2, subject="tile")
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_failing_task_names_it(tmp_path):
    with pytest.raises(ChildFailedError, match=r"tile: gaincal: .*absent\.ms"):
        run_tasks([("gaincal", {"vis": str(tmp_path / "absent.ms"), "caltable": "x"})], work_dir=tmp_path, timeout_s=120, subject="tile")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("others", [1.0, 0.3])
def test_a_partial_integration_is_left_out_of_what_is_solved(tmp_path, calibrator_sky, others):
    """Its visibilities are of an earlier time than its uvw: the gains of a night came out 0.045 % too large."""
    tile = write_small_ms(tmp_path / "tile.ms", calibrator_sky, n_time=8)
    solved = {}
    for name in ("partial", "flagged"):
        with table(str(tile.path), readonly=False, ack=False) as ms:
            last = ms.getcol("TIME") == ms.getcol("TIME").max()
            weight = np.full_like(ms.getcol("WEIGHT_SPECTRUM"), others)
            flag = np.zeros(weight.shape, dtype=bool)
            weight[last], flag[last] = 0.42 * others, name == "flagged"
            ms.putcol("WEIGHT_SPECTRUM", weight)
            ms.putcol("FLAG", flag)
        average_for_solving(tile.path, tmp_path / f"{name}.ms", sky=calibrator_sky, integrations=8, smearing=False)
        with table(str(tmp_path / f"{name}.ms"), ack=False) as ms:
            solved[name] = {column: ms.getcol(column) for column in ("DATA", "MODEL_DATA", "WEIGHT_SPECTRUM", "FLAG")}
    for column, values in solved["flagged"].items():
        assert np.array_equal(solved["partial"][column], values), column
    assert np.median(solved["partial"]["WEIGHT_SPECTRUM"]) == pytest.approx(7 * others)
