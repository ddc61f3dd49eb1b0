"""Plots of calibration tables, for people: one panel for each antenna, gains against time, maps of flags.

The files are small (32 colors, at most `common.previews.LIMIT_BYTES`) so that the Dagster UI can show them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.calibration.caltable import CalTable, read_caltable
from dsa110_assets.common.previews import canvas, few_colours, first_below_limit, picture_of

_COLORS = ("tab:blue", "tab:orange")
_COLUMNS = 12
_POINTS = 96


def plot_solutions(tables: Sequence[Path], directory: Path, *, in_data: Collection[str] | None = None) -> dict[str, Path]:
    """Write the plots of a set of tables into a directory.

    Args:
        tables: bandpass, gain and delay tables.
        directory: existing.
        in_data: names of the antennas that were in the data; None: all that have a solution.

    Returns:
        Plots by title: amplitude and phase of the bandpass for each antenna, gains against time, one map of flags for
            each table.
    """
    made: dict[str, Path] = {}
    for path in tables:
        solutions = read_caltable(path)
        shown = [
            i for i, name in enumerate(solutions.antenna_names) if (not solutions.flag[:, i].all() if in_data is None else name in in_data)
        ]
        stem = path.stem
        if solutions.is_delay:
            made[f"{stem}: delays"] = _save(directory / f"{stem}-values.png", lambda figure, s=solutions, a=shown: _delays(figure, s, a))
        elif solutions.kind == "B Jones":
            for what in ("amplitude", "phase"):
                made[f"{stem}: {what} per antenna"] = _save(
                    directory / f"{stem}-{what}.png", lambda figure, s=solutions, a=shown, w=what: _per_antenna(figure, s, a, w)
                )
        else:
            made[f"{stem}: against time"] = _save(directory / f"{stem}-time.png", lambda figure, s=solutions, a=shown: _gains(figure, s, a))
        made[f"{stem}: flags"] = _save(directory / f"{stem}-flags.png", lambda figure, s=solutions, a=shown: _flags(figure, s, a))
    return made


def _save(png: Path, draw: Callable[[Any], None]) -> Path:
    """Draw a figure and write it with few colors; shrink it until it is small enough for the UI."""
    figure = canvas(12, 9, dpi=90)
    draw(figure)
    full = picture_of(figure)
    smaller = ((1.0, 32), (1.0, 12), (0.8, 12), (0.6, 12), (0.4, 12))
    png.write_bytes(first_below_limit(few_colours(full, colors, scale) for scale, colors in smaller))
    return png


def _per_antenna(figure: Any, solutions: CalTable, antennas: Sequence[int], what: str) -> None:
    """Draw a cell for each antenna, X blue and Y orange, against frequency; all cells have the same scale.

    All cells share one set of axes, because a hundred of them take minutes.
    """
    gain, mhz = _thinned(np.where(solutions.flag, np.nan, solutions.gain)[0][list(antennas)], solutions.frequency_hz / 1e6)
    values = np.abs(gain) if what == "amplitude" else np.degrees(np.angle(gain))
    good = values[np.isfinite(values)]
    low, high = (-180.0, 180.0) if what == "phase" else (0.0, 1.5 * float(np.percentile(good, 99)) if good.size else 1.0)
    columns = min(_COLUMNS, max(1, len(antennas)))
    rows = max(1, -(-len(antennas) // columns))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.94))
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[])
    axes.hlines(np.arange(rows + 1), 0, columns, color="0.8", lw=0.5)
    axes.vlines(np.arange(columns + 1), 0, rows, color="0.8", lw=0.5)
    across = 0.04 + 0.92 * (mhz - mhz[0]) / max(float(np.ptp(mhz)), 1e-9)
    number = np.arange(len(antennas))
    for p, color in enumerate(_COLORS):
        x = (number % columns)[:, None] + across[None, :]
        y = (number // columns)[:, None] + 0.96 - 0.80 * np.clip((values[:, :, p] - low) / (high - low), 0, 1)
        axes.plot(x.ravel(), y.ravel(), ",", color=color)
    for k, antenna in enumerate(antennas):
        dead = np.isnan(gain[k]).all(axis=0)
        label = "" if not dead.any() else " dead" if dead.all() else " X dead" if dead[0] else " Y dead"
        axes.text(
            k % columns + 0.04, k // columns + 0.03, solutions.antenna_names[antenna] + label, fontsize=7, va="top",
            color="red" if dead.any() else "black",
        )  # fmt: skip
    unit = " (deg)" if what == "phase" else ""
    figure.suptitle(
        f"{solutions.path.name}: {what}{unit} from {low:g} to {high:.3g}, {mhz[0]:.0f} to {mhz[-1]:.0f} MHz in each cell; X blue, Y orange",
        fontsize=9,
    )


def _thinned(gain: NDArray[np.complex128], mhz: NDArray[np.float64]) -> tuple[NDArray[np.complex128], NDArray[np.float64]]:
    """Average neighboring channels to no more points than a cell has pixels; (Nants, Nchan, 2) and (Nchan,)."""
    step = max(1, -(-mhz.size // _POINTS))
    starts = np.arange(0, mhz.size, step)
    good = np.isfinite(gain)
    number = np.add.reduceat(good, starts, axis=1, dtype=np.int64)
    total = np.add.reduceat(np.where(good, gain, 0.0), starts, axis=1)
    means = np.where(number > 0, total / np.maximum(number, 1), np.nan)
    return means, np.add.reduceat(mhz, starts) / np.diff(np.append(starts, mhz.size))


def _gains(figure: Any, solutions: CalTable, antennas: Sequence[int]) -> None:
    """Draw amplitude and phase against time, a line for each antenna, and their medians in time against antenna."""
    minutes = (solutions.time_s - solutions.time_s.mean()) / 60
    gain = np.where(solutions.flag, np.nan, solutions.gain)[:, antennas, 0]
    names = [solutions.antenna_names[a] for a in antennas]
    panels = figure.subplots(2, 2, squeeze=False, gridspec_kw={"hspace": 0.3})
    for row, (values, label) in enumerate(((np.abs(gain), "amplitude"), (np.degrees(np.angle(gain)), "phase, deg"))):
        for p, color in enumerate(_COLORS):
            panels[row, 0].plot(minutes, values[..., p], ".-", color=color, lw=0.5, ms=3)
            panels[row, 1].plot(np.arange(len(names)), _median_in_time(values[..., p]), ".", color=color, ms=4)
        panels[row, 0].set_ylabel(label)
        panels[row, 0].set_xlabel("minutes from the middle")
        every = max(1, len(names) // 24)
        panels[row, 1].set_xticks(np.arange(0, len(names), every), names[::every], fontsize=6, rotation=90)
        panels[row, 1].set_xlabel("antenna (median in time)")
    figure.suptitle(f"{solutions.path.name}: X blue, Y orange; {100 * solutions.flag[:, antennas].mean():.1f} % flagged", fontsize=9)


def _median_in_time(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Median over the first axis; NaN where no value is finite."""
    some = np.isfinite(values).any(axis=0)
    result = np.full(values.shape[1], np.nan)
    result[some] = np.nanmedian(values[:, some], axis=0)
    return result


def _delays(figure: Any, solutions: CalTable, antennas: Sequence[int]) -> None:
    assert solutions.delay_ns is not None
    delay = np.where(solutions.flag[:, :, 0], np.nan, solutions.delay_ns)[0, antennas]
    panel = figure.subplots()
    for p, color in enumerate(_COLORS):
        panel.plot(np.arange(len(antennas)), delay[:, p], ".", color=color)
    panel.set_xticks(np.arange(len(antennas)), [solutions.antenna_names[a] for a in antennas], fontsize=6, rotation=90)
    panel.set_ylabel("delay, ns")
    panel.set_title(f"{solutions.path.name}: X blue, Y orange", fontsize=9)


def _flags(figure: Any, solutions: CalTable, antennas: Sequence[int]) -> None:
    """Draw the flagged solutions: antenna against frequency (or time, for one channel), X and Y side by side."""
    by_time = solutions.frequency_hz.size == 1
    panels = figure.subplots(1, 2, sharey=True)
    for p, panel in enumerate(panels):
        flags = solutions.flag[:, antennas, 0, p].T if by_time else solutions.flag[..., p].mean(axis=0)[list(antennas)]
        ends = (0.0, float(solutions.time_s.size)) if by_time else (solutions.frequency_hz[0] / 1e6, solutions.frequency_hz[-1] / 1e6)
        if ends[0] == ends[1]:
            ends = (ends[0] - 0.5, ends[1] + 0.5)
        panel.imshow(
            flags.astype(float),
            aspect="auto",
            interpolation="nearest",
            cmap="Greys",
            vmin=0,
            vmax=1,
            extent=(*ends, len(antennas) - 0.5, -0.5),
        )
        panel.set_title(f"{'XY'[p]}: {100 * flags.mean():.1f} % flagged (black)", fontsize=9)
        panel.set_xlabel("solution interval" if by_time else "MHz")
    every = max(1, -(-len(antennas) // 48))
    panels[0].set_yticks(np.arange(0, len(antennas), every), [solutions.antenna_names[a] for a in antennas][::every], fontsize=6)
    figure.suptitle(solutions.path.name, fontsize=9)
