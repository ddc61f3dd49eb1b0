"""Search for extreme scattering events: a score with a stated false-alarm rate, from two epochs on.

Belongs here: the test statistic, its false-alarm probability, the table of candidates. Does not belong here: plots, labels.

For each source and each run ("window") of 1, 2, 4, ... consecutive epochs, at most a third of them, the statistic is

    z = (F_W - B) / sqrt(sigma_W^2 + q^2 + sigma_B^2)

``F_W``: weighted mean flux of the window and ``sigma_W`` its error from the *measurement* errors. ``B``: weighted mean of the epochs
outside the window (the tested epochs never enter their own baseline) that lie within 3 sigma of the median, with error
``sigma_B``. ``q``: ordinary variability, ``ordinary_variability`` times the median flux, or, from 8 epochs on, the source's
own robust scatter beyond its errors where that is larger. An ESE must stand out against how this source and sources in general
behave; with q = 0 every bright scintillator would. (Significance in units of the series' own standard deviation, pitfall 18, cannot
exceed (N - 1) / sqrt(N); z has no such limit, because median and MAD do not feel the event.) With two epochs and no
catalogue flux, z = (f_1 - f_2) / sqrt(sigma_1^2 + sigma_2^2 + 2 q^2). From 8 epochs on each window is also tested for the caustic shape, a dip
between two bright epochs: (|z| + z_left + z_right) / sqrt(3).

False alarms: under the null hypothesis (constant flux, Gaussian errors and ordinary variability) each z is N(0, 1).
With T tests on *all* sources of the table the probability that any of them exceeds |z| is at most
``1 - (1 - 2 Q(|z|))^T`` (Sidak 1967), Q the Gaussian tail. ``score`` is the |z| of a *single* test with that
probability: score 5 means that one such list in 1.7 million has a false candidate of this strength. Overlapping windows are
correlated, so the true rate is below the stated one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri_exp

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability.lightcurves import LightCurves

_SUSPECT_SHARE = 0.05
_SUSPECT_SOURCES = 3


@dataclass(frozen=True)
class EseOptions:
    """``ordinary_variability``: modulation index granted to every source (refractive scintillation at 1.4 GHz: a few per cent).

    ``catalogue_error``: fraction of the catalogue flux added to its error (other beam, other decade, spectral index) where
    catalogue fluxes join the baseline.
    """

    ordinary_variability: float = 0.05
    catalogue_error: float = 0.15


def ese_scores(
    light_curves: LightCurves,
    *,
    catalogue_flux_jy: NDArray[np.float64] | None = None,
    catalogue_flux_err_jy: NDArray[np.float64] | None = None,
    options: EseOptions | None = None,
) -> pd.DataFrame:
    """Most significant event of each source.

    Args:
        light_curves: normalised.
        catalogue_flux_jy: flux of each source in another survey at the same frequency, shape (Nsources,), NaN where unknown;
            one more point of the baseline, never tested itself. It matters with few epochs, and for events that last as long as the data.
        catalogue_flux_err_jy: its error; ``catalogue_error`` is added.
        options: see `EseOptions`.

    Returns:
        One row for each source in the order of ``light_curves.source_id``: ``source_id, n_epochs, score``,
        ``significance`` (|z|, before trials), ``false_alarm_probability`` (among all sources and epochs), ``depth``
        (1 - F_W / B: 0.5 is a dip to half, negative a brightening), ``kind`` (``dip``, ``caustic`` or ``brightening``), ``epoch_mjd``
        (middle of the window), ``epoch_name`` (first of the window), ``event_epochs, duration_d`` (to the midpoints between the
        window and its neighbours), ``baseline_jy, event_flux_jy, ordinary_variability, suspect_epoch`` (more
        than 5 % of all sources deviate by 3 sigma in that epoch), ``reasons``. NaN and score 0 where there is nothing to compare.
        For these columns the window is widened over neighbouring epochs that share at least half of the depth. ``attrs["trials"]``:
        number of tests on all sources.

    Raises:
        LightCurveError: not normalised, or catalogue fluxes of another length.
    """
    search = EventSearch(options)
    search.add(light_curves, catalogue_flux_jy=catalogue_flux_jy, catalogue_flux_err_jy=catalogue_flux_err_jy)
    return search.scores()


class EventSearch:
    """The search over light curves that come in parts, so that memory does not grow with the number of measurements.

    The trials, and the epochs in which many sources deviate, are counted over all parts; a source belongs to one part.
    """

    def __init__(self, options: EseOptions | None = None) -> None:
        self._options = options or EseOptions()
        self._parts: list[pd.DataFrame] = []
        self._tests: dict[object, int] = {}
        self._outliers: dict[object, int] = {}

    def add(
        self,
        light_curves: LightCurves,
        *,
        catalogue_flux_jy: NDArray[np.float64] | None = None,
        catalogue_flux_err_jy: NDArray[np.float64] | None = None,
    ) -> None:
        """Search one part; arguments as in `ese_scores`."""
        from dsa110_assets.variability import _kernels

        light_curves.require_normalised("the ESE score")
        n = light_curves.n_sources
        catalogue, catalogue_err = _catalogue(n, catalogue_flux_jy, catalogue_flux_err_jy, self._options)
        out = np.full((9, n), np.nan)
        tests, outliers = np.zeros(light_curves.n_epochs, dtype=np.int64), np.zeros(light_curves.n_epochs, dtype=np.int64)
        _kernels.events(
            light_curves.offsets,
            light_curves.flux_jy,
            light_curves.flux_err_jy,
            light_curves.epoch,
            catalogue,
            catalogue_err,
            self._options.ordinary_variability,
            out,
            tests,
            outliers,
        )
        z, start, length, baseline, event, shape, trials, intrinsic, level = out
        for name, tested, deviating in zip(light_curves.epoch_name.tolist(), tests.tolist(), outliers.tolist(), strict=True):
            self._tests[name] = self._tests.get(name, 0) + tested
            self._outliers[name] = self._outliers.get(name, 0) + deviating
        middle, name_index, duration = _windows(light_curves, start, length)
        names = light_curves.epoch_name.astype(object)
        with np.errstate(divide="ignore", invalid="ignore"):
            depth, ordinary = 1.0 - event / baseline, np.sqrt(intrinsic) / np.abs(level)
        self._parts.append(
            pd.DataFrame(
                {
                    "source_id": light_curves.source_id,
                    "n_epochs": light_curves.counts,
                    "significance": np.abs(z),
                    "depth": depth,
                    "kind": np.select([~np.isfinite(z), shape > 0.5, z < 0.0], ["none", "caustic", "dip"], default="brightening"),
                    "epoch_mjd": middle,
                    "epoch_name": pd.Series([names[i] if i >= 0 else None for i in name_index], dtype=object),
                    "event_epochs": np.nan_to_num(length).astype(np.int64),
                    "duration_d": duration,
                    "baseline_jy": baseline,
                    "event_flux_jy": event,
                    "ordinary_variability": ordinary,
                    "trials": trials,
                }
            )
        )

    def scores(self) -> pd.DataFrame:
        """The table of `ese_scores` over all parts, in the order in which they came."""
        table = pd.concat(self._parts, ignore_index=True)
        total = float(np.nansum(table.pop("trials").to_numpy()))
        score, probability = trials_corrected(table["significance"].to_numpy(), total)
        table.insert(2, "score", score)
        table.insert(4, "false_alarm_probability", probability)
        suspect = {
            name
            for name, tested in self._tests.items()
            if self._outliers[name] >= _SUSPECT_SOURCES and self._outliers[name] > _SUSPECT_SHARE * tested
        }
        table["suspect_epoch"] = table["epoch_name"].isin(list(suspect))
        table.attrs["trials"] = total
        table["reasons"] = [_reasons(row) if row.significance > 3.0 else "" for row in table.itertuples(index=False)]
        return table


def ese_candidates(scores: pd.DataFrame, *, min_score: float = 5.0) -> pd.DataFrame:
    """Rows of `ese_scores` with at least ``min_score``, best first, with ``rank`` from 1."""
    found = (
        scores.loc[scores["score"] >= min_score]
        .sort_values(["score", "significance"], ascending=False, kind="stable")
        .reset_index(drop=True)
    )
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found


def trials_corrected(significance: NDArray[np.float64], trials: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(score, false-alarm probability) of the strongest |z| among ``trials`` two-sided Gaussian tests; exact far into the tail."""
    z = np.nan_to_num(np.asarray(significance, dtype=np.float64))
    log_single = np.minimum(np.log(2.0) + log_ndtr(-z), 0.0)
    single = np.exp(log_single)
    small = single * max(trials, 1.0) < 1e-8
    with np.errstate(divide="ignore"):
        log_any = np.where(
            small, log_single + np.log(max(trials, 1.0)), np.log(-np.expm1(max(trials, 1.0) * np.log1p(-np.minimum(single, 1.0))))
        )
    log_any = np.minimum(log_any, 0.0)
    return np.maximum(-ndtri_exp(log_any - np.log(2.0)), 0.0), np.exp(log_any)


def _catalogue(
    n: int, flux: NDArray[np.float64] | None, error: NDArray[np.float64] | None, options: EseOptions
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if flux is None:
        return np.full(n, np.nan), np.full(n, np.nan)
    given = np.asarray(flux, dtype=np.float64)
    given_error = np.zeros(n) if error is None else np.nan_to_num(np.asarray(error, dtype=np.float64))
    if given.shape != (n,) or given_error.shape != (n,):
        raise LightCurveError(
            "catalogue fluxes", f"shape {given.shape} for {n} sources", "give one flux for each source, NaN where unknown"
        )
    return given, np.hypot(given_error, options.catalogue_error * given)


def _windows(
    light_curves: LightCurves, start: NDArray[np.float64], length: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Middle (MJD), index of the first epoch (-1 for none) and duration (d) of each source's window."""
    n = light_curves.n_sources
    middle, duration, first_epoch = np.full(n, np.nan), np.full(n, np.nan), np.full(n, -1, dtype=np.int64)
    some = np.flatnonzero(np.isfinite(start))
    if not some.size:
        return middle, first_epoch, duration
    low, high = light_curves.offsets[:-1][some], light_curves.offsets[1:][some] - 1
    first = low + start[some].astype(np.int64)
    last = first + length[some].astype(np.int64) - 1
    time = light_curves.time_mjd
    begin = np.where(first > low, 0.5 * (time[first] + time[np.maximum(first - 1, 0)]), time[first])
    end = np.where(last < high, 0.5 * (time[last] + time[np.minimum(last + 1, time.size - 1)]), time[last])
    middle[some], duration[some], first_epoch[some] = 0.5 * (time[first] + time[last]), end - begin, light_curves.epoch[first]
    return middle, first_epoch, duration


def _reasons(row: object) -> str:
    """What an astronomer would say about the event, for the candidate list."""
    get = row.__getattribute__
    change = f"{'fades' if get('depth') > 0 else 'brightens'} by {abs(100 * get('depth')):.0f} % to {1e3 * get('event_flux_jy'):.4g} mJy"
    texts = [
        f"{change} in {get('event_epochs')} of {get('n_epochs')} epochs ({get('duration_d'):.2g} d)",
        f"{get('significance'):.1f} sigma against a baseline of {1e3 * get('baseline_jy'):.4g} mJy and {100 * get('ordinary_variability'):.0f} % ordinary variability",
        f"false-alarm probability {get('false_alarm_probability'):.2g} in the whole list",
    ]
    if get("kind") == "caustic":
        texts.append("bright epochs on both sides of the dip, as caustics make")
    if get("suspect_epoch"):
        texts.append("many sources deviate in this epoch: check its calibration first")
    return "; ".join(texts)
