"""Dirty images and predicted visibilities with ducc0's w-gridder.

Gridding follows Arras et al. (2021, A&A 646, A58): exact w-correction, here in single precision.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.instrument import SKY_RADIUS_DEG
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, direction_cosines
from dsa110_assets.imaging.channel_nodes import ChannelNodes
from dsa110_assets.imaging.coarse_pixels import FINEST_FRINGE, CoarsePixels
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import constant_sources
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_GRIDDER_ERROR = 0.13
"""Largest error of the gridder over its accuracy times the image's peak (measured at full size, 1e-2 and 2e-2)."""
_ERROR_SIGMA = 0.1
"""Largest acceptable error of the gridder, in units of the thermal noise."""
_COARSEST = 1e-2


_FEW_COMPONENTS = 100
"""Components up to which a direct sum is faster than the gridder: 15 ms of CPU each on a full tile, and 3 s."""
_WORTHWHILE = 0.5
"""Condense visibilities if at most this share of samples is left, because the gridder handles whole rows faster."""


class Gridder:
    """Dirty images and predicted visibilities of one set of visibilities, on one grid.

    The errors of the gridder are a fraction of the peak of the image. Once bright sources are gone, half of the work
    gives the same image. Two more things save work and change no result: `channel_nodes` and `coarse_pixels`.
    """

    def __init__(self, vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions) -> None:
        self._vis = vis.vis_jy
        self._weight = weights.weight
        self._uvw_m, self._grid, self._n_threads = vis.uvw_m, grid, options.n_threads
        self._finest, self._noise_jy = options.epsilon, weights.thermal_jy_per_beam
        self._coarse = CoarsePixels(grid.size, options.n_threads) if _has_room(vis, weights, grid) else None
        cell_rad = grid.cell_rad * self._coarse.factor if self._coarse else grid.cell_rad
        self._size = self._coarse.size if self._coarse else grid.size
        radius_rad = min(np.sqrt(0.5) * self._size * cell_rad, np.radians(SKY_RADIUS_DEG))
        nodes = ChannelNodes(vis.uvw_m, vis.frequency_hz, radius_rad, options.n_threads)
        self._nodes = nodes if nodes.samples <= _WORTHWHILE * self._weight.size else None
        uvw_m = self._nodes.uvw_m() if self._nodes else vis.uvw_m
        # ducc0 sums V exp(2 pi i (u x + v y - w (n - 1))).
        # Ours is V exp(-2 pi i (u l + v m + w (n - 1))), with rows along m and columns along -l.
        self._common = {
            "uvw": np.ascontiguousarray(np.stack([-uvw_m[:, 1], uvw_m[:, 0], uvw_m[:, 2]], axis=1)),
            "freq": np.array([self._nodes.reference_hz]) if self._nodes else vis.frequency_hz,
            "pixsize_x": cell_rad,
            "pixsize_y": cell_rad,
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

        samples = {"vis": self._nodes.condensed(vis, self._weight)[:, None]} if self._nodes else {"vis": vis, "wgt": self._weight}
        image = wgridder.vis2dirty(**samples, **self._common, npix_x=self._size, npix_y=self._size, epsilon=epsilon)
        return self._coarse.refined(image) if self._coarse else image

    def dirty(self, peak_jy: float = np.inf) -> NDArray[np.float32]:
        """Dirty image, Jy/beam, accurate enough for a peak of ``peak_jy``.

        A point source of apparent flux S peaks at S because the weights sum to 1.
        """
        return self._image(self._vis, self._accuracy(peak_jy))

    def psf(self, peak_jy: float = np.inf) -> NDArray[np.float32]:
        """Response to a source of 1 Jy at the phase center, peak 1 at [N/2, N/2]; for sources of up to ``peak_jy``."""
        return self._image(np.broadcast_to(np.complex64(1), self._vis.shape), self._accuracy(peak_jy))

    def predicted(self, model: NDArray[np.float32]) -> NDArray[np.complex64]:
        """Visibilities of ``model`` (Jy/pixel), (nrow, nchan)."""
        from ducc0 import wgridder

        if self._nodes and np.count_nonzero(model) <= _FEW_COMPONENTS:
            rows, columns = np.nonzero(model)
            direction = self._grid.sky_of(rows, columns)
            lmn = direction_cosines(*direction, self._grid.ra_rad, self._grid.dec_rad, by_products=True)
            flux_jy = model[rows, columns].astype(np.float64)
            return self._nodes.expanded(constant_sources(self._uvw_m, self._nodes, lmn, flux_jy, self._n_threads))
        epsilon = self._accuracy(float(np.abs(model).max()))
        vis = wgridder.dirty2vis(dirty=self._coarse.coarsened(model) if self._coarse else model, epsilon=epsilon, **self._common)
        return self._nodes.expanded(vis[:, 0]) if self._nodes else vis

    def residual(self, model: NDArray[np.float32]) -> NDArray[np.float32]:
        """Dirty image of the visibilities minus those of ``model`` (Jy/pixel)."""
        vis = self.predicted(model)
        np.subtract(self._vis, vis, out=vis)
        return self._image(vis, self._accuracy(float(np.abs(model).max())))


def _has_room(vis: Visibilities, weights: ImagingWeights, grid: ImageGrid) -> bool:
    """Whether pixels of twice the size show all fringes, also at the edges of the field, where w adds to them."""
    used = weights.weight.any(axis=1)
    if grid.size % 4 or not used.any():
        return False
    uv_m, w_m = np.abs(vis.uvw_m[used, :2]).max(), np.abs(vis.uvw_m[used, 2]).max()
    edge_rad = 0.5 * grid.size * grid.cell_rad
    fringes = float(uv_m + w_m * edge_rad) * float(vis.frequency_hz[-1]) / SPEED_OF_LIGHT_M_PER_S
    return fringes * CoarsePixels.factor * grid.cell_rad <= FINEST_FRINGE
