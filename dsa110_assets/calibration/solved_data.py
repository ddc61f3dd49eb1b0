"""The calibrator's tile with its new tables applied, in memory: channels averaged in groups, integrations kept.

The difference of the two polarizations gives the noise without any model: the sky is unpolarized, and an error of the
model is the same in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.calibration.apply import combine_solutions, fit_to_data
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.common.measurement_sets import (
    integrations,
    open_table,
    read_antenna_pairs,
    read_apparent_scale,
    read_averaging,
    read_summary,
)
from dsa110_assets.common.smearing import Averaging

GROUP_HZ = 2e6
"""Width of a group of channels: gains hardly change in it, and sources 1.5 deg away lose little on 2.6 km."""
LEAST_NOISE = 1e-4
"""Noise of a visibility as a share of its amplitude, at least. No model of a sky is more precise, and weights of data
without noise, as simulations can be, would be infinite."""


@dataclass(frozen=True)
class SolvedData:
    """Calibrated visibilities of a tile.

    ``uvw_m`` (Ntimes, Nbl, 3): as for the model. ``time_s`` (Ntimes,). ``ant1``, ``ant2`` (Nbl,): from 0 to
    ``n_antennas`` - 1. ``frequency_hz`` (Ngroups,): centers. ``averaging``: of a group. ``data`` (Ngroups, Ntimes, Nbl,
    2): Jy. ``weight``, same shape: 1 / (variance of the real part), 0 without data.
    """

    uvw_m: NDArray[np.float64]
    time_s: NDArray[np.float64]
    ant1: NDArray[np.int64]
    ant2: NDArray[np.int64]
    n_antennas: int
    frequency_hz: NDArray[np.float64]
    averaging: Averaging | None
    data: NDArray[np.complex64]
    weight: NDArray[np.float32]


def read_solved(ms: Path, tables: Sequence[CalTable], *, smearing: bool = True) -> SolvedData:
    """Apply tables to a calibrator's tile and average channels.

    Args:
        ms: uncalibrated Measurement Set; only read.
        tables: that were solved on it.
        smearing: whether its visibilities are averages over channels and integrations. If not, channels are kept.

    Raises:
        CalibrationMismatchError: a table does not fit the data.
    """
    from dsa110_assets.calibration._kernels import apply_and_average

    about = read_summary(ms)
    averaging = read_averaging(ms)
    n_chan, width_hz = about.frequency_hz.size, averaging.channel_hz * averaging.channels
    factor = max(f for f in range(1, n_chan + 1) if n_chan % f == 0 and (f == 1 or (smearing and f * width_hz <= GROUP_HZ)))
    n_groups = n_chan // factor
    solutions = [fit_to_data(one, about.antenna_names, about.frequency_hz, np.full(n_chan, width_hz)) for one in tables]
    with open_table(ms) as main:
        time_column = np.asarray(main.getcol("TIME"))
        a1, a2 = (one.astype(np.int64) for one in read_antenna_pairs(main))
        present = np.unique(np.stack([a1, a2])[:, a1 != a2])
        size = int(present.max()) + 1
        pairs = np.unique((a1 * size + a2)[a1 != a2])
        runs = integrations(time_column)
        data = np.zeros((n_groups, len(runs), pairs.size, 2), dtype=np.complex64)
        weight = np.zeros(data.shape, dtype=np.float32)
        uvw = np.zeros((len(runs), pairs.size, 3))
        scale = read_apparent_scale(main)
        for t, (start, end) in enumerate(runs):
            count = end - start
            one, two = a1[start:end].astype(np.int32), a2[start:end].astype(np.int32)
            cross = np.flatnonzero(one != two)
            slot = np.searchsorted(pairs, (a1 * size + a2)[start:end][cross])
            gain, gain_flag = combine_solutions(solutions, float(time_column[start]), "linear", n_chan)
            flag = main.getcol("FLAG", start, count) | main.getcol("FLAG_ROW", start, count)[:, None, None]
            shape = (cross.size, n_groups, 2)
            mean, empty, total = np.empty(shape, np.complex64), np.empty(shape, bool), np.empty(shape, np.float32)
            apply_and_average(
                main.getcol("DATA", start, count), flag, main.getcol("WEIGHT_SPECTRUM", start, count), cross, gain, gain_flag, one, two,
                factor, np.ones(cross.size, dtype=np.float32), mean, empty, total, np.zeros((cross.size, 3), dtype=np.int64),
            )  # fmt: skip
            power = (np.abs(gain) ** 2).reshape(gain.shape[0], n_groups, factor, 2).mean(axis=2)
            total *= power[one[cross]] * power[two[cross]]  # the noise of V / (g conj(g)) is that of V over |g|^2
            data[:, t, slot] = np.moveaxis(mean, 1, 0)
            weight[:, t, slot] = np.moveaxis(np.where(empty, 0, total), 1, 0)
            uvw[t, slot] = np.asarray(main.getcol("UVW", start, count), dtype=np.float64)[cross] * scale
    groups = Averaging(averaging.channel_hz, averaging.integration_s, averaging.channels * factor) if smearing else None
    return SolvedData(
        uvw_m=uvw,
        time_s=about.time_s,
        ant1=np.searchsorted(present, pairs // size),
        ant2=np.searchsorted(present, pairs % size),
        n_antennas=present.size,
        frequency_hz=about.frequency_hz.reshape(-1, factor).mean(axis=1),
        averaging=groups,
        data=data,
        weight=in_units_of_noise(data, weight),
    )


def in_units_of_noise(data: NDArray[np.complex64], weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale weights to 1 / (variance of the real part), from the difference of the polarizations.

    ``data``, ``weight``: as in `SolvedData`; only the ratios of weights matter. The noise is at least `LEAST_NOISE`.
    """
    total, least, count = 0.0, 0.0, 0
    for one, w in zip(data, weight, strict=True):
        both = (w > 0).all(axis=-1)
        if not both.any():
            continue
        x, y = w[both].T
        total += float((np.abs(one[both][:, 0] - one[both][:, 1]) ** 2 / (1 / x + 1 / y)).sum(dtype=np.float64))
        least += float(((np.abs(one[both]) ** 2).sum(axis=1) / (1 / x + 1 / y)).sum(dtype=np.float64))
        count += int(both.sum())
    total = max(total, LEAST_NOISE**2 * least)
    if count == 0 or total == 0:  # one polarization only, or no signal: nothing tells the noise
        return weight
    return weight * np.float32(2 * count / total)
