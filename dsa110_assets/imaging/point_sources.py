"""Bright point sources, predicted exactly: sub-pixel position, drift through the beam, spectrum, smearing.

CLEAN's model is constant during a tile, but a source is not: it drifts through the beam, which changes its flux by half
at the edge. For a source of a few hundred times the noise, the residual of a constant model exceeds the noise. So the
brightest sources are subtracted from the visibilities by direct summation, with the variation that the beam model
predicts, and with fluxes and positions fitted to the data. Only the rest is cleaned. The only assumption about a source
is that it is a point; CLEAN gets whatever remains.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, baseline_rate, direction_cosines
from dsa110_assets.common.restoring_beam import FWHM_PER_SIGMA, RestoringBeam, quadratic_form
from dsa110_assets.imaging.channel_nodes import ChannelNodes
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

LOWEST_BEAM = 0.01
"""Lowest mean beam for bright sources. Where it is lower, its variation is not known well enough."""


@dataclass(frozen=True)
class PointSources:
    """Point sources in an image; all arrays have shape (Nsource,).

    ``y``, ``x``: positions in pixels, zero-based. ``flux_jy``: apparent flux (peak in the image). ``spectral_index``:
    None for that of the options.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    spectral_index: NDArray[np.float64] | None = None

    @classmethod
    def none(cls) -> PointSources:
        """Make an empty list of sources."""
        return cls(np.empty(0), np.empty(0), np.empty(0))

    def __len__(self) -> int:
        return int(self.flux_jy.size)

    def select(self, keep: NDArray[np.bool_]) -> PointSources:
        """Sources of a mask."""
        index = None if self.spectral_index is None else self.spectral_index[keep]
        return PointSources(self.y[keep], self.x[keep], self.flux_jy[keep], index)

    def joined(self, more: PointSources) -> PointSources:
        """These and more sources, all with the spectral index of the options."""
        return PointSources(np.append(self.y, more.y), np.append(self.x, more.x), np.append(self.flux_jy, more.flux_jy))


def subtract_point_sources(
    vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions, sources: PointSources
) -> NDArray[np.complex64]:
    """Visibilities minus the sources, (nrow, nchan).

    A source is ``S / B * A(t, f) (f/f0)**alpha * R * exp(2 pi i f/c (u l + v m + w (n - 1)))``, where B is the
    effective beam and R what averaging leaves. So its peak in an image is S.
    """
    from dsa110_assets.imaging import _kernels

    if not len(sources):
        return vis.vis_jy.copy()
    ra, dec = grid.sky_of(sources.y, sources.x)
    lmn = direction_cosines(ra, dec, grid.ra_rad, grid.dec_rad, by_products=True)
    sampling = beam_sampling(vis, weights)
    index = np.full(len(sources), options.spectral_index) if sources.spectral_index is None else sources.spectral_index
    response = effective_beam(sampling, ra, dec, options.reference_frequency_hz, index)
    if options.correct_smearing:
        response *= smearing_loss(vis, weights, ra, dec)
    separation = angular_separation_rad(ra[:, None], dec[:, None], sampling.pointing_ra_rad, sampling.pointing_dec_rad)
    band = vis.averaging.channel_hz / SPEED_OF_LIGHT_M_PER_S if options.correct_smearing else 0.0
    integration = vis.integration_s if options.correct_smearing else 0.0
    pointing = direction_cosines(sampling.pointing_ra_rad, sampling.pointing_dec_rad, grid.ra_rad, grid.dec_rad, by_products=True)

    def amplitude(frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        spectrum = (frequency_hz / options.reference_frequency_hz) ** index[:, None] * (sources.flux_jy / response)[:, None]
        return airy_power_beam(separation[:, :, None], frequency_hz, sampling.dish_diameter_m) * spectrum[:, None, :]

    def subtract_from(rows: NDArray[np.int64], f_over_c: NDArray[np.float64], blocks: NDArray[np.float32], values: NDArray[Any]) -> None:
        uvw_m, time_index = vis.uvw_m[rows], vis.time_index[rows]
        rate = baseline_rate(uvw_m, grid.dec_rad) * integration
        _kernels.subtract_points(uvw_m, rate, time_index, f_over_c, lmn, pointing, blocks, band, vis.averaging.channels, values)

    nodes = ChannelNodes(vis.uvw_m, vis.frequency_hz, float(np.hypot(lmn[0], lmn[1]).max()), options.n_threads)
    rest = nodes.expanded(_minus_sources(nodes, amplitude, subtract_from, options.n_threads))
    rest += vis.vis_jy
    return rest


def constant_sources(
    uvw_m: NDArray[np.float64], nodes: ChannelNodes, lmn: NDArray[np.float64], flux_jy: NDArray[np.float64], n_threads: int
) -> NDArray[np.complex64]:
    """Visibilities of sources with the same flux at all times and frequencies, at the nodes, (Nsamples,).

    ``lmn``: direction cosines (l, m, n - 1), (3, Nsource).
    """
    from dsa110_assets.imaging import _kernels

    def subtract_from(rows: NDArray[np.int64], f_over_c: NDArray[np.float64], blocks: NDArray[np.float32], values: NDArray[Any]) -> None:
        still, first = np.zeros((rows.size, 3)), np.zeros(rows.size, dtype=np.int32)
        _kernels.subtract_points(uvw_m[rows], still, first, f_over_c, lmn, np.zeros((3, 1)), blocks, 0.0, 1, values)

    return _minus_sources(nodes, lambda f: np.broadcast_to(-flux_jy[:, None, None], (flux_jy.size, 1, f.size)), subtract_from, n_threads)


def _minus_sources(
    nodes: ChannelNodes,
    amplitude: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    subtract_from: Callable[[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32], NDArray[Any]], None],
    n_threads: int,
) -> NDArray[np.complex64]:
    """Minus the visibilities of sources at the nodes, (Nsamples,).

    Args:
        nodes: the nodes.
        amplitude: gives the fluxes at frequencies, (Nsource, Ntimes, Nfrequency).
        subtract_from: takes rows, frequencies over c, and amplitudes as `_kernels.subtract_points` does, and subtracts
            the sources from values of these rows.
        n_threads: number of threads.
    """
    from dsa110_assets.imaging import _kernels

    out = np.zeros(nodes.samples, dtype=np.complex64)
    with ThreadPoolExecutor(n_threads) as pool:
        for group in nodes.groups:
            jy = amplitude(group.frequency_hz)
            n_block = -(-group.frequency_hz.size // _kernels.LANES)
            padded = np.zeros((*jy.shape[:2], n_block * _kernels.LANES), dtype=np.float32)
            padded[:, :, : jy.shape[2]] = jy
            blocks = padded.reshape(*jy.shape[:2], n_block, _kernels.LANES)
            f_over_c, values = group.frequency_hz / SPEED_OF_LIGHT_M_PER_S, group.of(out)
            edges = np.linspace(0, group.rows.size, 4 * n_threads + 1).astype(int)
            parts = [slice(a, b) for a, b in itertools.pairwise(edges)]
            done = [pool.submit(subtract_from, group.rows[part], f_over_c, blocks, values[part]) for part in parts]
            for one in done:
                one.result()
    return out


def dirty_values(
    vis: Visibilities,
    vis_jy: NDArray[np.complex64],
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Dirty image of visibilities ``vis_jy`` at pixel positions (Npos,), by direct summation.

    The positions may be outside the image.

    Returns:
        Jy/beam, and its slopes per pixel along y and x, (3, Npos).
    """
    from dsa110_assets.imaging import _kernels

    if not y.size:
        return np.zeros((3, 0))
    lmn = direction_cosines(*grid.sky_of(y, x), grid.ra_rad, grid.dec_rad, by_products=True)
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S

    def sum_of(rows: slice) -> NDArray[np.float64]:
        return _kernels.sum_at_points(vis.uvw_m[rows], f_over_c, lmn, weights.weight[rows], vis_jy[rows])

    edges = np.linspace(0, vis_jy.shape[0], 4 * options.n_threads + 1).astype(int)
    with ThreadPoolExecutor(options.n_threads) as pool:
        value, along_l, along_m = np.sum(list(pool.map(sum_of, [slice(a, b) for a, b in itertools.pairwise(edges)])), axis=0)
    return np.stack([value, grid.cell_rad * along_m, -grid.cell_rad * along_l])


def psf_curvature(vis: Visibilities, weights: ImagingWeights, cell_rad: float) -> NDArray[np.float64]:
    """Minus the second derivatives of the PSF at its peak, per pixel squared, axes (y north, x west).

    The closed form is ``(2 pi cell)^2 sum(w u_i u_j) / sum(w)``. The restoring beam cannot replace it: a few long
    baselines sharpen the peak without narrowing the lobe that the Gaussian fits, and the steps of a fit would then be
    several times too long to converge.
    """
    per_row = (weights.weight.astype(np.float64) @ (vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S) ** 2) / float(
        weights.weight.sum(dtype=np.float64)
    )
    north_west = np.stack([vis.uvw_m[:, 1], -vis.uvw_m[:, 0]])
    return (2 * np.pi * cell_rad) ** 2 * (north_west * per_row) @ north_west.T


def add_to_image(image: NDArray[np.float32], sources: PointSources, beam: RestoringBeam, cell_arcsec: float) -> None:
    """Add the sources to an image in place as Gaussians of the restoring beam, at their sub-pixel positions."""
    inverse = beam.inverse_covariance_px(cell_arcsec)
    reach = int(np.ceil(6 * beam.major_arcsec / cell_arcsec / FWHM_PER_SIGMA)) + 1
    size = image.shape[0]
    for y, x, flux in zip(sources.y, sources.x, sources.flux_jy, strict=True):
        rows = np.arange(max(0, round(y) - reach), min(size, round(y) + reach + 1))
        columns = np.arange(max(0, round(x) - reach), min(size, round(x) + reach + 1))
        if rows.size and columns.size:
            gaussian = np.exp(-0.5 * quadratic_form(inverse, rows[:, None] - y, columns[None, :] - x))
            image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (flux * gaussian).astype(np.float32)


def add_to_model(model: NDArray[np.float32], sources: PointSources) -> None:
    """Add the fluxes of sources inside a model image (Jy/pixel) to their nearest pixels, in place."""
    rows, columns = np.round(sources.y).astype(int), np.round(sources.x).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < model.shape[0]) & (columns < model.shape[1])
    np.add.at(model, (rows[inside], columns[inside]), sources.flux_jy[inside].astype(np.float32))
