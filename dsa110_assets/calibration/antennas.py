"""Each antenna in a solution, in few numbers; and over the nights: dead, turned or drifting.

The numbers are registered with the tables, so that nobody opens tables to see how an antenna does. No product depends
on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.quality import INACTIVE_STATIONS

DEAD = 0.98
"""An antenna with a larger flagged fraction has no solution."""
TURNED_DEG = 60.0
"""A larger change of phase against the nights before, beyond that of the whole array, is a turn."""
STEADY_DEG = 30.0
"""Only a phase that scattered less in the three nights before can be called turned."""
DRIFT_DEG, DRIFT_AMPLITUDE = 30.0, 0.2
"""Changes from the first to the last third of the nights that are called a drift; the amplitude's is relative."""
FEWEST_NIGHTS = 6
"""A drift needs so many nights."""
_NIGHTS_BEFORE = 3
RECEPTORS = ("X", "Y")


class AntennaWord(StrEnum):
    """How an antenna does, in a word; the worst first."""

    DEAD = "dead"
    HALF_DEAD = "one receptor dead"
    TURNED = "turned"
    DRIFTING = "drifting"
    GOOD = "good"
    ABSENT = "not in the data"


WORST_FIRST = tuple(AntennaWord)


@dataclass(frozen=True)
class AntennaNight:
    """An antenna in one solution.

    ``flagged``: fraction. For X and Y, None without a solution: ``amplitude`` (relative to the array's median),
    ``phase_deg`` (to the reference antenna). ``bandpass_scatter``: standard deviation over the mean of the bandpass's
    amplitude, the worse receptor.
    """

    night: str
    refant: str
    flagged: float
    amplitude: tuple[float | None, float | None]
    phase_deg: tuple[float | None, float | None]
    bandpass_scatter: float | None


@dataclass(frozen=True)
class AntennaState:
    """The word on an antenna, and why."""

    word: AntennaWord
    reason: str


def figures_of_antennas(tables: Sequence[CalTable]) -> dict[str, dict[str, Any]]:
    """Numbers of each connected antenna in a set of tables (`AntennaNight` without night and reference antenna).

    Amplitude and phase are those of the product of all tables of complex gains, averaged over times and channels.
    """
    gains = [one for one in tables if not one.is_delay]
    if not gains:
        return {}
    names = gains[0].antenna_names
    total = np.ones((len(names), 2), dtype=np.complex128)
    flagged = np.zeros(len(names))
    scatter = np.full(len(names), np.nan)
    for one in gains:
        good = ~one.flag
        number = good.sum(axis=(0, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            total *= np.where(good, one.gain, 0.0).sum(axis=(0, 2)) / np.where(number > 0, number, np.nan)
        flagged = np.maximum(flagged, one.flag.mean(axis=(0, 2, 3)))
        if one.kind == "B Jones":
            scatter = _scatter(one)
    amplitude = np.abs(total)
    median = np.nanmedian(amplitude, axis=0) if np.isfinite(amplitude).any(axis=0).all() else np.ones(2)
    return {
        name: {
            "flagged": round(float(flagged[i]), 4),
            "amplitude": [_rounded(amplitude[i, p] / median[p], 4) for p in range(2)],
            "phase_deg": [_rounded(np.degrees(np.angle(total[i, p])) if np.isfinite(amplitude[i, p]) else np.nan, 1) for p in range(2)],
            "bandpass_scatter": _rounded(scatter[i], 4),
        }
        for i, name in enumerate(names)
        if name not in INACTIVE_STATIONS
    }


def state_of(nights: Sequence[AntennaNight], turns_of_array: Mapping[str, tuple[float, float]] | None = None) -> AntennaState:
    """The word on an antenna from its solutions.

    Args:
        nights: in order of time, the newest last.
        turns_of_array: by night, the array's median change of phase (deg) of X and Y, which is no antenna's own.
    """
    if not nights:
        return AntennaState(AntennaWord.ABSENT, "no solution has it")
    newest = nights[-1]
    alive = [newest.amplitude[p] is not None for p in range(2)]
    if newest.flagged >= DEAD or not any(alive):
        since = next((one.night for one in reversed(nights) if one.flagged < DEAD), None)
        return AntennaState(AntennaWord.DEAD, f"no solution since {since}" if since else "no solution in these nights")
    if not all(alive):
        return AntennaState(AntennaWord.HALF_DEAD, f"receptor {RECEPTORS[alive.index(False)]} has no solution")
    same = [one for one in nights if one.refant == newest.refant]
    turned = _turn(same, (turns_of_array or {}).get(newest.night, (0.0, 0.0)))
    if turned:
        return AntennaState(AntennaWord.TURNED, turned)
    drift = _drift(same)
    return AntennaState(AntennaWord.DRIFTING, drift) if drift else AntennaState(AntennaWord.GOOD, "")


def turns_of_array(antennas: Mapping[str, Sequence[AntennaNight]]) -> dict[str, tuple[float, float]]:
    """Median change of phase (deg, X and Y) of all antennas on their newest night, against the nights before."""
    changes: dict[str, list[tuple[float, float]]] = {}
    for nights in antennas.values():
        if nights:
            same = [one for one in nights if one.refant == nights[-1].refant]
            change = [_change(same, p) for p in range(2)]
            if change[0] is not None and change[1] is not None:
                changes.setdefault(nights[-1].night, []).append((change[0][0], change[1][0]))
    return {night: tuple(float(one) for one in np.median(np.array(found), axis=0)) for night, found in changes.items()}  # pyright: ignore[reportReturnType]


def _turn(nights: Sequence[AntennaNight], of_array: tuple[float, float]) -> str:
    for p, receptor in enumerate(RECEPTORS):
        change = _change(nights, p)
        if change is not None and change[1] < STEADY_DEG and abs(turn := _wrapped(change[0] - of_array[p])) > TURNED_DEG:
            return f"the phase of {receptor} turned by {turn:+.0f} deg"
    return ""


def _change(nights: Sequence[AntennaNight], p: int) -> tuple[float, float] | None:
    """Change of the newest phase against the median of the nights before, and their scatter (deg).

    None with fewer than three of them: whether a phase is steady is then not known.
    """
    newest, before = nights[-1].phase_deg[p], [one.phase_deg[p] for one in nights[-1 - _NIGHTS_BEFORE : -1]]
    known = [one for one in before if one is not None]
    if newest is None or len(known) < _NIGHTS_BEFORE:
        return None
    offsets = np.array([_wrapped(one - known[0]) for one in known])
    level = known[0] + float(np.median(offsets))
    return _wrapped(newest - level), float(np.abs(offsets - np.median(offsets)).max())


def _drift(nights: Sequence[AntennaNight]) -> str:
    if len(nights) < FEWEST_NIGHTS:
        return ""
    third = len(nights) // 3
    for p, receptor in enumerate(RECEPTORS):
        phases = [one.phase_deg[p] for one in nights]
        amplitudes = [one.amplitude[p] for one in nights]
        if all(one is not None for one in amplitudes):
            first, last = (float(np.median(np.array(part, float))) for part in (amplitudes[:third], amplitudes[-third:]))
            if first > 0 and abs(last / first - 1.0) > DRIFT_AMPLITUDE:
                return f"the gain of {receptor} changed by {100 * (last / first - 1):+.0f} % in {len(nights)} nights"
        if all(one is not None for one in phases):
            track = np.unwrap(np.array(phases, float), period=360.0)
            moved = float(np.median(track[-third:]) - np.median(track[:third]))
            if abs(moved) > DRIFT_DEG:
                return f"the phase of {receptor} moved by {moved:+.0f} deg in {len(nights)} nights"
    return ""


def _scatter(bandpass: CalTable) -> NDArray[np.float64]:
    """Standard deviation over mean of each antenna's amplitude along the band, of the worse receptor."""
    amplitude = np.where(bandpass.flag, np.nan, np.abs(bandpass.gain)).mean(axis=0)
    number = np.isfinite(amplitude).sum(axis=1)
    mean = np.nansum(amplitude, axis=1) / np.maximum(number, 1)
    variance = np.nansum((amplitude - mean[:, None]) ** 2, axis=1) / np.maximum(number, 1)
    relative = np.where((number > 1) & (mean > 0), np.sqrt(variance) / np.maximum(mean, 1e-30), np.nan)
    return np.fmax(relative[:, 0], relative[:, 1])


def _wrapped(degrees: float) -> float:
    return (degrees + 180.0) % 360.0 - 180.0


def _rounded(value: float, digits: int) -> float | None:
    return round(float(value), digits) if np.isfinite(value) else None
