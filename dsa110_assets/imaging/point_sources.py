"""Bright point sources, predicted exactly: sub-pixel position, drift through the beam, spectrum, smearing.

CLEAN's model is constant during a tile, but a source is not: it drifts through the beam, which changes its flux by half
at the edge. For a source of a few hundred times the noise, the residual of a constant model exceeds the noise. So the
brightest sources are subtracted from the visibilities by direct summation, with the variation that the beam model
predicts, and with fluxes and positions fitted to the data. Only the rest is cleaned. The only assumption about a source
is that it is a point; CLEAN gets whatever remains.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, baseline_rate, direction_cosines
from dsa110_assets.common.restoring_beam import FWHM_PER_SIGMA, RestoringBeam, quadratic_form
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

    rest = vis.vis_jy.copy()
    if not len(sources):
        return rest
    ra, dec = grid.sky_of(sources.y, sources.x)
    lmn = direction_cosines(ra, dec, grid.ra_rad, grid.dec_rad, by_products=True)
    sampling = beam_sampling(vis, weights)
    index = np.full(len(sources), options.spectral_index) if sources.spectral_index is None else sources.spectral_index
    response = effective_beam(sampling, ra, dec, options.reference_frequency_hz, index)
    if options.correct_smearing:
        response *= smearing_loss(vis, weights, ra, dec)
    separation = angular_separation_rad(ra[:, None], dec[:, None], sampling.pointing_ra_rad, sampling.pointing_dec_rad)
    spectrum = (vis.frequency_hz / options.reference_frequency_hz) ** index[:, None] * (sources.flux_jy / response)[:, None]
    amplitude = airy_power_beam(separation[:, :, None], vis.frequency_hz, sampling.dish_diameter_m) * spectrum[:, None, :]
    band = vis.averaging.channel_hz / SPEED_OF_LIGHT_M_PER_S if options.correct_smearing else 0.0
    integration = vis.integration_s if options.correct_smearing else 0.0
    pointing = direction_cosines(sampling.pointing_ra_rad, sampling.pointing_dec_rad, grid.ra_rad, grid.dec_rad, by_products=True)
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S
    n_block = -(-f_over_c.size // _kernels.LANES)
    padded = np.zeros((*amplitude.shape[:2], n_block * _kernels.LANES), dtype=np.float32)
    padded[:, :, : f_over_c.size] = amplitude
    blocks = padded.reshape(*amplitude.shape[:2], n_block, _kernels.LANES)

    def subtract_from(rows: slice) -> None:
        rate = baseline_rate(vis.uvw_m[rows], grid.dec_rad) * integration
        _kernels.subtract_points(
            vis.uvw_m[rows], rate, vis.time_index[rows], f_over_c, lmn, pointing, blocks, band, vis.averaging.channels, rest[rows]
        )

    edges = np.linspace(0, rest.shape[0], 4 * options.n_threads + 1).astype(int)
    with ThreadPoolExecutor(options.n_threads) as pool:
        list(pool.map(subtract_from, [slice(a, b) for a, b in itertools.pairwise(edges)]))
    return rest


def dirty_values(
    vis: Visibilities,
    vis_jy: NDArray[np.complex64],
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Dirty image of visibilities ``vis_jy`` at pixel positions, by direct summation; Jy/beam, shape of ``y``.

    The positions may be outside the image.
    """
    from dsa110_assets.imaging import _kernels

    if not y.size:
        return np.zeros(0)
    lmn = direction_cosines(*grid.sky_of(y, x), grid.ra_rad, grid.dec_rad, by_products=True)
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S

    def sum_of(rows: slice) -> NDArray[np.float64]:
        return _kernels.sum_at_points(vis.uvw_m[rows], f_over_c, lmn, weights.weight[rows], vis_jy[rows])

    edges = np.linspace(0, vis_jy.shape[0], 4 * options.n_threads + 1).astype(int)
    with ThreadPoolExecutor(options.n_threads) as pool:
        return np.sum(list(pool.map(sum_of, [slice(a, b) for a, b in itertools.pairwise(edges)])), axis=0)


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
