"""Scatter measured from the data: the noise in spite of sources and outliers, and the error of a sum.

`robust_sigma` is the median absolute deviation about the median, times the factor that makes it the standard deviation
of a normal distribution. Compiled kernels have their own loops and take the factor from here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MAD_TO_SIGMA = 1.4826022185056018
"""Standard deviation of a normal distribution over its median absolute deviation: 1 / (normal quantile of 3/4)."""
MAD_TO_SIGMA_ROUNDED = 1.4826
"""The same to four decimals, for limits and errors defined with it: more digits would change their results."""
MEDIAN_ERROR = 1.2533
"""Standard error of a median over that of a mean, for a normal distribution: sqrt(pi / 2)."""

_GROUPS, _SEED = 32, 110


def error_of_sum(deviations: NDArray[np.float64]) -> float:
    """Standard deviation of the sum of deviations from what is expected, by the scatter of random groups of them.

    Around 0, not around their mean: a common offset is an error, too.
    """
    order = np.random.default_rng(_SEED).permutation(deviations.size)
    groups = np.array([part.sum() for part in np.array_split(deviations[order], min(_GROUPS, deviations.size))])
    return float(np.sqrt(np.mean(groups**2) * groups.size))


def robust_sigma(values: NDArray[np.floating]) -> float:
    """Scatter of all finite values of an array of any shape, in their units; NaN if there are none."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return float("nan")
    return float(MAD_TO_SIGMA * np.median(np.abs(finite - np.median(finite))))


def robust_sigma_along(values: NDArray[np.floating], axis: int, *, mad_to_sigma: float = MAD_TO_SIGMA) -> NDArray[np.float64]:
    """Scatter along one axis, without NaN but with infinities; shape of ``values`` without the axis.

    Where all values are NaN, the result is NaN and numpy issues a RuntimeWarning.
    """
    middle = np.nanmedian(values, axis=axis, keepdims=True)
    return np.asarray(mad_to_sigma * np.nanmedian(np.abs(values - middle), axis=axis))
