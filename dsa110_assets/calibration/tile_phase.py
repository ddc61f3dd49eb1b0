"""Phases of one tile against the known sky, solved on top of the tables; kept only if they improve other channels.

One phase for each receptor and tile. With ``V = g_i conj(g_j) M``, ``|g| = 1``, the sum of squares depends on the gains
only through ``R_ij = sum w V conj(M)``, so one pass over the data suffices. We solve on one half of the band and test
on the other, and vice versa. Fitted noise makes the other half worse. So does what the model lacks: its fringes differ
between the halves, while a receptor's phase is the same in both. Where they do not differ, on short baselines, it shows
as scatter: if the phases are right, each baseline gains ``|change|**2 sum w |M|**2``, and what random groups of
baselines scatter around that is the error of the gain. The model fixes positions, so a solution cannot move the sky.
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


@dataclass(frozen=True)
class TilePhases:
    """Result of a phase solution.

    ``solutions``: a table for `apply`, None if the tables' phases stay. ``significance``: by how much the phases
    improve the channels on which they were not solved, in standard deviations of that (negative: worse).
    ``chi2_gain``: decrease of chi-squared on those channels. ``rms_deg``: of the phases. ``n_receptors``: whose phase
    is known. ``n_sources``: in the model.
    """

    solutions: CalTable | None
    significance: float
    chi2_gain: float
    rms_deg: float
    n_receptors: int
    n_sources: int

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
        return {**about, "tile_phases_significance": self.significance, "tile_phases_rms_deg": self.rms_deg}


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
        correlation, power = _correlate(main, model.predict, solutions, len(names), frequency.size, progress)
        time_s = float(np.mean(main.getcol("TIME")))
        power *= 2.0 * float(width[0]) * float(main.getcell("INTERVAL", 0)) / sefd_jy**2
        correlation *= 2.0 * float(width[0]) * float(main.getcell("INTERVAL", 0)) / sefd_jy**2
    gain = np.stack([_phases(c) for c in correlation])  # (2 halves, 2 polarizations, Nants)
    gain[_errors_rad(power) > np.radians(MAX_PHASE_ERROR_DEG)] = 1.0
    improvement, expected = np.zeros(power.shape[1:]), np.zeros(power.shape[1:])
    for solved, tested in ((0, 1), (1, 0)):
        change = np.conj(gain[solved][:, :, None]) * gain[solved][:, None, :] - 1.0
        improvement += (change * correlation[tested]).real  # both triangles: 2 Re sum over i < j
        expected += np.abs(change) ** 2 * power[tested]
    chi2_gain = float(improvement.sum())
    pairs = np.triu_indices(len(names), 1)
    thermal = np.sqrt(2.0 * float(expected.sum()))
    scatter = error_of_sum((2.0 * (improvement - np.sign(chi2_gain) * expected / 2.0))[:, *pairs].ravel())
    error = max(float(thermal), scatter)
    significance = chi2_gain / error if error > 0 else 0.0
    both = _phases(correlation.sum(axis=0))
    certain = _errors_rad(power.sum(axis=0)) <= np.radians(MAX_PHASE_ERROR_DEG)
    both[~certain] = 1.0
    kept = significance > MIN_SIGNIFICANCE
    phases = np.degrees(np.angle(both[certain])) if certain.any() else np.zeros(1)
    return TilePhases(
        solutions=_as_table(both, names, frequency, float(width[0]), time_s) if kept else None,
        significance=float(significance),
        chi2_gain=chi2_gain,
        rms_deg=float(np.sqrt(np.mean(phases**2))),
        n_receptors=int(certain.sum()),
        n_sources=len(model.names),
    )


def _correlate(
    main: Any,
    predict: Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.complex64]],
    solutions: Sequence[SolutionsOnData],
    n_ants: int,
    n_chan: int,
    progress: Callable[[float], None] | None,
) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Compute ``sum w V conj(M)`` and ``sum w |M|**2``, hermitian.

    Returns:
        Both of shape (2 halves of the channels, 2 polarizations, Nants, Nants).
    """
    from dsa110_assets.calibration._kernels import correlate

    r = np.zeros((2, 2, n_ants, n_ants), dtype=np.complex128)
    q = np.zeros((2, 2, n_ants, n_ants))
    time_column = np.asarray(main.getcol("TIME"))
    scale = read_apparent_scale(main)
    for first, last in integrations(time_column):
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
                    np.add.at(r[half, p], (a1, a2), one_r[:, half, p])
                    np.add.at(q[half, p], (a1, a2), one_q[:, half, p])
    return r + np.conj(np.swapaxes(r, 2, 3)), q + np.swapaxes(q, 2, 3)


def _phases(correlation: NDArray[np.complex128]) -> NDArray[np.complex128]:
    """Find unit gains (2, Nants) that maximize ``Re sum conj(g_i) g_j R_ij``, by repeated projection.

    The mean phase is 0; antennas without data get 1.
    """
    result = np.ones(correlation.shape[:2], dtype=np.complex128)
    for p, matrix in enumerate(correlation):
        data = np.abs(matrix).sum(axis=1) > 0
        gain = np.ones(matrix.shape[0], dtype=np.complex128)
        for _ in range(_ITERATIONS):
            new = matrix @ gain
            new = np.where(data, new / np.where(np.abs(new) > 0, np.abs(new), 1.0), 1.0)
            new = new + gain  # average with the last step; otherwise the iteration alternates between two solutions
            new = np.where(data, new / np.where(np.abs(new) > 0, np.abs(new), 1.0), 1.0)
            change = np.abs(new - gain).max()
            gain = new
            if change < 1e-9:
                break
        if data.any():
            mean = gain[data].sum()
            gain[data] *= np.conj(mean) / max(abs(mean), 1e-300)
        result[p] = gain
    return result


def _errors_rad(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviation of each phase, (..., Nants): ``1 / sqrt(sum_j Q_ij)``; infinite without data."""
    total = power.sum(axis=-1)
    return np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), np.inf)


def _as_table(
    gain: NDArray[np.complex128], names: tuple[str, ...], frequency: NDArray[np.float64], width_hz: float, time_s: float
) -> CalTable:
    """Put the phases into a table for `apply`: one solution over the whole band."""
    shape = (1, len(names), 1, 2)
    return CalTable(
        path=Path("tile phases"),
        kind="G Jones",
        time_s=np.array([time_s]),
        frequency_hz=np.array([frequency.mean()]),
        width_hz=np.array([np.ptp(frequency) + width_hz]),
        window=np.zeros(1, dtype=np.int64),
        gain=np.ascontiguousarray(gain.T).reshape(shape),
        flag=np.zeros(shape, dtype=bool),
        snr=np.zeros(shape),
        antenna_names=names,
        refants=(),
        declination_deg=None,
    )
