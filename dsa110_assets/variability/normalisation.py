"""Ensemble normalization: the flux scale of each epoch, from many sources that are constant on average.

The caller masks sources that may not be references (extended ones, known variables).

Model: ``f_se = g_e m_s`` + noise of variance ``sigma_se^2 + (r g_e m_s)^2``. r = ``reference_scatter`` is the ordinary
variability allowed for a reference, so that a few bright sources never decide alone. The least-squares solution is
found by alternating over g and m: each step is a weighted mean (the classical two-way fit of ensemble photometry,
Honeycutt 1992, PASP 104, 435), with Huber weights (Huber 1964) against single bad measurements. References that vary
more than the model allows are rejected and the fit is repeated. Gauge: the geometric mean of the factors is 1 within
each set of epochs that share sources. A reference is divided by the factor that the *others* give, so no source
normalizes itself.

The noise of an image has a part that is the same in each epoch: confusion, and the side lobes of uncleaned sources,
which repeat when the sky is observed at the same sidereal time. Light curves do not scatter by it. ``noise_scale`` is
the part of the errors that does scatter between epochs, measured on the sources themselves: the root of the median,
over all sources, of their chi-square over the median chi-square of a constant. It is right as long as less than half of
the sources vary. With few epochs or sources it is 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.special import chdtrc, chdtri

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability.lightcurves import LightCurves
from dsa110_assets.variability.totals import Totals

_HUBER = 2.0
_ITERATIONS = 200
_FEW_REFERENCES = 10
_BLOCK = 4_000_000
_NOISE_SOURCES = 5000

SAMPLED_SOURCES = 2500
"""Sources of each kind in the sample that normalizes the epochs of many light curves; see `sample_of`."""


@dataclass(frozen=True)
class NormalisationOptions:
    """Options of the fit.

    ``min_snr``: smallest mean S/N of a reference. ``min_epoch_share``: smallest share of its field's epochs that a
    reference must have. ``min_references``: smallest number of references of an epoch. ``max_references``: use at most
    this many, the best by S/N. ``reference_scatter``: fraction, see the module. ``reject_probability``: reject
    references whose chi-square is less probable than this. ``factor_range``: epochs with a factor outside are not
    usable. ``noise_epochs``, ``noise_sources``: to measure the noise between epochs, a source needs this many epochs,
    and this many such sources are needed. ``noise_range``: limits of ``noise_scale``.
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
class OwnFactors:
    """Factors that the references' own measurements are divided by: those that the *other* references give.

    ``source_id``, ``epoch`` (index of the epoch in the fit), ``factor``: shape (Nown,), one entry for each measurement.
    """

    source_id: NDArray[np.generic]
    epoch: NDArray[np.int64]
    factor: NDArray[np.float64]


@dataclass(frozen=True)
class Normalisation:
    """The flux scale of each epoch: measured flux = ``factor`` x normalized flux.

    ``factor``, ``factor_err`` (Nepochs,): NaN if the epoch has too few references. ``n_reference`` (Nepochs,): number
    of references. ``usable`` (Nepochs,): the factor is known and within the range. ``reference`` (Nsources,):
    references of the final fit. ``epoch_name`` (Nepochs,). ``noise_scale``: factor on the errors of the fluxes; see the
    module. ``own``: factors of the references' own measurements.
    """

    factor: NDArray[np.float64]
    factor_err: NDArray[np.float64]
    n_reference: NDArray[np.int64]
    usable: NDArray[np.bool_]
    reference: NDArray[np.bool_]
    epoch_name: NDArray[np.generic]
    own: OwnFactors
    noise_scale: float = 1.0

    def epochs(self) -> pd.DataFrame:
        """One row for each epoch: ``mosaic_name, factor, factor_err, n_reference, usable, noise_scale``."""
        return pd.DataFrame(
            {
                "mosaic_name": self.epoch_name,
                "factor": self.factor,
                "factor_err": self.factor_err,
                "n_reference": self.n_reference,
                "usable": self.usable,
                "noise_scale": self.noise_scale,
            }
        )

    def references(self) -> pd.DataFrame:
        """One row for each measurement of a reference: ``source_id, mosaic_name, ratio`` (own factor over epoch's)."""
        ratio = self.own.factor / self.factor[self.own.epoch]
        good = np.isfinite(ratio)
        names = self.epoch_name[self.own.epoch[good]]
        return pd.DataFrame({"source_id": self.own.source_id[good], "mosaic_name": names, "ratio": ratio[good]})


def sample_of(sources: pd.DataFrame) -> list[int]:
    """Identifiers of the sources that normalize many light curves.

    They are the brightest cataloged ones, which may become references, and an even sample of all, which shows the noise
    between epochs.

    Args:
        sources: ``source_id, reference_flux_jy`` (Jy, NaN for a source in no catalog).
    """
    bright = sources.sort_values("reference_flux_jy", ascending=False, na_position="last")["source_id"].head(SAMPLED_SOURCES)
    return sorted({*bright.tolist(), *sources["source_id"].iloc[:: max(1, len(sources) // SAMPLED_SOURCES)].tolist()})


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
    light_curves: LightCurves, *, reference: NDArray[np.bool_] | None = None, options: NormalisationOptions | None = None
) -> Normalisation:
    """Find the flux scale of each epoch; arguments as for `normalise`.

    The light curves may be a part of all if they include enough references.
    """
    chosen = options or NormalisationOptions()
    if light_curves.normalised:
        raise LightCurveError("light curves", "are normalized already", "normalize the measured fluxes only once")
    if light_curves.n_epochs < 2:
        raise LightCurveError("light curves", f"have {light_curves.n_epochs} epoch(s), two are needed", "wait for a second epoch")
    candidates = _candidates(light_curves, reference, chosen)
    table = _ReferenceTable.of(light_curves, candidates)
    _refuse_mixed_units(light_curves, table)
    kept, fit = _fit_with_rejection(table, chosen)
    factor, error, count = fit.factors(light_curves.n_epochs, chosen)
    usable = np.isfinite(factor) & (factor > chosen.factor_range[0]) & (factor < chosen.factor_range[1])
    if not usable.any():
        raise LightCurveError(
            "light curves",
            f"no epoch has {chosen.min_references} reference sources with S/N above {chosen.min_snr:g}",
            "measure more or brighter catalog sources, or lower min_snr",
        )
    is_reference = np.zeros(light_curves.n_sources, dtype=bool)
    is_reference[candidates[kept]] = True
    rows = np.flatnonzero(kept[table.source])
    own = OwnFactors(light_curves.source_id[candidates[table.source[rows]]], table.epoch[rows], fit.factors_without(rows))
    result = Normalisation(factor, error, count, usable, is_reference, light_curves.epoch_name, own)
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
    """``noise_scale`` of the sources that have enough epochs; see the module. 1 if it cannot be measured."""
    often = np.flatnonzero(light_curves.counts >= options.noise_epochs)
    if often.size < options.noise_sources:
        return 1.0
    sample = apply_normalisation(light_curves.select(often[:: max(1, often.size // _NOISE_SOURCES)]), fit)
    chi2 = Totals.of(sample).chi2
    seen = sample.counts > 1
    if seen.sum() < options.noise_sources:
        return 1.0
    ratio = chi2[seen] / chdtri(sample.counts[seen] - 1.0, 0.5)
    return float(np.clip(np.sqrt(np.median(ratio)), *options.noise_range))


def _candidates(light_curves: LightCurves, reference: NDArray[np.bool_] | None, options: NormalisationOptions) -> NDArray[np.intp]:
    """Indices of at most ``max_references`` sources that may be references, the best by S/N, shape (Ncandidates,)."""
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
    good = np.flatnonzero(allowed & (counts >= 2) & (snr >= options.min_snr))
    good = np.sort(good[np.argsort(-snr[good], kind="stable")][: 4 * options.max_references])
    table = _ReferenceTable.of(light_curves, good)
    label = _connected(table.source, table.epoch, good.size, light_curves.n_epochs)
    seen = np.zeros(light_curves.n_epochs, dtype=bool)
    seen[table.epoch] = True
    epochs_of_field = np.bincount(label[good.size :][seen], minlength=int(label.max(initial=0)) + 1)[label[: good.size]]
    often = good[counts[good] >= options.min_epoch_share * epochs_of_field]
    return np.sort(often[np.argsort(-snr[often], kind="stable")][: options.max_references])


def _connected(source: NDArray[np.int64], epoch: NDArray[np.int64], n_sources: int, n_epochs: int) -> NDArray[np.int64]:
    """Component of each source, then of each epoch, in the graph of measurements; shape (n_sources + n_epochs,)."""
    n = n_sources + n_epochs
    graph = coo_array((np.ones(source.size, dtype=np.int8), (source, n_sources + epoch)), shape=(n, n))
    return connected_components(graph, directed=False)[1].astype(np.int64)


@dataclass(frozen=True)
class _ReferenceTable:
    """Measurements of the candidates, shape (Nref,). ``measurement``: index in the light curves."""

    measurement: NDArray[np.intp]
    source: NDArray[np.int64]
    epoch: NDArray[np.int64]
    flux: NDArray[np.float64]
    error: NDArray[np.float64]
    n_sources: int
    n_epochs: int

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
    """Solution of the two-way fit: ``level`` (Nsources,), ``factor`` (Nepochs,), ``weight`` and ``used`` (Nref,)."""

    table: _ReferenceTable
    level: NDArray[np.float64]
    factor: NDArray[np.float64]
    weight: NDArray[np.float64]
    used: NDArray[np.bool_]

    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        model = np.where(self.used, self.level[self.table.source], 0.0)
        weight = np.where(self.used, self.weight, 0.0)
        upper = np.bincount(self.table.epoch, weight * self.table.flux * model, self.table.n_epochs).astype(np.float64)
        lower = np.bincount(self.table.epoch, weight * model**2, self.table.n_epochs).astype(np.float64)
        return upper, lower, model.astype(np.float64)

    def factors(self, n_epochs: int, options: NormalisationOptions) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """Factor, its error and the number of references, shape (Nepochs,).

        The error is the sandwich estimate from the residuals (White 1980, Econometrica 48, 817), corrected for the
        degrees of freedom of levels and factors. With few references it is at least the one that follows from the
        measurement errors.
        """
        table = self.table
        upper, lower, model = self._sums()
        weight = np.where(self.used, self.weight, 0.0)
        residual = np.where(self.used, table.flux - model * self.factor[table.epoch], 0.0)
        count = np.bincount(table.epoch[self.used], minlength=n_epochs)
        per_source = np.bincount(table.source[self.used], minlength=table.n_sources)
        share = np.where(self.used, per_source[table.source] / np.maximum(per_source[table.source] - 1.0, 1.0), 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            measured = (
                np.bincount(table.epoch, (weight * model * residual) ** 2 * share, n_epochs)
                / lower**2
                * (count / np.maximum(count - 1.0, 1.0))
            )
            formal = np.bincount(table.epoch, (weight * model * table.error) ** 2, n_epochs) / lower**2
            factor = np.where(count >= options.min_references, upper / lower, np.nan)
        variance = np.where(count >= _FEW_REFERENCES, measured, np.maximum(measured, formal))
        return factor, np.where(np.isfinite(factor), np.sqrt(variance), np.nan), count.astype(np.int64)

    def factors_without(self, rows: NDArray[np.intp]) -> NDArray[np.float64]:
        """Factor of each row's epoch, from all references but the row's own."""
        upper, lower, model = self._sums()
        epoch, weight = self.table.epoch[rows], np.where(self.used, self.weight, 0.0)[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            return (upper[epoch] - weight * self.table.flux[rows] * model[rows]) / (lower[epoch] - weight * model[rows] ** 2)


def _fit_with_rejection(table: _ReferenceTable, options: NormalisationOptions) -> tuple[NDArray[np.bool_], _Fit]:
    kept = np.ones(table.n_sources, dtype=bool)
    fit = _fit(table, kept, options)
    for _ in range(10):
        variance = table.error**2 + (options.reference_scatter * fit.level[table.source] * fit.factor[table.epoch]) ** 2
        deviation = (table.flux - fit.level[table.source] * fit.factor[table.epoch]) ** 2 / variance
        usable = fit.used & np.isfinite(deviation)
        chi2 = np.bincount(table.source[usable], deviation[usable], table.n_sources)
        freedom = np.bincount(table.source[usable], minlength=table.n_sources) - 1
        variable = kept & ((chdtrc(np.maximum(freedom, 1), chi2) < options.reject_probability) | (freedom < 1))
        if not variable.any() or kept.sum() - variable.sum() < options.min_references:
            break
        limit = max(1, int(0.2 * kept.sum()))  # the worst first: they distort factors and make others look variable
        worst = np.flatnonzero(variable)[np.argsort(-(chi2 / np.maximum(freedom, 1))[variable], kind="stable")][:limit]
        kept[worst] = False
        fit = _fit(table, kept, options, fit)
    return kept, fit


def _fit(table: _ReferenceTable, kept: NDArray[np.bool_], options: NormalisationOptions, start: _Fit | None = None) -> _Fit:
    used = kept[table.source]
    source, epoch, flux, error = table.source[used], table.epoch[used], table.flux[used], table.error[used]
    component = _connected(source, epoch, table.n_sources, table.n_epochs)[table.n_sources :]
    if start is None:
        level = _group_median(flux, source, table.n_sources)
        factor = _group_median(flux / level[source], epoch, table.n_epochs)
    else:
        level, factor = start.level, start.factor
    weight = np.ones(flux.size)
    present = np.isfinite(factor)
    for _ in range(_ITERATIONS):
        model = level[source] * factor[epoch]
        variance = error**2 + (options.reference_scatter * model) ** 2
        scaled = np.abs(flux - model) / np.sqrt(variance)
        weight = np.minimum(1.0, _HUBER / np.maximum(scaled, 1e-12)) / variance
        with np.errstate(divide="ignore", invalid="ignore"):
            new = np.bincount(epoch, weight * flux * level[source], table.n_epochs) / np.bincount(
                epoch, weight * level[source] ** 2, table.n_epochs
            )
            present = np.isfinite(new) & (new > 0.0)
            members = np.bincount(component[present], minlength=int(component.max()) + 1)
            gauge = np.exp(np.bincount(component[present], np.log(new[present]), members.size) / np.maximum(members, 1))
            new = np.where(present, new / gauge[component], np.nan)
            g = np.nan_to_num(new[epoch])
            level = np.bincount(source, weight * flux * g, table.n_sources) / np.bincount(source, weight * g**2, table.n_sources)
        change = np.nanmax(np.abs(new - factor), initial=0.0)
        factor = new
        if change < 1e-9:
            break
    full = np.zeros(table.flux.size)
    full[used] = weight
    valid = used & np.isfinite(level[table.source]) & present[table.epoch]
    return _Fit(table, level, factor, full, valid)


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
