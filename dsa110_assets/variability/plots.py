"""Plots of light curves and of the population, as PNG bytes."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.previews import ACCENT, INK, QUIET, SMALL_DPI, canvas, png_of, show_plane
from dsa110_assets.variability.lightcurves import LightCurves

MOST_CANDIDATES = 20
"""Largest number of candidate folders of a night. A longer list indicates a problem that more pictures cannot solve."""
MOST_STAMPS = 24
CUTOUT_BEAMS = 12.0
"""Width of a cutout in beams."""
NEIGHBOUR_RADIUS_DEG = 0.1


def light_curve_png(
    light_curves: LightCurves,
    source_id: object,
    *,
    title: str | None = None,
    baseline_jy: float | None = None,
    event_mjd: float | None = None,
    limit_sigma: float = 3.0,
    small: bool = False,
) -> bytes:
    """Light curve of one source: fluxes with 1 sigma bars, limits as arrows, the baseline and the event's epoch.

    Args:
        light_curves: normalized or not; the axis label shows which.
        source_id: the source to draw.
        title: title; None takes the source's identifier.
        baseline_jy: drawn as a line.
        event_mjd: drawn as a band.
        limit_sigma: height of a limit, in errors.
        small: draw a thumbnail below 50 kB.

    Raises:
        LightCurveError: there is no such source.
    """
    s = light_curves.index_of(source_id)
    part = slice(int(light_curves.offsets[s]), int(light_curves.offsets[s + 1]))
    time, flux, error, limit = (
        light_curves.time_mjd[part],
        light_curves.flux_jy[part],
        light_curves.flux_err_jy[part],
        light_curves.is_limit[part],
    )
    figure = canvas(5.0, 2.6, dpi=SMALL_DPI, constrained=True) if small else canvas(8.0, 4.0, constrained=True)
    axes = figure.add_subplot()
    origin = float(np.floor(time.min())) if time.size else 0.0
    if event_mjd is not None:
        axes.axvline(event_mjd - origin, color=ACCENT, alpha=0.25, linewidth=6)
    if baseline_jy is not None:
        axes.axhline(1e3 * baseline_jy, color=QUIET, linestyle="--", linewidth=1)
    seen = ~limit
    axes.errorbar(time[seen] - origin, 1e3 * flux[seen], 1e3 * error[seen], fmt="o", color=INK, markersize=4, linewidth=1, capsize=2)
    if limit.any():
        height = 1e3 * limit_sigma * error[limit]
        axes.errorbar(time[limit] - origin, height, 0.15 * height, uplims=True, fmt="_", color=ACCENT, markersize=6, linewidth=1)
    axes.set_xlabel(f"MJD - {origin:.0f} (UTC)")
    axes.set_ylabel(f"{'normalized' if light_curves.normalised else 'measured'} flux density (mJy)")
    axes.set_title(title or f"source {source_id}", fontsize=10, parse_math=False)
    axes.grid(alpha=0.2)
    return png_of(figure)


def cutouts_png(
    stamps: Sequence[tuple[str, NDArray[np.float32]]], *, peak_jy: float, noise_jy: float, title: str, highlight: Collection[str] = ()
) -> bytes:
    """Cutouts of one position, side by side in the given order, all on one scale.

    Args:
        stamps: (label, pixels in Jy/beam); shapes may differ.
        peak_jy: flux density shown white.
        noise_jy: the scale begins 3 times this below zero.
        title: title of the figure.
        highlight: labels to show in color: the event's epochs.
    """
    columns = min(8, max(len(stamps), 1))
    rows = -(-max(len(stamps), 1) // columns)
    figure = canvas(1.5 * columns, 1.75 * rows + 0.5, constrained=True)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set_axis_off()
    for axes, (label, pixels) in zip(grid.ravel(), stamps, strict=False):
        show_plane(axes, pixels, vmin=-3.0 * noise_jy, vmax=max(peak_jy, 5.0 * noise_jy))
        axes.set_title(label, fontsize=7, color=ACCENT if label in highlight else INK, parse_math=False)
    figure.suptitle(title, fontsize=9, parse_math=False)
    return png_of(figure)


def eta_v_png(metrics: pd.DataFrame, *, highlight: object = None, small: bool = False) -> bytes:
    """The population in the eta-V plane (logarithmic), with one source highlighted.

    Rows without positive eta and V are left out.
    """
    positive = metrics.loc[(metrics["eta"] > 0) & (metrics["v"] > 0)]
    figure = canvas(4.0, 3.2, dpi=SMALL_DPI, constrained=True) if small else canvas(6.0, 5.0, constrained=True)
    axes = figure.add_subplot()
    axes.loglog(positive["eta"], positive["v"], ".", color=QUIET, markersize=4, alpha=0.6, rasterized=True)
    chosen = positive.loc[positive["source_id"] == highlight] if highlight is not None else positive.iloc[:0]
    if len(chosen):
        axes.loglog(chosen["eta"], chosen["v"], "*", color=ACCENT, markersize=14)
    axes.axvline(1.0, color=QUIET, linewidth=1, linestyle="--")
    axes.set_xlabel(r"$\eta$ (reduced $\chi^2$ of a constant)")
    axes.set_ylabel("$V$ (standard deviation / mean)")
    axes.set_title(f"{len(positive)} sources", fontsize=10)
    axes.grid(alpha=0.2)
    return png_of(figure)
