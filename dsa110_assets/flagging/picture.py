"""A plot of the flagged fractions, for people."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dsa110_assets.common.previews import canvas, few_colours, picture_of
from dsa110_assets.flagging.flag import FlagReport

_PLACES = {"left": 0.13, "right": 0.985, "bottom": 0.085, "top": 0.93, "wspace": 0.17, "hspace": 0.3}


def plot_flags(report: FlagReport, png: Path, *, title: str = "") -> None:
    """Plot the flagged percentage of the cross-correlations by reason, antenna, channel and baseline length.

    Writes a PNG of 10 to 20 kB.
    """
    figure = canvas(10, 6, dpi=80)
    (reasons, lengths), (antennas, channels) = figure.subplots(2, 2, gridspec_kw=_PLACES)
    figure.suptitle(f"{title}  {100 * report.fraction:.2f} % flagged".strip(), fontsize=10)

    shown = [(name.replace("_", " "), 100 * share) for name, share in report.by_reason.items() if share > 0] or [("nothing", 0.0)]
    reasons.barh([name for name, _ in shown], [share for _, share in shown], color="tab:blue")
    reasons.invert_yaxis()
    reasons.set_xlabel("% by reason")
    bins = [f"{low:.0f}-{high:.0f}" for low, high, _ in report.by_baseline_m]
    lengths.bar(bins, [100 * share for _, _, share in report.by_baseline_m], color="tab:blue")
    lengths.set_xlabel("baseline (m)")
    lengths.tick_params(axis="x", labelsize=7)
    names = list(report.by_antenna)
    antennas.stairs([100 * share for share in report.by_antenna.values()], np.arange(len(names) + 1) - 0.5, fill=True, color="tab:blue")
    step = max(1, len(names) // 24)
    antennas.set_xticks(np.arange(0, len(names), step), names[::step], rotation=90, fontsize=6)
    antennas.set_xlabel("antenna")
    channels.plot(np.asarray(report.freq_hz) / 1e6, 100 * np.asarray(report.by_channel), lw=0.8)
    channels.set_xlabel("MHz")
    for axes in (lengths, antennas, channels):
        axes.set_ylabel("% flagged")
        axes.set_ylim(bottom=0)
    png.write_bytes(few_colours(picture_of(figure), 32))
