"""Flagging of one tile and its report. In order: values, dead receptors, bad antennas, interference, outliers.

Works on arrays in memory, before the Measurement Set is written.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.figures import Details
from dsa110_assets.common.instrument import INTEGRATION_S, LARGEST_CREDIBLE_VALUE
from dsa110_assets.common.robust import MAD_TO_SIGMA_ROUNDED, robust_sigma_along
from dsa110_assets.flagging.interference import flag_interference
from dsa110_assets.flagging.reasons import FlagReason
from dsa110_assets.flagging.threads import over_range

CLIP_SIGMA = 7.0
WEAKEST_RECEPTOR = 0.02
STRONGEST_RECEPTOR = 50.0
"""Receptors whose autocorrelation lies outside these multiples of the array's median are dead (or oscillating)."""
BASELINE_BINS_M = (0.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 3000.0)


@dataclass(frozen=True)
class FlagReport:
    """Flagged data, as fractions of all cross-correlations (autocorrelations do not count).

    ``fraction``: flagged for any reason. ``by_reason``: per `FlagReason` name, each visibility counted once.
    ``by_antenna``: antenna name to fraction, missing subbands not counted. ``by_channel``: shape (Nchan,), at
    ``freq_hz``. ``by_baseline_m``: (shortest, longest, fraction) per bin of length, missing subbands not counted.
    ``dead_receptors``: (antenna name, "X" or "Y"). ``dead_antennas``: names of antennas with two dead receptors.
    """

    fraction: float
    by_reason: Mapping[str, float]
    by_antenna: Mapping[str, float]
    by_channel: tuple[float, ...]
    freq_hz: tuple[float, ...]
    by_baseline_m: tuple[tuple[float, float, float], ...]
    dead_receptors: tuple[tuple[str, str], ...]
    dead_antennas: tuple[str, ...]

    def details(self) -> Details:
        """Tables of the flagged fraction by reason, baseline length and antenna."""
        return {
            "flagged by reason": [{"reason": reason, "fraction": share} for reason, share in self.by_reason.items()],
            "flagged by baseline length": [{"from_m": low, "to_m": high, "fraction": share} for low, high, share in self.by_baseline_m],
            "flagged by antenna": [{"antenna": name, "fraction": share} for name, share in self.by_antenna.items()],
        }


def flag_visibilities(
    vis: NDArray,
    reasons: NDArray,
    *,
    ant_1: NDArray[np.int32],
    ant_2: NDArray[np.int32],
    antenna_names: Sequence[str],
    baseline_length_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    samples: NDArray | None = None,
    integration_s: float = INTEGRATION_S,
    weights: NDArray | None = None,
    bad_antennas: Collection[str] = (),
    rfi: bool = True,
    threads: int = 0,
) -> FlagReport:
    """Flag one tile in place.

    Args:
        vis: (Ntimes, Nbls, Nchan, 2) complex64; absurd values are set to 0, nothing else changes.
        reasons: same shape, uint8 `FlagReason`; existing marks stay.
        ant_1, ant_2: antenna rows of each baseline, shape (Nbls,).
        antenna_names: name of each antenna row.
        baseline_length_m: shape (Nbls,); cross-correlations of length 0 (uvw = 0) are flagged.
        freq_hz: channel centers, shape (Nchan,).
        samples: numbers of samples, same shape as ``vis``; those not positive and finite are flagged.
        integration_s: length of an integration.
        weights: fraction of an integration in each visibility, same shape as ``vis``; None when all are complete.
        bad_antennas: names of antennas that are flagged throughout; others than the array's are left out.
        rfi: search for interference, outliers and baselines with pickup.
        threads: 0 means one per core.
    """
    from dsa110_assets.flagging import _kernels

    if vis.shape[2] != freq_hz.size or vis.shape != reasons.shape:
        msg = f"flag_visibilities: vis {vis.shape}, reasons {reasons.shape} and {freq_hz.size} channels do not fit"
        raise ValueError(msg)
    if samples is not None:
        with np.errstate(invalid="ignore"):
            reasons[(reasons == FlagReason.GOOD) & ~((samples > 0) & (samples < LARGEST_CREDIBLE_VALUE))] = FlagReason.NO_SAMPLES
    rows = vis.shape[0] * vis.shape[1]
    over_range(_kernels.check_values, rows, vis, reasons, LARGEST_CREDIBLE_VALUE, int(FlagReason.ZERO), int(FlagReason.ABSURD_VALUE))
    no_length = (ant_1 != ant_2) & ~(baseline_length_m > 0)  # two antennas in one place, or a position of NaN
    for baseline in np.flatnonzero(no_length):
        part = reasons[:, baseline]
        part[part == FlagReason.GOOD] = FlagReason.NO_BASELINE
    n_ant = len(antenna_names)
    power = np.empty((n_ant, *vis.shape[2:]))
    over_range(_kernels.auto_power, n_ant, vis, reasons, _autos(ant_1, ant_2, n_ant), power)
    present = np.isin(np.arange(n_ant), np.concatenate([ant_1, ant_2]))
    dead = dead_receptors(power, present)
    for antenna, pol in zip(*np.nonzero(dead), strict=True):
        part = reasons[:, (ant_1 == antenna) | (ant_2 == antenna), :, pol]
        part[part == FlagReason.GOOD] = FlagReason.DEAD_RECEPTOR
        reasons[:, (ant_1 == antenna) | (ant_2 == antenna), :, pol] = part
    bad = [number for number, name in enumerate(antenna_names) if name in bad_antennas]
    for baseline in np.flatnonzero(np.isin(ant_1, bad) | np.isin(ant_2, bad)):
        part = reasons[:, baseline]
        part[part == FlagReason.GOOD] = FlagReason.BAD_ANTENNA
    crosses = np.flatnonzero(ant_1 != ant_2)
    if rfi and crosses.size:
        gain = receptor_gain(power)
        levels = flag_interference(
            vis,
            reasons,
            crosses=np.flatnonzero((ant_1 != ant_2) & ~no_length),
            ant_1=ant_1,
            ant_2=ant_2,
            baseline_length_m=baseline_length_m,
            freq_hz=freq_hz,
            integration_s=integration_s,
            gain=gain,
            weights=weights,
            clip_sigma=CLIP_SIGMA,
            threads=threads,
        )
        for baseline, pol in zip(*np.nonzero(loud_baselines(levels, power, ant_1, ant_2)), strict=True):
            part = reasons[:, baseline, :, pol]
            part[part == FlagReason.GOOD] = FlagReason.PICKUP
    return _report(
        reasons=reasons,
        crosses=crosses,
        ant_1=ant_1,
        ant_2=ant_2,
        names=antenna_names,
        length_m=baseline_length_m,
        freq_hz=freq_hz,
        dead=dead,
    )


def dead_receptors(power: NDArray[np.float64], present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Find receptors without credible power, from their autocorrelations.

    Args:
        power: (Nants, Nchan, Npols), NaN where no value is good.
        present: (Nants,) antennas that are in the data.

    Returns:
        (Nants, Npols); only antennas in the data can be dead. All False when the data hold no autocorrelations.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # receptors of NaN only are expected: they are dead
        level = np.nanmedian(power, axis=1)
        typical = np.nanmedian(np.where(level > 0, level, np.nan), axis=0)
    if not np.any(np.isfinite(typical)):
        return np.zeros(level.shape, dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        alive = (level > WEAKEST_RECEPTOR * typical) & (level < STRONGEST_RECEPTOR * typical)
    return ~alive & present[:, None]


def loud_baselines(
    levels: NDArray[np.float64], power: NDArray[np.float64], ant_1: NDArray[np.int32], ant_2: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Find baselines on which two receptors share a steady broadband signal that the others do not receive.

    Steady pickup between neighbors has no edge in time or frequency, but its correlation coefficient stands far above
    the array's. The limit, three times the array's median level plus three times the noise (and seven deviations), lies
    above the effect of sources in the beam on short baselines.

    Args:
        levels: (Nbls, Npols, 2) median amplitude and noise of each baseline, NaN where not measured.
        power: (Nants, Nchan, Npols) autocorrelations.
        ant_1, ant_2: antenna rows.

    Returns:
        (Nbls, Npols).
    """
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        system = np.sqrt(np.nanmedian(power, axis=1))
        coefficient, noise = np.moveaxis(levels / (system[ant_1] * system[ant_2])[..., None], -1, 0)
        typical = np.nanmedian(coefficient, axis=0)
        deviation = robust_sigma_along(coefficient, axis=0, mad_to_sigma=MAD_TO_SIGMA_ROUNDED)
        return coefficient > np.maximum(3 * typical + 3 * np.nanmedian(noise, axis=0), typical + CLIP_SIGMA * deviation)


def receptor_gain(power: NDArray[np.float64]) -> NDArray[np.float32]:
    """Relative amplitude of each receptor and channel, sqrt(power / median), 1 if unknown; (Nants, Nchan, Npols)."""
    with warnings.catch_warnings(), np.errstate(invalid="ignore", divide="ignore"):
        warnings.simplefilter("ignore", RuntimeWarning)
        relative = np.sqrt(power / np.nanmedian(power, axis=1, keepdims=True))
    return np.where(np.isfinite(relative) & (relative > 0), relative, 1.0).astype(np.float32)


def _autos(ant_1: NDArray[np.int32], ant_2: NDArray[np.int32], n_ant: int) -> NDArray[np.int64]:
    """Baseline of each antenna's autocorrelation, -1 where there is none."""
    autos = np.full(n_ant, -1, dtype=np.int64)
    where = np.flatnonzero(ant_1 == ant_2)
    autos[ant_1[where]] = where
    return autos


def _report(
    *,
    reasons: NDArray,
    crosses: NDArray[np.int64],
    ant_1: NDArray[np.int32],
    ant_2: NDArray[np.int32],
    names: Sequence[str],
    length_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    dead: NDArray[np.bool_],
) -> FlagReport:
    from dsa110_assets.flagging import _kernels

    n_bls, n_chan = reasons.shape[1:3]
    per_baseline, per_channel = np.zeros((n_bls, len(FlagReason)), dtype=np.int64), np.zeros((n_bls, n_chan), dtype=np.int64)
    over_range(_kernels.count_reasons, n_bls, reasons, per_baseline, per_channel)
    cells = reasons[:, 0].size
    counts = per_baseline[crosses].astype(np.float64)
    total = max(counts.sum(), 1.0)
    observed = cells - per_baseline[:, FlagReason.MISSING_SUBBAND]
    flagged = observed - per_baseline[:, FlagReason.GOOD]

    def fraction(selected: NDArray[np.int64]) -> float:
        return float(flagged[selected].sum() / max(observed[selected].sum(), 1))

    first, second = ant_1[crosses], ant_2[crosses]
    antennas = np.unique(np.concatenate([first, second]))
    bins = [(low, high, crosses[(length_m[crosses] >= low) & (length_m[crosses] < high)]) for low, high in pairwise(BASELINE_BINS_M)]
    receptors = tuple((names[int(a)], "XY"[int(p)]) for a, p in zip(*np.nonzero(dead), strict=True))
    channel_cells = max(crosses.size * cells / max(reasons.shape[2], 1), 1.0)
    return FlagReport(
        fraction=float(1.0 - counts[:, FlagReason.GOOD].sum() / total),
        by_reason={reason.name.lower(): float(counts[:, reason].sum() / total) for reason in FlagReason if reason != FlagReason.GOOD},
        by_antenna={names[int(a)]: fraction(crosses[(first == a) | (second == a)]) for a in antennas},
        by_channel=tuple(float(n) for n in per_channel[crosses].sum(axis=0) / channel_cells),
        freq_hz=tuple(float(f) for f in freq_hz),
        by_baseline_m=tuple((low, high, fraction(rows)) for low, high, rows in bins if rows.size),
        dead_receptors=receptors,
        dead_antennas=tuple(names[int(a)] for a in np.flatnonzero(dead.all(axis=1))),
    )
