"""Quality of a calibration table: measurements, and a verdict with its reasons.

Thresholds come from real tables of this telescope: the one accepted on 2025-10-13 has 29 % flagged (21 of the 117 slots
are never connected), a median S/N of 9.5 and phases that change by 15 deg from channel to channel; junk has an S/N of
0.5 and phases that change by 104 deg, like random phases.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dsa110_assets.calibration.caltable import CalTable, read_caltable

INACTIVE_STATIONS = frozenset(str(n) for n in (10, *range(21, 24), *range(52, 68), 117))
"""Slots that are not connected; they are flagged in every table, which does not affect its quality."""

MIN_MEDIAN_SNR = 3.0
MAX_PHASE_STEP_DEG = 60.0
"""Channel-to-channel phase scatter; independent random phases give 104 deg."""
MAX_AMPLITUDE_STEP = 0.4
MAX_FLAGGED_ACTIVE = 0.5
MIN_LIVE_ANTENNAS = 4
MAX_DELAY_NS = 20.0
"""The correlator has removed the cable delays; the rest is below 0.05 ns (3 deg across the band)."""


@dataclass(frozen=True)
class CaltableQuality:
    """Measurements of one table, and the verdict.

    Fractions and lists count all slots of the ANTENNA table, except the "active" ones: those count connected stations
    that were in the data. ``dead_antennas``: names of antennas without a solution; ``dead_inactive``: those of them
    that are not connected; ``dead_receptors``: number of receptors (antenna and polarization) without a solution.
    ``median_amplitude``, ``median_snr``: of unflagged solutions. ``amplitude_scatter``: median over receptors of the
    amplitude's standard deviation divided by its mean. ``phase_step_deg``: scatter of the phase difference between
    neighboring channels of a spectral window, None for one channel; ``amplitude_step``: the same for amplitudes,
    relative. ``flagged_per_antenna``: by name. ``flagged_per_channel``: ascending in frequency. ``largest_delay_ns``:
    of a table of delays, which has no S/N. ``accepted``: the verdict; ``reasons``: why a table is refused;
    ``warnings``: what to check.
    """

    path: str
    kind: str
    flagged_fraction: float
    flagged_fraction_active: float
    dead_antennas: tuple[str, ...]
    dead_inactive: tuple[str, ...]
    dead_receptors: int
    median_amplitude: float
    amplitude_scatter: float
    median_snr: float
    phase_step_deg: float | None
    amplitude_step: float | None
    flagged_per_antenna: dict[str, float]
    flagged_per_channel: tuple[float, ...]
    refant: str
    largest_delay_ns: float | None
    accepted: bool
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    def figures(self) -> dict[str, float | int]:
        """The named figures that are registered with the table."""
        return {
            "flagged_fraction": self.flagged_fraction_active,
            "dead_receptors": self.dead_receptors,
            "median_amplitude": self.median_amplitude,
            "median_snr": self.median_snr,
        }

    def to_json(self) -> str:
        """Return the figures as JSON, for the file beside the table."""
        return json.dumps(asdict(self), indent=1)


def assess(table: Path, *, in_data: Collection[str] | None = None) -> CaltableQuality:
    """Measure a table and judge it.

    Args:
        table: bandpass or gain table.
        in_data: names of the antennas in the solver's data; a table shows antennas without data like dead ones. None:
            all connected stations.

    Raises:
        NonRetriableError: not a table of complex gains.
    """
    return assess_solutions(read_caltable(table), in_data=in_data)


def assess_solutions(solutions: CalTable, *, in_data: Collection[str] | None = None) -> CaltableQuality:
    """Measure solutions that are in memory; see `assess`."""
    good = ~solutions.flag
    names = np.asarray(solutions.antenna_names)
    inactive = np.isin(names, list(INACTIVE_STATIONS))
    dead = ~good.any(axis=(0, 2, 3))
    dead_receptors = int((~good.any(axis=(0, 2))).sum())
    amplitude = np.abs(solutions.gain)
    any_good = bool(good.any())
    median_amplitude = float(np.median(amplitude[good])) if any_good else float("nan")
    median_snr = float(np.median(solutions.snr[good])) if any_good else 0.0
    delay_ns = None if solutions.delay_ns is None else float(np.abs(np.where(good[:, :, 0], solutions.delay_ns, 0.0)).max())
    phase_step, amplitude_step = _steps(solutions)
    scatter = _scatter(solutions)
    active = ~inactive if in_data is None else ~inactive & np.isin(names, list(in_data))
    live = ~dead & active
    active_flagged = float(solutions.flag[:, active].mean()) if active.any() else 1.0

    reasons: list[str] = []
    if live.sum() < MIN_LIVE_ANTENNAS:
        reasons.append(f"only {int(live.sum())} antennas have solutions")
    if delay_ns is None and any_good and median_snr < MIN_MEDIAN_SNR:
        reasons.append(f"median S/N {median_snr:.2f} is below {MIN_MEDIAN_SNR:g}")
    if phase_step is not None and phase_step > MAX_PHASE_STEP_DEG:
        reasons.append(f"phases scatter by {phase_step:.0f} deg from channel to channel (random phases: 104 deg)")
    if amplitude_step is not None and amplitude_step > MAX_AMPLITUDE_STEP:
        reasons.append(f"amplitudes scatter by {100 * amplitude_step:.0f} % from channel to channel")
    if active_flagged > MAX_FLAGGED_ACTIVE:
        reasons.append(f"{100 * active_flagged:.0f} % of the active antennas' solutions are flagged")
    if delay_ns is not None and delay_ns > MAX_DELAY_NS:
        reasons.append(f"the largest delay is {delay_ns:.1f} ns, above {MAX_DELAY_NS:g} ns")
    if any_good and not np.isfinite(amplitude[good]).all():
        reasons.append("some amplitudes are not finite")
    warnings: list[str] = []
    unexpected = names[dead & active]
    if unexpected.size:
        warnings.append(f"antennas without solutions: {', '.join(unexpected)}")
    if any_good and amplitude[good].max() > 10 * median_amplitude:
        warnings.append(f"largest amplitude is {amplitude[good].max() / median_amplitude:.0f} times the median")
    refants = solutions.refants
    return CaltableQuality(
        path=str(solutions.path),
        kind=solutions.kind,
        flagged_fraction=float(solutions.flag.mean()),
        flagged_fraction_active=active_flagged,
        dead_antennas=tuple(str(n) for n in names[dead]),
        dead_inactive=tuple(str(n) for n in names[dead & inactive]),
        dead_receptors=dead_receptors,
        median_amplitude=median_amplitude,
        amplitude_scatter=scatter,
        median_snr=median_snr,
        phase_step_deg=phase_step,
        amplitude_step=amplitude_step,
        flagged_per_antenna={str(n): round(float(f), 4) for n, f in zip(names, solutions.flag.mean(axis=(0, 2, 3)), strict=True)},
        flagged_per_channel=tuple(round(float(f), 4) for f in solutions.flag.mean(axis=(0, 1, 3))),
        refant=",".join(str(names[a]) for a in refants if a < names.size),
        largest_delay_ns=delay_ns,
        accepted=not reasons,
        reasons=tuple(reasons),
        warnings=tuple(warnings),
    )


def _steps(solutions: CalTable) -> tuple[float | None, float | None]:
    """Median scatter between neighboring channels of a spectral window: (phase in deg, relative amplitude)."""
    good = ~solutions.flag
    pair = good[:, :, 1:] & good[:, :, :-1] & (np.diff(solutions.window) == 0)[None, None, :, None]
    if not pair.any():
        return None, None
    turn = solutions.gain[:, :, 1:] * np.conj(solutions.gain[:, :, :-1])
    phases: list[float] = []
    amplitudes: list[float] = []
    amplitude = np.abs(solutions.gain)
    for t, a, p in np.argwhere(pair.sum(axis=2) > 2):
        use = pair[t, a, :, p]
        phase = np.angle(turn[t, a, use, p])
        phases.append(float(np.sqrt(np.mean(phase**2))))
        step = amplitude[t, a, 1:, p][use] - amplitude[t, a, :-1, p][use]
        mean = float(amplitude[t, a, good[t, a, :, p], p].mean())
        amplitudes.append(float(np.sqrt(np.mean(step**2))) / mean)
    if not phases:
        return None, None
    return float(np.degrees(np.median(phases))), float(np.median(amplitudes))


def _scatter(solutions: CalTable) -> float:
    """Median over receptors of std/mean of the amplitude over times and channels."""
    amplitude = np.where(solutions.flag, np.nan, np.abs(solutions.gain))
    count = np.isfinite(amplitude).sum(axis=(0, 2))
    mean = np.nansum(amplitude, axis=(0, 2)) / np.maximum(count, 1)
    variance = np.nansum((amplitude - mean[None, :, None]) ** 2, axis=(0, 2)) / np.maximum(count, 1)
    use = (count > 1) & (mean > 0)
    return float(np.median(np.sqrt(variance[use]) / mean[use])) if use.any() else 0.0
