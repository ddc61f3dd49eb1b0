"""Self-calibration finds known antenna errors, and leaves good data unchanged.

The data come from `synthetic_ms` (direct summation, no code of the imager) and are corrupted by known gains.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets.imaging.selfcal import Correlations, solve
from dsa110_assets.imaging.visibilities import AntennaGains
from dsa110_assets_tests.imaging.synthetic_ms import Tile, antennas_enu, offset_position, write_tile

N_ANTENNA, N_TIME = 24, 8
SOURCES = [(0.05, 0.08, 0.9), (-0.35, 0.2, 0.7), (0.3, -0.3, 0.5), (-0.2, -0.4, 0.4), (0.45, 0.4, 0.3), (0.1, 0.35, 0.25)]
OPTIONS = ImagingOptions(image_size=512, cell_arcsec=8.0)


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Tile, pd.DataFrame]:
    rows = [(*offset_position(150.0, 54.6, e, n), f, -0.7) for e, n, f in SOURCES]
    made = write_tile(tmp_path_factory.mktemp("selfcal") / "t.ms", rows, n_antenna=N_ANTENNA, n_time=N_TIME, n_channel=16, smear=True)
    return made, pd.DataFrame([row[:3] for row in rows], columns=["ra_deg", "dec_deg", "flux_jy"])


def corrupt(tile: Tile, path: Path, gain: np.ndarray) -> Path:
    """Copy a tile and multiply its data by ``g_1 conj(g_2)``; ``gain`` (Ntimes or 1, Nants, 2)."""
    from casacore.tables import table

    shutil.copytree(tile.ms, path)
    with table(str(path), readonly=False, ack=False) as main:
        one, two = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
        time = np.minimum(np.unique(main.getcol("TIME"), return_inverse=True)[1], len(gain) - 1)
        main.putcol("DATA", (main.getcol("DATA") * (gain[time, one] * np.conj(gain[time, two]))[:, None, :]).astype(np.complex64))
    return path


def image(ms: Path, out: Path, sky: pd.DataFrame | None, **options: object) -> ImageReport:
    out.mkdir(exist_ok=True)
    from dataclasses import replace

    return image_tile(ms, out, "t", replace(OPTIONS, **options), mask_sky=sky, provenance={})


def ratio_to_truth(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Ratio of found to true gains (Nants, 2), without the mean phase and the phase slope over the array.

    Self-calibration cannot determine these: a slope only shifts the sky.
    """
    ratio = found / true
    design = np.column_stack([np.ones(N_ANTENNA), antennas_enu(N_ANTENNA)[:, :2]])
    phase = np.angle(ratio * np.conj(ratio.mean(axis=0)))
    return np.abs(ratio) * np.exp(1j * (phase - design @ np.linalg.lstsq(design, phase, rcond=None)[0]))


def test_phase_errors_of_20_degrees_are_found_and_the_noise_becomes_thermal(tile, tmp_path):
    made, sky = tile
    phase = np.radians(20) * np.random.default_rng(1).standard_normal((1, N_ANTENNA, 2))
    ms = corrupt(made, tmp_path / "p.ms", np.exp(1j * phase))
    before = image(ms, tmp_path / "before", sky)
    after = image(ms, tmp_path / "after", sky, selfcal_rounds=4)
    assert before.noise_jy_per_beam > 2 * before.thermal_jy_per_beam, "the errors matter here"
    assert after.noise_jy_per_beam == pytest.approx(after.thermal_jy_per_beam, rel=0.1)
    assert after.selfcal is not None
    assert after.selfcal.gains is not None
    left = np.angle(ratio_to_truth(after.selfcal.gains.gain[0], np.exp(1j * phase[0])))
    assert np.degrees(left.std()) < 1.0
    header = fits.getheader(after.images["image"])
    assert header["DSASELF"].startswith(f"{sum(one.kept and one.kind == 'phase' for one in after.selfcal.rounds)} phase")
    assert "mJy/beam" in str(header["HISTORY"])
    assert "DSASELF" not in fits.getheader(before.images["image"])


def test_amplitude_errors_of_5_percent_are_found_and_the_flux_scale_stays(tile, tmp_path):
    made, sky = tile
    rng = np.random.default_rng(2)
    amplitude = np.exp(0.05 * rng.standard_normal((1, N_ANTENNA, 2)))
    amplitude /= np.exp(np.log(amplitude).mean(axis=1, keepdims=True))
    phase = np.radians(20) * rng.standard_normal((1, N_ANTENNA, 2))
    ms = corrupt(made, tmp_path / "a.ms", amplitude * np.exp(1j * phase))
    report = image(ms, tmp_path / "image", sky, selfcal_rounds=4)
    assert report.selfcal is not None
    assert report.selfcal.gains is not None
    assert {one.kind for one in report.selfcal.rounds if one.kept} == {"phase", "amplitude"}
    ratio = ratio_to_truth(report.selfcal.gains.gain[0], (amplitude * np.exp(1j * phase))[0])
    assert np.degrees(np.angle(ratio).std()) < 1.0
    assert np.log(np.abs(ratio)).std() < 0.01
    assert np.abs(ratio).mean() == pytest.approx(1.0, abs=0.01)
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.1)
    untouched = image(made.ms, tmp_path / "untouched", sky)
    assert report.peak_jy_per_beam == pytest.approx(untouched.peak_jy_per_beam, rel=0.01)


def test_phases_that_change_during_the_tile_need_shorter_intervals(tile, tmp_path):
    made, sky = tile
    drift = np.linspace(-1, 1, N_TIME)[:, None, None] * np.radians(25) * np.random.default_rng(3).standard_normal((1, N_ANTENNA, 2))
    ms = corrupt(made, tmp_path / "d.ms", np.exp(1j * drift))
    report = image(ms, tmp_path / "image", sky, selfcal_rounds=2, selfcal_integrations=1, channels=2)
    assert report.selfcal is not None
    assert report.selfcal.gains is not None
    assert report.selfcal.gains.gain.shape[0] == N_TIME
    assert len(report.channels) == 2, "parts of the band are made from the corrected data"
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.1)


def test_perfect_data_are_left_unchanged_at_once(tile, tmp_path):
    made, sky = tile
    without = image(made.ms, tmp_path / "without", sky)
    report = image(made.ms, tmp_path / "selfcal", sky, selfcal_rounds=4)
    assert report.selfcal is not None
    assert report.selfcal.rounds == ()
    assert report.selfcal.gains is None
    assert "agree with the model" in report.selfcal.summary
    for suffix in ("image", "residual"):
        one, other = fits.getdata(report.images[suffix]), fits.getdata(without.images[suffix])
        assert np.abs(one - other).max() < 1e-3 * report.noise_jy_per_beam, "only the order of additions in threads differs"


def test_the_report_names_a_field_that_is_too_faint_for_self_calibration(tmp_path):
    position = offset_position(150.0, 54.6, 0.1, 0.1)
    faint = write_tile(tmp_path / "f.ms", [(*position, 0.02, -0.7)], n_antenna=16, n_time=4, n_channel=8)
    report = image(faint.ms, tmp_path, None, selfcal_rounds=3, image_size=256)
    assert report.selfcal is not None
    assert report.selfcal.rounds == ()
    assert "too faint" in report.selfcal.summary or "the model is empty" in report.selfcal.summary
    assert fits.getheader(report.images["image"])["DSASELF"] == "no change"


def test_the_solver_equals_the_truth_without_noise():
    """It finds phases and complex gains in each interval and polarization; a receptor without data keeps its gain."""
    rng = np.random.default_rng(4)
    n = 12
    power = rng.uniform(1e4, 2e4, (2, 2, n, n))
    power = power + np.swapaxes(power, 2, 3)
    power[..., range(n), range(n)] = 0
    power[0, 1, 5], power[0, 1, :, 5] = 0, 0
    gain = np.exp(0.1 * rng.standard_normal((2, 2, n)) + 1j * rng.standard_normal((2, 2, n)))
    start = AntennaGains(np.ones((2, n, 2), dtype=np.complex64), np.zeros(1, dtype=np.int32))
    for kind in ("phase", "amplitude"):
        true = gain / np.abs(gain) if kind == "phase" else gain
        r = true[..., :, None] * np.conj(true[..., None, :]) * power
        found = np.swapaxes(solve(Correlations(r, power), start, kind).gain, 1, 2)
        has_data = power.sum(axis=-1) > 0
        products = found[..., :, None] * np.conj(found[..., None, :])
        expected = true[..., :, None] * np.conj(true[..., None, :])
        ratio = (products / expected)[has_data[..., :, None] & has_data[..., None, :]].reshape(-1)
        assert found[0, 1, 5] == 1
        assert np.angle(ratio) == pytest.approx(0, abs=1e-5)
        assert np.ptp(np.abs(ratio[: n * n])) < 1e-4
        # the model keeps its flux scale: the mean power of the gains is 1
        assert (np.abs(products) * power).sum(axis=(-1, -2)) == pytest.approx(power.sum(axis=(-1, -2)), rel=1e-4)


def test_self_calibration_with_another_engine_raises_an_error():
    with pytest.raises(ConfigurationError, match="cannot predict"):
        ImagingOptions(engine="wsclean", selfcal_rounds=1)
