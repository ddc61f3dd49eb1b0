"""Phases of one tile against the known sky, solved on top of the tables; kept only if they improve other channels.

One phase for each receptor and interval: the whole tile, or as short a part of it as improves it further. With
``V = g_i conj(g_j) M``, ``|g| = 1``, the sum of squares depends on the gains only through ``R_ij = sum w V conj(M)``,
so one pass over the data suffices. We solve on one half of the band and test on the other, and vice versa. Fitted noise
makes the other half worse. So does what the model lacks: its fringes differ between the halves, while a receptor's
phase is the same in both. Where they do not differ, on short baselines, it shows as scatter: if the phases are right,
each baseline gains ``|change|**2 sum w |M|**2``, and what random groups of baselines scatter around that is the error
of the gain. The model fixes positions, so a solution cannot move the sky.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.calibration.apply import SolutionsOnData, combine_solutions, fit_to_data
from dsa110_assets.calibration.caltable import CalTable, read_caltable
from dsa110_assets.calibration.model import model_of_tile
from dsa110_assets.common.figures import Figures
from dsa110_assets.common.measurement_sets import (
    integrations,
    open_table,
    read_antenna_pairs,
    read_apparent_scale,
    read_averaging,
    read_summary,
    row_blocks,
)
from dsa110_assets.common.robust import error_of_sum
from dsa110_assets.errors import NoModelError

MIN_SIGNIFICANCE = 3.0
"""Scatter includes what phases do not explain: with all imperfections, true phases of 20 degrees reach 7 to 13."""
MAX_PHASE_ERROR_DEG = 10.0
"""Receptors with a larger phase error keep the tables' phase."""
_ITERATIONS = 200
_MOST_PARTS = 24
"""A tile is cut into at most as many parts as a whole one has integrations."""


@dataclass(frozen=True)
class TilePhases:
    """Result of a phase solution.

    ``solutions``: a table for `apply`, with a row for each integration if phases change, None if the tables' phases
    stay. ``significance``: by how much one phase for the whole tile improves the channels on which it was not
    solved, in standard deviations of that (negative: worse). ``chi2_gain``: decrease of chi-squared on those
    channels. ``rms_deg``: of the phases. ``n_receptors``: whose phase is known. ``n_sources``: in the model.
    ``n_intervals``: of the phases, 0 if none are kept; ``interval_s``: length of one, the mean if they differ.
    """

    solutions: CalTable | None
    significance: float
    chi2_gain: float
    rms_deg: float
    n_receptors: int
    n_sources: int
    n_intervals: int = 0
    interval_s: float = 0.0

    @property
    def kept(self) -> bool:
        """Whether the phases are to be applied."""
        return self.solutions is not None

    @property
    def outcome(self) -> str:
        """What became of the phases, in words."""
        if self.kept:
            return "kept"
        if not self.n_sources:
            return "not solved: no known source is bright enough"
        if not self.n_receptors:
            return f"not solved: too faint, no phase would be known within {MAX_PHASE_ERROR_DEG:.0f} degrees"
        return "not kept: they do not improve the other half of the band"

    def figures(self) -> Figures:
        """Named figures of the phases."""
        about: Figures = {"tile_phases": self.outcome}
        if not self.n_receptors:
            return about
        about |= {"tile_phases_significance": self.significance, "tile_phases_rms_deg": self.rms_deg}
        return {**about, "tile_phases_interval_s": self.interval_s} if self.kept else about


def solve_tile_phases(
    ms: Path,
    tables: Sequence[Path | CalTable],
    sky: pd.DataFrame,
    *,
    sefd_jy: float = 6500.0,
    min_apparent_jy: float = 0.05,
    radius_deg: float = 3.0,
    smearing: bool = True,
    progress: Callable[[float], None] | None = None,
) -> TilePhases:
    """Solve for the phases that remain in a tile after ``tables`` are applied.

    Where the known sky is too faint, or empty, the tables' phases stay.

    Args:
        ms: uncalibrated Measurement Set; only read.
        tables: tables to apply first.
        sky: columns of `catalogs.sky.COLUMNS`.
        sefd_jy: of an antenna and polarization; scales the noise.
        min_apparent_jy, radius_deg: see `model.build_model`.
        smearing: smear the model as the telescope's data are.
        progress: called with the fraction done.

    Raises:
        CalibrationMismatchError: a table does not fit the data.
    """
    try:
        model = model_of_tile(ms, sky, min_apparent_jy=min_apparent_jy, radius_deg=radius_deg, smearing=smearing)
    except NoModelError:
        return TilePhases(None, significance=0.0, chi2_gain=0.0, rms_deg=0.0, n_receptors=0, n_sources=0)
    about = read_summary(ms)
    names, frequency = about.antenna_names, about.frequency_hz
    averaging = read_averaging(ms)
    width = np.full(frequency.size, averaging.channel_hz * averaging.channels)
    solutions = [fit_to_data(one if isinstance(one, CalTable) else read_caltable(one), names, frequency, width) for one in tables]
    with open_table(ms) as main:
        time_s, part_of, correlation, power = _correlate(main, model.predict, solutions, len(names), frequency.size, progress)
        interval_s = float(main.getcell("INTERVAL", 0))
    weight = 2.0 * float(width[0]) * interval_s / sefd_jy**2
    correlation *= weight
    power *= weight
    tables_own = np.ones(correlation.shape[:-1], dtype=np.complex128)
    whole = _fit(correlation, power, 1, tables_own)
    chi2_gain, significance = _improvement(whole.halves, tables_own, correlation, power)
    best = whole if significance > MIN_SIGNIFICANCE else None
    n_parts = len(correlation)
    for n_intervals in (2, 4, 8, 16, n_parts):
        if whole.certain.any() and n_intervals <= n_parts:
            before = tables_own if best is None else best.halves
            shorter = _fit(correlation, power, n_intervals, before)
            if _improvement(shorter.halves, before, correlation, power)[1] > MIN_SIGNIFICANCE:
                best = shorter
    result = whole if best is None else best
    phases = np.degrees(np.angle(result.both[result.certain])) if result.certain.any() else np.zeros(1)
    return TilePhases(
        solutions=None if best is None else _as_table(best.both[part_of], names, frequency, float(width[0]), time_s),
        significance=significance,
        chi2_gain=chi2_gain,
        rms_deg=float(np.sqrt(np.mean(phases**2))),
        n_receptors=int(whole.certain[0].sum()),
        n_sources=len(model.names),
        n_intervals=0 if best is None else best.n_intervals,
        interval_s=0.0 if best is None else (np.ptp(time_s) + interval_s) / best.n_intervals,
    )


@dataclass(frozen=True)
class _Fit:
    """Phases of ``n_intervals``, repeated for each part of the tile.

    ``halves``: (Nparts, 2 halves of the channels, 2 polarizations, Nants), solved on each half. ``both``: (Nparts, 2,
    Nants), solved on both. ``certain``: same shape; whether the phase is known within `MAX_PHASE_ERROR_DEG`.
    """

    n_intervals: int
    halves: NDArray[np.complex128]
    both: NDArray[np.complex128]
    certain: NDArray[np.bool_]


def _fit(correlation: NDArray[np.complex128], power: NDArray[np.float64], n_intervals: int, before: NDArray[np.complex128]) -> _Fit:
    """Solve for the phases of intervals; uncertain ones stay as ``before``, of the shape of halves."""
    groups = np.array_split(np.arange(len(correlation)), n_intervals)
    interval = np.repeat(np.arange(n_intervals), [one.size for one in groups])
    c, q = (np.stack([of_parts[one].sum(axis=0) for one in groups]) for of_parts in (correlation, power))
    most = np.radians(MAX_PHASE_ERROR_DEG)
    halves = np.where((_errors_rad(q) <= most)[interval], _phases(c)[interval], before)
    certain = (_errors_rad(q.sum(axis=1)) <= most)[interval]
    both = np.where(certain, _phases(c.sum(axis=1))[interval], _unit(before.sum(axis=1)))
    return _Fit(n_intervals, halves, both, certain)


def _improvement(
    new: NDArray[np.complex128], old: NDArray[np.complex128], correlation: NDArray[np.complex128], power: NDArray[np.float64]
) -> tuple[float, float]:
    """By how much phases improve the half of the channels on which they were not solved.

    Returns:
        The decrease of chi-squared, and the same in standard deviations.
    """
    improvement, expected = np.zeros(power.shape[2:]), np.zeros(power.shape[2:])
    for solved, tested in ((0, 1), (1, 0)):
        change = _of_baselines(new[:, solved]) - _of_baselines(old[:, solved])
        improvement += (change * correlation[:, tested]).real.sum(axis=0)  # both triangles: 2 Re sum over i < j
        expected += (np.abs(change) ** 2 * power[:, tested]).sum(axis=0)
    chi2_gain = float(improvement.sum())
    thermal = float(np.sqrt(2.0 * expected.sum()))
    pairs = np.triu_indices(power.shape[-1], 1)
    scatter = error_of_sum((2.0 * (improvement - np.sign(chi2_gain) * expected / 2.0))[:, *pairs].ravel())
    error = max(thermal, scatter)
    return chi2_gain, chi2_gain / error if error > 0 else 0.0


def _of_baselines(gain: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """``conj(g_i) g_j`` of gains (..., Nants)."""
    return np.conj(gain[..., :, None]) * gain[..., None, :]


def _unit(values: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Values divided by their amplitudes; 1 where that is 0."""
    size = np.abs(values)
    return np.where(size > 0, values / np.where(size > 0, size, 1.0), 1.0)


def _correlate(
    main: Any,
    predict: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex64]],
    solutions: Sequence[SolutionsOnData],
    n_ants: int,
    n_chan: int,
    progress: Callable[[float], None] | None,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.complex128], NDArray[np.float64]]:
    """Compute ``sum w V conj(M)`` and ``sum w |M|**2``, hermitian, of each part of the tile.

    Returns:
        Time (s) of each integration, the part that it belongs to, and both sums, (Nparts, 2 halves of the channels, 2
        polarizations, Nants, Nants).
    """
    from dsa110_assets.calibration._kernels import correlate

    time_column = np.asarray(main.getcol("TIME"))
    scale = read_apparent_scale(main)
    bounds = list(integrations(time_column))
    parts = np.array_split(np.arange(len(bounds)), min(_MOST_PARTS, len(bounds)))
    part_of = np.repeat(np.arange(len(parts)), [one.size for one in parts])
    r = np.zeros((len(parts), 2, 2, n_ants, n_ants), dtype=np.complex128)
    q = np.zeros(r.shape)
    for (first, last), part in zip(bounds, part_of, strict=True):
        if progress is not None:
            progress(first / time_column.size)
        gain, gain_flag = combine_solutions(solutions, float(time_column[first]), "linear", n_chan)
        for offset, count in row_blocks(last - first, n_chan):
            start = first + offset
            a1, a2 = read_antenna_pairs(main, start, count)
            uvw = np.asarray(main.getcol("UVW", start, count), dtype=np.float64) * scale
            flag = main.getcol("FLAG", start, count) | main.getcol("FLAG_ROW", start, count)[:, None, None] | (a1 == a2)[:, None, None]
            one_r, one_q = np.empty((count, 2, 2), dtype=np.complex128), np.empty((count, 2, 2))
            correlate(
                main.getcol("DATA", start, count), flag, main.getcol("WEIGHT_SPECTRUM", start, count), predict(uvw, time_column[start : start + count]),
                gain, gain_flag, a1, a2, one_r, one_q,
            )  # fmt: skip
            for half in range(2):
                for p in range(2):
                    np.add.at(r[part, half, p], (a1, a2), one_r[:, half, p])
                    np.add.at(q[part, half, p], (a1, a2), one_q[:, half, p])
    times = time_column[[first for first, _ in bounds]].astype(np.float64)
    return times, part_of, r + np.conj(np.swapaxes(r, 3, 4)), q + np.swapaxes(q, 3, 4)


def _phases(correlation: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Find unit gains (..., Nants) that maximize ``Re sum conj(g_i) g_j R_ij``, by repeated projection.

    The mean phase is 0; antennas without data get 1. ``correlation``: (..., Nants, Nants).
    """
    data = np.abs(correlation).sum(axis=-1) > 0
    gain = np.ones(data.shape, dtype=np.complex128)
    for _ in range(_ITERATIONS):
        new = np.where(data, _unit((correlation @ gain[..., None])[..., 0]), 1.0)
        new = np.where(data, _unit(new + gain), 1.0)  # mean of two steps; otherwise it alternates between two solutions
        change = np.abs(new - gain).max()
        gain = new
        if change < 1e-9:
            break
    mean = np.where(data, gain, 0.0).sum(axis=-1, keepdims=True)
    return np.where(data, gain * np.conj(_unit(mean)), 1.0)


def _errors_rad(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each phase, (..., Nants): ``1 / sqrt(sum_j Q_ij)``; infinite without data."""
    total = power.sum(axis=-1)
    return np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), np.inf)


def _as_table(
    gain: NDArray[np.complex128], names: tuple[str, ...], frequency: NDArray[np.float64], width_hz: float, time_s: NDArray[np.float64]
) -> CalTable:
    """Put phases (Nintegrations, 2, Nants) into a table for `apply`, over the whole band.

    `apply` interpolates between times. At those of the integrations it does not, so amplitudes stay 1.
    """
    values = np.ascontiguousarray(np.swapaxes(gain, 1, 2))[:, :, None, :]
    same = bool(np.all(values == values[0]))
    if same:
        values, time_s = values[:1], np.array([time_s.mean()])
    return CalTable(
        path=Path("tile phases"),
        kind="G Jones",
        time_s=time_s,
        frequency_hz=np.array([frequency.mean()]),
        width_hz=np.array([np.ptp(frequency) + width_hz]),
        window=np.zeros(1, dtype=np.int64),
        gain=values,
        flag=np.zeros(values.shape, dtype=bool),
        snr=np.zeros(values.shape),
        antenna_names=names,
        refants=(),
        declination_deg=None,
    )
