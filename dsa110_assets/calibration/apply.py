"""Calibrated Measurement Sets: solutions applied and channels averaged in one pass over the data.

``V_cal = V / (g1 conj(g2))`` for each polarization, as in CASA's applycal; then the mean of unflagged channels,
weighted by WEIGHT_SPECTRUM, as in mstransform. The result holds cross-correlations only, calibrated Jy in DATA (not in
CORRECTED_DATA, which can be missing: pitfall 13), the keyword ``DSA110_CALIBRATED``, and weights in 1/Jy**2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.calibration.caltable import CalTable, read_caltable
from dsa110_assets.calibration.layout import create_like, set_channels
from dsa110_assets.common.figures import Figures
from dsa110_assets.common.instrument import cutoff_radius_rad
from dsa110_assets.common.measurement_sets import (
    Summary,
    integrations,
    is_tracking,
    mark_calibrated,
    open_table,
    read_antenna_pairs,
    read_apparent_scale,
    read_summary,
    row_blocks,
)
from dsa110_assets.common.smearing import largest_bandwidth_loss
from dsa110_assets.errors import CalibrationMismatchError, CalibrationQualityError, ConfigurationError
from dsa110_assets.strips import TOLERANCE_DEG, in_strip


@dataclass(frozen=True)
class ApplyReport:
    """Result of an application.

    ``channels_averaged``: factor. ``n_channels``: after averaging. ``smearing_loss``: of a source at the 20 % beam
    radius with that channel width. Fractions of the cross-correlations: ``flagged_before``, ``flagged_fraction``
    (averaged channels without any unflagged input) and ``lost_to_solutions`` (unflagged before, but without a
    solution). ``median_amplitude_jy``: of the calibrated data.
    """

    out: Path
    tables: tuple[Path, ...]
    n_rows: int
    n_channels: int
    channels_averaged: int
    smearing_loss: float
    flagged_before: float
    flagged_fraction: float
    lost_to_solutions: float
    median_amplitude_jy: float

    def figures(self) -> Figures:
        """Named figures of the calibrated data."""
        return {
            "channels": self.n_channels,
            "channels_averaged": self.channels_averaged,
            "smearing_loss": self.smearing_loss,
            "flagged_fraction": self.flagged_fraction,
            "lost_to_solutions": self.lost_to_solutions,
            "median_amplitude_jy": self.median_amplitude_jy,
        }


def apply_calibration(
    ms: Path,
    tables: Sequence[Path | CalTable],
    out: Path,
    *,
    sefd_jy: float = 6500.0,
    max_smearing: float = 0.01,
    chan_avg: int | None = None,
    interpolation: str = "linear",
    declination_tolerance_deg: float = TOLERANCE_DEG,
    provenance: Mapping[str, str] | None = None,
    progress: Callable[[float], None] | None = None,
) -> ApplyReport:
    """Apply tables to a tile, average channels, and write the calibrated Measurement Set.

    Args:
        ms: uncalibrated Measurement Set; only read.
        tables: bandpass, gain and delay tables (paths, or read already); their gains are multiplied, and matched to the
        data by antenna name and channel frequency.
        out: path of the new Measurement Set; a staging path that does not exist yet.
        sefd_jy: SEFD of one antenna and polarization, for the weights: ``2 dnu tau / SEFD**2`` times the unflagged
        fraction.
        max_smearing: largest flux loss by bandwidth smearing at the 20 % beam radius.
        chan_avg: channels to average; None: as many as ``max_smearing`` allows.
        interpolation: in time between solutions, ``linear`` or ``nearest``; outside the solutions the nearest, as in
        CASA.
        declination_tolerance_deg: largest distance between the phase centers of the calibrator and the data (pitfall
        14).
        provenance: written into the keyword and HISTORY.
        progress: called with the fraction done.

    Raises:
        CalibrationQualityError: the result would be empty or zero.
        CalibrationMismatchError: a table is of another declination strip, band or array.
        ConfigurationError: ``chan_avg`` does not divide the number of channels, no tables, or an unknown interpolation.
    """
    if not tables:
        raise ConfigurationError("apply", "no calibration tables are given", "give a bandpass and a gain table")
    if interpolation not in ("linear", "nearest"):
        raise ConfigurationError("apply", f"unknown interpolation {interpolation!r}", "use linear or nearest")
    if out.exists():
        raise ConfigurationError(out, "already exists", "give a staging path; publication replaces the product")
    about = read_summary(ms)
    names, frequency, width = about.antenna_names, about.frequency_hz, about.channel_width_hz
    read = [one if isinstance(one, CalTable) else read_caltable(one) for one in tables]
    paths = tuple(one.path for one in read)
    _check_strip(ms, about, read, declination_tolerance_deg)
    solutions = [fit_to_data(one, names, frequency, width) for one in read]
    with open_table(ms) as main:
        factor, loss = _factor(main, frequency, width, max_smearing, chan_avg)
        antenna1, antenna2 = read_antenna_pairs(main)
        rows = np.flatnonzero(antenna1 != antenna2)
        if rows.size == 0:
            raise CalibrationQualityError(ms, "has no cross-correlations", "convert the observation again")
        create_like(main, out, n_rows=rows.size, n_channels=frequency.size // factor)
        with open_table(out, writable=True) as new:
            totals = _transform(
                main,
                new,
                solutions,
                factor=factor,
                sefd_jy=sefd_jy,
                width_hz=float(width[0]),
                interpolation=interpolation,
                progress=progress,
            )
            if totals.unflagged_after == 0 or not totals.amplitudes or np.median(totals.amplitudes) == 0:
                raise CalibrationQualityError(
                    ms, "the calibrated data are all flagged or zero", "check the tables' antennas and the flags of this observation"
                )
            record = {
                "caltables": [str(p) for p in paths],
                "channels_averaged": factor,
                "smearing_loss": loss,
                "sefd_jy": sefd_jy,
                "interpolation": interpolation,
                "provenance": dict(provenance or {}),
            }
            mark_calibrated(new, record)
    set_channels(out, frequency.reshape(-1, factor).mean(axis=1), width.reshape(-1, factor).sum(axis=1))
    _append_history(out, record)
    n_after = rows.size * (frequency.size // factor) * 2
    n_before = rows.size * frequency.size * 2
    return ApplyReport(
        out=out,
        tables=paths,
        n_rows=int(rows.size),
        n_channels=frequency.size // factor,
        channels_averaged=factor,
        smearing_loss=loss,
        flagged_before=1 - totals.unflagged_before / n_before,
        flagged_fraction=1 - totals.unflagged_after / n_after,
        lost_to_solutions=1 - totals.solved / max(totals.unflagged_before, 1),
        median_amplitude_jy=float(np.median(totals.amplitudes)),
    )


def _factor(
    main: Any, frequency: NDArray[np.float64], width: NDArray[np.float64], max_smearing: float, chan_avg: int | None
) -> tuple[int, float]:
    """Return the channels to average and their smearing loss, from a sample of the rows."""
    a1, a2 = read_antenna_pairs(main)
    cross = np.flatnonzero(a1 != a2)
    sample = cross[:: max(1, cross.size // 20_000)]
    uvw = np.asarray(main.getcol("UVW"), dtype=np.float64)[sample]
    if chan_avg is None:
        return choose_factor(uvw, float(width[0]), frequency.size, float(frequency.mean()), max_smearing)
    if chan_avg < 1 or frequency.size % chan_avg:
        raise ConfigurationError("chan_avg", f"{chan_avg} does not divide {frequency.size} channels", "choose a divisor")
    return chan_avg, largest_bandwidth_loss(uvw, chan_avg * float(width[0]), cutoff_radius_rad(float(frequency.mean())))


def choose_factor(
    uvw_m: NDArray[np.float64], channel_width_hz: float, n_channels: int, frequency_hz: float, max_smearing: float
) -> tuple[int, float]:
    """Choose how many channels to average, so that a source at the 20 % beam radius loses less than ``max_smearing``.

    Returns:
        (channels to average, loss with that factor). The factor is the largest such divisor of ``n_channels``, or 1.
    """
    radius = cutoff_radius_rad(frequency_hz)
    best, loss = 1, largest_bandwidth_loss(uvw_m, channel_width_hz, radius)
    for factor in (f for f in range(2, n_channels + 1) if n_channels % f == 0):
        candidate = largest_bandwidth_loss(uvw_m, factor * channel_width_hz, radius)
        if candidate >= max_smearing:
            break  # the loss grows with the factor
        best, loss = factor, candidate
    return best, loss


@dataclass(frozen=True)
class SolutionsOnData:
    """Solutions on the data's axes: ``gain``, ``flag`` (Ntimes, Nants, Nchan or 1, 2)."""

    time_s: NDArray[np.float64]
    gain: NDArray[np.complex128]
    flag: NDArray[np.bool_]

    def at(self, time_s: float, interpolation: str) -> tuple[NDArray[np.complex128], NDArray[np.bool_]]:
        """Gain and flag at one time, each (Nants, Nchan or 1, 2); either neighbor's flag counts, as in CASA."""
        after = int(np.searchsorted(self.time_s, time_s))
        if self.time_s.size == 1 or after == 0:
            return self.gain[0], self.flag[0]
        if after == self.time_s.size:
            return self.gain[-1], self.flag[-1]
        fraction = (time_s - self.time_s[after - 1]) / (self.time_s[after] - self.time_s[after - 1])
        if interpolation == "nearest":
            nearest = after if fraction >= 0.5 else after - 1
            return self.gain[nearest], self.flag[nearest]
        gain = (1 - fraction) * self.gain[after - 1] + fraction * self.gain[after]
        return gain, self.flag[after - 1] | self.flag[after]


def fit_to_data(solutions: CalTable, names: Sequence[str], frequency: NDArray[np.float64], width: NDArray[np.float64]) -> SolutionsOnData:
    """Put solutions on the data's antennas (by name) and channels (by frequency); flag those without a solution.

    A channel takes the solution whose own channel contains its center; the nearest center where several do.
    """
    if not set(solutions.antenna_names) & set(names):
        raise CalibrationMismatchError(solutions.path, "has none of the data's antennas", "use tables of this array")
    index = np.abs(frequency[:, None] - solutions.frequency_hz[None, :]).argmin(axis=1)
    distance = np.abs(frequency - solutions.frequency_hz[index])
    # the one channel of a gain or delay table spans the whole band
    inside = distance <= 0.5 * np.maximum(solutions.width_hz[index], width) * (1 + 1e-6)
    if solutions.is_delay:
        inside = np.abs(frequency - solutions.frequency_hz[0]) <= 0.5 * max(
            float(solutions.width_hz[0]), float(np.ptp(frequency)) + width[0]
        )
    if not inside.any():
        raise CalibrationMismatchError(solutions.path, "has no channel at the data's frequencies", "use tables of the same band")
    flat = solutions.frequency_hz.size == 1 and bool(inside.all())
    use = index[:1] if flat else index
    row_of = {name: i for i, name in enumerate(solutions.antenna_names)}
    where = np.array([row_of.get(name, -1) for name in names])
    gain = solutions.delay_gain(frequency)[:, where] if solutions.is_delay else solutions.gain[:, where][:, :, use]
    flag = solutions.flag[:, where][:, :, use].copy()
    flag[:, where < 0] = True
    if not flat:
        flag[:, :, ~inside] = True
    return SolutionsOnData(solutions.time_s, gain, flag)


def _check_strip(ms: Path, about: Summary, tables: Sequence[CalTable], tolerance_deg: float) -> None:
    """Refuse tables of another declination strip.

    Compares ICRS phase centers; apparent declinations differ by up to 0.1 deg more. Another telescope, which tracks,
    may take its tables from anywhere.
    """
    if is_tracking(ms):
        return
    declination_deg = float(np.degrees(about.phase_dec_rad))
    for one in tables:
        if one.declination_deg is not None and not in_strip(one.declination_deg, declination_deg, tolerance_deg):
            raise CalibrationMismatchError(
                one.path,
                f"was solved at declination {one.declination_deg:.2f} deg, the data {ms.name} are at {declination_deg:.2f} deg",
                "use tables of the same declination strip (`dsa110 apply --ms MS` without --caltable finds them)",
            )


@dataclass
class _Totals:
    unflagged_before: int
    solved: int
    unflagged_after: int
    amplitudes: list[float]


def _transform(
    main: Any,
    new: Any,
    solutions: Sequence[SolutionsOnData],
    *,
    factor: int,
    sefd_jy: float,
    width_hz: float,
    interpolation: str,
    progress: Callable[[float], None] | None,
) -> _Totals:
    """Stream the main table one integration, or a block of it, at a time: read, correct, average, write."""
    from dsa110_assets.calibration._kernels import apply_and_average

    n_chan = main.getcell("DATA", 0).shape[0]
    time_column = np.asarray(main.getcol("TIME"))
    totals = _Totals(0, 0, 0, [])
    single = all(s.time_s.size == 1 for s in solutions)
    gain: NDArray[np.complex64] | None = None
    gain_flag: NDArray[np.bool_] = np.zeros(0, dtype=bool)
    gain_time = np.nan
    written = 0
    for first, last in integrations(time_column):
        for offset, count in row_blocks(last - first, n_chan):
            start = first + offset
            if progress is not None:
                progress(start / time_column.size)
            if gain is None or (not single and time_column[start] != gain_time):
                gain, gain_flag = combine_solutions(solutions, float(time_column[start]), interpolation, n_chan)
                gain_time = time_column[start]
            block = _read_block(main, start, count)
            cross = np.flatnonzero(block["ANTENNA1"] != block["ANTENNA2"])
            if cross.size == 0:
                continue
            block["FLAG"][block["FLAG_ROW"]] = True  # keeps flagged rows, without data
            n, shape = cross.size, (cross.size, n_chan // factor, 2)
            out, out_flag, out_weight = np.empty(shape, np.complex64), np.empty(shape, bool), np.empty(shape, np.float32)
            counts = np.zeros((n, 3), dtype=np.int64)
            # nsamples, summed over the channels, count channels of data; each has the weight 2 dnu tau / SEFD^2
            scale = (2.0 * width_hz * block["INTERVAL"][cross] / sefd_jy**2).astype(np.float32)
            apply_and_average(
                block["DATA"], block["FLAG"], block["WEIGHT_SPECTRUM"], cross, gain, gain_flag, block["ANTENNA1"], block["ANTENNA2"],
                factor, scale, out, out_flag, out_weight, counts,
            )  # fmt: skip
            usable, solved, kept = counts.sum(axis=0).tolist()
            totals.unflagged_before += usable
            totals.solved += solved
            totals.unflagged_after += kept
            if kept:
                sample = np.abs(out[:: max(1, n // 500)][~out_flag[:: max(1, n // 500)]])
                totals.amplitudes += [float(np.median(sample))] if sample.size else []
            _write_block(new, written, block, cross, out, out_flag, out_weight)
            written += n
    return totals


def combine_solutions(
    solutions: Sequence[SolutionsOnData], time_s: float, interpolation: str, n_chan: int
) -> tuple[NDArray[np.complex64], NDArray[np.bool_]]:
    """Multiply the gains of all tables at one time; gain and flag, each (Nants, Nchan, 2)."""
    n_ants = solutions[0].gain.shape[1]
    gain = np.ones((n_ants, n_chan, 2), dtype=np.complex128)
    flag = np.zeros((n_ants, n_chan, 2), dtype=bool)
    for s in solutions:
        g, f = s.at(time_s, interpolation)
        gain *= g
        flag |= f
    flag |= gain == 0
    return np.where(flag, 1, gain).astype(np.complex64), flag


_COPIED = ("ANTENNA1", "ANTENNA2", "UVW", "TIME", "TIME_CENTROID", "INTERVAL", "EXPOSURE", "SCAN_NUMBER", "FIELD_ID", "DATA_DESC_ID",
           "FEED1", "FEED2", "ARRAY_ID", "OBSERVATION_ID", "PROCESSOR_ID", "STATE_ID")  # fmt: skip


def _read_block(main: Any, start: int, count: int) -> dict[str, Any]:
    block = {name: main.getcol(name, start, count) for name in (*_COPIED, "DATA", "FLAG", "FLAG_ROW", "WEIGHT_SPECTRUM")}
    # annual aberration: with scaled baselines every imager puts sources at their ICRS positions; geometric ones are up
    # to 0.5 arcsec off
    block["UVW"] = block["UVW"] * read_apparent_scale(main)
    return block


def _write_block(
    new: Any,
    start: int,
    block: Mapping[str, Any],
    cross: NDArray[np.int64],
    data: NDArray[np.complex64],
    flag: NDArray[np.bool_],
    weight: NDArray[np.float32],
) -> None:
    count = data.shape[0]
    for name in _COPIED:
        new.putcol(name, block[name][cross], start, count)
    new.putcol("DATA", data, start, count)
    new.putcol("FLAG", flag, start, count)
    new.putcol("FLAG_ROW", flag.all(axis=(1, 2)), start, count)
    new.putcol("WEIGHT_SPECTRUM", weight, start, count)
    mean = np.where(flag, 0, weight).mean(axis=1)
    new.putcol("WEIGHT", mean, start, count)
    new.putcol("SIGMA", np.where(mean > 0, 1 / np.sqrt(np.where(mean > 0, mean, 1)), 0).astype(np.float32), start, count)


def _append_history(out: Path, record: Mapping[str, Any]) -> None:
    """Write one line of HISTORY for each fact, so that people who open the file see what was applied."""
    lines = [f"{key} = {value}" for key, value in record.items()]
    with open_table(out) as main:
        last_s = float(np.max(main.getcol("TIME")))
    with open_table(out, "HISTORY", writable=True) as history:
        first = history.nrows()
        history.addrows(len(lines))
        for i, line in enumerate(lines):
            history.putcell("MESSAGE", first + i, line)
            history.putcell("ORIGIN", first + i, "dsa110_assets.calibration.apply")
            history.putcell("PRIORITY", first + i, "INFO")
            history.putcell("TIME", first + i, last_s)
