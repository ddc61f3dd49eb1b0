"""Bright point sources are fitted to the noise, even if the catalog is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.imaging.bright_sources import subtract_bright_sources
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, psf_curvature
from dsa110_assets.imaging.restoring import fit_beam
from dsa110_assets.imaging.visibilities import read_visibilities
from dsa110_assets.imaging.weighting import imaging_weights
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile

SOURCES = [(0.03, -0.2, 3.0), (0.3, 0.25, 1.2), (-0.35, 0.1, 0.7), (-0.1, -0.38, 0.5), (0.25, -0.3, 0.4)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory):
    """Fit a drifting tile, starting from a catalog that is wrong by 10 to 20 % and 3 to 5 arcsec."""
    rows = [(*offset_position(150.0, 54.6, e, n), f, -0.7) for e, n, f in SOURCES]
    tile = write_tile(tmp_path_factory.mktemp("bright") / "t.ms", rows, n_antenna=28, n_time=12, n_channel=16)
    wrong = [(ra + 0.0015, dec - 0.001, flux * (0.8 if k % 2 else 1.1)) for k, (ra, dec, flux, _) in enumerate(rows)]
    options = ImagingOptions(image_size=512, cell_arcsec=8.0, correct_smearing=False)
    vis = read_visibilities(tile.ms)
    weights = imaging_weights(vis, options)
    grid = ImageGrid(512, options.cell_rad, np.radians(150.0), np.radians(54.6))
    gridder = Gridder(vis, weights, grid, options)
    psf = gridder.psf()
    sky = pd.DataFrame(wrong, columns=["ra_deg", "dec_deg", "flux_jy"])
    beam = fit_beam(psf, options.cell_arcsec)
    found = subtract_bright_sources(vis, weights, grid, options, gridder=gridder, psf=psf, beam=beam, dirty=gridder.dirty(), sky=sky)
    truth = grid.pixel_of(*np.radians(np.array([row[:2] for row in rows])).T)
    return vis, weights, grid, psf, found.image, found.sources, found.rounds, truth


def test_the_curvature_of_the_psf_agrees_with_its_image(fitted):
    vis, weights, _, _, _, _, _, _ = fitted
    fine = ImagingOptions(image_size=1024, cell_arcsec=2.0)
    grid = ImageGrid(1024, fine.cell_rad, np.radians(150.0), np.radians(54.6))
    psf = Gridder(vis, weights, grid, fine).psf().astype(float)
    c = slice(511, 514)
    y, x = np.meshgrid([-1, 0, 1], [-1, 0, 1], indexing="ij")
    design = np.stack([np.ones(9), y.ravel(), x.ravel(), -0.5 * y.ravel() ** 2, -(y * x).ravel(), -0.5 * x.ravel() ** 2], axis=1)
    _, _, _, yy, yx, xx = np.linalg.lstsq(design, psf[c, c].ravel(), rcond=None)[0]
    expected = psf_curvature(vis, weights, fine.cell_rad)
    assert np.array([[yy, yx], [yx, xx]]) == pytest.approx(expected, abs=0.08 * np.trace(expected))


def test_a_wrong_catalog_is_corrected_to_the_noise(fitted):
    _, weights, _, _, image, sources, rounds, _ = fitted
    assert len(sources) == len(SOURCES)
    assert rounds <= 4
    assert np.abs(image).max() < 5.5 * weights.thermal_jy_per_beam


def test_positions_of_bright_sources_scatter_as_predicted_by_the_curvature_of_the_psf(fitted):
    vis, weights, grid, _, _, sources, _, truth = fitted
    inverse = np.linalg.inv(psf_curvature(vis, weights, grid.cell_rad))
    # the noise of the gradient is that of the image times the curvature of its autocorrelation, at most that of the
    # finest weights
    for y, x in zip(*truth, strict=True):
        nearest = np.hypot(sources.y - y, sources.x - x).argmin()
        error_px = weights.thermal_jy_per_beam / sources.flux_jy[nearest] * np.sqrt(np.trace(inverse))
        assert np.hypot(sources.y[nearest] - y, sources.x[nearest] - x) < 4 * error_px


def test_a_side_lobe_in_the_catalog_is_not_kept(fitted, tmp_path: Path):
    vis, weights, grid, psf, _, sources, _, _ = fitted
    options = ImagingOptions(image_size=512, cell_arcsec=8.0, correct_smearing=False)
    gridder = Gridder(vis, weights, grid, options)
    sky_rows = [
        (*np.degrees([a[0] for a in grid.sky_of(np.array([y]), np.array([x]))]), f)
        for y, x, f in ((350.0, 300.0, 2.0), (260.0, 330.0, 0.9))
    ]
    false = pd.DataFrame(sky_rows, columns=["ra_deg", "dec_deg", "flux_jy"])
    result = subtract_bright_sources(
        vis, weights, grid, options, gridder=gridder, psf=psf, beam=fit_beam(psf, 8.0), dirty=gridder.dirty(), sky=false
    )
    assert isinstance(result.sources, PointSources)
    assert len(result.sources) == len(sources)
    assert np.abs(result.image).max() < 5.5 * weights.thermal_jy_per_beam
