"""Error of the fluxes of a tile from errors of the antennas' gains, measured on its own bright sources.

A baseline sees a source with the gain errors of its two antennas, ``S (1 + d_a + d_b)``, where ``d`` (real part) may
depend on the direction. The fit of the source takes the mean over all baselines, so its flux is wrong by ``2 mean(d)``.
No fit can see that. But it leaves ``S (d_a - mean(d)) (N - 2) / (N - 1)`` on the baselines of each of N antennas, so
their scatter s is seen. The error of the flux is ``2 s sqrt(sum(W_a^2)) / sum(W_a)``, where W_a is the weight of an
antenna's baselines: ``2 s / sqrt(N)`` if all weigh the same.

Errors that are the same in all directions, such as gains that have drifted, and errors that grow with the distance from
the beam's center, such as wrong pointing, are fitted together: ``s^2 = s0^2 + (s1 r)^2``. What noise, faint sources and
artifacts of others add to the antennas' sums is measured at places without a source.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.bright_finder import on_image
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources
from dsa110_assets.imaging.proof import expected_sums, sum_by_antenna, sums_of_rows, variance_of_rows
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_MOST_SOURCES, _EMPTY_PLACES = 24, 16
_LEAST_SNR = 60.0
"""A source is used above this many times the thermal noise, ..."""
_LEAST_SHARE_OF_BRIGHTEST = 0.01
"""... and above this share of the brightest, whose artifacts are stronger on single antennas than in the image."""
_AWAY_BEAMS = 6.0
"""Distance of an empty place from all bright sources."""
_FEWEST_ANTENNAS = 6
_SIGNIFICANT = 3.0
"""Scatter of the antennas, in units of its error over all sources, below which the gains count as right."""
_OUTLIER = 3.0
"""A source with more scatter than the others by this many errors is no point. It does not take part in the fit."""
_ROUNDS = 20


def measure_flux_errors(
    vis: Visibilities,
    rest_jy: NDArray[np.complex64],
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
    beam_px: float,
) -> CalibrationError:
    """Measure the error of fluxes; 0 where the antennas agree, or no source is bright enough to tell.

    Args:
        vis, weights, grid, options: those of the image.
        rest_jy: visibilities without the sources, (nrow, nchan).
        sources: bright sources that were subtracted, with their apparent fluxes.
        beam_px: FWHM of the restoring beam.
    """
    center = float(np.degrees(grid.ra_rad)) % 360.0, float(np.degrees(grid.dec_rad))
    none = CalibrationError(0.0, 0.0, center)
    limit_jy = max(_LEAST_SNR * weights.thermal_jy_per_beam, _LEAST_SHARE_OF_BRIGHTEST * float(sources.flux_jy.max(initial=0.0)))
    brightest = np.argsort(-sources.flux_jy)[:_MOST_SOURCES]
    chosen = np.zeros(len(sources), dtype=bool)
    chosen[brightest] = sources.flux_jy[brightest] > limit_jy
    chosen &= on_image(sources.y, sources.x, grid.size)  # far outside, the law of the distance does not hold
    used = sources.select(chosen)
    if not len(used):
        return none
    empty = _empty_places(grid, sources, _AWAY_BEAMS * beam_px)
    places = PointSources(np.append(used.y, empty[0]), np.append(used.x, empty[1]), np.ones(len(used) + empty[0].size))
    sums = sums_of_rows(vis, rest_jy, weights, grid, options, places)
    left = np.stack([sum_by_antenna(vis, rows.sum(axis=1, dtype=np.float64)) for rows in sums])
    due = np.stack([sum_by_antenna(vis, rows.sum(axis=1)) for rows in expected_sums(vis, weights, grid, options, used)])
    variance = sum_by_antenna(vis, variance_of_rows(vis, weights).sum(axis=1))
    present = variance > 0
    if present.sum() < _FEWEST_ANTENNAS:
        return none
    noise2 = variance[present]
    if empty[0].size >= _EMPTY_PLACES // 2:
        noise2 = noise2 * max(1.0, robust_sigma(left[len(used) :][:, present] / np.sqrt(noise2)) ** 2)
    share, error2 = left[: len(used)][:, present] / due[:, present], noise2 / due[:, present] ** 2
    ra, dec = grid.sky_of(used.y, used.x)
    distance_deg = np.degrees(angular_separation_rad(ra, dec, grid.ra_rad, grid.dec_rad))
    scatter2 = _scatter_of_antennas(share, error2, distance_deg)
    n, weight = int(present.sum()), sum_by_antenna(vis, weights.weight.sum(axis=1, dtype=np.float64))
    factor = 2 * float(np.sqrt((weight**2).sum()) / weight.sum()) * (n - 1) / (n - 2)
    at_center, slope = factor * np.sqrt(np.array(scatter2))
    return CalibrationError(float(at_center), float(slope), center)


def _empty_places(grid: ImageGrid, sources: PointSources, away_px: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Pixel positions (y, x) in the middle half of the image, away from all sources; the same for the same image."""
    rng = np.random.default_rng(grid.size)
    y, x = rng.uniform(0.25 * grid.size, 0.75 * grid.size, (2, 40 * _EMPTY_PLACES))
    near = np.hypot(y[:, None] - sources.y, x[:, None] - sources.x).min(axis=1) < away_px
    return y[~near][:_EMPTY_PLACES], x[~near][:_EMPTY_PLACES]


def _scatter_of_antennas(share: NDArray[np.float64], error2: NDArray[np.float64], distance_deg: NDArray[np.float64]) -> tuple[float, float]:
    """Variance of the antennas' shares beyond noise: at the center, and its growth with the distance squared.

    ``share``, ``error2``: (Nsource, Nantenna), of each antenna's baselines and its variance by noise.
    """
    from scipy.optimize import nnls

    degrees = share.shape[1] - 1
    weight = 1 / error2
    mean = (weight * share).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    noise2 = share.shape[1] / weight.sum(axis=1)
    excess = noise2 * ((weight * (share - mean) ** 2).sum(axis=1) / degrees - 1)
    by_noise = np.sqrt(2 / degrees) * noise2
    if (excess / by_noise**2).sum() < _SIGNIFICANT * np.sqrt((1 / by_noise**2).sum()):
        return 0.0, 0.0
    terms = np.stack([np.ones_like(distance_deg), distance_deg**2], axis=1)
    fit, keep = np.array([float(np.median(np.maximum(excess, 0))), 0.0]), np.ones(len(excess), dtype=bool)
    for _ in range(_ROUNDS):
        model = terms @ fit
        error = np.sqrt(2 / degrees) * (noise2 + model)
        kept = excess - model < _OUTLIER * error
        keep = kept if kept.sum() >= 2 else keep
        new, _rest = nnls(terms[keep] / error[keep, None], excess[keep] / error[keep])
        if np.allclose(new, fit, rtol=1e-4, atol=1e-12):
            break
        fit = new
    return float(fit[0]), float(fit[1])
