"""The search outside the image: a coarse wide image of the residual visibilities, out to the beam's first side lobe.

Only the short baselines go into it, so that it is cheap: its pixels are ten times those of the tile. What it shows
outside the tile is only a first guess; all visibilities of the tile decide about it (`bright_sources`).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import SKY_RADIUS_DEG
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.errors import ImagingError, RestoringBeamError
from dsa110_assets.imaging.bright_finder import BrightSourceFinder, PixelFunction, Positions, on_image
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import LOWEST_BEAM, PointSources, psf_curvature
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.restoring import fit_beam
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights, imaging_weights

_CELL_ARCSEC = 30.0
_LONGEST_LAMBDA = 0.9 * 0.5 / np.radians(_CELL_ARCSEC / 3600)
"""Longest baselines that the pixels sample."""
_SIGMA = 7.0


@dataclass(frozen=True)
class OutsideSource:
    """A bright source outside an image that was fitted and subtracted.

    ``ra_deg``, ``dec_deg``: ICRS. ``apparent_jy``, ``apparent_error_jy``: peak that it would have in the image, and its
    thermal error. ``flux_jy``: at the reference frequency, corrected for the beam. ``beam``: effective beam.
    """

    ra_deg: float
    dec_deg: float
    apparent_jy: float
    apparent_error_jy: float
    beam: float

    @property
    def flux_jy(self) -> float:
        """Flux corrected for the beam."""
        return self.apparent_jy / self.beam

    @property
    def flux_error_jy(self) -> float:
        """Thermal error of the flux."""
        return self.apparent_error_jy / self.beam

    def separation_of(self, ra_deg: float, dec_deg: float) -> float:
        """Distance from a direction, degrees."""
        here, there = np.radians([self.ra_deg, self.dec_deg]), np.radians([ra_deg, dec_deg])
        return float(np.degrees(angular_separation_rad(here[0], here[1], there[0], there[1])))


def outside_sources(
    vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions, sources: PointSources
) -> tuple[OutsideSource, ...]:
    """The sources that lie outside the image, brightest first."""
    far = sources.select(~on_image(sources.y, sources.x, grid.size))
    if not len(far):
        return ()
    ra, dec = grid.sky_of(far.y, far.x)
    beam = effective_beam(beam_sampling(vis, weights), ra, dec, options.reference_frequency_hz, options.spectral_index)
    if options.correct_smearing:
        beam *= smearing_loss(vis, weights, ra, dec)
    error = weights.thermal_jy_per_beam
    return tuple(
        OutsideSource(float(np.degrees(ra[k])), float(np.degrees(dec[k])), float(far.flux_jy[k]), error, float(beam[k]))
        for k in np.argsort(-far.flux_jy)
    )


class OutsideSearch:
    """Wide images of one tile."""

    def __init__(self, vis: Visibilities, grid: ImageGrid, options: ImagingOptions) -> None:
        """Choose the baselines and compute the weights.

        Raises:
            ImagingError: too few short baselines.
        """
        size = 2 * round(SKY_RADIUS_DEG * 3600 / _CELL_ARCSEC)
        self._options = replace(
            options, image_size=size, cell_arcsec=_CELL_ARCSEC, weighting="briggs", briggs_robust=0.0, taper_arcsec=0.0,
            uv_max_lambda=min(options.uv_max_lambda or np.inf, _LONGEST_LAMBDA),
        )  # fmt: skip
        shortest_wave_m = 299_792_458.0 / float(vis.frequency_hz[0])
        self._rows = np.hypot(vis.uvw_m[:, 0], vis.uvw_m[:, 1]) < self._options.uv_max_lambda * shortest_wave_m
        self._vis = replace(
            vis, uvw_m=vis.uvw_m[self._rows], vis_jy=vis.vis_jy[self._rows], weight=vis.weight[self._rows],
            time_index=vis.time_index[self._rows], ms_row=vis.ms_row[self._rows],
            antenna1=vis.antenna1[self._rows], antenna2=vis.antenna2[self._rows],
        )  # fmt: skip
        self._weights: ImagingWeights = imaging_weights(self._vis, self._options)
        self._grid, self._tile = ImageGrid(size, self._options.cell_rad, grid.ra_rad, grid.dec_rad), grid
        self._gridder = Gridder(self._vis, self._weights, self._grid, self._options)
        self._curvature = psf_curvature(self._vis, self._weights, self._options.cell_rad)

    @functools.cached_property
    def _psf(self) -> NDArray[np.float32]:
        return self._gridder.psf(0.0)

    def find(self, rest: NDArray[np.complex64], beam_at: PixelFunction) -> Positions:
        """Pixel positions (of the tile's grid) of what stands out of the image of ``rest`` outside the tile.

        Where ``beam_at`` is so low that its variation is not known, a source cannot be predicted and is left out.
        """
        self._gridder.replace_visibilities(rest[self._rows])
        image = self._gridder.dirty(0.0)
        limit_jy = _SIGMA * max(robust_sigma(image), self._weights.thermal_jy_per_beam)
        empty = (np.empty(0), np.empty(0))
        if float(np.abs(image).max()) <= limit_jy:
            return empty
        try:
            beam = fit_beam(self._psf, _CELL_ARCSEC)
        except (ImagingError, RestoringBeamError):  # too few short baselines
            return empty
        finder = BrightSourceFinder(self._grid, self._psf, beam, _CELL_ARCSEC, limit_jy, self._curvature)
        found, _ = finder.improve(PointSources.none(), image, lambda y, _: np.ones_like(y), lambda y, _: np.zeros((3, y.size)), empty)
        y, x = self._tile.pixel_of(*self._grid.sky_of(found.y, found.x))
        outside = ~on_image(y, x, self._tile.size)
        outside[outside] = beam_at(y[outside], x[outside]) > LOWEST_BEAM
        return y[outside], x[outside]


def search_of(vis: Visibilities, grid: ImageGrid, options: ImagingOptions) -> OutsideSearch | None:
    """The search, or None where it is off or the array has no short baselines."""
    if not options.search_outside:
        return None
    try:
        return OutsideSearch(vis, grid, options)
    except ImagingError:
        return None
