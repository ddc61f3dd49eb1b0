"""Plots of calibration tables for a person's eye. What does not belong here: figures that decide anything (`quality`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dsa110_assets.calibration.caltable import CalTable, read_caltable


def plot_solutions(tables: Sequence[Path], png: Path) -> None:
    """One row a table: amplitude and phase of every receptor, against frequency (bandpass) or antenna (gains)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 3.6 * max(1, len(tables))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(max(1, len(tables)), 2, squeeze=False)
    for row, path in zip(axes, tables, strict=False):
        solutions = read_caltable(path)
        gain = np.where(solutions.flag, np.nan, solutions.gain)
        if solutions.frequency_hz.size > 1:
            _against_frequency(row, solutions, gain)
        else:
            _against_antenna(row, solutions, gain)
        row[0].set_title(f"{path.name} ({solutions.kind}): amplitude", fontsize=9)
        row[1].set_title(f"phase, {100 * solutions.flag.mean():.1f} % flagged", fontsize=9)
        row[1].set_ylabel("deg")
    figure.savefig(png, dpi=90)


def _against_frequency(row: np.ndarray, solutions: CalTable, gain: np.ndarray) -> None:
    mhz = solutions.frequency_hz / 1e6
    for p, colour in enumerate(("tab:blue", "tab:orange")):
        lines = gain[0, :, :, p].T
        lines = lines[:, np.isfinite(lines).any(axis=0)]
        row[0].plot(mhz, np.abs(lines), color=colour, lw=0.4, alpha=0.5)
        row[1].plot(mhz, np.degrees(np.angle(lines)), ".", color=colour, ms=1.2, alpha=0.5)
    for axis in row:
        axis.set_xlabel("MHz (X blue, Y orange)")


def _against_antenna(row: np.ndarray, solutions: CalTable, gain: np.ndarray) -> None:
    number = np.arange(1, gain.shape[1] + 1)
    for p, colour in enumerate(("tab:blue", "tab:orange")):
        for one in gain[:, :, 0, p]:
            row[0].plot(number, np.abs(one), ".", color=colour, ms=4)
            row[1].plot(number, np.degrees(np.angle(one)), ".", color=colour, ms=4)
    for axis in row:
        axis.set_xlabel("station (X blue, Y orange)")
