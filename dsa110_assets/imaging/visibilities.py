"""Reading a calibrated Measurement Set as Stokes I visibilities.

The sign convention of the files is CASA's: UVW points from antenna 2 to antenna 1, and a source of flux S at direction
cosines (l, m) has ``V = S exp(+2 pi i f/c (u l + v m + w (n - 1)))``. What does not belong here: weighting, gridding.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import ImagingError
from dsa110_assets.geometry import TilePointing, read_tile_pointing

CALIBRATED_KEYWORD = "DSA110_CALIBRATED"
_BLOCK_BYTES = 200e6
_XX_YY = [9, 12]


@dataclass(frozen=True)
class Visibilities:
    """Stokes I visibilities of one tile.

    ``uvw_m``: (nrow, 3) metres, antenna 2 to antenna 1. ``frequency_hz``: (nchan,) ascending. ``channel_width_hz``: of each
    channel. ``vis_jy``: (nrow, nchan) complex64. ``weight``: (nrow, nchan) float32, 1/Jy^2, so that 1/sqrt(weight) is the noise of real and imaginary part;
    0 where there are no data. ``time_index``: (nrow,) integration of each row, an index into ``pointing``. ``integration_s``: length of an integration. ``used_fraction``:
    share of the samples of the Measurement Set that are used. ``calibration``: what the calibration recorded about itself.
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

    @property
    def start_mjd(self) -> float:
        """UTC MJD of the beginning of the first integration."""
        return float(self.pointing.time_mjd.min()) - 0.5 * self.integration_s / 86400.0

    @property
    def end_mjd(self) -> float:
        """UTC MJD of the end of the last integration."""
        return float(self.pointing.time_mjd.max()) + 0.5 * self.integration_s / 86400.0


def read_visibilities(ms: Path) -> Visibilities:
    """Read a calibrated Measurement Set block by block; rows without any usable sample are dropped.

    Raises:
        ImagingError: the set is missing, was not calibrated by this pipeline (pitfall 13: nothing falls back to raw data),
            has another layout than `calibration` writes, or has no unflagged sample.
    """
    from casacore.tables import table

    from dsa110_assets.imaging import _kernels

    if not (ms / "table.dat").is_file():
        raise ImagingError(ms, "not a Measurement Set", "make it with the calibrated_ms asset")
    with table(str(ms), ack=False) as main:
        if CALIBRATED_KEYWORD not in main.keywordnames():
            raise ImagingError(
                ms, f"not calibrated (no keyword {CALIBRATED_KEYWORD})", "run the calibrated_ms asset, or `dsa110 calibrate`, first"
            )
        if "WEIGHT_SPECTRUM" not in main.colnames():
            raise ImagingError(ms, "no column WEIGHT_SPECTRUM, so the noise is unknown", "make the calibrated_ms asset again")
        calibration = json.loads(main.getkeyword(CALIBRATED_KEYWORD))
        frequency_hz, channel_width_hz = read_spectral_setup(ms)
        pointing = read_tile_pointing(ms)
        antenna1, antenna2 = main.getcol("ANTENNA1"), main.getcol("ANTENNA2")
        time_mjd = np.asarray(main.getcol("TIME"), dtype=np.float64) / 86400.0
        flag_row = np.asarray(main.getcol("FLAG_ROW"), dtype=bool)
        integration_s = float(np.median(main.getcol("EXPOSURE"))) if main.nrows() else 0.0
        n_row, n_chan = main.nrows(), frequency_hz.size
        vis = np.empty((n_row, n_chan), dtype=np.complex64)
        weight = np.empty((n_row, n_chan), dtype=np.float32)
        uvw = np.empty((n_row, 3), dtype=np.float64)
        keep = np.zeros(n_row, dtype=bool)
        used = filled = 0
        step = max(1, int(_BLOCK_BYTES / (n_chan * 2 * 13)))
        for start in range(0, n_row, step):
            count = min(step, n_row - start)
            data = main.getcol("DATA", start, count)
            flag = main.getcol("FLAG", start, count)
            spectrum = main.getcol("WEIGHT_SPECTRUM", start, count)
            if data.shape[1:] != (n_chan, 2):
                raise ImagingError(ms, f"DATA has shape {data.shape[1:]}, not ({n_chan}, 2)", "make the calibrated_ms asset again")
            block = slice(filled, filled + count)
            used += _kernels.stokes_i(data, flag, spectrum, vis[block], weight[block])
            rows = slice(start, start + count)
            good = (antenna1[rows] != antenna2[rows]) & ~flag_row[rows] & (weight[block] > 0).any(axis=1)
            n_good = int(good.sum())
            if n_good < count:  # close the gaps in place: the arrays never exist twice
                vis[filled : filled + n_good] = vis[block][good]
                weight[filled : filled + n_good] = weight[block][good]
            uvw[filled : filled + n_good] = main.getcol("UVW", start, count)[good]
            keep[rows] = good
            filled += n_good
    if filled == 0:
        raise ImagingError(
            ms, "every visibility is flagged", "look at the flags of the measurement set and the calibration tables of this tile"
        )
    time_index = np.abs(time_mjd[keep][:, None] - pointing.time_mjd[None, :]).argmin(axis=1).astype(np.int32)
    return Visibilities(
        uvw_m=uvw[:filled],
        frequency_hz=frequency_hz,
        channel_width_hz=channel_width_hz,
        vis_jy=vis[:filled],
        weight=weight[:filled],
        time_index=time_index,
        pointing=pointing,
        integration_s=integration_s,
        used_fraction=used / (2 * n_row * n_chan),
        calibration=calibration,
    )


def read_spectral_setup(ms: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Channel centres (ascending) and widths of the one spectral window, Hz, (nchan,) each."""
    from casacore.tables import table

    with table(f"{ms}::SPECTRAL_WINDOW", ack=False) as window:
        if window.nrows() != 1:
            raise ImagingError(ms, f"{window.nrows()} spectral windows instead of one", "make the measurement_set asset again")
        frequency_hz = np.asarray(window.getcell("CHAN_FREQ", 0), dtype=np.float64)
        width_hz = np.abs(np.asarray(window.getcell("CHAN_WIDTH", 0), dtype=np.float64))
    if frequency_hz.size > 1 and np.ptp(np.diff(frequency_hz)) > 1e-3 * width_hz[0]:
        raise ImagingError(ms, "the channels are not evenly spaced and ascending", "make the calibrated_ms asset again")
    with table(f"{ms}::POLARIZATION", ack=False) as polarization:
        products = [int(c) for c in polarization.getcell("CORR_TYPE", 0)]
    if products != _XX_YY:
        raise ImagingError(ms, f"polarization products {products} instead of XX, YY {_XX_YY}", "make the measurement_set asset again")
    return frequency_hz, width_hz
