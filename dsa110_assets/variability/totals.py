"""Totals of each source, from which its variability indices follow, so that an epoch is added without the history.

Two of Chan, Golub & LeVeque's triples (1983, The American Statistician 37, 242, equations 1.5): number, mean and sum of
squared deviations, without weights and with the weights 1 / sigma^2. To unite two sets, with d the difference of their
means and m the weights or numbers,

    mean = mean_a + d m_b / (m_a + m_b)        S = S_a + S_b + d^2 m_a m_b / (m_a + m_b)

All terms are positive, so there is no cancellation. The sum of squared deviations with weights is chi-square itself.

The pair of epochs with the largest |Vs| does not follow from sums. For it a source keeps its *extremes*: the fluxes
that no other flux exceeds (or undercuts) with an error that is no larger. For any flux of a new epoch, the flux that
differs most from it in units of their error is one of them, and so is each of the pair. They are few: 2 ln N on
average if errors and fluxes are independent. The largest and the smallest flux are among them.

An epoch is not subtracted. Its sources' totals are made again from their light curves; this is exact, also for the
extremes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import chdtrc

from dsa110_assets.variability.lightcurves import LightCurves

MOMENTS = ("mean_flux_jy", "square", "variance", "weight", "weighted_mean_flux_jy", "chi2")


@dataclass(frozen=True)
class Totals:
    """Totals of ``Nsources`` sources, by ascending identifier.

    ``source_id`` (Nsources,). ``n_epochs`` (Nsources,). ``moments`` (6, Nsources), see `MOMENTS`: mean flux, sum of
    squared deviations from it, sum of squared errors, sum of weights, weighted mean, chi-square about it; 0 without
    epochs. The extremes of source s are ``offsets[s]:offsets[s + 1]`` of ``flux_jy, flux_err_jy, time_mjd``, by time.
    """

    source_id: NDArray[np.generic]
    n_epochs: NDArray[np.int64]
    moments: NDArray[np.float64]
    offsets: NDArray[np.int64]
    flux_jy: NDArray[np.float64]
    flux_err_jy: NDArray[np.float64]
    time_mjd: NDArray[np.float64]

    @classmethod
    def none(cls) -> Totals:
        """Totals of no source."""
        empty = np.zeros(0)
        return cls(
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            np.zeros((len(MOMENTS), 0)),
            np.zeros(1, dtype=np.int64),
            empty,
            empty,
            empty,
        )

    @classmethod
    def of(cls, light_curves: LightCurves) -> Totals:
        """Totals of whole light curves.

        Raises:
            LightCurveError: the light curves are not normalized.
        """
        from dsa110_assets.variability import _kernels

        light_curves.require_normalised("variability indices")
        moments = np.zeros((len(MOMENTS), light_curves.n_sources))
        _kernels.moments(light_curves.offsets, light_curves.flux_jy, light_curves.flux_err_jy, moments)
        return cls(
            light_curves.source_id,
            light_curves.counts,
            moments,
            *_extremes(light_curves.offsets, light_curves.flux_jy, light_curves.flux_err_jy, light_curves.time_mjd),
        )

    @property
    def chi2(self) -> NDArray[np.float64]:
        """Chi-square about the weighted mean, shape (Nsources,)."""
        return self.moments[MOMENTS.index("chi2")]

    def select(self, sources: NDArray[np.intp]) -> Totals:
        """Totals of the sources with these indices, in this order."""
        length = np.diff(self.offsets)[sources]
        offsets = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        rows = np.arange(offsets[-1]) + np.repeat(self.offsets[:-1][sources] - offsets[:-1], length)
        points = self.flux_jy[rows], self.flux_err_jy[rows], self.time_mjd[rows]
        return Totals(self.source_id[sources], self.n_epochs[sources], self.moments[:, sources], offsets, *points)

    def plus(self, other: Totals) -> Totals:
        """Totals of all sources of both, over the epochs of both. No epoch of a source is in both."""
        source_id = np.union1d(self.source_id, other.source_id)
        (n_a, a), (n_b, b) = (_on(source_id, one) for one in (self, other))
        n = n_a + n_b
        with np.errstate(divide="ignore", invalid="ignore"):
            share, weight_share = np.nan_to_num(n_b / n), np.nan_to_num(b[3] / (a[3] + b[3]))
        d, weighted_d = b[0] - a[0], b[4] - a[4]
        moments = np.stack(
            [
                a[0] + d * share,
                a[1] + b[1] + d * d * n_a * share,
                a[2] + b[2],
                a[3] + b[3],
                a[4] + weighted_d * weight_share,
                a[5] + b[5] + weighted_d * weighted_d * a[3] * weight_share,
            ]
        )
        source = np.concatenate([np.repeat(np.searchsorted(source_id, one.source_id), np.diff(one.offsets)) for one in (self, other)])
        flux, error, time = (
            np.concatenate([getattr(one, name) for one in (self, other)]) for name in ("flux_jy", "flux_err_jy", "time_mjd")
        )
        order = np.lexsort((time, source))
        offsets = np.concatenate([[0], np.cumsum(np.bincount(source, minlength=source_id.size))]).astype(np.int64)
        return Totals(source_id, n, moments, *_extremes(offsets, flux[order], error[order], time[order]))

    def indices(self) -> pd.DataFrame:
        """The table of `indices.metrics`."""
        from dsa110_assets.variability import _kernels

        n, (mean, square, variance, weight, weighted, chi2) = self.n_epochs, self.moments
        some, several = n > 0, n > 1
        pairs = np.zeros((2, self.source_id.size), dtype=np.int64)
        _kernels.largest_pairs(self.offsets, self.flux_jy, self.flux_err_jy, pairs)
        lowest, highest = (np.full(n.size, np.nan) for _ in range(2))
        lowest[some] = np.minimum.reduceat(self.flux_jy, self.offsets[:-1][some]) if some.any() else np.nan
        highest[some] = np.maximum.reduceat(self.flux_jy, self.offsets[:-1][some]) if some.any() else np.nan
        first, second = np.minimum(pairs, max(self.flux_jy.size - 1, 0)) if self.flux_jy.size else pairs
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = (square - variance) / n / mean**2
            columns = {
                "mean_flux_jy": np.where(some, mean, np.nan),
                "weighted_mean_flux_jy": np.where(some, weighted, np.nan),
                "weighted_mean_flux_err_jy": np.where(some, weight**-0.5, np.nan),
                "min_flux_jy": lowest,
                "max_flux_jy": highest,
                "eta": chi2 / (n - 1),
                "v": np.sqrt(square / (n - 1)) / mean,
                "modulation_index": np.copysign(np.sqrt(np.abs(excess)), excess),
                "chi2": chi2,
                "vs": np.nan,
                "m": np.nan,
                "chi2_probability": chdtrc(np.maximum(n - 1, 1), chi2),
                "vs_mjd_1": np.nan,
                "vs_mjd_2": np.nan,
            }
            if self.flux_jy.size:
                one, two = self.flux_jy[first], self.flux_jy[second]
                columns["vs"] = (one - two) / np.hypot(self.flux_err_jy[first], self.flux_err_jy[second])
                columns["m"] = 2.0 * (one - two) / (one + two)
                columns["vs_mjd_1"], columns["vs_mjd_2"] = self.time_mjd[first], self.time_mjd[second]
        of_one = set(columns) - {"mean_flux_jy", "weighted_mean_flux_jy", "weighted_mean_flux_err_jy", "min_flux_jy", "max_flux_jy"}
        table = pd.DataFrame({"source_id": self.source_id, "n_epochs": n})
        return table.assign(**{name: np.where(several, values, np.nan) if name in of_one else values for name, values in columns.items()})


def _on(source_id: NDArray[np.generic], one: Totals) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers and moments of these sources; 0 for sources that ``one`` does not have."""
    n, moments = np.zeros(source_id.size, dtype=np.int64), np.zeros((len(MOMENTS), source_id.size))
    at = np.searchsorted(source_id, one.source_id)
    n[at], moments[:, at] = one.n_epochs, one.moments
    return n, moments


def _extremes(
    offsets: NDArray[np.int64], flux: NDArray[np.float64], error: NDArray[np.float64], time: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    from dsa110_assets.variability import _kernels

    keep = np.zeros(flux.size, dtype=np.bool_)
    _kernels.extremes(offsets, flux, error, keep)
    return np.concatenate([[0], np.cumsum(keep)])[offsets].astype(np.int64), flux[keep], error[keep], time[keep]
