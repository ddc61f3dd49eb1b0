"""Which sources need a search of their whole light curve after new epochs, and which search result stays.

A search (`ese`) of all light curves costs in proportion to the history. After new epochs only these are searched:

1. A window of 1, 2, 4, ... epochs that ends with a new epoch deviates by `LOOK_SIGMA` from the baseline of the last
   search. An event of L epochs contains such a window of more than L / 2 epochs, with at least 0.7 of its significance;
   one of the three lobes of a lens has at least 0.58 of the lens's. A score of 5 needs a significance of 5.5 in the
   smallest list and of 8 in a year of 60 000 sources, so an event is above `LOOK_SIGMA` when it is above the threshold.
2. The last search found an event of `KEEP_SIGMA`: its score follows each new epoch.
3. The light curve has grown by a quarter since the last search, or has fewer than `FEW_EPOCHS`. Sources take turns, so
   that N sources with n epochs cost about N / (n ln 1.25) searches of n epochs each night, the same after years. It
   renews baselines and ordinary variability, and bounds how late an event can be whose windows reach back further than
   the recent epochs.

For every other source the last significance stands. It is below `KEEP_SIGMA`, so it is no candidate.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.variability.lightcurves import LightCurves

LOOK_SIGMA = 3.0
KEEP_SIGMA = 4.5
FEW_EPOCHS = 16
FEWEST_LEVELS = 3
RECENT_D = 32.0
"""Epochs this long before an hour are in the windows of its quick look."""
_GROWTH = 1.25
_GOLDEN = 0.6180339887498949
_BASELINE = ("level_jy", "intrinsic", "base_weight", "base_weighted_flux", "base_epochs")


def deviations(
    recent: LightCurves, states: pd.DataFrame, n_epochs: NDArray[np.int64], is_new: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], pd.DataFrame]:
    """How far each source deviates in the windows that end with a new epoch.

    Args:
        recent: the latest epochs of some sources, with all epochs that are new.
        states: of the last search of each source (`ese.EventSearch.states`), in the order of ``recent.source_id``; NaN
            for a source that was never searched. ``level_jy`` (median), ``intrinsic`` (variance of the ordinary
            variability, Jy^2), sums over the epochs of the baseline (``base_weight``, ``base_weighted_flux``,
            ``base_epochs``), ``last_mjd`` (last epoch).
        n_epochs: epochs of each source's whole light curve, shape (Nsources,).
        is_new: epochs since the last look, shape (Nepochs,).

    Returns:
        The largest |z| of each source, shape (Nsources,): NaN if it was never searched, infinite if its baseline has
        no epoch outside a window. And for each new epoch ``mosaic_name, tested, deviating``: sources with an earlier
        search, and those of them that deviate by more than 3 sigma.
    """
    from dsa110_assets.variability import _kernels

    known = np.isfinite(states["base_weight"].to_numpy(np.float64))
    tests, outliers = np.zeros(recent.n_epochs, dtype=np.int64), np.zeros(recent.n_epochs, dtype=np.int64)
    chosen, before = recent.select(np.flatnonzero(known)), states.loc[known]
    found = np.zeros(chosen.n_sources)
    _kernels.recent_deviations(
        chosen.offsets,
        chosen.flux_jy,
        chosen.flux_err_jy,
        chosen.epoch,
        is_new[chosen.epoch],
        chosen.time_mjd <= np.repeat(before["last_mjd"].to_numpy(np.float64), chosen.counts),
        n_epochs[known],
        before[list(_BASELINE)].to_numpy(np.float64).T.copy(),
        found,
        tests,
        outliers,
    )
    deviation = np.full(recent.n_sources, np.nan)
    deviation[known] = found
    new = np.flatnonzero(is_new)
    return deviation, pd.DataFrame({"mosaic_name": recent.epoch_name[new], "tested": tests[new], "deviating": outliers[new]})


def worth_a_search(
    recent: LightCurves, states: pd.DataFrame, n_epochs: NDArray[np.int64], is_new: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], pd.DataFrame]:
    """Find the sources to search.

    Arguments as for `deviations`; ``states`` also has ``n_epochs`` and ``significance``.

    Returns:
        Whether to search each source, shape (Nsources,); and the epochs of `deviations`.
    """
    deviation, epochs = deviations(recent, states, n_epochs, is_new)
    wanted = (
        ~(deviation < LOOK_SIGMA)  # also if it was never searched
        | (np.nan_to_num(states["significance"].to_numpy(np.float64)) >= KEEP_SIGMA)
        | (n_epochs < FEW_EPOCHS)
        | has_grown(recent.source_id, np.nan_to_num(states["n_epochs"].to_numpy(np.float64)), n_epochs)
    )
    return wanted, epochs


def factor_from_levels(
    flux_jy: NDArray[np.float64], flux_err_jy: NDArray[np.float64], level_jy: NDArray[np.float64], intrinsic: NDArray[np.float64]
) -> tuple[float, float] | None:
    """Factor of a new epoch, measured over normalized flux, from the sources' earlier levels; and its error.

    A first estimate until the night's update fits the epoch with all others: the Huber mean of the ratios of sources
    with an S/N above 10, each with the variance of its flux error and ordinary variability.

    Args:
        flux_jy: measured in the new epoch, shape (Nsources,).
        flux_err_jy: their errors.
        level_jy: median of each source's normalized fluxes; NaN if it has none.
        intrinsic: variance of its ordinary variability (Jy^2).

    Returns:
        Factor and error; None with fewer than `FEWEST_LEVELS` such sources.
    """
    good = np.isfinite(level_jy) & (level_jy > 10.0 * flux_err_jy)
    if good.sum() < FEWEST_LEVELS:
        return None
    ratio = flux_jy[good] / level_jy[good]
    variance = (flux_err_jy[good] ** 2 + intrinsic[good]) / level_jy[good] ** 2
    factor = float(np.median(ratio))
    weight = 1.0 / variance
    for _ in range(20):
        weight = np.minimum(1.0, 1.5 * np.sqrt(variance) / np.maximum(np.abs(ratio - factor), 1e-12)) / variance
        factor = float(np.average(ratio, weights=weight))
    return factor, float(np.sqrt(np.sum((weight * (ratio - factor)) ** 2)) / np.sum(weight))


def has_grown(source_id: NDArray[np.generic], before: NDArray[np.float64], after: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether light curves of ``before`` epochs have passed their next step, each a quarter longer, by ``after``.

    The steps of a source are shifted by its number, so that sources take turns.
    """
    phase = (np.asarray(source_id, dtype=np.float64) * _GOLDEN) % 1.0
    step = [np.floor(np.log(np.maximum(n, 1.0)) / np.log(_GROWTH) + phase) for n in (before, after)]
    return step[1] > step[0]
