"""Images on pixels of twice the size, where the longest baseline allows it, and back.

An image has no structure finer than half the shortest fringe. Pixels are usually smaller, so that a Gaussian beam has
enough of them. The gridder's Fourier transforms then take four times as long as the information needs. So it works on
coarse pixels, and a short filter interpolates: exact to 1e-4 of the peak for fringes of at least 2.6 coarse pixels.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

FINEST_FRINGE = 0.38
"""Highest spatial frequency that the filter interpolates, cycles per coarse pixel."""
_REACH = 12
"""Coarse pixels on each side of an interpolated one."""


def _taps() -> NDArray[np.float32]:
    """Filter for the middle between two pixels: least squared error for all fringes up to `FINEST_FRINGE`."""
    offset = np.arange(-_REACH + 1, _REACH + 1)
    normal = np.sinc(2 * FINEST_FRINGE * (offset[:, None] - offset[None, :])) + 1e-10 * np.eye(offset.size)
    return np.linalg.solve(normal, np.sinc(2 * FINEST_FRINGE * (offset - 0.5))).astype(np.float32)


class CoarsePixels:
    """Pixels of twice the size for square images.

    ``size``: pixels on a side, with a margin that the filter needs.
    """

    factor = 2

    def __init__(self, fine_size: int, n_threads: int) -> None:
        """``fine_size``: pixels of the fine image on a side, a multiple of 4: its center is then a coarse pixel's."""
        self._fine, self._n_threads = fine_size, n_threads
        self.size = fine_size // 2 + 2 * _REACH
        self._taps = _taps()

    def refined(self, coarse: NDArray[np.float32]) -> NDArray[np.float32]:
        """The fine image, (N, N)."""
        from dsa110_assets.imaging import _kernels

        out = np.empty((self._fine, self._fine), dtype=np.float32)
        edges = np.linspace(0, self._fine, 2 * self._n_threads + 1).astype(int)
        with ThreadPoolExecutor(self._n_threads) as pool:
            list(pool.map(lambda part: _kernels.refine_pixels(coarse, self._taps, part[0], part[1], out), itertools.pairwise(edges)))
        return out

    def coarsened(self, model: NDArray[np.float32]) -> NDArray[np.float32]:
        """The coarse model with the visibilities of a fine one: the adjoint of `refined`."""
        from dsa110_assets.imaging import _kernels

        rows, columns = np.nonzero(model)
        out = np.zeros((self.size, self.size), dtype=np.float32)
        _kernels.coarsen_components(rows, columns, model[rows, columns], self._taps, out)
        return out
