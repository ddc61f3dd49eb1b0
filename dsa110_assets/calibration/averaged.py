"""A small copy of the calibrator's tile for the solver: cross-correlations only, data and model averaged in time.

Averaging data and model with the same weights does not change gains that are constant over the average, however far a
source lies from the phase center. CASA does the same inside its solver, only slower. The published Measurement Set is
only read.

Partial integrations are left out. Their visibilities are of an earlier time than their uvw, by up to 6 s. An average
over minutes loses amplitude on long baselines, where phases turn; the model loses it by the phases of the uvw. With
such an integration at the end, all gains came out 0.045 % too large.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.calibration.model import ModelReport, TileModel, model_of_tile
from dsa110_assets.common.measurement_sets import (
    integrations,
    open_table,
    read_antenna_pairs,
    read_apparent_scale,
    read_summary,
)
from dsa110_assets.errors import CalibrationQualityError, NonRetriableError

_WHOLE = 0.95
"""Integrations of less weight than this, in units of the tile's median, are partial."""
_ROWS_LOOKED_AT = 64


@dataclass(frozen=True)
class AveragedTile:
    """The solver's Measurement Set.

    ``path``: its path. ``flagged_fraction`` (117,): of each antenna's cross-correlations, NaN for antennas without
    data. ``antenna_names``: by number. ``n_times``: after averaging. ``model``: None where MODEL_DATA was used.
    ``mid_mjd``: middle of the observation.
    """

    path: Path
    flagged_fraction: NDArray[np.float64]
    antenna_names: tuple[str, ...]
    n_times: int
    n_channels: int
    mid_mjd: float
    duration_s: float
    model: ModelReport | None


def average_for_solving(
    ms: Path,
    out: Path,
    *,
    sky: pd.DataFrame | None,
    integrations: int,
    min_apparent_jy: float = 0.05,
    radius_deg: float = 3.0,
    smearing: bool = True,
    progress: Callable[[float], None] | None = None,
) -> AveragedTile:
    """Write the solver's Measurement Set (DATA, MODEL_DATA, flags, weights) of a tile.

    Args:
        ms: written by `conversion`; only read.
        out: path that does not exist yet.
        sky: catalog sky to predict; None takes the MODEL_DATA of ``ms``.
        integrations: number of consecutive integrations to average.
        min_apparent_jy, radius_deg: see `model.build_model`.
        smearing: smear the model as the telescope's data are; False for simulations without smearing.
        progress: called with the fraction done.

    Raises:
        NonRetriableError: ``sky`` is None and ``ms`` has no MODEL_DATA.
        CalibrationQualityError: nothing is unflagged, or the model is zero (pitfall 11).
    """
    about = read_summary(ms)
    names, frequency = about.antenna_names, about.frequency_hz
    model = None if sky is None else model_of_tile(ms, sky, min_apparent_jy=min_apparent_jy, radius_deg=radius_deg, smearing=smearing)
    with open_table(ms) as main:
        if model is None and "MODEL_DATA" not in main.colnames():
            raise NonRetriableError(ms, "has no MODEL_DATA", "give the catalog sky, or predict the model first")
        sums = _Sums.empty(main, frequency.size, integrations)
        _fill(main, model, sums, progress)
        flagged = sums.flagged_fraction(len(names))
        if not np.any(sums.weight > 0):
            raise CalibrationQualityError(ms, "every cross-correlation is flagged", "check the flagger's report of this observation")
        if not np.any(sums.model):
            raise CalibrationQualityError(ms, "the calibrator's model is zero everywhere", "predict the model (it must not be zero)")
        _write(main, out, sums)
    return AveragedTile(
        path=out,
        flagged_fraction=flagged,
        antenna_names=names,
        n_times=sums.n_slots_in_time,
        n_channels=frequency.size,
        mid_mjd=about.middle_mjd,
        duration_s=about.duration_s,
        model=None if model is None else model.report(),
    )


@dataclass
class _Sums:
    """Weighted sums in slots (time bin x baseline), (Nslots, Nchan, 2); float32/complex64 suffice for 24 terms."""

    ant1: NDArray[np.int32]
    ant2: NDArray[np.int32]
    bin_of_time: dict[float, int]
    n_slots_in_time: int
    data: NDArray[np.complex64]
    model: NDArray[np.complex64]
    weight: NDArray[np.float32]
    uvw: NDArray[np.float64]
    time: NDArray[np.float64]
    rows: NDArray[np.int64]
    interval: NDArray[np.float64]

    @classmethod
    def empty(cls, main: Any, n_chan: int, integrations: int) -> _Sums:
        times = np.unique(main.getcol("TIME"))
        a1, a2 = read_antenna_pairs(main)
        pairs = np.unique(np.stack([a1, a2], axis=1)[a1 != a2], axis=0)
        n_bins = max(1, int(np.ceil(times.size / integrations)))
        bins = {float(t): int(i * n_bins // times.size) for i, t in enumerate(times)}
        shape = (n_bins * len(pairs), n_chan, 2)
        return cls(
            ant1=pairs[:, 0].astype(np.int32),
            ant2=pairs[:, 1].astype(np.int32),
            bin_of_time=bins,
            n_slots_in_time=n_bins,
            data=np.zeros(shape, dtype=np.complex64),
            model=np.zeros(shape, dtype=np.complex64),
            weight=np.zeros(shape, dtype=np.float32),
            uvw=np.zeros((shape[0], 3)),
            time=np.zeros(shape[0]),
            rows=np.zeros(shape[0], dtype=np.int64),
            interval=np.zeros(shape[0]),
        )

    def flagged_fraction(self, n_antennas: int) -> NDArray[np.float64]:
        """Fraction of each antenna's averaged cross-correlations that have no data."""
        lost = 1.0 - (self.weight > 0).mean(axis=(1, 2))
        a1, a2 = np.tile(self.ant1, self.n_slots_in_time), np.tile(self.ant2, self.n_slots_in_time)
        total = np.bincount(a1, lost, n_antennas) + np.bincount(a2, lost, n_antennas)
        count = np.bincount(a1, minlength=n_antennas) + np.bincount(a2, minlength=n_antennas)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _fill(main: Any, model: TileModel | None, sums: _Sums, progress: Callable[[float], None] | None) -> None:
    """Fill the sums in one pass over the Measurement Set, one integration at a time."""
    from dsa110_assets.calibration._kernels import accumulate

    n_bl = sums.ant1.size
    key = {(int(i), int(j)): k for k, (i, j) in enumerate(zip(sums.ant1, sums.ant2, strict=True))}
    time_column = np.asarray(main.getcol("TIME"))
    runs = integrations(time_column)
    if len(runs) != len(sums.bin_of_time):
        msg = "rows are not ordered by time; conversion writes them so"
        raise NonRetriableError(main.name(), msg, "convert the observation again")
    scale = read_apparent_scale(main)
    whole = _whole_integrations(main, runs)
    for number, (start, end) in enumerate(runs):
        count = end - start
        if progress is not None:
            progress(number / len(runs))
        a1, a2 = read_antenna_pairs(main, start, count)
        bin_ = sums.bin_of_time[float(time_column[start])]
        slot = np.array([-1 if i == j else bin_ * n_bl + key[(int(i), int(j))] for i, j in zip(a1, a2, strict=True)], dtype=np.int64)
        uvw = np.asarray(main.getcol("UVW", start, count), dtype=np.float64)
        time = np.asarray(main.getcol("TIME", start, count), dtype=np.float64)
        data = main.getcol("DATA", start, count)
        one = main.getcol("MODEL_DATA", start, count) if model is None else model.predict(uvw * scale, time)
        flag = main.getcol("FLAG", start, count) | main.getcol("FLAG_ROW", start, count)[:, None, None]
        weight = main.getcol("WEIGHT_SPECTRUM", start, count)
        flag |= ~np.isfinite(data) | ~whole[number]
        # we predict XX = YY; in MODEL_DATA from elsewhere they may differ, and their mean is the unpolarized sky
        if one.ndim == 3:
            one = one.mean(axis=2)
        accumulate(data, flag, weight, np.ascontiguousarray(one), slot, sums.data, sums.model, sums.weight)
        cross = slot >= 0
        to = slot[cross]
        sums.uvw[to] += uvw[cross]
        sums.time[to] += time[cross]
        sums.interval[to] += main.getcol("INTERVAL", start, count)[cross]
        sums.rows[to] += 1


def _whole_integrations(main: Any, runs: Sequence[tuple[int, int]]) -> NDArray[np.bool_]:
    """Which integrations are whole; all of them where none has data."""
    weights = [np.asarray(main.getcol("WEIGHT_SPECTRUM", start, min(end - start, _ROWS_LOOKED_AT))) for start, end in runs]
    each = np.array([np.median(one[one > 0]) if (one > 0).any() else 0.0 for one in weights])
    return each >= _WHOLE * np.median(each[each > 0]) if (each > 0).any() else np.ones(len(runs), dtype=bool)


def _write(main: Any, out: Path, sums: _Sums) -> None:
    from dsa110_assets.calibration.layout import create_like

    has = sums.weight > 0
    safe = np.where(has, sums.weight, 1.0).astype(np.float32)
    present = np.flatnonzero(sums.rows > 0)
    n_slots, n_chan, _ = sums.data.shape
    count = sums.rows[present].astype(np.float64)
    create_like(main, out, n_rows=present.size, n_channels=n_chan, columns=("DATA", "MODEL_DATA"))
    with open_table(out, writable=True) as ms:
        ms.putcol("DATA", (sums.data / safe)[present])
        ms.putcol("MODEL_DATA", (sums.model / safe)[present])
        ms.putcol("FLAG", ~has[present])
        ms.putcol("FLAG_ROW", ~has[present].any(axis=(1, 2)))
        ms.putcol("WEIGHT_SPECTRUM", sums.weight[present])
        mean_weight = np.where(has, sums.weight, 0).mean(axis=1)[present].astype(np.float32)
        mean_weight = np.maximum(mean_weight, 1e-6).astype(np.float32)
        ms.putcol("WEIGHT", mean_weight)
        ms.putcol("SIGMA", (1 / np.sqrt(mean_weight)).astype(np.float32))
        pairs = np.tile(np.stack([sums.ant1, sums.ant2], axis=1), (sums.n_slots_in_time, 1))[present]
        ms.putcol("ANTENNA1", pairs[:, 0])
        ms.putcol("ANTENNA2", pairs[:, 1])
        ms.putcol("UVW", sums.uvw[present] / count[:, None])
        bins = np.arange(n_slots)[present] // sums.ant1.size
        times = np.array([np.mean([t for t, b in sums.bin_of_time.items() if b == i]) for i in range(sums.n_slots_in_time)])
        for name in ("TIME", "TIME_CENTROID"):
            ms.putcol(name, times[bins])
        for name in ("INTERVAL", "EXPOSURE"):
            ms.putcol(name, sums.interval[present])
        ms.putcol("SCAN_NUMBER", np.ones(present.size, dtype=np.int32))
