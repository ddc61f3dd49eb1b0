"""Noise of images: robust global value and a map of the local value.

What does not belong here: the thermal prediction (`weighting`) and verdicts about it (`quality.image`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MAD_TO_SIGMA = 1.4826022185056018
"""Standard deviation of a normal distribution per median absolute deviation."""


def robust_rms(values: NDArray[np.floating]) -> float:
    """Standard deviation from the median absolute deviation about the median; NaN are ignored; NaN without values."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(finite - np.median(finite))))


def local_rms_map(residual: NDArray[np.float32], beam_px: float, box_beams: float = 40.0) -> NDArray[np.float32]:
    """Robust noise in boxes of at least ``box_beams`` beams on a side, interpolated linearly; shape of ``residual``.

    A box holds hundreds of independent beams, so that its estimate scatters by a few percent only.
    """
    size = residual.shape[0]
    n_box = int(np.clip(size // max(box_beams * beam_px, 16.0), 1, 32))
    edges = np.linspace(0, size, n_box + 1).astype(int)
    coarse = np.empty((n_box, n_box))
    for i in range(n_box):
        for j in range(n_box):
            box = residual[edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
            stride = max(1, int(beam_px // 3))
            coarse[i, j] = robust_rms(box[::stride, ::stride])
    if n_box == 1:
        return np.full(residual.shape, coarse[0, 0], dtype=np.float32)
    position = (np.arange(size) + 0.5) / size * n_box - 0.5
    # linear interpolation is separable: two small matrix products instead of a 2-D spline
    lower = np.clip(np.floor(position).astype(int), 0, n_box - 2)
    fraction = np.clip(position - lower, 0.0, 1.0)
    matrix = np.zeros((size, n_box))
    matrix[np.arange(size), lower] = 1.0 - fraction
    matrix[np.arange(size), lower + 1] = fraction
    return (matrix @ coarse @ matrix.T).astype(np.float32)


def dilate(mask: NDArray[np.bool_], radius_px: int) -> NDArray[np.bool_]:
    """Grow a mask by a square of the given half-width."""
    return np.asarray(ndimage.maximum_filter(mask, size=2 * radius_px + 1), dtype=bool)
