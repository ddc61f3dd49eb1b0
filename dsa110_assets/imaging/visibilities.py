"""Reading of a calibrated Measurement Set as Stokes I visibilities.

The sign convention of the files is CASA's: UVW points from antenna 2 to antenna 1, and a source of flux S at direction
cosines (l, m) has ``V = S exp(+2 pi i f/c (u l + v m + w (n - 1)))``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import TilePointing
from dsa110_assets.common.measurement_sets import (
    SECONDS_PER_DAY,
    open_table,
    read_antenna_pairs,
    read_channels,
    read_tile_pointing,
    require_calibrated,
    row_blocks,
)
from dsa110_assets.common.smearing import Averaging
from dsa110_assets.errors import ImagingError

_BLOCK_BYTES = 200_000_000
_VISIBILITY_BYTES = 13
"""Size of DATA, WEIGHT_SPECTRUM and FLAG of one visibility."""
_PARALLEL_HANDS = ([9, 12], [5, 8])
"""Codes of XX and YY, and of RR and LL of other telescopes. Half the sum of two is Stokes I."""


@dataclass(frozen=True)
class AntennaGains:
    """Gains to remove from the data: ``V = g_1 conj(g_2) V_true``, with the antennas of a row in their order.

    ``gain``: (Nintervals, Nants, 2 polarizations) complex64, the same in all channels. ``interval_of_time``: interval
    of each integration, (Ntimes,) int32.
    """

    gain: NDArray[np.complex64]
    interval_of_time: NDArray[np.int32]


@dataclass(frozen=True)
class Visibilities:
    """Stokes I visibilities of one tile.

    ``uvw_m``: (nrow, 3) meters, antenna 2 to antenna 1. ``frequency_hz``: (nchan,) ascending. ``channel_width_hz``:
    (nchan,). ``vis_jy``: (nrow, nchan) complex64. ``weight``: (nrow, nchan) float32, 1/Jy^2; 1/sqrt(weight) is the
    noise of the real part and of the imaginary part; 0 without data. ``time_index``: integration of each row, an index
    into ``pointing``, (nrow,). ``integration_s``: length of an integration. ``used_fraction``: fraction of the samples
    of the Measurement Set that are used. ``calibration``: what the calibration recorded. ``ms_row``: row in the
    Measurement Set, (nrow,) ascending. ``antenna1``, ``antenna2``: antennas, (nrow,).
    """

    uvw_m: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    channel_width_hz: NDArray[np.float64]
    vis_jy: NDArray[np.complex64]
    weight: NDArray[np.float32]
    time_index: NDArray[np.int32]
    pointing: TilePointing
    integration_s: float
    used_fraction: float
    calibration: dict[str, object]
    ms_row: NDArray[np.int64]
    antenna1: NDArray[np.int32]
    antenna2: NDArray[np.int32]

    @property
    def averaging(self) -> Averaging:
        """How the correlator, and then the calibration, averaged channels and times."""
        channels = self.calibration.get("channels_averaged", 1)
        n = channels if isinstance(channels, int) else 1
        return Averaging(float(np.median(self.channel_width_hz)) / n, self.integration_s, n)

    @property
    def start_mjd(self) -> float:
        """UTC MJD of the beginning of the first integration."""
        return float(self.pointing.time_mjd.min()) - 0.5 * self.integration_s / SECONDS_PER_DAY

    @property
    def end_mjd(self) -> float:
        """UTC MJD of the end of the last integration."""
        return float(self.pointing.time_mjd.max()) + 0.5 * self.integration_s / SECONDS_PER_DAY


def without_antennas(vis: Visibilities, antennas: NDArray[np.int64]) -> Visibilities:
    """The visibilities of the other antennas."""
    keep = ~(np.isin(vis.antenna1, antennas) | np.isin(vis.antenna2, antennas))
    rows = ("uvw_m", "vis_jy", "weight", "time_index", "ms_row", "antenna1", "antenna2")
    left = float((vis.weight[keep] > 0).sum()) / max(float((vis.weight > 0).sum()), 1.0)
    return replace(vis, used_fraction=vis.used_fraction * left, **{name: getattr(vis, name)[keep] for name in rows})


def blocks_of_rows(ms: Path, n_chan: int) -> Iterator[tuple[int, NDArray[np.complex64], NDArray[np.bool_], NDArray[np.float32]]]:
    """Read consecutive blocks of a Measurement Set: first row, then DATA, FLAG and WEIGHT_SPECTRUM (rows, nchan, 2).

    Raises:
        ImagingError: DATA does not have the shape that `calibration` writes.
    """
    with open_table(ms) as main:
        for start, count in row_blocks(main.nrows(), n_chan, bytes_per_visibility=_VISIBILITY_BYTES, bytes_per_block=_BLOCK_BYTES):
            data = main.getcol("DATA", start, count)
            if data.shape[1:] != (n_chan, 2):
                raise ImagingError(ms, f"DATA has shape {data.shape[1:]}, not ({n_chan}, 2)", "make the calibrated_ms asset again")
            yield start, data, main.getcol("FLAG", start, count), main.getcol("WEIGHT_SPECTRUM", start, count)


def read_visibilities(ms: Path, gains: AntennaGains | None = None) -> Visibilities:
    """Read a calibrated Measurement Set block by block, remove ``gains``, and drop rows without usable samples.

    Raises:
        MeasurementSetError: the Measurement Set is missing, or this platform did not calibrate it (pitfall 13: raw data
            are never used instead).
        ImagingError: its layout is not the one that `calibration` writes, or all samples are flagged.
    """
    from dsa110_assets.imaging import _kernels

    calibration = require_calibrated(ms)
    with open_table(ms) as main:
        if "WEIGHT_SPECTRUM" not in main.colnames():
            raise ImagingError(ms, "no column WEIGHT_SPECTRUM, so the noise is unknown", "make the calibrated_ms asset again")
        frequency_hz, channel_width_hz = read_spectral_setup(ms)
        pointing = read_tile_pointing(ms)
        antenna1, antenna2 = read_antenna_pairs(main)
        time_mjd = np.asarray(main.getcol("TIME"), dtype=np.float64) / SECONDS_PER_DAY
        flag_row = np.asarray(main.getcol("FLAG_ROW"), dtype=bool)
        integration_s = float(np.median(main.getcol("EXPOSURE"))) if main.nrows() else 0.0
        uvw_m = np.asarray(main.getcol("UVW"), dtype=np.float64)
    n_row, n_chan = time_mjd.size, frequency_hz.size
    time_index = np.abs(time_mjd[:, None] - pointing.time_mjd[None, :]).argmin(axis=1).astype(np.int32)
    vis = np.empty((n_row, n_chan), dtype=np.complex64)
    weight = np.empty((n_row, n_chan), dtype=np.float32)
    keep = np.zeros(n_row, dtype=bool)
    used = filled = 0
    for start, data, flag, spectrum in blocks_of_rows(ms, n_chan):
        count = data.shape[0]
        rows, block = slice(start, start + count), slice(filled, filled + count)
        if gains is not None:
            interval = gains.interval_of_time[time_index[rows]]
            _kernels.remove_gains(data, spectrum, antenna1[rows], antenna2[rows], interval, gains.gain)
        used += _kernels.stokes_i(data, flag, spectrum, vis[block], weight[block])
        good = (antenna1[rows] != antenna2[rows]) & ~flag_row[rows] & (weight[block] > 0).any(axis=1)
        n_good = int(good.sum())
        if n_good < count:  # close the gaps in place, to keep only one copy of the arrays
            vis[filled : filled + n_good] = vis[block][good]
            weight[filled : filled + n_good] = weight[block][good]
        keep[rows] = good
        filled += n_good
    if filled == 0:
        raise ImagingError(
            ms, "every visibility is flagged", "look at the flags of the Measurement Set and the calibration tables of this tile"
        )
    return Visibilities(
        uvw_m=uvw_m if filled == n_row else uvw_m[keep],
        frequency_hz=frequency_hz,
        channel_width_hz=channel_width_hz,
        vis_jy=vis[:filled],
        weight=weight[:filled],
        time_index=time_index[keep],
        pointing=pointing,
        integration_s=integration_s,
        used_fraction=used / (2 * n_row * n_chan),
        calibration=calibration,
        ms_row=np.flatnonzero(keep),
        antenna1=antenna1[keep],
        antenna2=antenna2[keep],
    )


def read_spectral_setup(ms: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the centers (ascending) and widths of the channels, Hz, (nchan,) each.

    Raises:
        ImagingError: the channels are not evenly spaced and ascending, or the polarizations are not two
        parallel hands.
    """
    frequency_hz, width_hz = read_channels(ms)
    if frequency_hz.size > 1 and np.ptp(np.diff(frequency_hz)) > 1e-3 * width_hz[0]:
        raise ImagingError(ms, "the channels are not evenly spaced and ascending", "make the calibrated_ms asset again")
    with open_table(ms, "POLARIZATION") as polarization:
        products = [int(c) for c in polarization.getcell("CORR_TYPE", 0)]
    if products not in _PARALLEL_HANDS:
        step = "make the measurement_set asset again; for a set of another telescope, first run `dsa110 convert ms IN OUT`"
        raise ImagingError(ms, f"has the polarization products {products}, not XX and YY [9, 12] or RR and LL [5, 8]", step)
    return frequency_hz, width_hz
