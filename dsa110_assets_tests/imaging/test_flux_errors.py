"""Errors of gains make errors of fluxes, and the antennas' own disagreement tells how large these are.

Each antenna sees each source with its own random gain; the simulation is a sum over sources, apart from the imager.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.imaging.bright_sources import Subtraction, subtract_bright_sources
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.restoring import fit_beam
from dsa110_assets.imaging.visibilities import read_visibilities
from dsa110_assets.imaging.weighting import imaging_weights
from dsa110_assets.mosaicking import TileImage, make_mosaic
from dsa110_assets.photometry import measure_mosaic, measure_tile
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile

N_ANTENNA = 24
OFFSETS_DEG = [(0.05, 0.1), (-0.35, 0.3), (0.45, -0.3), (-0.2, -0.6), (0.7, 0.35), (-0.8, -0.2), (0.3, 0.85), (0.1, -0.95)]
ROWS = [(*offset_position(150.0, 54.6, east, north), 1.5 + 0.2 * k, -0.7) for k, (east, north) in enumerate(OFFSETS_DEG)]
SKY = pd.DataFrame(ROWS, columns=["ra_deg", "dec_deg", "flux_jy", "spectral_index"]).assign(name=[str(k) for k in range(len(ROWS))])
DISTANCE_DEG = np.hypot(*np.array(OFFSETS_DEG).T)
OPTIONS = ImagingOptions(image_size=1024, cell_arcsec=8.0, correct_smearing=False)
SCATTER, SCATTER_PER_DEG = 0.015, 0.04


def voltages(seed: int) -> np.ndarray:
    """Gains that scatter more the farther a source is from the beam's center."""
    scatter = np.hypot(SCATTER, SCATTER_PER_DEG * DISTANCE_DEG)[:, None]
    return 1 + scatter * np.random.default_rng(seed).standard_normal((len(ROWS), N_ANTENNA))


@dataclass(frozen=True)
class Fitted:
    """What is subtracted from a tile; fitted fluxes and their thermal errors as shares, by source.

    ``antennas``: number of antennas whose mean is as uncertain as theirs with the image's weights.
    """

    found: Subtraction
    flux: np.ndarray
    thermal: np.ndarray
    antennas: float


def fit(path: Path, gains: np.ndarray | None, seed: int) -> Fitted:
    ms = write_tile(path, ROWS, n_antenna=N_ANTENNA, n_time=4, n_channel=8, voltages=gains, seed=seed).ms
    vis = read_visibilities(ms)
    weights = imaging_weights(vis, OPTIONS)
    grid = ImageGrid(OPTIONS.image_size, OPTIONS.cell_rad, np.radians(150.0), np.radians(54.6))
    gridder = Gridder(vis, weights, grid, OPTIONS)
    psf = gridder.psf()
    beam = fit_beam(psf, OPTIONS.cell_arcsec)
    found = subtract_bright_sources(vis, weights, grid, OPTIONS, gridder=gridder, psf=psf, beam=beam, dirty=gridder.dirty(), sky=SKY)
    y, x = grid.pixel_of(*np.radians(SKY[["ra_deg", "dec_deg"]].to_numpy()).T)
    nearest = np.hypot(y[:, None] - found.sources.y, x[:, None] - found.sources.x).argmin(axis=1)
    flux = found.sources.flux_jy[nearest]
    baselines = weights.weight.sum(axis=1, dtype=float)
    by_antenna = [baselines[(vis.antenna1 == a) | (vis.antenna2 == a)].sum() for a in range(N_ANTENNA)]
    return Fitted(found, flux, weights.thermal_jy_per_beam / flux, np.sum(by_antenna) ** 2 / np.sum(np.square(by_antenna)))


@pytest.fixture(scope="module")
def tiles(tmp_path_factory: pytest.TempPathFactory) -> list[Fitted]:
    """The perfect array first, then six arrays."""
    directory = tmp_path_factory.mktemp("gains")
    return [fit(directory / f"{seed}.ms", voltages(seed) if seed else None, 20 + seed) for seed in range(7)]


def test_pulls_of_fluxes_have_width_one_with_the_error_that_the_antennas_tell(tiles: list[Fitted]) -> None:
    pulls, thermal_pulls = [], []
    for tile in tiles[1:]:
        assert tile.found.flux_error is not None
        share = tile.found.flux_error.shares(SKY["ra_deg"], SKY["dec_deg"])
        off = tile.flux / tiles[0].flux - 1
        pulls.append(off / np.hypot(np.sqrt(2) * tile.thermal, share))  # the perfect array's flux has the same noise
        thermal_pulls.append(off / (np.sqrt(2) * tile.thermal))
    n = np.size(pulls)
    assert np.std(thermal_pulls) > 2.0, "noise alone does not explain the fluxes"
    assert np.std(pulls) == pytest.approx(1.0, abs=3 / np.sqrt(2 * n))
    assert np.abs(pulls).max() < 4.0


def test_the_error_is_that_of_the_mean_of_the_antennas_gains(tiles: list[Fitted]) -> None:
    """``2 s / sqrt(N)``, near the center and farther out; each of six arrays knows s from 8 x 23 numbers."""
    for distance in (0.3, 0.9):
        scatter = np.hypot(SCATTER, SCATTER_PER_DEG * distance)
        ratios = [
            tile.found.flux_error.at_deg(distance) / (2 * scatter / np.sqrt(tile.antennas)) for tile in tiles[1:] if tile.found.flux_error
        ]
        one = 1 / np.sqrt(2 * 23 * len(ROWS) / 2)  # two parameters share the numbers
        assert np.sqrt(np.mean(np.square(ratios))) == pytest.approx(1, abs=3 * one / np.sqrt(6))
        assert np.std(ratios) < 3 * one


def test_where_the_gains_are_right_errors_are_those_of_noise(tiles: list[Fitted]) -> None:
    error = tiles[0].found.flux_error
    assert error is not None
    assert (error.share, error.per_deg) == (0.0, 0.0)


def test_the_error_reaches_photometry_of_tile_and_mosaic(tmp_path: Path) -> None:
    ms = write_tile(tmp_path / "t.ms", ROWS, n_antenna=N_ANTENNA, n_time=4, n_channel=8, voltages=voltages(1), seed=21).ms
    report = image_tile(ms, tmp_path, "t", OPTIONS, mask_sky=SKY, provenance={})
    assert report.flux_error is not None
    assert report.figures()["flux_error_percent"] == pytest.approx(100 * report.flux_error.at_deg(1.0))
    inside = SKY[:4]  # the image ends where the beam is 20 %
    tile = measure_tile(tmp_path, "t", inside)
    share = report.flux_error.shares(inside["ra_deg"], inside["dec_deg"])
    assert (share > 0.003).all()
    assert (tile["calibration_err_jy"] >= 0.999 * share * tile["flux_jy"]).all()
    noise = measure_tile(tmp_path, "t", inside, calibration_errors=False)
    assert tile["flux_err_jy"].to_numpy() == pytest.approx(np.hypot(noise["flux_err_jy"], tile["calibration_err_jy"]))
    assert (tile["snr"] == noise["snr"]).all(), "detection and limits are matters of noise"
    assert (noise["calibration_err_jy"] == 0).all()
    assert fits.getheader(report.images["psf"])["DSAFERR"] == pytest.approx(report.flux_error.share)
    make_mosaic([TileImage.of(tmp_path, "t")], tmp_path / "m", "m", provenance={})
    mosaic = measure_mosaic(tmp_path / "m", "m", inside)
    of_mosaic = CalibrationError.from_header(fits.getheader(tmp_path / "m" / "m-image.fits"))
    assert of_mosaic is not None
    assert (of_mosaic.share, of_mosaic.per_deg) == pytest.approx((report.flux_error.share, report.flux_error.per_deg))
    across = np.hypot(of_mosaic.share, of_mosaic.per_deg * np.abs(inside["dec_deg"].to_numpy() - report.dec_deg))
    assert (mosaic["calibration_err_jy"] >= 0.99 * across * mosaic["flux_jy"]).all(), "along the drift, errors of pointing cancel"


def test_a_mosaic_has_the_mean_error_of_its_tiles_and_not_less() -> None:
    tiles = [CalibrationError(0.01, 0.02, (150.0, 54.6)), None, CalibrationError(0.03, 0.0, (151.0, 54.7))]
    error = CalibrationError.of_mosaic(tiles, 54.65)
    assert error is not None
    assert error.share == pytest.approx(np.sqrt((0.01**2 + 0.03**2) / 2))
    assert error.shares([10.0], [55.65]) == pytest.approx([np.hypot(error.share, 0.02 / np.sqrt(2))])
    assert CalibrationError.of_mosaic([None], 54.6) is None


@pytest.mark.parametrize(("key", "value"), [("DSAFERR", -0.1), ("DSAFERR", 2.0), ("DSAFERRD", "much"), ("DSAFERDC", 99.0)])
def test_impossible_keywords_count_as_none(key: str, value: float | str) -> None:
    header = fits.Header()
    CalibrationError(0.01, 0.02, (150.0, 54.6)).write_to(header)
    assert CalibrationError.from_header(header) == CalibrationError(0.01, 0.02, (150.0, 54.6))
    header[key] = value
    assert CalibrationError.from_header(header) is None
