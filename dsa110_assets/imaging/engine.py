"""What every imaging engine gives back.

What does not belong here: any engine. They share the grid, the weights and the products, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, add_to_image
from dsa110_assets.imaging.restoring import convolve_with_beam


@dataclass(frozen=True)
class ChannelImages:
    """What a joined deconvolution leaves of one channel, (N, N) float32 each: ``model`` Jy/pixel without ``bright``, ``residual`` Jy/beam.

    ``number``: of the channel. ``beam``: fitted to the channel's own PSF. ``bright``: sources that were subtracted one by one, with their apparent
    fluxes in this channel.
    """

    number: int
    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    beam: RestoringBeam
    bright: PointSources

    def restored(self, beam: RestoringBeam, options: ImagingOptions) -> NDArray[np.float32]:
        """Model with a restoring beam, plus the residual as it is, Jy/beam."""
        image = convolve_with_beam(self.model, beam, options.cell_arcsec, options.n_threads)
        image += self.residual
        add_to_image(image, self.bright, beam, options.cell_arcsec)
        return image


@dataclass(frozen=True)
class EngineImages:
    """Images of one tile, each (N, N) float32, y north, x west, not corrected for the primary beam.

    ``dirty``, ``psf``, ``residual``, ``restored``: Jy/beam (PSF peak 1). ``model``: Jy/pixel. ``beam``: restoring beam.
    ``bright_sources``: sources that were fitted and subtracted one by one. ``major_cycles``: exact subtractions done. ``minor_iterations``: CLEAN components subtracted (0 if the engine does not tell). ``converged``: cleaning ended at its threshold and not
    at a limit. ``channels``: of a joined deconvolution, ascending in frequency; the other images are then their weighted means.
    ``bright``: those sources; in ``model`` each is in the nearest pixel.
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
