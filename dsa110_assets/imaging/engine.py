"""The images that every imaging engine returns.

Engines share only the grid, the weights and these images.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.imaging.antenna_errors import AntennaErrors
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, add_to_image
from dsa110_assets.imaging.restoring import convolve_with_beam


@dataclass(frozen=True)
class ChannelImages:
    """Images of one channel from a joined deconvolution, (N, N) float32 each.

    ``number``: number of the channel. ``model``: Jy/pixel, without ``bright``. ``residual``: Jy/beam. ``beam``: fitted
    to the channel's own PSF. ``bright``: sources that were subtracted individually, with their apparent fluxes in this
    channel.
    """

    number: int
    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    beam: RestoringBeam
    bright: PointSources

    def restored(self, beam: RestoringBeam, options: ImagingOptions) -> NDArray[np.float32]:
        """Restore the model with a beam and add the residual unchanged; Jy/beam."""
        image = convolve_with_beam(self.model, beam, options.cell_arcsec, options.n_threads)
        image += self.residual
        add_to_image(image, self.bright, beam, options.cell_arcsec)
        return image


@dataclass(frozen=True)
class EngineImages:
    """Images of one tile, each (N, N) float32, y north, x west, not corrected for the primary beam.

    ``dirty``, ``psf``, ``residual``, ``restored``: Jy/beam (PSF peak 1). ``model``: Jy/pixel. ``beam``: restoring beam.
    ``bright_sources``: number of sources that were fitted and subtracted individually. ``major_cycles``: number of
    exact subtractions. ``minor_iterations``: number of CLEAN components (0 if the engine does not report it).
    ``converged``: cleaning ended at its threshold, not at a limit. ``channels``: channels of a joined deconvolution,
    ascending in frequency; the other images are then their weighted means. ``bright``: the bright sources; in ``model``
    each is in the nearest pixel. ``artifacts``: what looked like bright sources and is not in all parts of the data.
    ``antennas``: errors of the antennas' gains; None without bright sources. ``flux_error``: what such errors do to
    fluxes; None without bright sources.
    """

    dirty: NDArray[np.float32]
    psf: NDArray[np.float32]
    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    restored: NDArray[np.float32]
    beam: RestoringBeam
    bright_sources: int
    major_cycles: int
    minor_iterations: int
    converged: bool
    channels: tuple[ChannelImages, ...] = ()
    bright: PointSources = field(default_factory=PointSources.none)
    artifacts: PointSources = field(default_factory=PointSources.none)
    antennas: AntennaErrors | None = None
    flux_error: CalibrationError | None = None
