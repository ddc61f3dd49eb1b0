"""The gridder agrees with direct sums, weights with numpy, smearing with numerical averages."""

from __future__ import annotations

import numpy as np
import pytest

from dsa110_assets.imaging import primary_beam
from dsa110_assets.imaging.grid import ImageGrid, circle_mask
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, subtract_point_sources
from dsa110_assets.imaging.visibilities import Visibilities, read_visibilities
from dsa110_assets.imaging.weighting import imaging_weights
from dsa110_assets_tests.imaging.synthetic_ms import Tile, airy, offset_position, write_tile

C = 299_792_458.0


def setup(tile: Tile, robust: float = 0.5, size: int = 512, cell: float = 6.0):
    vis = read_visibilities(tile.ms)
    options = ImagingOptions(image_size=size, cell_arcsec=cell, briggs_robust=robust)
    grid = ImageGrid(size, options.cell_rad, np.radians(tile.ra0_deg), np.radians(tile.dec0_deg))
    weights = imaging_weights(vis, options)
    return vis, options, grid, weights


def phases(vis: Visibilities, l: float, m: float) -> np.ndarray:  # noqa: E741
    n1 = np.sqrt(1 - l * l - m * m) - 1
    return 2 * np.pi / C * (vis.uvw_m @ np.array([l, m, n1]))[:, None] * vis.frequency_hz


def test_the_dirty_image_equals_the_direct_sum(small_tile: Tile):
    vis, options, grid, weights = setup(small_tile)
    dirty = Gridder(vis, weights, grid, options).dirty()
    rng = np.random.default_rng(1)
    weight = weights.weight.astype(float)
    for y, x in rng.integers(5, 507, (12, 2)):
        l, m = -(x - 256) * grid.cell_rad, (y - 256) * grid.cell_rad  # noqa: E741
        direct = (weight * (vis.vis_jy * np.exp(-1j * phases(vis, l, m))).real).sum() / weight.sum()
        assert dirty[y, x] == pytest.approx(direct, abs=2e-5)


def test_the_psf_has_its_peak_of_1_at_the_center(small_tile: Tile):
    vis, options, grid, weights = setup(small_tile)
    psf = Gridder(vis, weights, grid, options).psf()
    assert psf[256, 256] == pytest.approx(1.0, abs=3e-4)
    assert np.unravel_index(psf.argmax(), psf.shape) == (256, 256)
    weight = weights.weight.astype(float)
    for y, x in ((256, 258), (250, 255), (100, 400)):
        direct = (weight * np.cos(phases(vis, -(x - 256) * grid.cell_rad, (y - 256) * grid.cell_rad))).sum() / weight.sum()
        assert psf[y, x] == pytest.approx(direct, abs=2e-4)


def test_subtracting_a_component_changes_the_image_by_that_component(small_tile: Tile):
    vis, options, grid, weights = setup(small_tile)
    gridder = Gridder(vis, weights, grid, options)
    model = np.zeros((512, 512), dtype=np.float32)
    model[300, 200] = 3.0
    l, m = -(200 - 256) * grid.cell_rad, (300 - 256) * grid.cell_rad  # noqa: E741
    change = gridder.dirty() - gridder.residual(model)
    probe_y, probe_x = 333, 111
    dl, dm = -(probe_x - 256) * grid.cell_rad, (probe_y - 256) * grid.cell_rad
    weight = weights.weight.astype(float)
    assert change[300, 200] == pytest.approx(3.0, rel=1e-3)
    expected = 3 * (weight * np.cos(phases(vis, l, m) - phases(vis, dl, dm))).sum() / weight.sum()
    assert change[probe_y, probe_x] == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("robust", [-2.0, 0.5, 2.0])
def test_briggs_weights_equal_the_published_formula(small_tile: Tile, robust: float):
    vis, options, _, weights = setup(small_tile, robust)
    scale = 512 * options.cell_rad
    u = vis.uvw_m[:, 0, None] * vis.frequency_hz / C
    v = vis.uvw_m[:, 1, None] * vis.frequency_hz / C
    sign = np.where(u < 0, -1, 1)
    i, j = np.floor(u * sign * scale + 0.5).astype(int), np.floor(v * sign * scale + 0.5).astype(int) + 1000
    natural = vis.weight.astype(float)
    density = np.zeros((2000, 2000))
    np.add.at(density, (i, j), natural)
    f2 = (5 * 10**-robust) ** 2 / ((density**2).sum() / natural.sum())
    expected = natural / (1 + density[i, j] * f2)
    np.testing.assert_allclose(weights.weight, expected / expected.sum(), rtol=1e-4)
    assert weights.thermal_jy_per_beam == pytest.approx(np.sqrt((expected**2 / natural).sum()) / expected.sum(), rel=1e-6)
    assert weights.time_channel.sum() == pytest.approx(1.0)


def test_the_noise_of_an_empty_dirty_image_is_the_prediction(tmp_path):
    tile = write_tile(tmp_path / "n.ms", [], n_antenna=16, n_time=4, n_channel=8)
    for robust in (-1.0, 1.0):
        vis, options, grid, weights = setup(tile, robust)
        dirty = Gridder(vis, weights, grid, options).dirty()
        assert dirty.std() == pytest.approx(weights.thermal_jy_per_beam, rel=0.04)


def test_visibilities_on_baselines_too_long_for_the_pixels_are_omitted_and_counted(small_tile: Tile):
    vis, options, _, weights = setup(small_tile, size=128, cell=40.0)
    limit = 0.5 / options.cell_rad
    uv = np.abs(vis.uvw_m[:, :2, None] * vis.frequency_hz / C)
    beyond = (uv > limit + 1 / (128 * options.cell_rad)).any(axis=1)
    assert weights.beyond_cell >= beyond.sum() > 0
    assert (weights.weight[beyond] == 0).all()


def test_the_prediction_of_a_point_source_equals_the_measurement_equation(tmp_path):
    """Subtract a source with drift, spectrum, smearing and sub-pixel position from noise-free data."""
    position = offset_position(150.0, 54.6, 0.63, -0.91)
    tile = write_tile(tmp_path / "p.ms", [(*position, 1.0, -0.7)], n_antenna=12, n_time=6, n_channel=32, noise=False, smear=True)
    vis, options, grid, weights = setup(tile)
    y, x = grid.pixel_of(*np.radians(position))
    pb = primary_beam.effective_beam(primary_beam.beam_sampling(vis, weights), *np.radians(position), 1.4e9, -0.7)
    pb = pb * primary_beam.smearing_loss(vis, weights, *np.radians(np.array(position)[:, None]))[0]
    rest = subtract_point_sources(vis, weights, grid, options, PointSources(np.array([y]), np.array([x]), np.array([float(pb)])))
    assert np.abs(rest).max() < 0.004 * np.abs(vis.vis_jy).max()


def test_the_peak_of_a_smeared_source_agrees_with_the_effective_beam(tmp_path):
    position = offset_position(150.0, 54.6, -1.1, 0.7)
    tile = write_tile(tmp_path / "p.ms", [(*position, 1.0, -0.7)], n_antenna=16, n_time=6, n_channel=128, noise=False, smear=True)
    vis, options, grid, weights = setup(tile, size=1024, cell=9.0)
    ra, dec = np.radians(position)
    y, x = grid.pixel_of(ra, dec)
    l, m = -(float(x) - 512) * grid.cell_rad, (float(y) - 512) * grid.cell_rad  # noqa: E741
    weight = weights.weight.astype(float)
    peak = (weight * (vis.vis_jy * np.exp(-1j * phases(vis, l, m))).real).sum() / weight.sum()
    pb = primary_beam.primary_beam_image(vis, weights, grid, options)
    without = primary_beam.effective_beam(primary_beam.beam_sampling(vis, weights), ra, dec, 1.4e9, -0.7)
    assert without / peak > 1.01  # smearing matters here
    assert pb[round(float(y)), round(float(x))] == pytest.approx(peak, rel=2e-3)


def test_the_effective_beam_is_the_mean_over_times_and_channels(small_tile: Tile):
    vis, _, grid, weights = setup(small_tile)
    ra, dec = grid.sky_of(np.array([256.0, 40.0]), np.array([256.0, 480.0]))
    got = primary_beam.effective_beam(primary_beam.beam_sampling(vis, weights), ra, dec, 1.4e9, -0.7)
    for k in range(2):
        p_ra = np.radians(small_tile.pointing_ra_deg)
        cos = np.sin(dec[k]) * np.sin(np.radians(54.6)) + np.cos(dec[k]) * np.cos(np.radians(54.6)) * np.cos(ra[k] - p_ra)
        response = airy(np.arccos(cos)[:, None], vis.frequency_hz) * (vis.frequency_hz / 1.4e9) ** -0.7
        assert got[k] == pytest.approx((weights.time_channel * response).sum(), rel=1e-5)


def test_the_circle_mask_covers_only_the_circles():
    grid = ImageGrid(400, np.radians(6 / 3600), 0.0, 0.3)
    ra, dec = grid.sky_of(np.array([100.3, 399.0, 200.0]), np.array([150.8, 10.0, 200.0]))
    mask = circle_mask(grid, np.degrees(ra), np.degrees(dec), 59.0)
    yy, xx = np.mgrid[:400, :400]
    expected = np.zeros_like(mask)
    for y, x in ((100.3, 150.8), (399.0, 10.0), (200.0, 200.0)):
        expected |= (yy - y) ** 2 + (xx - x) ** 2 <= (59 / 6) ** 2
    assert (mask != expected).sum() == 0


def test_pixels_and_directions_agree_with_astropy():
    from astropy.wcs import WCS

    world = WCS(naxis=2)
    world.wcs.ctype, world.wcs.crval, world.wcs.crpix = ["RA---SIN", "DEC--SIN"], [359.9, 54.6], [257, 257]
    world.wcs.cdelt = [-0.005, 0.005]
    grid = ImageGrid(512, np.radians(0.005), np.radians(359.9), np.radians(54.6))
    y, x = np.random.default_rng(0).uniform(0, 511, (2, 50))
    ra, dec = world.pixel_to_world_values(x, y)
    mine_ra, mine_dec = grid.sky_of(y, x)
    assert np.degrees(mine_ra) == pytest.approx(ra, abs=1e-9)
    assert np.degrees(mine_dec) == pytest.approx(dec, abs=1e-9)
    back_y, back_x = grid.pixel_of(np.radians(ra), np.radians(dec))
    assert back_y == pytest.approx(y, abs=1e-6)
    assert back_x == pytest.approx(x, abs=1e-6)
