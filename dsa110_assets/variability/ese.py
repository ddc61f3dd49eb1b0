"""Search for extreme scattering events: a score with a stated false-alarm rate, for two or more epochs.

For each source and each run ("window") of 1, 2, 4, ... consecutive epochs, at most a third of them, the statistic is

    z = (F_W - B) / sqrt(sigma_W^2 + q^2 + sigma_B^2)

``F_W`` is the weighted mean flux of the window and ``sigma_W`` its error from the *measurement* errors. ``B``, with
error ``sigma_B``, is the weighted mean of the epochs outside the window that lie within 3 sigma of the median; the
tested epochs never enter their own baseline. ``q`` is the ordinary variability: ``ordinary_variability`` times the
median flux or, with 8 or more epochs, the source's own robust scatter beyond its errors if that is larger. An ESE must
stand out against the usual behavior of this source and of sources in general; with q = 0 every bright scintillator
would stand out. With two epochs and no catalog flux, z = (f_1 - f_2) / sqrt(sigma_1^2 + sigma_2^2 + 2 q^2).
(Significance in units of the series' own standard deviation, pitfall 18, cannot exceed (N - 1) / sqrt(N). z has no such
limit, because the event does not affect median and MAD.)

With 8 or more epochs, the light curve is also compared with the bank of plasma lenses (`lens`), whose core lies between
two bright sides. With t_i the relative flux minus 1 and F_i the mean flux in cell i of the template:

    z = -sum(h_i (F_i - B)) / sqrt(sum(h_i^2 sigma_i^2) + q^2 sum_lobes (sum h_i)^2 + sigma_B^2 (sum h_i)^2)
    h_i = t_i / (sigma_i^2 + q^2)

B is from the epochs outside the template. Ordinary variability is taken as common to each of the three lobes (before,
core, after), because scintillation lasts for days. Widths of the core begin at the mean spacing of the epochs and grow
in steps of sqrt 2 until the template fills three quarters of the light curve. Positions are every epoch, or every fifth
of the core. There must be epochs on both sides and in the core.

False alarms: under the null hypothesis (constant flux, Gaussian errors and ordinary variability) each z is N(0, 1).
With T tests on *all* sources of the table, the probability that any of them exceeds |z| is at most (Sidak 1967)

    1 - (1 - 2 Q(|z|))^T

with Q the Gaussian tail. ``score`` is the |z| of a *single* test with that probability: score 5 means that one such
list in 1.7 million has a false candidate of this strength. Overlapping windows are correlated, so the true rate is
below the stated one. A comparison with a template is one-sided and counts as half a test.

Channels: an event of the whole band with |z| > 3.5 is tested for the frequency dependence of a lens (`chromatic`). That
test is independent of z. Both together are the matched filter over all channels: with |z| the signal of the whole band
and s the signal that its lens predicts between channels, the significance is (z^2 + s z_channels) / sqrt(z^2 + s^2).
For given weights that is N(0, 1) like |z|, so the trials are the same. If the channels contradict a lens
(`chromatic.Chromaticity.verdict`: achromatic or intrinsic), the significance is at most max(z_channels, 0).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtri_exp

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability.chromatic import Event, chromaticity
from dsa110_assets.variability.lens import ALPHAS, template_bank
from dsa110_assets.variability.lightcurves import LightCurves

CHANNEL_TEST_SIGMA = 3.5
"""Compare channels only for events of the whole band above this significance."""
_SUSPECT_SHARE = 0.05
_SUSPECT_SOURCES = 3


@dataclass(frozen=True)
class EseOptions:
    """Options of the search.

    ``ordinary_variability``: modulation index allowed for every source (refractive scintillation at 1.4 GHz: a few
    percent). ``catalogue_error``: fraction of a catalog flux that is added to its error if it joins the baseline (other
    beam, other decade, spectral index).
    """

    ordinary_variability: float = 0.05
    catalogue_error: float = 0.15


def ese_scores(
    light_curves: LightCurves,
    *,
    catalogue_flux_jy: NDArray[np.float64] | None = None,
    catalogue_flux_err_jy: NDArray[np.float64] | None = None,
    channels: pd.DataFrame | None = None,
    options: EseOptions | None = None,
) -> pd.DataFrame:
    """Most significant event of each source.

    Args:
        light_curves: normalized.
        catalogue_flux_jy: flux of each source in another survey at the same frequency, shape (Nsources,), NaN if
            unknown. It is one more point of the baseline and is never tested itself. It matters with few epochs, and
            for events that last as long as the data.
        catalogue_flux_err_jy: its error; ``catalogue_error`` is added.
        channels: normalized fluxes in channel images (`chromatic.normalised_channels`) of any of the sources, or None.
        options: see `EseOptions`.

    Returns:
        One row for each source in the order of ``light_curves.source_id``: ``source_id, n_epochs, score``,
        ``significance`` (|z| before trials; with channels, see the module), ``false_alarm_probability`` (among all
        sources and epochs), ``depth`` (1 - F_W / B: 0.5 is a dip to half, negative a brightening), ``kind`` (``dip``,
        ``lens`` or ``brightening``), ``epoch_mjd`` (middle of the window), ``epoch_name`` (first of the window),
        ``event_epochs, duration_d`` (to the midpoints between the window and its neighbors), ``first_mjd, last_mjd``
        (of the window), ``baseline_jy, event_flux_jy, ordinary_variability, trials`` (of this source),
        ``suspect_epoch`` (more than 5 % of all sources deviate by 3 sigma in that epoch), ``reasons``. If nothing can
        be compared, they are NaN and the score is 0. For these columns the window is widened over neighboring epochs
        with at least half of the depth; for a lens it is the core. For a lens also ``lens_alpha, lens_centre_mjd,
        lens_width_d`` (of the core), ``lens_amplitude`` (share of the source that is lensed), ``before, after``
        (relative brightening of both sides). ``chromaticity``: ``lens, achromatic, intrinsic, undecided`` or ``no
        channels``; ``band_significance`` (|z| of the whole band); ``n_channels, channel_significance,
        channel_expected`` (z and s), ``ln_lens_to_achromatic, ln_lens_to_power_law``. ``attrs["trials"]``: number of
        tests on all sources.

    Raises:
        LightCurveError: not normalized, or the number of catalog fluxes is wrong.
    """
    search = EventSearch(options)
    search.add(light_curves, catalogue_flux_jy=catalogue_flux_jy, catalogue_flux_err_jy=catalogue_flux_err_jy)
    return search.scores(channels)


class EventSearch:
    """Search over light curves in parts, so that memory does not grow with the number of measurements.

    Trials, and epochs in which many sources deviate, are counted over all parts. A source belongs to one part.
    """

    def __init__(self, options: EseOptions | None = None) -> None:
        self._options = options or EseOptions()
        self._parts: list[pd.DataFrame] = []  # the first has no source, so that an empty search has all columns
        self._states: list[pd.DataFrame] = []
        self._tests: dict[object, int] = {}
        self._outliers: dict[object, int] = {}
        nothing = pd.DataFrame({name: np.zeros(0) for name in ("source_id", "time_mjd", "flux_jy", "flux_err_jy")}).assign(mosaic_name="")
        self.add(LightCurves.from_table(nothing.astype({"source_id": np.int64}), normalised=True))

    def add(
        self,
        light_curves: LightCurves,
        *,
        catalogue_flux_jy: NDArray[np.float64] | None = None,
        catalogue_flux_err_jy: NDArray[np.float64] | None = None,
        counts_epochs: bool = True,
    ) -> None:
        """Search one part; arguments as in `ese_scores`. ``counts_epochs``: count these sources in `deviations`."""
        from dsa110_assets.variability import _kernels

        light_curves.require_normalised("the ESE score")
        n = light_curves.n_sources
        catalogue, catalogue_err = _catalogue(n, catalogue_flux_jy, catalogue_flux_err_jy, self._options)
        out = np.full((18, n), np.nan)
        tests, outliers = np.zeros(light_curves.n_epochs, dtype=np.int64), np.zeros(light_curves.n_epochs, dtype=np.int64)
        _kernels.events(
            light_curves.offsets,
            light_curves.flux_jy,
            light_curves.flux_err_jy,
            light_curves.epoch,
            light_curves.epoch_mjd,
            catalogue,
            catalogue_err,
            self._options.ordinary_variability,
            template_bank(),
            out,
            tests,
            outliers,
        )
        z, start, length, baseline, event, is_lens, trials, intrinsic, level, centre, width, shape, amplitude, before, after = out[:15]
        counted = light_curves.epoch_name.tolist() if counts_epochs else []
        for name, tested, deviating in zip(counted, tests.tolist(), outliers.tolist(), strict=False):
            self._tests[name] = self._tests.get(name, 0) + tested
            self._outliers[name] = self._outliers.get(name, 0) + deviating
        middle, name_index, duration, first, last = _windows(light_curves, start, length)
        self._states.append(
            pd.DataFrame(
                {
                    "source_id": light_curves.source_id,
                    "n_epochs": light_curves.counts,
                    "last_mjd": light_curves.time_mjd[light_curves.offsets[1:] - 1],
                    "significance": np.abs(z),
                    "trials": np.nan_to_num(trials),
                    "level_jy": level,
                    "intrinsic": intrinsic,
                    "base_weight": out[15],
                    "base_weighted_flux": out[16],
                    "base_epochs": out[17],
                }
            )
        )
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
                    "kind": np.select([~np.isfinite(z), is_lens > 0.5, z < 0.0], ["none", "lens", "dip"], default="brightening"),
                    "epoch_mjd": middle,
                    "epoch_name": pd.Series([names[i] if i >= 0 else None for i in name_index], dtype=object),
                    "event_epochs": np.nan_to_num(length).astype(np.int64),
                    "duration_d": duration,
                    "first_mjd": first,
                    "last_mjd": last,
                    "baseline_jy": baseline,
                    "event_flux_jy": event,
                    "ordinary_variability": ordinary,
                    "trials": np.nan_to_num(trials),
                    "lens_alpha": np.array([*ALPHAS, np.nan])[np.nan_to_num(shape, nan=-1).astype(np.int64)],
                    "lens_centre_mjd": centre,
                    "lens_width_d": width,
                    "lens_amplitude": amplitude,
                    "before": before,
                    "after": after,
                }
            )
        )

    def strongest(self, most: int = 200) -> list[object]:
        """Sources to compare between channels: events above `CHANNEL_TEST_SIGMA`, the most significant first."""
        table = pd.concat(self._parts, ignore_index=True)
        significance = np.nan_to_num(table["significance"].to_numpy())
        order = np.argsort(-significance, kind="stable")[: min(most, int((significance > CHANNEL_TEST_SIGMA).sum()))]
        return table["source_id"].iloc[order].tolist()

    def deviations(self) -> pd.DataFrame:
        """Epochs that were searched: ``mosaic_name``, sources ``tested`` and ``deviating`` by more than 3 sigma."""
        names = list(self._tests)
        return pd.DataFrame(
            {
                "mosaic_name": names,
                "tested": np.array([self._tests[name] for name in names], dtype=np.int64),
                "deviating": np.array([self._outliers[name] for name in names], dtype=np.int64),
            }
        )

    def states(self) -> pd.DataFrame:
        """What `recent.worth_a_search` needs of these searches: see there; ``trials`` of each source."""
        return pd.concat(self._states, ignore_index=True)

    def scores(
        self, channels: pd.DataFrame | None = None, *, trials: float | None = None, suspect_epochs: Collection[object] | None = None
    ) -> pd.DataFrame:
        """The table of `ese_scores` over all parts, in the order in which they were added.

        ``channels``: as there. If only some sources were searched: ``trials``, of all, and ``suspect_epochs``, the
        names of epochs in which many of all sources deviate (`suspects`).
        """
        table = pd.concat(self._parts, ignore_index=True)
        total = float(table["trials"].to_numpy().sum()) if trials is None else trials
        _add_chromaticity(table, channels)
        score, probability = trials_corrected(table["significance"].to_numpy(), total)
        table.insert(2, "score", score)
        table.insert(4, "false_alarm_probability", probability)
        table["suspect_epoch"] = table["epoch_name"].isin(list(suspects(self.deviations()) if suspect_epochs is None else suspect_epochs))
        table.attrs["trials"] = total
        notable = (table["significance"] > 3.0) | (table["n_channels"] > 0)
        table["reasons"] = ""
        table.loc[notable, "reasons"] = [_reasons(row) for row in table[notable].itertuples(index=False)]
        return table


def suspects(deviations: pd.DataFrame) -> set[object]:
    """Epochs in which so many sources deviate that the calibration is the likely cause (`EventSearch.deviations`)."""
    tested, deviating = deviations["tested"].to_numpy(), deviations["deviating"].to_numpy()
    many = (deviating >= _SUSPECT_SOURCES) & (deviating > _SUSPECT_SHARE * tested)
    return set(deviations["mosaic_name"].to_numpy()[many].tolist())


def ese_candidates(scores: pd.DataFrame, *, min_score: float = 5.0) -> pd.DataFrame:
    """Rows of `ese_scores` with at least ``min_score``, best first, with ``rank`` from 1."""
    found = (
        scores.loc[scores["score"] >= min_score]
        .sort_values(["score", "significance"], ascending=False, kind="stable")
        .reset_index(drop=True)
    )
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found


def trials_corrected(
    significance: NDArray[np.float64], trials: float | NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score and false-alarm probability of the strongest |z| among ``trials`` two-sided Gaussian tests.

    Both are exact far into the tail. ``trials``: of the whole list, or of each value.
    """
    z = np.nan_to_num(np.asarray(significance, dtype=np.float64))
    log_single = np.minimum(np.log(2.0) + log_ndtr(-z), 0.0)
    single = np.exp(log_single)
    number = np.maximum(trials, 1.0)
    with np.errstate(divide="ignore"):
        log_any = np.where(
            single * number < 1e-8, log_single + np.log(number), np.log(-np.expm1(number * np.log1p(-np.minimum(single, 1.0))))
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
        raise LightCurveError("catalog fluxes", f"shape {given.shape} for {n} sources", "give one flux for each source, NaN if unknown")
    return given, np.hypot(given_error, options.catalogue_error * given)


def _windows(
    light_curves: LightCurves, start: NDArray[np.float64], length: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Middle (MJD), first epoch's index (-1 for none), duration (d), first and last MJD of each source's window."""
    n = light_curves.n_sources
    middle, duration, begins, ends = (np.full(n, np.nan) for _ in range(4))
    first_epoch = np.full(n, -1, dtype=np.int64)
    some = np.flatnonzero(np.isfinite(start))
    if not some.size:
        return middle, first_epoch, duration, begins, ends
    low, high = light_curves.offsets[:-1][some], light_curves.offsets[1:][some] - 1
    first = low + start[some].astype(np.int64)
    last = first + length[some].astype(np.int64) - 1
    time = light_curves.time_mjd
    begin = np.where(first > low, 0.5 * (time[first] + time[np.maximum(first - 1, 0)]), time[first])
    end = np.where(last < high, 0.5 * (time[last] + time[np.minimum(last + 1, time.size - 1)]), time[last])
    middle[some], duration[some], first_epoch[some] = 0.5 * (time[first] + time[last]), end - begin, light_curves.epoch[first]
    begins[some], ends[some] = time[first], time[last]
    return middle, first_epoch, duration, begins, ends


def _add_chromaticity(table: pd.DataFrame, channels: pd.DataFrame | None) -> None:
    """Test the events that have channels. Change ``significance`` and add the columns of the test."""
    columns = ("n_channels", "channel_significance", "channel_expected", "ln_lens_to_achromatic", "ln_lens_to_power_law")
    found = {name: np.full(len(table), np.nan) for name in columns}
    found["n_channels"][:] = 0
    verdict = np.full(len(table), "no channels", dtype=object)
    significance = table["significance"].to_numpy().copy()
    groups = {} if channels is None else dict(iter(channels.groupby("source_id", sort=False)))
    tested = (significance > CHANNEL_TEST_SIGMA) & table["source_id"].isin(list(groups)).to_numpy()
    for k in np.flatnonzero(tested):
        row = table.iloc[k]
        width = row["lens_width_d"] if row["kind"] == "lens" else row["duration_d"]
        outcome = chromaticity(Event(row["first_mjd"], row["last_mjd"], width, row["depth"]), groups[row["source_id"]])
        if outcome is None:
            continue
        combined = (significance[k] ** 2 + outcome.expected * outcome.z) / np.hypot(significance[k], outcome.expected)
        verdict[k] = outcome.verdict
        significance[k] = min(combined, max(outcome.z, 0.0)) if outcome.verdict in ("achromatic", "intrinsic") else max(combined, 0.0)
        values = (outcome.n_channels, outcome.z, outcome.expected, outcome.ln_lens_to_achromatic, outcome.ln_lens_to_power_law)
        for name, value in zip(columns, values, strict=True):
            found[name][k] = value
    table["band_significance"] = table["significance"]
    table["significance"] = significance
    table["chromaticity"] = verdict
    for name in columns:
        table[name] = found[name].astype(np.int64) if name == "n_channels" else found[name]


def _reasons(row: object) -> str:
    """Description of the event in words, for the candidate list."""
    get = row.__getattribute__
    change = f"{'fades' if get('depth') > 0 else 'brightens'} by {abs(100 * get('depth')):.0f} % to {1e3 * get('event_flux_jy'):.4g} mJy"
    texts = [
        f"{change} in {get('event_epochs')} of {get('n_epochs')} epochs ({get('duration_d'):.2g} d)",
        f"{get('band_significance'):.1f} sigma against a baseline of {1e3 * get('baseline_jy'):.4g} mJy and {100 * get('ordinary_variability'):.0f} % ordinary variability",
        f"false-alarm probability {get('false_alarm_probability'):.2g} in the whole list",
    ]
    if get("kind") == "lens":
        sides = [_side(get(name), name) for name in ("before", "after")]
        texts.append(f"shape of a plasma lens (alpha {get('lens_alpha'):g}, core {get('lens_width_d'):.2g} d): {' and '.join(sides)}")
    texts.append(_chromatic_reason(row))
    if get("suspect_epoch"):
        texts.append("many sources deviate in this epoch: check its calibration first")
    return "; ".join(texts)


def _side(change: float, name: str) -> str:
    return f"{100 * abs(change):.0f} % {'brighter' if change > 0 else 'fainter'} {name}"


def _chromatic_reason(row: object) -> str:
    get = row.__getattribute__
    number, z, expected = get("n_channels"), get("channel_significance"), get("channel_expected")
    if get("chromaticity") == "no channels":
        return "no channel images: its frequency dependence is not known"
    measured = f"{number} channels differ by {z:.1f} sigma in the direction of a lens, which predicts {expected:.1f}"
    ratio = f"ln(lens / achromatic) {get('ln_lens_to_achromatic'):.1f}"
    power_law_ratio = f"ln(lens / power law) {get('ln_lens_to_power_law'):.1f}"
    return {
        "lens": f"{measured}: refraction as lambda^2 ({ratio})",
        "achromatic": f"{measured}: the same at all frequencies, so no lens but a gain error or similar ({ratio})",
        "intrinsic": f"{measured}: its depth follows a power of frequency, like intrinsic variability ({power_law_ratio})",
    }.get(get("chromaticity"), f"{measured}: too little to tell a lens from an achromatic change ({ratio})")
