"""Imaging raises a clear error for data that it cannot image, and images data that are merely poor."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, ImagingError, MeasurementSetError
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.quality.image import compare_with_catalog, judge_tile, read_tile
from dsa110_assets_tests.imaging.synthetic_ms import Tile, offset_position, write_tile

OPTIONS = ImagingOptions(image_size=256, cell_arcsec=8.0)


def image(ms: Path, out: Path, options: ImagingOptions = OPTIONS, sky: pd.DataFrame | None = None):
    return image_tile(ms, out, "t", options, mask_sky=sky, provenance={})


def copy_of(tile: Tile, path: Path) -> Path:
    shutil.copytree(tile.ms, path)
    return path


def test_an_uncalibrated_measurement_set_raises_an_error(tmp_path):
    tile = write_tile(tmp_path / "raw.ms", [], n_antenna=6, n_time=2, n_channel=4, calibrated=False)
    with pytest.raises(MeasurementSetError, match="not calibrated"):
        image(tile.ms, tmp_path)
    assert list(tmp_path.glob("*.fits")) == []


def test_a_missing_measurement_set_raises_an_error(tmp_path):
    with pytest.raises(MeasurementSetError, match="not a Measurement Set"):
        image(tmp_path / "nothing.ms", tmp_path)


def test_fully_flagged_data_raise_an_error(tmp_path):
    tile = write_tile(tmp_path / "f.ms", [], n_antenna=6, n_time=2, n_channel=4, flag_channels=slice(None))
    with pytest.raises(ImagingError, match="every visibility is flagged"):
        image(tile.ms, tmp_path)


def test_nan_without_flags_is_not_imaged(small_tile: Tile, tmp_path):
    """Samples that are not finite count as flagged, even without a flag (pitfall 24)."""
    from casacore.tables import table

    ms = copy_of(small_tile, tmp_path / "nan.ms")
    with table(str(ms), readonly=False, ack=False) as main:
        data = main.getcol("DATA")
        data[::3] = np.nan
        data[1, 2, 0] = np.inf
        main.putcol("DATA", data)
    report = image(ms, tmp_path)
    assert report.used_fraction == pytest.approx(2 / 3, abs=0.01)
    assert np.isfinite(fits.getdata(report.images["image"])).all()


@pytest.mark.parametrize("cataloged", [True, False])
def test_one_subband_alone_gives_an_image(tmp_path, cataloged: bool):
    """With one channel of a regular array, the PSF has grating lobes of 80 %; they must not be taken for sources."""
    position = offset_position(150.0, 54.6, 0.05, 0.08)
    tile = write_tile(
        tmp_path / "one.ms", [(*position, 3.0, -0.7)], n_antenna=20, n_time=6, n_channel=16, smear=True, flag_channels=slice(0, 15)
    )
    sky = pd.DataFrame({"ra_deg": [position[0]], "dec_deg": [position[1]], "flux_jy": [3.0]})
    report = image(tile.ms, tmp_path, ImagingOptions(image_size=512, cell_arcsec=8.0), sky=sky if cataloged else None)
    assert report.used_fraction == pytest.approx(1 / 16)
    assert report.effective_frequency_hz == pytest.approx(tile.frequency_hz[15])
    found = compare_with_catalog(read_tile(tmp_path, "t"), sky, report.noise_jy_per_beam)
    assert found.flux_ratio == pytest.approx(1.0, abs=5 / found.snr[0] + 0.005)
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.15)
    assert report.bright_sources == 1


def test_a_source_of_12_jy_leaves_no_trace(tmp_path):
    position, faint = offset_position(150.0, 54.6, 0.4, 0.3), offset_position(150.0, 54.6, 0.3, 0.3)
    tile = write_tile(tmp_path / "b.ms", [(*position, 12.0, -0.7), (*faint, 0.3, -0.7)], n_antenna=20, n_time=12, n_channel=32, smear=True)
    report = image(tile.ms, tmp_path, ImagingOptions(image_size=512, cell_arcsec=8.0))
    sky = pd.DataFrame([(*position, 12.0), (*faint, 0.3)], columns=["ra_deg", "dec_deg", "flux_jy"])
    found = compare_with_catalog(read_tile(tmp_path, "t"), sky, report.noise_jy_per_beam)
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.15)
    assert report.dynamic_range > 1000
    assert found.flux_ratio[0] == pytest.approx(1.0, abs=0.005)
    assert found.flux_ratio[1] == pytest.approx(1.0, abs=4 / found.snr[1] + 0.005)


def test_thirty_percent_flagged_data_cost_noise_and_no_flux(tmp_path):
    from casacore.tables import table

    position = offset_position(150.0, 54.6, 0.2, 0.1)
    tile = write_tile(tmp_path / "f.ms", [(*position, 1.0, -0.7)], n_antenna=20, n_time=8, n_channel=24)
    whole = image(tile.ms, tmp_path)
    rng = np.random.default_rng(3)
    with table(str(tile.ms), readonly=False, ack=False) as main:
        flag = main.getcol("FLAG")
        flag[rng.uniform(size=flag.shape[0]) < 0.15] = True  # some baselines at some times
        flag[:, rng.uniform(size=flag.shape[1]) < 0.18] = True  # some channels at all times
        data = main.getcol("DATA")
        data[flag] = 1e30  # flagged data must not matter
        main.putcol("FLAG", flag)
        main.putcol("DATA", data)
    report = image(tile.ms, tmp_path)
    assert report.used_fraction == pytest.approx(1 - flag.mean(), abs=1e-6)
    assert 0.6 < report.used_fraction < 0.8
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.15)
    assert report.thermal_jy_per_beam > 1.1 * whole.thermal_jy_per_beam
    sky = pd.DataFrame({"ra_deg": [position[0]], "dec_deg": [position[1]], "flux_jy": [1.0]})
    found = compare_with_catalog(read_tile(tmp_path, "t"), sky, report.noise_jy_per_beam)
    assert found.flux_ratio == pytest.approx(1.0, abs=4 / found.snr[0] + 0.01)


def test_one_polarization_alone_gives_an_image(small_tile: Tile, tmp_path):
    from casacore.tables import table

    ms = copy_of(small_tile, tmp_path / "x.ms")
    with table(str(ms), readonly=False, ack=False) as main:
        flag = main.getcol("FLAG")
        flag[..., 1] = True
        main.putcol("FLAG", flag)
    both, one = image(small_tile.ms, tmp_path), image(ms, tmp_path)
    assert one.used_fraction == pytest.approx(0.5)
    assert one.thermal_jy_per_beam == pytest.approx(np.sqrt(2) * both.thermal_jy_per_beam, rel=1e-3)


def test_an_empty_field_gives_an_image_of_noise(tmp_path):
    tile = write_tile(tmp_path / "e.ms", [], n_antenna=16, n_time=4, n_channel=8)
    empty = pd.DataFrame({"ra_deg": [], "dec_deg": [], "flux_jy": []}, dtype=float)
    report = image(tile.ms, tmp_path, sky=empty)
    assert report.noise_jy_per_beam == pytest.approx(report.thermal_jy_per_beam, rel=0.1)
    assert report.dynamic_range < 6
    assert report.mask_sources == 0
    assert report.converged


def test_a_bright_source_outside_the_image_leaves_no_side_lobes(tmp_path):
    """The catalog has its position; flux, drift and smearing follow from the data and the beam."""
    outside, inside = offset_position(150.0, 54.6, 0.5, -0.45), offset_position(150.0, 54.6, 0.05, 0.1)
    tile = write_tile(tmp_path / "o.ms", [(*outside, 2.0, -0.7), (*inside, 0.3, -0.7)], n_antenna=20, n_time=8, n_channel=32, smear=True)
    options = ImagingOptions(image_size=384, cell_arcsec=6.0)
    catalog = pd.DataFrame([(*outside, 1.5), (*inside, 0.3)], columns=["ra_deg", "dec_deg", "flux_jy"])  # its flux may be wrong
    without = image(tile.ms, tmp_path, replace(options, search_outside=False))
    assert without.noise_jy_per_beam > 1.3 * without.thermal_jy_per_beam
    for sky in (catalog, None):  # without a catalog, the search finds it
        aware = image(tile.ms, tmp_path, options, sky=sky)
        assert aware.noise_jy_per_beam == pytest.approx(aware.thermal_jy_per_beam, rel=0.1)
        assert aware.bright_sources == 2


def test_zero_iterations_give_the_dirty_image(small_tile: Tile, tmp_path):
    report = image(small_tile.ms, tmp_path, ImagingOptions(image_size=256, cell_arcsec=8.0, niter=0))
    np.testing.assert_array_equal(fits.getdata(report.images["image"]), fits.getdata(report.images["dirty"]))
    assert report.model_flux_jy == 0


def test_the_iteration_limit_is_reported(small_tile: Tile, tmp_path):
    report = image(small_tile.ms, tmp_path, ImagingOptions(image_size=1024, cell_arcsec=8.0, niter=5, bright_sigma=0))
    assert not report.converged
    assert report.minor_iterations <= 6


def test_multiscale_recovers_an_extended_source(tmp_path):
    rng = np.random.default_rng(2)
    offsets = rng.normal(0, 25 / 3600, (60, 2))
    rows = [(*offset_position(150.0, 54.6, e, n), 0.05, -0.7) for e, n in offsets]
    tile = write_tile(tmp_path / "x.ms", rows, n_antenna=20, n_time=6, n_channel=16)
    report = image(tile.ms, tmp_path, ImagingOptions(image_size=384, cell_arcsec=6.0, multiscale=True, correct_smearing=False))
    model = fits.getdata(report.images["model"])[0, 0]
    assert model[152:232, 152:232].sum() == pytest.approx(3.0 * report.pb_centre, rel=0.03)
    assert report.noise_jy_per_beam < 1.5 * report.thermal_jy_per_beam


@pytest.mark.parametrize("cataloged", [True, False])
def test_an_extended_source_is_imaged_without_multiscale_too(tmp_path, cataloged: bool):
    """A source of 6 Jy, a few beams wide, keeps its flux, whether the catalog has it as one point or not at all.

    CLEAN reaches its threshold.
    """
    rng = np.random.default_rng(2)
    rows = [(*offset_position(150.0, 54.6, e, n), 0.1, -0.7) for e, n in rng.normal(0, 120 / 3600, (60, 2))]
    tile = write_tile(tmp_path / "x.ms", rows, n_antenna=20, n_time=6, n_channel=16)
    sky = pd.DataFrame({"ra_deg": [150.0], "dec_deg": [54.6], "flux_jy": [6.0]})
    options = ImagingOptions(image_size=384, cell_arcsec=6.0, correct_smearing=False)
    report = image(tile.ms, tmp_path, options, sky=sky if cataloged else None)
    model = fits.getdata(report.images["model"])[0, 0]
    assert model[92:292, 92:292].sum() == pytest.approx(6.0 * report.pb_centre, rel=0.05)
    assert report.converged
    assert report.noise_jy_per_beam < 2 * report.thermal_jy_per_beam


@pytest.mark.parametrize("selfcal_rounds", [0, 2])
def test_data_that_fit_no_sky_give_an_image_with_a_bad_verdict(tmp_path, selfcal_rounds: int):
    """With random phases in every row, the number of cycles is bounded, nothing diverges, and the verdict is bad."""
    from casacore.tables import table

    position = offset_position(150.0, 54.6, 0.1, 0.1)
    tile = write_tile(tmp_path / "r.ms", [(*position, 12.0, -0.7)], n_antenna=20, n_time=6, n_channel=16)
    sky = pd.DataFrame({"ra_deg": [position[0]], "dec_deg": [position[1]], "flux_jy": [12.0]})
    rng = np.random.default_rng(6)
    with table(str(tile.ms), readonly=False, ack=False) as main:
        data = main.getcol("DATA")
        main.putcol("DATA", (data * np.exp(2j * np.pi * rng.uniform(size=data.shape[0]))[:, None, None]).astype(np.complex64))
    options = ImagingOptions(image_size=512, cell_arcsec=8.0, selfcal_rounds=selfcal_rounds)
    report = image(tile.ms, tmp_path, options, sky=sky)
    assert report.major_cycles <= options.max_major + 4
    planes = read_tile(tmp_path, "t")
    assert np.isfinite(planes.image).all()
    assert np.abs(planes.image).max() < 12.0
    verdicts = {verdict.name: verdict for verdict in judge_tile(planes, sky)}
    assert verdicts["noise_over_thermal"].passed is False
    if selfcal_rounds:
        assert report.selfcal is not None
        assert report.selfcal.gains is None, report.selfcal.summary


def test_the_measurement_set_is_not_changed(small_tile: Tile, tmp_path):
    from dsa110_assets.publication import checksum

    before = checksum(small_tile.ms)
    image(small_tile.ms, tmp_path)
    assert checksum(small_tile.ms) == before


def test_options_come_from_the_configuration():
    config = PipelineConfig(image_size=2700, cell_arcsec=6.0, gridder="wproject", clean_niter=7, use_nvss_mask=False, threads_per_worker=3)
    options = ImagingOptions.from_config(config)
    assert (options.image_size, options.cell_arcsec, options.engine, options.niter) == (2700, 6.0, "wproject", 7)
    assert not options.use_mask
    assert options.n_threads == 3


@pytest.mark.parametrize("wrong", [{"image_size": 101}, {"major_gain": 0.0}, {"image_size": 4096, "cell_arcsec": 100.0}])
def test_impossible_options_raise_an_error(wrong):
    with pytest.raises(ConfigurationError):
        ImagingOptions(**wrong)
