"""CASA calibration tables as arrays: reading, and nothing else.

What does not belong here: judging them (`quality`), choosing among them (`select`), applying them (`apply`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import NonRetriableError


@dataclass(frozen=True)
class CalTable:
    """Jones solutions of one table (B or G Jones; linear feeds, receptor 0 = X, 1 = Y).

    ``kind``: CASA's VisCal, e.g. ``B Jones``. ``time_s`` (Ntimes,): MJD seconds of the solutions. ``frequency_hz`` (Nchan,) ascending,
    ``width_hz`` (Nchan,), ``window`` (Nchan,): spectral window of each channel. ``gain`` (Ntimes, Nants, Nchan, 2) complex, ``flag`` likewise
    (True too where no row exists), ``snr`` likewise. ``antenna_names`` (Nants,). ``refants``: numbers used as reference.
    """

    path: Path
    kind: str
    time_s: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    width_hz: NDArray[np.float64]
    window: NDArray[np.int64]
    gain: NDArray[np.complex128]
    flag: NDArray[np.bool_]
    snr: NDArray[np.float64]
    antenna_names: tuple[str, ...]
    refants: tuple[int, ...]


def read_caltable(path: Path) -> CalTable:
    """Read a table; its spectral windows, in whatever order they are, become one ascending axis of channels.

    Raises:
        NonRetriableError: missing, not a CASA table of complex gains, or empty.
    """
    from casacore.tables import table

    try:
        main = table(str(path), ack=False)
    except RuntimeError as error:
        raise NonRetriableError(path, f"cannot be opened as a CASA table ({error})", "solve the calibrator's tile again") from error
    with main:
        if "CPARAM" not in main.colnames() or main.nrows() == 0:
            raise NonRetriableError(path, "is not a table of complex gains, or is empty", "give a bandpass (B) or gain (G) table")
        column: dict[str, Any] = {
            name: np.asarray(main.getcol(name)) for name in ("TIME", "ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID", "CPARAM", "FLAG", "SNR")
        }
        kind = str(main.getkeyword("VisCal"))
    with table(f"{path}::ANTENNA", ack=False) as antenna:
        names = tuple(str(n) for n in antenna.getcol("NAME"))
    with table(f"{path}::SPECTRAL_WINDOW", ack=False) as windows:
        used = [int(w) for w in np.unique(column["SPECTRAL_WINDOW_ID"])]
        frequency = {w: np.atleast_1d(np.asarray(windows.getcell("CHAN_FREQ", w), dtype=np.float64)) for w in used}
        width = {w: np.abs(np.atleast_1d(np.asarray(windows.getcell("CHAN_WIDTH", w), dtype=np.float64))) for w in used}
    times, time_index = _times(column["TIME"])
    n_chan = sum(f.size for f in frequency.values())
    shape = (times.size, len(names), n_chan, 2)
    gain = np.ones(shape, dtype=np.complex128)
    flag = np.ones(shape, dtype=bool)
    snr = np.zeros(shape)
    offset = 0
    window = np.empty(n_chan, dtype=np.int64)
    for w in used:
        rows = np.flatnonzero(column["SPECTRAL_WINDOW_ID"] == w)
        chan = slice(offset, offset + frequency[w].size)
        at = (time_index[rows], column["ANTENNA1"][rows], chan)
        gain[at], flag[at], snr[at] = column["CPARAM"][rows], column["FLAG"][rows], column["SNR"][rows]
        window[chan] = w
        offset = chan.stop
    all_frequency = np.concatenate([frequency[w] for w in used])
    order = np.argsort(all_frequency, kind="stable")
    return CalTable(
        path=path,
        kind=kind,
        time_s=times,
        frequency_hz=all_frequency[order],
        width_hz=np.concatenate([width[w] for w in used])[order],
        window=window[order],
        gain=gain[:, :, order],
        flag=flag[:, :, order] | ~np.isfinite(gain[:, :, order]) | (gain[:, :, order] == 0),
        snr=snr[:, :, order],
        antenna_names=names,
        refants=tuple(int(a) for a in np.unique(column["ANTENNA2"]) if a >= 0),
    )


def _times(time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct solution times; windows of one solution may differ by milliseconds."""
    distinct = np.unique(time_s)
    group = np.concatenate([[0], np.cumsum(np.diff(distinct) > 1.0)])
    times = np.array([distinct[group == g].mean() for g in range(int(group[-1]) + 1)])
    return times, group[np.searchsorted(distinct, time_s)]
