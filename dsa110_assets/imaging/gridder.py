"""Dirty images and predicted visibilities with ducc0's w-gridder.

Gridding follows Arras et al. (2021, A&A 646, A58): exact w-correction, here in single precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

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
