"""Robust scatter: the standard deviation of the noise, whatever sources and outliers do.

`robust_sigma` takes the median absolute deviation about the median, times the factor that makes it the standard deviation
of a normal distribution. Compiled kernels keep loops of their own and take the factor from here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826022185056018
"""Standard deviation of a normal distribution per median absolute deviation: 1 / (normal quantile of 3/4)."""
MAD_TO_SIGMA_ROUNDED = 1.4826
"""The same to four decimals, for limits and errors that were defined with it: another digit would change their results."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median in units of that of a mean, for a normal distribution: sqrt(pi / 2)."""


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Scatter of all finite values, of any shape; in their units. NaN when there is none."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(finite - np.median(finite))))


def robust_sigma_along(values: NDArray[np.floating], axis: int, *, mad_to_sigma: float = MAD_TO_SIGMA) -> NDArray[np.float64]:
    """Scatter along one axis; NaN are left out, infinities count. The shape is that of ``values`` without the axis.

    A line without a number gives NaN and numpy's RuntimeWarning.
    """
    middle = np.nanmedian(values, axis=axis, keepdims=True)
    return np.asarray(mad_to_sigma * np.nanmedian(np.abs(values - middle), axis=axis))
