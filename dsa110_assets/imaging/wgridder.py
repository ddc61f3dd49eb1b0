"""Default imaging engine: ducc0's w-gridder for the measurement equation, radler for the minor cycles.

Gridding follows Arras et al. (2021, A&A 646, A58): exact w-correction, here in single precision. Every major cycle
predicts the visibilities of the model exactly, subtracts them and images the rest, so that errors of the PSF do not
stay in the result. `clean` decides where and how deep to clean, and `point_sources` which sources are predicted
individually.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import SKY_RADIUS_DEG
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.clean import Cleaner
from dsa110_assets.imaging.engine import EngineImages
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import (
    LOWEST_BEAM,
    BrightSourceFinder,
    PixelFunction,
    PointSources,
    add_to_image,
    add_to_model,
    dirty_values,
    on_image,
    psf_curvature,
    subtract_point_sources,
)
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.restoring import convolve_with_beam, fit_beam
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_MOST_BRIGHT_ROUNDS = 4
_SETTLED = 0.98
"""Stop after a round that finds no new source and leaves more than this fraction of the noise."""


_GRIDDER_ERROR = 0.13
"""Largest error of the gridder over its accuracy times the image's peak (measured at full size, 1e-2 and 2e-2)."""
_ERROR_SIGMA = 0.1
"""Largest acceptable error of the gridder, in units of the thermal noise."""
_COARSEST = 1e-2


class Gridder:
    """Dirty images and predicted visibilities of one set of visibilities, on one grid.

    The errors of the gridder are a fraction of the peak of the image. Once bright sources are gone, half of the work
    gives the same image.
    """

    def __init__(self, vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions) -> None:
        self._vis = vis.vis_jy
        self._weight = weights.weight
        self._frequency_hz = vis.frequency_hz
        self._size = grid.size
        self._finest, self._noise_jy = options.epsilon, weights.thermal_jy_per_beam
        # ducc0 sums V exp(2 pi i (u x + v y - w (n - 1))).
        # Ours is V exp(-2 pi i (u l + v m + w (n - 1))), with rows along m and columns along -l.
        self._uvw = np.ascontiguousarray(np.stack([-vis.uvw_m[:, 1], vis.uvw_m[:, 0], vis.uvw_m[:, 2]], axis=1))
        self._common = {
            "pixsize_x": grid.cell_rad,
            "pixsize_y": grid.cell_rad,
            "do_wgridding": True,
            "divide_by_n": False,
            "nthreads": options.n_threads,
        }

    @property
    def visibilities(self) -> NDArray[np.complex64]:
        """Visibilities to image, (nrow, nchan). Do not change them in place."""
        return self._vis

    def replace_visibilities(self, vis_jy: NDArray[np.complex64]) -> None:
        """Image these visibilities, (nrow, nchan), from now on."""
        self._vis = vis_jy

    @property
    def coarse_peak_jy(self) -> float:
        """Largest peak for which the coarsest accuracy suffices."""
        return _ERROR_SIGMA * self._noise_jy / (_GRIDDER_ERROR * _COARSEST)

    def _accuracy(self, peak_jy: float) -> float:
        """Relative accuracy that keeps the errors due to a peak below the noise."""
        return max(self._finest, _COARSEST * min(1.0, self.coarse_peak_jy / max(peak_jy, 1e-30)))

    def _image(self, vis: NDArray[np.complex64], epsilon: float) -> NDArray[np.float32]:
        from ducc0 import wgridder

        return wgridder.vis2dirty(
            uvw=self._uvw,
            freq=self._frequency_hz,
            vis=vis,
            wgt=self._weight,
            npix_x=self._size,
            npix_y=self._size,
            epsilon=epsilon,
            **self._common,
        )

    def dirty(self, peak_jy: float = np.inf) -> NDArray[np.float32]:
        """Dirty image, Jy/beam, accurate enough for a peak of ``peak_jy``.

        A point source of apparent flux S peaks at S because the weights sum to 1.
        """
        return self._image(self._vis, self._accuracy(peak_jy))

    def psf(self) -> NDArray[np.float32]:
        """Response to a source of 1 Jy at the phase center, peak 1 at [N/2, N/2]."""
        return self._image(np.ones_like(self._vis), self._finest)

    def predicted(self, model: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Visibilities of ``model`` (Jy/pixel), (nrow, nchan)."""
        from ducc0 import wgridder

        return wgridder.dirty2vis(
            uvw=self._uvw, freq=self._frequency_hz, dirty=model, epsilon=self._accuracy(float(np.abs(model).max())), **self._common
        )

    def residual(self, model: NDArray[np.float32]) -> NDArray[np.float32]:
        """Dirty image of the visibilities minus those of ``model`` (Jy/pixel)."""
        vis = self.predicted(model)
        np.subtract(self._vis, vis, out=vis)
        return self._image(vis, self._accuracy(float(np.abs(model).max())))


def predict(
    vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions, images: EngineImages
) -> NDArray[np.complex64]:
    """Predict the visibilities of the model of ``images``, (nrow, nchan).

    Bright sources have their drift, spectrum and smearing (`point_sources`); the rest is the CLEAN model.
    """
    rest = subtract_point_sources(vis, weights, grid, options, images.bright)
    model = vis.vis_jy - rest
    components = images.model.copy()
    add_to_model(components, replace(images.bright, flux_jy=-images.bright.flux_jy))
    if components.any():
        gridder = Gridder(vis, weights, grid, options)
        model += gridder.predicted(components)
    return model


def run(
    vis: Visibilities,
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    mask: NDArray[np.bool_] | None,
    sky: pd.DataFrame | None = None,
    *,
    strict_mask: bool = False,
) -> EngineImages:
    """Image, clean and restore.

    Args:
        vis, weights, grid, options: visibilities, their weights, grid and options of the image.
        mask: (N, N), where to clean first; None for everywhere.
        strict_mask: clean nowhere else; bright point sources are still fitted everywhere.
        sky: catalog (ra_deg, dec_deg, flux_jy); its bright sources outside the image are subtracted from the
            visibilities, because their side lobes would reach into the image.

    Raises:
        ImagingError: the PSF has no main lobe.
    """
    gridder = Gridder(vis, weights, grid, options)
    psf = gridder.psf()
    beam = fit_beam(psf, options.cell_arcsec)
    dirty = gridder.dirty()
    cleaner = Cleaner(psf, beam, options, mask, strict=strict_mask)
    start, bright, bright_cycles = subtract_bright_sources(
        vis, weights, grid, options, gridder=gridder, psf=psf, beam=beam, dirty=dirty, sky=sky
    )
    result = cleaner.clean(start, gridder.residual)
    restored = convolve_with_beam(result.model, beam, options.cell_arcsec, options.n_threads)
    restored += result.residual
    add_to_image(restored, bright, beam, options.cell_arcsec)
    model = result.model
    add_to_model(model, bright)
    return EngineImages(
        dirty=dirty,
        psf=psf,
        model=model,
        residual=result.residual,
        restored=restored,
        beam=beam,
        bright_sources=len(bright),
        major_cycles=bright_cycles + result.major_cycles,
        minor_iterations=result.minor_iterations,
        converged=result.converged,
        bright=bright,
    )


def subtract_bright_sources(
    vis: Visibilities,
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    *,
    gridder: Gridder,
    psf: NDArray[np.float32],
    beam: RestoringBeam,
    dirty: NDArray[np.float32],
    sky: pd.DataFrame | None,
) -> tuple[NDArray[np.float32], PointSources, int]:
    """Subtract the bright point sources from the gridder's visibilities.

    Returns:
        The dirty image of the rest, the sources, and the number of rounds.
    """
    sources, image, rounds = PointSources.none(), dirty, 0
    if options.bright_sigma <= 0 or options.niter == 0 or options.multiscale:
        return image, sources, rounds
    sampling = beam_sampling(vis, weights)
    limit_jy = options.bright_sigma * weights.thermal_jy_per_beam
    rest = vis.vis_jy

    def beam_at(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        direction = grid.sky_of(y, x)
        response = effective_beam(sampling, *direction, options.reference_frequency_hz, options.spectral_index)
        return response * smearing_loss(vis, weights, *direction) if options.correct_smearing else response

    def dirty_at(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
        return dirty_values(vis, rest, weights, grid, options, y, x)

    near_y, near_x, near_flux = _apparent_sky(sky, grid, 0.5 * limit_jy, beam_at)
    far = ~on_image(near_y, near_x, grid.size)
    finder = BrightSourceFinder(
        grid, psf, beam, options.cell_arcsec, limit_jy, psf_curvature(vis, weights, grid.cell_rad), (near_y[far], near_x[far])
    )

    def subtract(wanted: PointSources) -> NDArray[np.float32]:
        nonlocal rest
        rest = subtract_point_sources(vis, weights, grid, options, wanted)
        gridder.replace_visibilities(rest)
        return gridder.dirty(0.0)

    if options.seed_from_catalog and len(seeds := finder.seed(near_y, near_x, near_flux)):
        residual = subtract(seeds)
        rounds += 1
        if robust_sigma(residual[::2, ::2]) < robust_sigma(image[::2, ::2]):
            sources, image = seeds, residual
        else:  # the catalog does not match the data
            rest = vis.vis_jy
            gridder.replace_visibilities(rest)
    while rounds < _MOST_BRIGHT_ROUNDS:
        better, again = finder.improve(sources, image, beam_at, dirty_at)
        if not again:
            break
        before, residual = rest, subtract(better)
        rounds += 1
        if robust_sigma(residual[::2, ::2]) > 1.1 * robust_sigma(image[::2, ::2]):  # not point sources: leave them to CLEAN
            rest = before
            gridder.replace_visibilities(rest)
            break
        settled = robust_sigma(residual[::2, ::2]) > _SETTLED * robust_sigma(image[::2, ::2]) and len(better) <= len(sources)
        sources, image = better, residual
        if settled:
            break
    peak_jy = float(np.abs(image).max())
    if rounds and peak_jy > gridder.coarse_peak_jy:  # the rest is bright: not only point sources
        image = gridder.dirty(peak_jy)
    return image, sources, rounds


def _apparent_sky(
    sky: pd.DataFrame | None, grid: ImageGrid, least_jy: float, beam_at: PixelFunction
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Pixel positions (y, x) and apparent fluxes (Jy) of catalog sources above a flux, where the beam is known."""
    if sky is None or not len(sky):
        return np.empty(0), np.empty(0), np.empty(0)
    ra, dec = np.radians(sky["ra_deg"].to_numpy(dtype=float)), np.radians(sky["dec_deg"].to_numpy(dtype=float))
    flux = sky["flux_jy"].to_numpy(dtype=float)
    near = (angular_separation_rad(ra, dec, grid.ra_rad, grid.dec_rad) < np.radians(SKY_RADIUS_DEG)) & (flux > least_jy)
    y, x = grid.pixel_of(ra[near], dec[near])
    response = beam_at(y, x)
    apparent = flux[near] * response
    use = (response > LOWEST_BEAM) & (apparent > least_jy)
    return y[use], x[use], apparent[use]
