"""Proof that new bright sources are in the sky: each must be there in parts of the data, too.

An error of the calibration makes artifacts around a bright source. They look like sources in the image, but not in
parts of the data: what one bad antenna makes is not there without it, and what many make differs from antenna to
antenna. A source has the flux that the beam predicts in each half of the time and of the band, and on each antenna's
baselines.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, direction_cosines
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_LEAST_SHARE = 0.5
"""A part of the data must have this share of the flux, ..."""
_ERRORS = 3.0
"""... within this many of its errors."""
_LARGEST_SCATTER = 1.0
"""Largest scatter between antennas, beyond the noise, as a share of the flux."""


def are_proven(
    vis: Visibilities,
    rest_jy: NDArray[np.complex64],
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
) -> NDArray[np.bool_]:
    """Whether each source is in all parts of the data, (Nsource,).

    Args:
        vis, weights, grid, options: those of the image.
        rest_jy: visibilities without these and all other known sources, (nrow, nchan). Therefore the sources do not
            disturb each other: a part has ``1 + r`` times a source's flux, where r is what is left over what was
            subtracted.
        sources: sources with their apparent fluxes.
    """
    left = sums_of_rows(vis, rest_jy, weights, grid, options, sources)
    expected = expected_sums(vis, weights, grid, options, sources)
    variance = variance_of_rows(vis, weights)
    late = vis.time_index > np.median(np.unique(vis.time_index))
    proven = np.ones(len(sources), dtype=bool)
    antenna_variance, row_variance = sum_by_antenna(vis, variance.sum(axis=1)), variance.sum(axis=1)
    for k in range(len(sources)):
        rows, signal = left[k].astype(np.float64), expected[k]
        halves = [
            (rows[~late].sum(), signal[~late].sum(), variance[~late].sum()),
            (rows[late].sum(), signal[late].sum(), variance[late].sum()),
            *((rows[:, half].sum(), signal[:, half].sum(), variance[:, half].sum()) for half in (0, 1)),
        ]
        on_antenna, due = sum_by_antenna(vis, rows.sum(axis=1)), sum_by_antenna(vis, signal.sum(axis=1))
        without = (rows.sum() - on_antenna, signal.sum() - due, row_variance.sum() - antenna_variance)
        parts = np.concatenate([np.array(halves).T, np.stack(without)], axis=1)
        parts = parts[:, parts[1] > 0]
        share, error = 1 + parts[0] / parts[1], np.sqrt(np.maximum(parts[2], 0)) / parts[1]
        there = bool(np.all(share + _ERRORS * error > _LEAST_SHARE))
        used = due > 0
        proven[k] = there and _scatter(on_antenna[used] / due[used], antenna_variance[used] / due[used] ** 2) < _LARGEST_SCATTER
    return proven


def _scatter(values: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """Scatter of values beyond what their variances explain with three errors; 0 if there is none."""
    if values.size < 3:
        return 0.0
    weight = 1 / variance
    mean = float((weight * values).sum() / weight.sum())
    chi2 = float((weight * (values - mean) ** 2).sum())
    degrees = values.size - 1
    excess = chi2 / degrees - 1 - _ERRORS * np.sqrt(2 / degrees)
    return float(np.sqrt(max(excess, 0.0) * values.size / weight.sum()))


def sum_by_antenna(vis: Visibilities, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the rows' values (nrow,) over the baselines of each antenna, (Nantenna,), by antenna number."""
    n_antenna = int(max(vis.antenna1.max(), vis.antenna2.max())) + 1
    total = np.bincount(vis.antenna1, rows, n_antenna) + np.bincount(vis.antenna2, rows, n_antenna)
    return total.astype(np.float64)


def sums_of_rows(
    vis: Visibilities,
    rest_jy: NDArray[np.complex64],
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
) -> NDArray[np.float32]:
    """What each row and half of the band adds to the image at the sources, (Nsource, nrow, 2)."""
    from dsa110_assets.imaging import _kernels

    lmn = direction_cosines(*grid.sky_of(sources.y, sources.x), grid.ra_rad, grid.dec_rad, by_products=True)
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S
    out = np.empty((len(sources), rest_jy.shape[0], 2), dtype=np.float32)

    def add(rows: slice) -> None:
        _kernels.sums_of_rows(vis.uvw_m[rows], f_over_c, lmn, weights.weight[rows], rest_jy[rows], out[:, rows])

    edges = np.linspace(0, rest_jy.shape[0], 4 * options.n_threads + 1).astype(int)
    with ThreadPoolExecutor(options.n_threads) as pool:
        list(pool.map(add, [slice(a, b) for a, b in itertools.pairwise(edges)]))
    return out


def _halves(values: NDArray[Any]) -> NDArray[np.float64]:
    """Sums over the two halves of the band, (nrow, 2)."""
    middle = -(-values.shape[1] // 2)
    return np.stack([values[:, :middle].sum(axis=1, dtype=np.float64), values[:, middle:].sum(axis=1, dtype=np.float64)], axis=1)


def expected_sums(
    vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions, sources: PointSources
) -> NDArray[np.float64]:
    """What each row and half of the band should add at the sources, (Nsource, nrow, 2): drift and spectrum."""
    ra, dec = grid.sky_of(sources.y, sources.x)
    separation = angular_separation_rad(ra[:, None], dec[:, None], np.radians(vis.pointing.ra_deg), np.radians(vis.pointing.dec_deg))
    middle = -(-vis.frequency_hz.size // 2)
    frequency = np.array([vis.frequency_hz[:middle].mean(), vis.frequency_hz[middle:].mean() if middle < vis.frequency_hz.size else 1.0])
    shape = (
        airy_power_beam(separation[:, :, None], frequency, vis.pointing.dish_diameter_m)
        * (frequency / options.reference_frequency_hz) ** options.spectral_index
    )
    expected = shape[:, vis.time_index] * _halves(weights.weight)
    return expected * (sources.flux_jy / expected.sum(axis=(1, 2)))[:, None, None]


def variance_of_rows(vis: Visibilities, weights: ImagingWeights) -> NDArray[np.float64]:
    """Variance of what noise adds, (nrow, 2)."""
    return _halves(np.square(weights.weight) / np.maximum(vis.weight, np.float32(1e-30)))
