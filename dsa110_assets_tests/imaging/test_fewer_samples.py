"""Fewer frequencies, coarser pixels and direct sums give what all samples, fine pixels and the gridder give."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from dsa110_assets.imaging.channel_nodes import ChannelNodes
from dsa110_assets.imaging.coarse_pixels import FINEST_FRINGE, CoarsePixels
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import dirty_values
from dsa110_assets.imaging.visibilities import Visibilities, read_visibilities
from dsa110_assets.imaging.weighting import ImagingWeights, imaging_weights
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile

C = 299_792_458.0
SIZE, CELL = 1024, 3.6
RADIUS = np.sqrt(0.5) * SIZE * np.radians(CELL / 3600)


class Field(NamedTuple):
    vis: Visibilities
    weights: ImagingWeights
    grid: ImageGrid
    options: ImagingOptions


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Field:
    """Make a field whose baselines need few nodes and whose pixels are fine."""
    sources = [(*offset_position(150.0, 54.6, e, n), f, -0.7) for e, n, f in ((0.01, 0.02, 0.5), (0.3, 0.4, 1.0), (-0.45, 0.46, 0.7))]
    tile = write_tile(tmp_path_factory.mktemp("fewer") / "t.ms", sources, n_antenna=12, n_time=4, n_channel=96)
    vis = read_visibilities(tile.ms)
    options = ImagingOptions(image_size=SIZE, cell_arcsec=CELL)
    grid = ImageGrid(SIZE, options.cell_rad, np.radians(tile.ra0_deg), np.radians(tile.dec0_deg))
    weights = imaging_weights(vis, options)
    fringes = np.abs(vis.uvw_m[:, :2]).max() * vis.frequency_hz[-1] / C
    assert 0.9 * FINEST_FRINGE < 2 * grid.cell_rad * fringes < FINEST_FRINGE  # coarse pixels just suffice
    assert ChannelNodes(vis.uvw_m, vis.frequency_hz, RADIUS, 1).samples < 0.4 * vis.vis_jy.size
    return Field(vis, weights, grid, options)


def phases(vis: Visibilities, grid: ImageGrid, y: int, x: int) -> np.ndarray:
    l, m = -(x - SIZE / 2) * grid.cell_rad, (y - SIZE / 2) * grid.cell_rad  # noqa: E741
    lmn = np.array([l, m, np.sqrt(1 - l * l - m * m) - 1])
    return 2 * np.pi / C * (vis.uvw_m @ lmn)[:, None] * vis.frequency_hz


@pytest.mark.parametrize("epsilon", [1e-3, 1e-5])
def test_the_dirty_image_equals_the_direct_sum_at_every_kind_of_pixel(field: Field, epsilon: float):
    vis, weights, grid, options = field
    dirty = Gridder(vis, weights, grid, replace(options, epsilon=epsilon)).dirty()
    weight = weights.weight.astype(float)
    rng = np.random.default_rng(3)
    pixels = [*rng.integers(0, SIZE, (40, 2)), (0, 0), (0, SIZE - 1), (SIZE - 1, 0), (SIZE - 1, SIZE - 1)]
    errors = [dirty[y, x] - (weight * (vis.vis_jy * np.exp(-1j * phases(vis, grid, y, x))).real).sum() for y, x in pixels]
    assert np.abs(errors).max() < (4e-4 if epsilon > 1e-4 else 1.5e-4) * np.abs(dirty).max()


@pytest.mark.parametrize(("n_components", "largest"), [(30, 3e-4), (300, 1.5e-3)])
def test_predicted_visibilities_equal_the_measurement_equation(field: Field, n_components: int, largest: float):
    """Few components are summed directly; for many, the gridder is only as accurate as the noise deserves."""
    vis, weights, grid, options = field
    rng = np.random.default_rng(4)
    model = np.zeros((SIZE, SIZE), dtype=np.float32)
    y, x = rng.integers(0, SIZE, (2, n_components))
    model[y, x] = rng.uniform(0.1, 1.0, n_components)
    predicted = Gridder(vis, weights, grid, replace(options, epsilon=1e-5)).predicted(model)
    exact = sum(model[a, b] * np.exp(1j * phases(vis, grid, a, b)) for a, b in np.argwhere(model))
    assert np.std(predicted - exact) < largest * np.std(exact)
    assert np.abs(predicted - exact).max() < 20 * largest * np.std(exact)  # in the outermost channels


def test_values_in_all_channels_follow_from_those_at_the_nodes(field: Field):
    vis, _, _, _ = field
    nodes = ChannelNodes(vis.uvw_m, vis.frequency_hz, RADIUS, 2)
    uvw_m = nodes.uvw_m()
    rng = np.random.default_rng(5)
    for angle in rng.uniform(0, 2 * np.pi, 20):
        l, m = RADIUS * np.cos(angle), RADIUS * np.sin(angle)  # noqa: E741  (the edge is the worst case)
        lmn = np.array([l, m, np.sqrt(1 - l * l - m * m) - 1])
        at_nodes = np.exp(2j * np.pi / C * nodes.reference_hz * (uvw_m @ lmn)).astype(np.complex64)
        error = nodes.expanded(at_nodes) - np.exp(2j * np.pi / C * (vis.uvw_m @ lmn)[:, None] * vis.frequency_hz)
        assert np.sqrt(np.mean(np.abs(error) ** 2)) < 3e-4
        assert np.abs(error).max() < 5e-3


def test_condensing_is_the_adjoint_of_expanding(field: Field):
    vis, weights, _, _ = field
    nodes = ChannelNodes(vis.uvw_m, vis.frequency_hz, RADIUS, 2)
    rng = np.random.default_rng(6)
    values = (rng.standard_normal(nodes.samples) + 1j * rng.standard_normal(nodes.samples)).astype(np.complex64)
    one = np.vdot(values, nodes.condensed(vis.vis_jy, weights.weight))
    other = np.vdot(nodes.expanded(values), weights.weight * vis.vis_jy)
    assert one == pytest.approx(other, rel=1e-4)


def test_rows_that_need_all_channels_keep_them(field: Field):
    vis, weights, _, _ = field
    nodes = ChannelNodes(vis.uvw_m, vis.frequency_hz, 1.0, 1)
    everything = next(group for group in nodes.groups if group.matrix is None)
    values = everything.of(nodes.condensed(vis.vis_jy, weights.weight))
    np.testing.assert_array_equal(values, vis.vis_jy[everything.rows] * weights.weight[everything.rows])
    np.testing.assert_array_equal(everything.frequency_hz, vis.frequency_hz)


def test_coarse_pixels_are_interpolated_up_to_the_finest_fringe():
    pixels = CoarsePixels(128, 2)
    margin = (pixels.size - 64) // 2
    for u, v in ((0.0, 0.0), (FINEST_FRINGE, -0.1), (0.2, FINEST_FRINGE), (-FINEST_FRINGE, FINEST_FRINGE)):
        coarse, fine = np.arange(pixels.size) - margin, np.arange(128) / 2
        wave = [np.cos(2 * np.pi * (u * p[None, :] + v * p[:, None]) + 0.4).astype(np.float32) for p in (coarse, fine)]
        assert np.abs(pixels.refined(wave[0]) - wave[1]).max() < 4e-4


def test_a_coarse_model_is_the_adjoint_of_interpolation():
    pixels, rng = CoarsePixels(64, 1), np.random.default_rng(7)
    coarse = rng.standard_normal((pixels.size, pixels.size)).astype(np.float32)
    model = np.where(rng.uniform(size=(64, 64)) < 0.1, rng.uniform(size=(64, 64)), 0).astype(np.float32)
    assert float((pixels.coarsened(model) * coarse).sum()) == pytest.approx(float((model * pixels.refined(coarse)).sum()), rel=1e-4)


def test_slopes_of_direct_sums_are_those_of_their_values(field: Field):
    vis, weights, grid, options = field
    rng = np.random.default_rng(8)
    y, x = rng.uniform(-SIZE, 2 * SIZE, (2, 30))  # also outside the image
    value, along_y, along_x = dirty_values(vis, vis.vis_jy, weights, grid, options, y, x)
    step = 0.05
    around = [
        dirty_values(vis, vis.vis_jy, weights, grid, options, y + a, x + b)[0] for a, b in ((step, 0), (-step, 0), (0, step), (0, -step))
    ]
    scale = np.abs(along_y).max()
    np.testing.assert_allclose(along_y, (around[0] - around[1]) / (2 * step), atol=2e-3 * scale)
    np.testing.assert_allclose(along_x, (around[2] - around[3]) / (2 * step), atol=2e-3 * scale)
    assert np.abs(value).max() > scale  # the slopes are per pixel
