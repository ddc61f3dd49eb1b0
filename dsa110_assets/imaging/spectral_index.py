"""Spectral indices from the channels of a joined deconvolution.

The model is ``S(nu) = S0 (nu/nu0)**alpha``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEAST_SNR = 20.0
"""Lowest signal-to-noise ratio in the image of the whole band for an index. Below it, the error would exceed 1."""
LARGEST_ERROR = 0.5
"""Largest error of an index that is published."""
_ITERATIONS = 12
_STEEPEST = 10.0


@dataclass(frozen=True)
class PowerLaw:
    """Fitted power laws, arrays of shape (Npos,); NaN where the fit has no solution.

    ``flux_jy``: at the reference frequency. ``alpha``, ``alpha_error``: spectral index and its statistical error.
    """

    flux_jy: NDArray[np.float64]
    alpha: NDArray[np.float64]
    alpha_error: NDArray[np.float64]


def fit_power_law(
    flux_jy: NDArray[np.float64], error_jy: NDArray[np.float64], frequency_hz: NDArray[np.float64], reference_hz: float
) -> PowerLaw:
    """Fit a power law to fluxes by least squares.

    The fit uses fluxes, not their logarithms, because the mean of the logarithm is biased by -1/(2 snr^2). It minimizes
    ``chi2 = sum_c w_c (S_c - S0 x_c**alpha)**2``, ``w = 1/sigma**2``, ``x = nu/nu0``, by Gauss-Newton steps (Press et
    al. 2007, Numerical Recipes, section 15.5). The covariance is the inverse of the normal matrix of
    ``J = (x**alpha, S0 x**alpha ln x)``. With ``a = sum w x**(2 alpha)``, ``b = sum w x**(2 alpha) ln x`` and
    ``c = sum w x**(2 alpha) ln(x)**2``:

        sigma_alpha**2 = a / (S0**2 (a c - b**2))

    For two channels this equals ``sqrt((sigma_1/S_1)**2 + (sigma_2/S_2)**2) / abs(ln(nu_1/nu_2))``, with the fitted
    fluxes.

    Args:
        flux_jy, error_jy: (Nchannel, Npos); channels where either is not finite are ignored.
        frequency_hz: (Nchannel,).
        reference_hz: ``nu0``.
    """
    log_x = np.log(frequency_hz / reference_hz)[:, None]
    known = np.isfinite(flux_jy) & np.isfinite(error_jy) & (error_jy > 0)
    weight = np.where(known, 1.0 / np.square(np.where(known, error_jy, 1.0)), 0.0)
    flux = np.where(known, flux_jy, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean, slope = _solve(weight, np.ones_like(flux), log_x * np.ones_like(flux), flux)
        alpha = np.clip(slope / mean, -_STEEPEST, _STEEPEST)
        s0 = mean
        for _ in range(_ITERATIONS):
            power = np.exp(alpha * log_x)
            step_s0, step_alpha = _solve(weight, power, s0 * power * log_x, flux - s0 * power)
            s0, alpha = s0 + step_s0, np.clip(alpha + step_alpha, -_STEEPEST, _STEEPEST)
        squared = weight * np.exp(2 * alpha * log_x)
        a, b, c = squared.sum(axis=0), (squared * log_x).sum(axis=0), (squared * log_x**2).sum(axis=0)
        error = np.sqrt(a / (a * c - b * b)) / np.abs(s0)
    solved = (known.sum(axis=0) >= 2) & np.isfinite(alpha) & np.isfinite(error) & (np.abs(alpha) < _STEEPEST) & (s0 > 0)
    return PowerLaw(*(np.where(solved, values, np.nan) for values in (s0, alpha, error)))


def _solve(
    weight: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weighted least-squares coefficients of two functions, along the first axis."""
    a, b, c = ((weight * one * other).sum(axis=0) for one, other in ((first, first), (first, second), (second, second)))
    p, q = (weight * first * values).sum(axis=0), (weight * second * values).sum(axis=0)
    determinant = a * c - b * b
    return (p * c - q * b) / determinant, (q * a - p * b) / determinant
