"""Subtraction of the bright point sources of a tile: known ones, new ones in the image, and those outside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import SKY_RADIUS_DEG
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.antenna_errors import AntennaErrors, measure_antenna_errors
from dsa110_assets.imaging.bright_finder import BrightSourceFinder, PixelFunction, Positions, on_image
from dsa110_assets.imaging.flux_errors import measure_flux_errors
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.outside import search_of
from dsa110_assets.imaging.point_sources import LOWEST_BEAM, PointSources, dirty_values, psf_curvature, subtract_point_sources
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.proof import are_proven
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_MOST_ROUNDS = 6
_MOST_TRIES = 4
"""A round rejects artifacts at most so often before it gives up."""
_SETTLED = 0.98
"""Stop after a round that finds no new source and leaves more than this fraction of the noise."""
_MUCH_LESS = 0.9
"""After a round that leaves less than this fraction of the noise, what was rejected may prove itself again."""


@dataclass(frozen=True)
class Subtraction:
    """Result of `subtract_bright_sources`.

    ``image``: dirty image of the rest, Jy/beam. ``rest_jy``: visibilities without the sources, (nrow, nchan).
    ``sources``: what was subtracted. ``artifacts``: what looked like sources and is not in all parts of the data.
    ``rounds``: number of subtractions. ``antennas``: errors of their gains; None without sources. ``flux_error``: what
    such errors do to fluxes; None without sources.
    """

    image: NDArray[np.float32]
    rest_jy: NDArray[np.complex64]
    sources: PointSources
    artifacts: PointSources
    rounds: int
    antennas: AntennaErrors | None
    flux_error: CalibrationError | None = None

    @property
    def artifact_jy(self) -> float:
        """Apparent flux of the brightest artifact of a bad calibration; 0 if there is none.

        Where the calibration is right, what is not in all parts of the data is an extended source.
        """
        if self.antennas is None or not self.antennas.wrong.size or not len(self.artifacts):
            return 0.0
        return float(self.artifacts.flux_jy.max())


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
) -> Subtraction:
    """Subtract the bright point sources from the gridder's visibilities."""
    sources, image, rounds = PointSources.none(), dirty, 0
    if options.bright_sigma <= 0 or options.niter == 0 or options.multiscale:
        return Subtraction(image, vis.vis_jy, sources, PointSources.none(), rounds, None)
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
    finder = BrightSourceFinder(grid, psf, beam, options.cell_arcsec, limit_jy, psf_curvature(vis, weights, grid.cell_rad))

    def subtract(wanted: PointSources) -> NDArray[np.float32]:
        nonlocal rest
        rest = subtract_point_sources(vis, weights, grid, options, wanted)
        gridder.replace_visibilities(rest)
        return gridder.dirty(0.0)

    def proven(candidates: Positions) -> PointSources | None:
        """The next step of the fit, without what is not in all parts of the data; None if there is nothing to do."""
        for _ in range(_MOST_TRIES):
            better, again = finder.improve(sources, image, beam_at, dirty_at, candidates)
            if not again:
                return None
            false = ~finder.near(better.y, better.x, np.append(near_y, sources.y), np.append(near_x, sources.x))
            if false.any():
                left = subtract_point_sources(vis, weights, grid, options, better)
                false[false] = ~are_proven(vis, left, weights, grid, options, better.select(false))
            if not false.any():
                return better
            finder.reject(better.select(false))  # and fit the others again, from which it took flux
        return None

    if options.seed_from_catalog and len(seeds := finder.seed(near_y, near_x, near_flux)):
        residual = subtract(seeds)
        rounds += 1
        if robust_sigma(residual[::2, ::2]) < robust_sigma(image[::2, ::2]):
            sources, image = seeds, residual
        else:  # the catalog does not match the data
            rest = vis.vis_jy
            gridder.replace_visibilities(rest)
    search = search_of(vis, grid, options)
    outside = ~on_image(near_y, near_x, grid.size)
    while rounds < _MOST_ROUNDS:
        beyond = search.find(rest, beam_at) if search is not None else (np.empty(0), np.empty(0))
        better = proven((np.append(near_y[outside], beyond[0]), np.append(near_x[outside], beyond[1])))
        if better is None:
            break
        before, residual = rest, subtract(better)
        rounds += 1
        sigma, before_sigma = robust_sigma(residual[::2, ::2]), robust_sigma(image[::2, ::2])
        if sigma > 1.1 * before_sigma:  # not point sources: leave them to CLEAN
            rest = before
            gridder.replace_visibilities(rest)
            break
        if sigma < _MUCH_LESS * before_sigma:
            finder.forget_rejected()
        settled = sigma > _SETTLED * before_sigma and len(better) <= len(sources)
        sources, image = better, residual
        if settled:
            break
    peak_jy = float(np.abs(image).max())
    if rounds and peak_jy > gridder.coarse_peak_jy:  # the rest is bright: not only point sources
        image = gridder.dirty(peak_jy)
    antennas = measure_antenna_errors(vis, rest) if len(sources) else None
    beam_px = beam.major_arcsec / options.cell_arcsec
    flux_error = measure_flux_errors(vis, rest, weights, grid, options, sources, beam_px) if len(sources) else None
    return Subtraction(image, rest, sources, finder.rejected, rounds, antennas, flux_error)


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
