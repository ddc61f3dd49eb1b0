"""Map of the local noise of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dsa110_assets.common.robust import robust_sigma


def local_rms_map(residual: NDArray[np.float32], beam_px: float, box_beams: float = 40.0) -> NDArray[np.float32]:
    """Robust noise in boxes of at least ``box_beams`` beams on a side, interpolated linearly; shape of ``residual``.

    A box holds hundreds of independent beams, so its estimate is good to a few percent.
    """
    size = residual.shape[0]
    n_box = int(np.clip(size // max(box_beams * beam_px, 16.0), 1, 32))
    edges = np.linspace(0, size, n_box + 1).astype(int)
    coarse = np.empty((n_box, n_box))
    for i in range(n_box):
        for j in range(n_box):
            box = residual[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
            stride = max(1, int(beam_px // 3))
            coarse[i, j] = robust_sigma(box[::stride, ::stride])
    if n_box == 1:
        return np.full(residual.shape, coarse[0, 0], dtype=np.float32)
    position = (np.arange(size) + 0.5) / size * n_box - 0.5
    # linear interpolation is separable: use two small matrix products instead of a 2-D spline
    lower = np.clip(np.floor(position).astype(int), 0, n_box - 2)
    fraction = np.clip(position - lower, 0.0, 1.0)
    matrix = np.zeros((size, n_box))
    matrix[np.arange(size), lower] = 1.0 - fraction
    matrix[np.arange(size), lower + 1] = fraction
    return (matrix @ coarse @ matrix.T).astype(np.float32)


def dilate(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Grow a mask by a square of the given half-width."""
    return np.asarray(ndimage.maximum_filter(mask, size=2 * radius_px + 1), dtype=bool)
