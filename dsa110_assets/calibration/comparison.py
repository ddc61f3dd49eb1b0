"""Which tables fit a tile best, by the tile's own visibilities.

The tables nearest in time are the wrong ones when all gains jump between them and the tile (a restart of the
correlator). With the gains ``G = g_i conj(g_j)`` of a candidate, raw visibilities V and the catalog sky M, ``D = sum w
(|V|**2 - |V - a G M|**2)`` says how much of the data the candidate explains. The scale a is free within `SCALE_LIMITS`,
so that the flux scale stays that of the calibrators and not that of the catalog. If the better one of two candidates is
right, their D differ by ``sum w |a G M - a' G' M|**2``; what random groups of baselines scatter around it is the error
of the difference. Noise is in it, and sources that are not in the catalog.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.calibration.apply import combine_solutions, fit_to_data
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.model import TileModel, model_of_tile
from dsa110_assets.common.measurement_sets import (
    integrations,
    open_table,
    read_antenna_pairs,
    read_apparent_scale,
    read_averaging,
    read_summary,
)
from dsa110_assets.common.robust import error_of_sum

MIN_SIGNIFICANCE = 5.0
"""Other tables replace the nearest ones only if they are better by this many standard deviations."""
SCALE_LIMITS = (0.8, 1.25)
"""Fluxes in units of the catalog's: beyond them tables lose, within them the scale is free."""
_INTEGRATIONS = 6
"""So many integrations of a tile are read, evenly spaced."""


@dataclass(frozen=True)
class Comparison:
    """Result for several candidates.

    ``best``: index of the one to apply; 0 (the nearest) unless another is better by `MIN_SIGNIFICANCE`.
    ``significance``: of the best of the others over the nearest, in standard deviations; negative if it is worse.
    ``scales``: fluxes in units of the catalog's, of each candidate. ``n_sources``: in the model.
    """

    best: int
    significance: float
    scales: tuple[float, ...]
    n_sources: int


def compare_tables(
    ms: Path,
    candidates: Sequence[Sequence[CalTable]],
    sky: pd.DataFrame,
    *,
    min_apparent_jy: float = 0.05,
    radius_deg: float = 3.0,
    smearing: bool = True,
) -> Comparison:
    """Compare tables on a tile.

    Args:
        ms: uncalibrated Measurement Set; only read.
        candidates: tables of each candidate, in the order of application; the nearest in time first.
        sky: columns of `catalogs.sky.COLUMNS`.
        min_apparent_jy, radius_deg: see `model.build_model`.
        smearing: smear the model as the telescope's data are.

    Raises:
        NoModelError: no catalog source is in the tile.
        CalibrationMismatchError: a table does not fit the data.
    """
    about = read_summary(ms)
    names, frequency = about.antenna_names, about.frequency_hz
    averaging = read_averaging(ms)
    model = model_of_tile(ms, sky, min_apparent_jy=min_apparent_jy, radius_deg=radius_deg, smearing=smearing)
    width = np.full(frequency.size, averaging.channel_hz * averaging.channels)
    with open_table(ms) as main:
        sums = _sums(main, model)
        middle_s = float(np.mean(main.getcol("TIME")))
    gains = [
        combine_solutions([fit_to_data(one, names, frequency, width) for one in tables], middle_s, "linear", frequency.size)
        for tables in candidates
    ]
    use = np.ones(sums.power.shape, dtype=np.bool_)  # where every candidate has a solution
    for _, unsolved in gains:
        use &= ~(unsolved[sums.ant1] | unsolved[sums.ant2])
    fits = [_fit(sums, gain, use) for gain, _ in gains]
    others = {number: _significance(sums, use, fit, fits[0]) for number, fit in enumerate(fits) if number}
    best = max(others, key=lambda number: float(fits[number].explained.sum()), default=0)
    significance = others.get(best, 0.0)
    scales = tuple(fit.scale for fit in fits)
    return Comparison(best if significance > MIN_SIGNIFICANCE else 0, significance, scales, len(model.names))


@dataclass(frozen=True)
class _Sums:
    """Weighted sums over integrations, (Nbl, Nchan, 2): ``product`` is ``w V conj(M)``, ``power`` is ``w |M|**2``."""

    ant1: NDArray[np.int64]
    ant2: NDArray[np.int64]
    product: NDArray[np.complex64]
    power: NDArray[np.float32]


@dataclass(frozen=True)
class _Fit:
    """A candidate: ``gain`` ``a G`` (Nbl, Nchan, 2), ``scale`` a, and ``explained`` D of each baseline (Nbl,)."""

    gain: NDArray[np.complex128]
    scale: float
    explained: NDArray[np.float64]


def _fit(sums: _Sums, gain: NDArray[np.complex64], use: NDArray[np.bool_]) -> _Fit:
    g = gain[sums.ant1].astype(np.complex128) * np.conj(gain[sums.ant2])
    agreement = np.where(use, (np.conj(g) * sums.product).real, 0.0).sum(axis=(1, 2))
    power = np.where(use, np.abs(g) ** 2 * sums.power, 0.0).sum(axis=(1, 2))
    scale = float(np.clip(agreement.sum() / power.sum(), *SCALE_LIMITS)) if power.sum() > 0 else 1.0
    return _Fit(scale * g, scale, 2 * scale * agreement - scale**2 * power)


def _significance(sums: _Sums, use: NDArray[np.bool_], one: _Fit, nearest: _Fit) -> float:
    """By how much ``one`` explains more than ``nearest``, in units of the error of that difference."""
    difference = one.explained - nearest.explained
    expected = np.where(use, np.abs(one.gain - nearest.gain) ** 2 * sums.power, 0.0).sum(axis=(1, 2))
    scatter = difference - np.sign(difference.sum()) * expected
    error = error_of_sum(scatter)
    return float(difference.sum() / error) if error > 0 else 0.0


def _sums(main: Any, model: TileModel) -> _Sums:
    """Sum a few integrations; each baseline's noise comes from the differences of neighboring channels."""
    runs = integrations(np.asarray(main.getcol("TIME")))
    chosen = [runs[i] for i in np.unique(np.linspace(0, len(runs) - 1, min(_INTEGRATIONS, len(runs))).round().astype(int))]
    a1, a2 = (one.astype(np.int64) for one in read_antenna_pairs(main))
    size = int(max(a1.max(), a2.max())) + 1
    pairs = np.unique((a1 * size + a2)[a1 != a2])
    n_chan = model.frequency_hz.size
    product = np.zeros((pairs.size, n_chan, 2), dtype=np.complex64)
    power = np.zeros((pairs.size, n_chan, 2), dtype=np.float32)
    scatter, count = np.zeros((pairs.size, 1, 2)), np.zeros((pairs.size, 1, 2))
    scale = read_apparent_scale(main)
    for start, end in chosen:
        n = end - start
        cross = a1[start:end] != a2[start:end]
        slot = np.searchsorted(pairs, (a1 * size + a2)[start:end][cross])
        uvw = np.asarray(main.getcol("UVW", start, n), dtype=np.float64)[cross] * scale
        data = np.asarray(main.getcol("DATA", start, n))[cross]
        bad = (main.getcol("FLAG", start, n) | main.getcol("FLAG_ROW", start, n)[:, None, None])[cross] | ~np.isfinite(data)
        data[bad] = 0
        weight = np.where(bad, 0, np.asarray(main.getcol("WEIGHT_SPECTRUM", start, n))[cross]).astype(np.float32)
        sky = model.predict(uvw, np.asarray(main.getcol("TIME", start, n), dtype=np.float64)[cross])
        product[slot] += weight * data * np.conj(sky)[:, :, None]
        power[slot] += weight * (np.abs(sky) ** 2)[:, :, None]
        both = (weight[:, 1:] > 0) & (weight[:, :-1] > 0)
        scatter[slot] += (np.abs(np.diff(data, axis=1)) ** 2 * both).sum(axis=1, keepdims=True)
        count[slot] += both.sum(axis=1, keepdims=True)
    known = (count > 0) & (scatter > 0)
    inverse = np.where(known, 2 * count / np.where(known, scatter, 1.0), 0.0).astype(np.float32)  # 1 / (variance of V)
    return _Sums(pairs // size, pairs % size, product * inverse, power * inverse)
