"""Ensemble normalization: the flux scale of each epoch, from many sources that are constant on average.

The caller masks sources that may not be references (extended ones, known variables).

Model: ``f_se = g_e m_s`` + noise of variance ``sigma_se^2 + (r g_e m_s)^2``. r = ``reference_scatter`` is the ordinary
variability allowed for a reference, so that a few bright sources never decide alone. This is the classical two-way fit
of ensemble photometry (Honeycutt 1992, PASP 104, 435), with Huber weights (Huber 1964) against single bad measurements.
The levels are eliminated, and the normal equations of the factors are solved in each step: alternating over g and m
would take thousands of steps where epochs hang together in a chain, as the hours of a sky that turns do. References
that vary more than the model allows are rejected and the fit is repeated. Gauge: the geometric mean of the factors is 1
within each set of epochs that share sources. A reference is divided by the factor that the *others* give, so no source
normalizes itself.

Epochs of before, whose factors no longer change, take part through their sums for each reference (`History`): in the
fit they are one more epoch, in which each reference has its mean normalized flux and the weight of all. This epoch then
sets the gauge. Sets of epochs with different gauges that the new epochs connect are merged: `Normalisation.merged` says
by which factor.

The noise of an image has a part that is the same in each epoch: confusion, and the side lobes of uncleaned sources,
which repeat when the sky is observed at the same sidereal time. Light curves do not scatter by it. ``noise_scale`` is
the part of the errors that does scatter between epochs, measured on the sources themselves: the root of the median,
over all sources, of their chi-square over the median chi-square of a constant. It is right as long as less than half of
the sources vary. With few epochs or sources it is 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.linalg import solve
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree
from scipy.special import chdtrc, chdtri

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability.lightcurves import LightCurves
from dsa110_assets.variability.totals import Totals

_HUBER = 2.0
_ITERATIONS = 200
_FEW_REFERENCES = 10
_BLOCK = 4_000_000
_NEIGHBORS = 6
_NOISE_SOURCES = 5000

LAG_DAYS = 15.0
"""Epochs this much older than the newest settle: their factors stay. A fit takes in at most twice as many days, so that
a long history is made in parts."""

SAME_SHARE = 0.02
"""A factor that moved by less than this share of its error is not written again."""

SAMPLED_SOURCES = 2500
BRIGHT_SOURCES = 80
CELL_DEG = 5.0
"""The sample that normalizes the epochs of many light curves: an even one of all sources, and the brightest cataloged
ones in each cell of right ascension and declination; see `sample_of`."""


@dataclass(frozen=True)
class NormalisationOptions:
    """Options of the fit.

    ``min_snr``: smallest mean S/N of a reference. ``min_epoch_share``: smallest share of the epochs that covered its
    position that a reference must have. ``min_references``: smallest number of references of an epoch.
    ``max_references``: use at most this many in an epoch, the best by S/N. ``reference_scatter``: fraction, see the
    module. ``reject_probability``: reject references whose chi-square is less probable than this. ``factor_range``:
    epochs with a factor outside are not usable. ``noise_epochs``, ``noise_sources``: to measure the noise between
    epochs, a source needs this many epochs, and this many such sources are needed. ``noise_range``: limits of
    ``noise_scale``.
    """

    min_snr: float = 10.0
    min_epoch_share: float = 0.5
    min_references: int = 3
    max_references: int = 500
    reference_scatter: float = 0.02
    reject_probability: float = 0.01
    factor_range: tuple[float, float] = (0.33, 3.0)
    noise_epochs: int = 8
    noise_sources: int = 50
    noise_range: tuple[float, float] = (0.5, 2.0)


@dataclass(frozen=True)
class History:
    """Sums over the epochs of before, for each reference that they had, shape (Nknown,).

    ``weight``: sum of the weights of normalized fluxes (1 / Jy^2). ``weighted_flux``: sum of weight x normalized flux
    (1 / Jy). ``gauge``: number of the set of epochs; sets share no sources. ``noise_scale``: the latest one.
    """

    source_id: NDArray[np.generic]
    weight: NDArray[np.float64]
    weighted_flux: NDArray[np.float64]
    gauge: NDArray[np.int64]
    noise_scale: float = 1.0


@dataclass(frozen=True)
class OwnFactors:
    """Factors that the references' own measurements are divided by: those that the *other* references give.

    ``source_id``, ``epoch`` (index of the epoch in the fit), ``factor``; ``weight`` of the normalized flux (1 / Jy^2)
    and ``weighted_flux`` (1 / Jy), for `History`: shape (Nown,), one entry for each measurement.
    """

    source_id: NDArray[np.generic]
    epoch: NDArray[np.int64]
    factor: NDArray[np.float64]
    weight: NDArray[np.float64]
    weighted_flux: NDArray[np.float64]


@dataclass(frozen=True)
class Normalisation:
    """The flux scale of each epoch: measured flux = ``factor`` x normalized flux.

    ``factor``, ``factor_err`` (Nepochs,): NaN if the epoch has too few references. ``n_reference`` (Nepochs,): number
    of references. ``usable`` (Nepochs,): the factor is known and within the range. ``reference`` (Nsources,):
    references of the final fit. ``epoch_name`` (Nepochs,). ``noise_scale``: factor on the errors of the fluxes; see the
    module. ``own``: factors of the references' own measurements. ``gauge`` (Nepochs,): number of the set of epochs that
    share sources; -1 without a factor. ``merged``: for each gauge of the history that became part of another one, that
    one and the factor by which its epochs' factors change.
    """

    factor: NDArray[np.float64]
    factor_err: NDArray[np.float64]
    n_reference: NDArray[np.int64]
    usable: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    epoch_name: NDArray[np.generic]
    own: OwnFactors
    noise_scale: float = 1.0
    gauge: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    merged: Mapping[int, tuple[int, float]] = field(default_factory=dict[int, tuple[int, float]])

    def epochs(self) -> pd.DataFrame:
        """One row for each epoch: ``mosaic_name, factor, factor_err, n_reference, usable, noise_scale, gauge``."""
        return pd.DataFrame(
            {
                "mosaic_name": self.epoch_name,
                "factor": self.factor,
                "factor_err": self.factor_err,
                "n_reference": self.n_reference,
                "usable": self.usable,
                "noise_scale": self.noise_scale,
                "gauge": self.gauge,
            }
        )

    def references(self) -> pd.DataFrame:
        """One row for each measurement of a reference.

        Columns: ``source_id, mosaic_name, ratio`` (own factor over the epoch's), ``weight, weighted_flux``.
        """
        ratio = self.own.factor / self.factor[self.own.epoch]
        good = np.isfinite(ratio)
        return pd.DataFrame(
            {
                "source_id": self.own.source_id[good],
                "mosaic_name": self.epoch_name[self.own.epoch[good]],
                "ratio": ratio[good],
                "weight": self.own.weight[good],
                "weighted_flux": self.own.weighted_flux[good],
            }
        )


def sample_of(sources: pd.DataFrame) -> list[int]:
    """Identifiers of the sources that normalize many light curves.

    They are the brightest cataloged ones in each part of the sky, which may become references, and an even sample of
    all, which shows the noise between epochs.

    Args:
        sources: ``source_id, ra_deg, dec_deg, reference_flux_jy`` (Jy, NaN for a source in no catalog).
    """
    cell = (sources["ra_deg"] // CELL_DEG) * 1000 + sources["dec_deg"] // CELL_DEG
    cataloged = sources.loc[sources["reference_flux_jy"].notna()].sort_values(by="reference_flux_jy", ascending=False, kind="stable")
    bright = cataloged.groupby(cell.loc[cataloged.index]).head(BRIGHT_SOURCES)["source_id"]
    return sorted({*bright.tolist(), *sources["source_id"].iloc[:: max(1, len(sources) // SAMPLED_SOURCES)].tolist()})


def window_of(time_mjd: NDArray[np.float64]) -> tuple[int, float]:
    """Number of epochs that the next fit takes in, the first ones, and the time before which they settle (MJD).

    Args:
        time_mjd: of the epochs that are not settled, ascending, shape (Nepochs,).
    """
    number = int(np.searchsorted(time_mjd, time_mjd[0] + 2 * LAG_DAYS))
    following = time_mjd[number] if number < time_mjd.size else time_mjd[-1]
    return number, float(following - LAG_DAYS)


def moved(before: pd.DataFrame, now: pd.DataFrame) -> NDArray[np.bool_]:
    """Epochs whose factor or errors have changed by more than `SAME_SHARE`, shape (Nepochs,).

    Args:
        before: ``factor, noise_scale, usable`` of the epochs.
        now: the same and ``factor_err``.
    """
    factor = before["factor"].to_numpy(float), now["factor"].to_numpy(float)
    far = np.abs(factor[1] - factor[0]) > SAME_SHARE * now["factor_err"].to_numpy(float)
    louder = np.abs(now["noise_scale"].to_numpy(float) / before["noise_scale"].to_numpy(float) - 1.0) > 0.1 * SAME_SHARE
    known = np.isfinite(factor[0]) != np.isfinite(factor[1])
    return far | louder | known | (before["usable"].to_numpy(bool) != now["usable"].to_numpy(bool))


def normalise(
    light_curves: LightCurves, *, reference: NDArray[np.bool_] | None = None, options: NormalisationOptions | None = None
) -> tuple[LightCurves, Normalisation]:
    """Remove the flux scale of each epoch; needs at least two epochs.

    Args:
        light_curves: not normalized, in Jy.
        reference: sources that may be references (compact, isolated, not known to vary), shape (Nsources,); None allows
            all.
        options: see `NormalisationOptions`.

    Returns:
        Normalized light curves and the `Normalisation`. The factors' uncertainties are added to the errors in
        quadrature, the errors are scaled to the noise between epochs, and measurements of epochs that are not usable
        are left out.

    Raises:
        LightCurveError: already normalized, one epoch only, too few references in every epoch, or an epoch whose fluxes
            differ from the others' by a factor above 100, so the units must differ.
    """
    fit = fit_normalisation(light_curves, reference=reference, options=options)
    return apply_normalisation(light_curves, fit), fit


def fit_normalisation(
    light_curves: LightCurves,
    *,
    reference: NDArray[np.bool_] | None = None,
    position_deg: NDArray[np.float64] | None = None,
    history: History | None = None,
    options: NormalisationOptions | None = None,
) -> Normalisation:
    """Find the flux scale of each epoch.

    Args:
        light_curves: may be a part of all if they include enough references.
        reference: see `normalise`.
        position_deg: right ascension and declination, shape (Nsources, 2). With it, a reference needs
            ``min_epoch_share`` of the epochs that covered its position: those in which at least half of its nearest
            neighbors were measured.
        history: of the epochs of before; they are not in ``light_curves``.
        options: see `NormalisationOptions`.

    Raises:
        LightCurveError: as for `normalise`.
    """
    chosen = options or NormalisationOptions()
    if light_curves.normalised:
        raise LightCurveError("light curves", "are normalized already", "normalize the measured fluxes only once")
    if light_curves.n_epochs < 2 and history is None:
        raise LightCurveError("light curves", f"have {light_curves.n_epochs} epoch(s), two are needed", "wait for a second epoch")
    past = _Past.of(light_curves, history)
    candidates = _candidates(light_curves, past, reference, position_deg, chosen)
    table = _ReferenceTable.of(light_curves, candidates)
    _refuse_mixed_units(light_curves, table)
    table = table.with_past(past, candidates)
    kept, fit = _fit_with_rejection(table, chosen)
    factor, error, count = fit.factors(light_curves.n_epochs, chosen)
    usable = np.isfinite(factor) & (factor > chosen.factor_range[0]) & (factor < chosen.factor_range[1])
    if not usable.any() and history is None:
        raise LightCurveError(
            "light curves",
            f"no epoch has {chosen.min_references} reference sources with S/N above {chosen.min_snr:g}",
            "measure more or brighter catalog sources, or lower min_snr",
        )
    is_reference = np.zeros(light_curves.n_sources, dtype=bool)
    is_reference[candidates[kept]] = True
    rows = np.flatnonzero(fit.used & (table.epoch < light_curves.n_epochs))
    g = fit.factor[table.epoch[rows]]
    own = OwnFactors(
        light_curves.source_id[candidates[table.source[rows]]],
        table.epoch[rows],
        fit.factors_without(rows),
        fit.weight[rows] * g**2,
        fit.weight[rows] * g * table.flux[rows],
    )
    gauge, merged = fit.gauges(past)
    gauge = np.where(np.isfinite(factor), gauge[: light_curves.n_epochs], -1)
    result = Normalisation(factor, error, count, usable, is_reference, light_curves.epoch_name, own, past.noise_scale, gauge, merged)
    return replace(result, noise_scale=_noise_between_epochs(light_curves, result, chosen))


def apply_normalisation(light_curves: LightCurves, fit: Normalisation) -> LightCurves:
    """Divide light curves by the flux scale of their epochs, from a fit to these or to other sources.

    Epochs that are not in the fit are left out.

    Raises:
        LightCurveError: already normalized.
    """
    if light_curves.normalised:
        raise LightCurveError("light curves", "are normalized already", "normalize the measured fluxes only once")
    known = pd.Index(fit.epoch_name).get_indexer(pd.Index(light_curves.epoch_name))
    fitted = known >= 0
    factor, error = (np.where(fitted, values[known], np.nan) for values in (fit.factor, fit.factor_err))
    divided = _divide(light_curves, factor, error, fitted & fit.usable[known], _ReferenceFactors.of(light_curves, fit, known))
    if fit.noise_scale != 1.0:
        np.multiply(divided.flux_err_jy, fit.noise_scale, out=divided.flux_err_jy)
    return divided


def _noise_between_epochs(light_curves: LightCurves, fit: Normalisation, options: NormalisationOptions) -> float:
    """``noise_scale`` of the sources with enough epochs; see the module. The fit's own if it cannot be measured."""
    often = np.flatnonzero(light_curves.counts >= options.noise_epochs)
    if often.size < options.noise_sources:
        return fit.noise_scale
    some = light_curves.select(often[:: max(1, often.size // _NOISE_SOURCES)])
    sample = apply_normalisation(some, replace(fit, noise_scale=1.0))
    chi2 = Totals.of(sample).chi2
    seen = sample.counts > 1
    if seen.sum() < options.noise_sources:
        return fit.noise_scale
    ratio = chi2[seen] / chdtri(sample.counts[seen] - 1.0, 0.5)
    return float(np.clip(np.sqrt(np.median(ratio)), *options.noise_range))


def _candidates(
    light_curves: LightCurves,
    past: _Past,
    reference: NDArray[np.bool_] | None,
    position_deg: NDArray[np.float64] | None,
    options: NormalisationOptions,
) -> NDArray[np.intp]:
    """Indices of sources that may be references, shape (Ncandidates,).

    In at least half of its epochs, such a source is among the ``max_references`` best by S/N.
    """
    allowed = np.ones(light_curves.n_sources, dtype=bool) if reference is None else np.asarray(reference, dtype=bool)
    if allowed.size != light_curves.n_sources:
        raise LightCurveError(
            "reference mask", f"has {allowed.size} entries for {light_curves.n_sources} sources", "give one entry for each source"
        )
    counts = light_curves.counts
    snr = np.zeros(light_curves.n_sources)
    some = counts > 0
    if some.any():
        start = light_curves.offsets[:-1][some]
        snr[some] = np.add.reduceat(light_curves.flux_jy, start) / np.add.reduceat(light_curves.flux_err_jy, start)
    good = np.flatnonzero(allowed & (counts + past.known >= 2) & (counts > 0) & (snr >= options.min_snr))
    table = _ReferenceTable.of(light_curves, good)
    if position_deg is not None:
        good = good[_covered_share(table, position_deg[good]) >= options.min_epoch_share]
        table = _ReferenceTable.of(light_curves, good)
    order = np.lexsort((-snr[good][table.source], table.epoch))
    first = np.searchsorted(table.epoch[order], table.epoch[order])
    best = np.empty(order.size, dtype=bool)
    best[order] = np.arange(order.size) - first < options.max_references
    return good[2 * np.bincount(table.source[best], minlength=good.size) >= counts[good]]


def _covered_share(table: _ReferenceTable, position_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the epochs that covered a source's position in which it was measured, shape (Nsources,).

    An epoch covered a position if at least half of its nearest neighbors were measured.
    """
    n = table.n_sources
    if n <= _NEIGHBORS:
        return np.ones(n)
    ra, dec = np.radians(position_deg).T  # not with `common.directions`: its whole code would count as the light curves'
    direction = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    near = cKDTree(direction).query(direction, k=_NEIGHBORS + 1)[1][:, 1:]
    measured = csr_array((np.ones(table.source.size), (table.source, table.epoch)), shape=(n, table.n_epochs))
    ones = np.ones(near.size)
    neighbors = csr_array((ones, (np.repeat(np.arange(n), _NEIGHBORS), near.ravel())), shape=(n, n)) @ measured
    covered = csr_array(neighbors >= 0.5 * _NEIGHBORS, dtype=np.float64)
    share = np.asarray((covered * measured).sum(axis=1)).ravel() / np.maximum(np.asarray(covered.sum(axis=1)).ravel(), 1.0)
    return np.where(np.asarray(covered.sum(axis=1)).ravel() > 0, share, 1.0)


@dataclass(frozen=True)
class _Past:
    """The history of the sources of light curves, shape (Nsources,).

    ``known``: there is one. ``level``: mean normalized flux (Jy), ``weight`` (1 / Jy^2); ``gauge``: index in ``names``.
    """

    known: NDArray[np.bool_]
    level: NDArray[np.float64]
    weight: NDArray[np.float64]
    gauge: NDArray[np.int64]
    names: NDArray[np.int64]
    noise_scale: float

    @classmethod
    def of(cls, light_curves: LightCurves, history: History | None) -> _Past:
        n = light_curves.n_sources
        if history is None or history.source_id.size == 0:
            none = np.zeros(n, dtype=np.int64)
            return cls(none > 0, np.ones(n), np.zeros(n), none, none[:0], 1.0 if history is None else history.noise_scale)
        place = pd.Index(history.source_id).get_indexer(pd.Index(light_curves.source_id))
        known = (place >= 0) & (history.weight[place] > 0.0)
        names, gauge = np.unique(history.gauge, return_inverse=True)
        weight = np.where(known, history.weight[place], 0.0)
        level = np.where(known, history.weighted_flux[place] / np.where(known, weight, 1.0), 1.0)
        return cls(known, level, weight, np.where(known, gauge[place], 0), names, history.noise_scale)


def _connected(source: NDArray[np.int64], epoch: NDArray[np.int64], n_sources: int, n_epochs: int) -> NDArray[np.int64]:
    """Component of each source, then of each epoch, in the graph of measurements; shape (n_sources + n_epochs,)."""
    n = n_sources + n_epochs
    graph = coo_array((np.ones(source.size, dtype=np.int8), (source, n_sources + epoch)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


@dataclass(frozen=True)
class _ReferenceTable:
    """Measurements of the candidates, shape (Nref,). ``measurement``: index in the light curves.

    Epochs from ``n_new`` on are those of before, one for each gauge; see `History`.
    """

    measurement: NDArray[np.intp]
    source: NDArray[np.int64]
    epoch: NDArray[np.int64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    n_sources: int
    n_epochs: int
    n_new: int

    @property
    def is_past(self) -> NDArray[np.bool_]:
        """Measurements of the epochs of before, shape (Nref,)."""
        return self.epoch >= self.n_new

    def with_past(self, past: _Past, candidates: NDArray[np.intp]) -> _ReferenceTable:
        """Add the epochs of before: for each gauge one epoch, after the others."""
        known = np.flatnonzero(past.known[candidates])
        here = candidates[known]
        return _ReferenceTable(
            np.concatenate([self.measurement, np.full(known.size, -1)]),
            np.concatenate([self.source, known]),
            np.concatenate([self.epoch, self.n_epochs + past.gauge[here]]),
            np.concatenate([self.flux, past.level[here]]),
            np.concatenate([self.error, 1.0 / np.sqrt(past.weight[here])]),
            self.n_sources,
            self.n_epochs + past.names.size,
            self.n_new,
        )

    @classmethod
    def of(cls, light_curves: LightCurves, candidates: NDArray[np.intp]) -> _ReferenceTable:
        length = light_curves.counts[candidates]
        source = np.repeat(np.arange(candidates.size), length)
        within = np.arange(source.size) - np.repeat(np.concatenate([[0], np.cumsum(length)[:-1]]), length) if source.size else source
        picked = light_curves.offsets[:-1][candidates][source] + within
        return cls(
            picked,
            source,
            light_curves.epoch[picked].astype(np.int64),
            light_curves.flux_jy[picked],
            light_curves.flux_err_jy[picked],
            candidates.size,
            light_curves.n_epochs,
            light_curves.n_epochs,
        )


def _group_median(value: NDArray[np.float64], group: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    order = np.lexsort((value, group))
    count = np.bincount(group, minlength=n)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    result = np.full(n, np.nan)
    some = count > 0
    low, high = start[some] + (count[some] - 1) // 2, start[some] + count[some] // 2
    result[some] = 0.5 * (value[order][low] + value[order][high])
    return result


def _refuse_mixed_units(light_curves: LightCurves, table: _ReferenceTable) -> None:
    """Refuse an epoch whose fluxes differ from the others' by a factor above 100: a wrong unit, not a gain drift."""
    level = _group_median(table.flux, table.source, table.n_sources)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _group_median(np.abs(table.flux / level[table.source]), table.epoch, table.n_epochs)
        wrong = np.flatnonzero((ratio > 100.0) | (ratio < 0.01))
        spread = np.nanmax(ratio) / np.nanmin(ratio) if np.isfinite(ratio).any() else 1.0
    if wrong.size or spread > 100.0:
        worst = int(wrong[0]) if wrong.size else int(np.nanargmax(ratio))
        raise LightCurveError(
            f"epoch {light_curves.epoch_name[worst]}",
            f"fluxes differ from other epochs by a factor of {max(spread, ratio[worst]):.0f}",
            "convert all fluxes to Jy; the units differ (mJy?), because no gain drifts that much",
        )


@dataclass(frozen=True)
class _Fit:
    """Solution of the two-way fit.

    ``level`` (Nsources,), ``factor`` (Nepochs,), ``component`` (Nepochs,): set of epochs that share sources;
    ``weight`` and ``used`` (Nref,). Epochs and measurements include those of before.
    """

    table: _ReferenceTable
    level: NDArray[np.float64]
    factor: NDArray[np.float64]
    component: NDArray[np.int64]
    weight: NDArray[np.float64]
    used: NDArray[np.bool_]

    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        model = np.where(self.used, self.level[self.table.source], 0.0)
        weight = np.where(self.used, self.weight, 0.0)
        upper = np.bincount(self.table.epoch, weight * self.table.flux * model, self.table.n_epochs).astype(np.float64)
        lower = np.bincount(self.table.epoch, weight * model**2, self.table.n_epochs).astype(np.float64)
        return upper, lower, model.astype(np.float64)

    def leverage(self) -> NDArray[np.float64]:
        """Share of each measurement in the weight of its source's level, shape (Nref,)."""
        weight = np.where(self.used, self.weight * np.nan_to_num(self.factor)[self.table.epoch] ** 2, 0.0)
        total = np.bincount(self.table.source, weight, self.table.n_sources)
        return weight / np.where(total > 0.0, total, 1.0)[self.table.source]

    def factors(self, n_epochs: int, options: NormalisationOptions) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Factor, its error and the number of references of the first epochs, shape (n_epochs,).

        The error is the sandwich estimate from the residuals (White 1980, Econometrica 48, 817), corrected for the
        degrees of freedom of levels and factors. With few references it is at least the one that follows from the
        measurement errors.
        """
        table = self.table
        upper, lower, model = self._sums()
        weight = np.where(self.used, self.weight, 0.0)
        residual = np.where(self.used, table.flux - model * self.factor[table.epoch], 0.0)
        count = np.bincount(table.epoch[self.used], minlength=table.n_epochs)
        share = np.where(self.used, 1.0 / np.maximum(1.0 - self.leverage(), 0.05), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            measured = (
                np.bincount(table.epoch, (weight * model * residual) ** 2 * share, table.n_epochs)
                / lower**2
                * (count / np.maximum(count - 1.0, 1.0))
            )
            formal = np.bincount(table.epoch, (weight * model * table.error) ** 2, table.n_epochs) / lower**2
            factor = np.where(count >= options.min_references, upper / lower, np.nan)
        variance = np.where(count >= _FEW_REFERENCES, measured, np.maximum(measured, formal))
        error = np.where(np.isfinite(factor), np.sqrt(variance), np.nan)
        return factor[:n_epochs], error[:n_epochs], count[:n_epochs].astype(np.int64)

    def factors_without(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Factor of each row's epoch, from all references but the row's own."""
        upper, lower, model = self._sums()
        epoch, weight = self.table.epoch[rows], np.where(self.used, self.weight, 0.0)[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (upper[epoch] - weight * self.table.flux[rows] * model[rows]) / (lower[epoch] - weight * model[rows] ** 2)

    def gauges(self, past: _Past) -> tuple[NDArray[np.int64], dict[int, tuple[int, float]]]:
        """Gauge of each epoch, and the gauges of before that were merged; see `Normalisation`.

        A set of epochs has the gauge of its history's largest part, or a new one.
        """
        n_new = self.table.n_new
        fresh = int(past.names.max(initial=-1)) + 1
        name = fresh + np.unique(self.component, return_inverse=True)[1].astype(np.int64)
        merged: dict[int, tuple[int, float]] = {}
        for k, own in enumerate(past.names.tolist()):
            if not np.isfinite(self.factor[n_new + k]):  # it has no part in this fit
                continue
            target = int(past.names[self.anchor(int(self.component[n_new + k])) - n_new])
            name[self.component == self.component[n_new + k]] = target
            if target != own:
                merged[own] = (target, float(self.factor[n_new + k]))
        return name, merged

    def anchor(self, component: int) -> int:
        """Index of the epoch of before that has most weight in a set of epochs; -1 if it has none."""
        n_new = self.table.n_new
        weight = np.where(self.used, self.weight * self.level[self.table.source] ** 2, 0.0)
        total = np.bincount(self.table.epoch, weight, self.table.n_epochs)[n_new:]
        inside = (self.component[n_new:] == component) & (total > 0.0)
        return n_new + int(np.argmax(np.where(inside, total, 0.0))) if inside.any() else -1


def _fit_with_rejection(table: _ReferenceTable, options: NormalisationOptions) -> tuple[NDArray[np.bool_], _Fit]:
    kept = np.ones(table.n_sources, dtype=bool)
    fit = _fit(table, kept, options)
    for _ in range(10):
        variance = table.error**2 + (options.reference_scatter * fit.level[table.source] * fit.factor[table.epoch]) ** 2
        deviation = (table.flux - fit.level[table.source] * fit.factor[table.epoch]) ** 2 / variance
        usable = fit.used & np.isfinite(deviation) & ~table.is_past
        chi2 = np.bincount(table.source[usable], deviation[usable], table.n_sources)
        freedom = np.bincount(table.source[usable], 1.0 - fit.leverage()[usable], table.n_sources)
        variable = kept & ((chdtrc(np.maximum(freedom, 0.5), chi2) < options.reject_probability) | (freedom < 0.01))
        if not variable.any() or kept.sum() - variable.sum() < options.min_references:
            break
        limit = max(1, int(0.2 * kept.sum()))  # the worst first: they distort factors and make others look variable
        worst = np.flatnonzero(variable)[np.argsort(-(chi2 / np.maximum(freedom, 1))[variable], kind="stable")][:limit]
        kept[worst] = False
        fit = _fit(table, kept, options, fit)
    return kept, fit


def _fit(table: _ReferenceTable, kept: NDArray[np.bool_], options: NormalisationOptions, start: _Fit | None = None) -> _Fit:
    n_sources, n_epochs = table.n_sources, table.n_epochs
    if start is None:
        used = kept[table.source]
        level = _group_median(table.flux[used], table.source[used], n_sources)
        factor = _group_median(table.flux[used] / level[table.source[used]], table.epoch[used], n_epochs)
    else:
        level, factor = start.level, start.factor
    factor = np.where(factor > 0.0, factor, np.nan)
    used = kept[table.source] & np.isfinite(level[table.source]) & np.isfinite(factor[table.epoch])
    source, epoch, flux, error, is_past = table.source[used], table.epoch[used], table.flux[used], table.error[used], table.is_past[used]
    component = _connected(source, epoch, n_sources, n_epochs)[n_sources:]
    weight = np.ones(flux.size)
    for _ in range(_ITERATIONS):
        model = level[source] * factor[epoch]
        variance = error**2 + np.where(is_past, 0.0, (options.reference_scatter * model) ** 2)
        scaled = np.where(is_past, 0.0, np.abs(flux - model) / np.sqrt(variance))
        weight = np.minimum(1.0, _HUBER / np.maximum(scaled, 1e-12)) / variance
        step = _step(source, epoch, weight, flux, level[source], factor[epoch], component, n_sources)
        factor = factor * np.exp(np.clip(step, -0.5, 0.5))
        with np.errstate(divide="ignore", invalid="ignore"):
            g = factor[epoch]
            level = np.bincount(source, weight * flux * g, n_sources) / np.bincount(source, weight * g**2, n_sources)
        if np.abs(step).max(initial=0.0) < 1e-7:
            break
    full = np.zeros(table.flux.size)
    full[used] = weight
    present = np.bincount(epoch, minlength=n_epochs) > 0
    fit = _Fit(table, level, np.where(present, factor, np.nan), component, full, used)
    return _in_gauge(fit)


def _step(
    source: NDArray[np.int64],
    epoch: NDArray[np.int64],
    weight: NDArray[np.float64],
    flux: NDArray[np.float64],
    level: NDArray[np.float64],
    factor: NDArray[np.float64],
    component: NDArray[np.int64],
    n_sources: int,
) -> NDArray[np.float64]:
    """Step of the logarithms of the factors towards the least squares, with the levels eliminated, shape (Nepochs,).

    Arrays of measurements have the shape (Nref,). The mean step of each set of epochs, which only the gauge decides, is
    zero.
    """
    n_epochs = component.size
    model = level * factor
    residual = flux - model
    of_level = np.bincount(source, weight * factor**2, n_sources)
    per_level = 1.0 / np.where(of_level > 0.0, of_level, 1.0)
    coupling = csr_array((weight * factor * model, (epoch, source)), shape=(n_epochs, n_sources))
    matrix = -(coupling.multiply(per_level[None, :]).tocsr() @ coupling.T).toarray()
    diagonal = np.bincount(epoch, weight * model**2, n_epochs)
    right = np.bincount(epoch, weight * model * residual, n_epochs) - coupling @ (
        per_level * np.bincount(source, weight * factor * residual, n_sources)
    )
    at = np.flatnonzero(diagonal > 0.0)
    matrix[np.arange(n_epochs), np.arange(n_epochs)] += diagonal
    step = np.zeros(n_epochs)
    if not at.size:
        return step
    matrix, label = matrix[np.ix_(at, at)], component[at]
    members = np.bincount(label)[label]
    matrix += np.where(label[:, None] == label[None, :], diagonal[at].mean() / members, 0.0)  # the mean of each set
    step[at] = solve(matrix, right[at], assume_a="pos")
    return step


def _in_gauge(fit: _Fit) -> _Fit:
    """Scale each set of epochs: the history's largest part has the factor 1, else the geometric mean of the factors."""
    present = np.isfinite(fit.factor)
    scale = np.ones(int(fit.component.max(initial=0)) + 1)
    for one in np.unique(fit.component[present]).tolist():
        anchor = fit.anchor(one)
        scale[one] = fit.factor[anchor] if anchor >= 0 else np.exp(np.log(fit.factor[present & (fit.component == one)]).mean())
    of_level = np.ones(fit.table.n_sources)
    of_level[fit.table.source[fit.used]] = scale[fit.component[fit.table.epoch[fit.used]]]
    return replace(fit, factor=fit.factor / scale[fit.component], level=fit.level * of_level)


@dataclass(frozen=True)
class _ReferenceFactors:
    """Factors of the references' own measurements. ``measurement``: ascending index in the light curves."""

    measurement: NDArray[np.intp]
    factor: NDArray[np.float64]

    @classmethod
    def of(cls, light_curves: LightCurves, fit: Normalisation, known: NDArray[np.intp]) -> _ReferenceFactors:
        """Select the fit's own factors whose measurements are in the light curves.

        ``known``: index in the fit of each epoch, -1 for none.
        """
        n_epochs = fit.epoch_name.size
        position = pd.Index(light_curves.source_id).get_indexer(pd.Index(fit.own.source_id))
        here = position >= 0
        key = position[here].astype(np.int64) * n_epochs + fit.own.epoch[here]
        order = np.argsort(key, kind="stable")
        key, factor = key[order], fit.own.factor[here][order]
        sources = np.unique(position[here]).astype(np.intp)
        table = _ReferenceTable.of(light_curves, sources)
        epoch = known[table.epoch]
        wanted = sources[table.source].astype(np.int64) * n_epochs + epoch
        place = np.minimum(np.searchsorted(key, wanted), max(key.size - 1, 0))
        found = (epoch >= 0) & (key[place] == wanted) if key.size else np.zeros(wanted.size, dtype=bool)
        return cls(table.measurement[found], factor[place[found]])


def _divide(
    light_curves: LightCurves,
    factor: NDArray[np.float64],
    factor_err: NDArray[np.float64],
    usable: NDArray[np.bool_],
    references: _ReferenceFactors,
) -> LightCurves:
    """Divide light curves by factors, in blocks: memory beyond input and output does not grow with their number."""
    n = light_curves.flux_jy.size
    flux, error, keep = np.empty(n), np.empty(n), np.empty(n, dtype=bool)
    for begin in range(0, n, _BLOCK):
        block = slice(begin, min(begin + _BLOCK, n))
        epoch = light_curves.epoch[block]
        scale = factor[epoch]
        first, last = np.searchsorted(references.measurement, [block.start, block.stop])
        scale[references.measurement[first:last] - begin] = references.factor[first:last]
        keep[block] = usable[epoch] & np.isfinite(scale) & (scale > 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            flux[block] = light_curves.flux_jy[block] / scale
            error[block] = np.hypot(light_curves.flux_err_jy[block], flux[block] * factor_err[epoch]) / scale
    if keep.all():
        return replace(light_curves, flux_jy=flux, flux_err_jy=error, normalised=True)
    kept_before = np.concatenate([[0], np.cumsum(keep)])
    return replace(
        light_curves,
        offsets=kept_before[light_curves.offsets].astype(np.int64),
        epoch=light_curves.epoch[keep],
        flux_jy=flux[keep],
        flux_err_jy=error[keep],
        is_limit=light_curves.is_limit[keep],
        normalised=True,
    )
