"""Reading CASA calibration tables as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.measurement_sets import odd_file, wait_for_writer
from dsa110_assets.errors import NonRetriableError
from dsa110_assets.files import printable, why_not_openable


@dataclass(frozen=True)
class CalTable:
    """Jones solutions of one table (B, G or K Jones; linear feeds, receptor 0 = X, 1 = Y).

    ``kind``: CASA's VisCal, e.g. ``B Jones``. `is_delay` for K, whose gains are 1 and whose ``delay_ns`` (Ntimes,
    Nants, 2) refer to the one frequency in ``frequency_hz`` (see `delay_gain`). ``declination_deg``: of the
    calibrator's phase center; None where the table does not state it. ``time_s`` (Ntimes,): MJD seconds of the
    solutions. ``frequency_hz`` (Nchan,): ascending. ``width_hz`` (Nchan,). ``window`` (Nchan,): spectral window of each
    channel. ``gain`` (Ntimes, Nants, Nchan, 2): complex. ``flag``: same shape, also True where no row exists. ``snr``:
    same shape. ``antenna_names`` (Nants,). ``refants``: numbers of the reference antennas.
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
    declination_deg: float | None
    delay_ns: NDArray[np.float64] | None = None

    @property
    def is_delay(self) -> bool:
        """Whether these are delays."""
        return self.delay_ns is not None

    def delay_gain(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        """Gains of delays, ``exp(2 pi i tau (nu - nu_0))``, shape (Ntimes, Nants, Nchan, 2).

        nu_0 is the table's one frequency, the middle of the window.
        """
        assert self.delay_ns is not None
        turns = self.delay_ns[:, :, None, :] * 1e-9 * (frequency_hz - self.frequency_hz[0])[None, None, :, None]
        return np.exp(2j * np.pi * turns)


def read_caltable(path: Path) -> CalTable:
    """Read a table; its spectral windows, in any order, become one ascending axis of channels.

    Raises:
        NonRetriableError: missing, not a CASA table of complex gains or delays, or empty.
    """
    from casacore.tables import table

    if (odd := odd_file(path)) is not None:
        raise NonRetriableError(path, f"holds {printable(odd.name)}, which {why_not_openable(odd)}", "solve the calibrator's tile again")
    wait_for_writer(path)
    try:
        main = table(str(path), ack=False)
    except RuntimeError as error:
        raise NonRetriableError(path, f"cannot be opened as a CASA table ({error})", "solve the calibrator's tile again") from error
    with main:
        kind = str(main.getkeyword("VisCal")) if "VisCal" in main.keywordnames() else ""
        parameter = "FPARAM" if kind == "K Jones" else "CPARAM"
        if parameter not in main.colnames() or main.nrows() == 0:
            raise NonRetriableError(
                path, "is not a table of complex gains, or is empty", "give a bandpass (B), gain (G) or delay (K) table"
            )
        column: dict[str, Any] = {
            name: np.asarray(main.getcol(name)) for name in ("TIME", "ANTENNA1", "ANTENNA2", "SPECTRAL_WINDOW_ID", parameter, "FLAG", "SNR")
        }
    with table(f"{path}::ANTENNA", ack=False) as antenna:
        names = tuple(str(n) for n in antenna.getcol("NAME"))
    with table(f"{path}::SPECTRAL_WINDOW", ack=False) as windows:
        used = [int(w) for w in np.unique(column["SPECTRAL_WINDOW_ID"])]
        frequency = {w: np.atleast_1d(np.asarray(windows.getcell("CHAN_FREQ", w), dtype=np.float64)) for w in used}
        width = {w: np.abs(np.atleast_1d(np.asarray(windows.getcell("CHAN_WIDTH", w), dtype=np.float64))) for w in used}
    numbers = column["ANTENNA1"]
    if numbers.min() < 0 or numbers.max() >= len(names):
        raise NonRetriableError(path, f"has gains of antennas that are not among its {len(names)}", "solve the calibration again")
    declination_deg = _declination_deg(path)
    times, time_index = _times(column["TIME"])
    if parameter == "FPARAM":
        return _delays(
            path,
            column,
            times=times,
            time_index=time_index,
            names=names,
            declination_deg=declination_deg,
            first_hz=float(frequency[used[0]].min()),
            width_hz=float(width[used[0]][0]),
        )
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
        refants=_refants(column),
        declination_deg=declination_deg,
    )


def _delays(
    path: Path,
    column: dict[str, Any],
    *,
    times: NDArray[np.float64],
    time_index: NDArray[np.int64],
    names: tuple[str, ...],
    declination_deg: float | None,
    first_hz: float,
    width_hz: float,
) -> CalTable:
    """Build a table of delays; one spectral window, as `solve` makes them."""
    if np.unique(column["SPECTRAL_WINDOW_ID"]).size > 1:
        raise NonRetriableError(path, "has delays of several spectral windows", "solve on a Measurement Set of this platform (one window)")
    shape = (times.size, len(names), 1, 2)
    delay, flag, snr = np.zeros(shape), np.ones(shape, dtype=bool), np.zeros(shape)
    at = (time_index, column["ANTENNA1"])
    delay[at], flag[at], snr[at] = column["FPARAM"], column["FLAG"], column["SNR"]
    return CalTable(
        path=path,
        kind="K Jones",
        time_s=times,
        frequency_hz=np.array([first_hz]),
        width_hz=np.array([width_hz]),
        window=np.zeros(1, dtype=np.int64),
        gain=np.ones(shape, dtype=np.complex128),
        flag=flag | ~np.isfinite(delay),
        snr=snr,
        antenna_names=names,
        refants=_refants(column),
        declination_deg=declination_deg,
        delay_ns=delay[:, :, 0],
    )


def _refants(column: dict[str, Any]) -> tuple[int, ...]:
    return tuple(int(a) for a in np.unique(column["ANTENNA2"]) if a >= 0)


def _declination_deg(path: Path) -> float | None:
    """Declination of the phase center of the data that were solved."""
    from casacore.tables import table, tableexists

    if not tableexists(f"{path}/FIELD"):
        return None
    with table(f"{path}::FIELD", ack=False) as field:
        if field.nrows() == 0:
            return None
        return float(np.degrees(np.asarray(field.getcell("PHASE_DIR", 0))[0, 1]))


def _times(time_s: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct solution times, and the index of each row's time; windows of one solution may differ by milliseconds."""
    distinct = np.unique(time_s)
    group = np.concatenate([[0], np.cumsum(np.diff(distinct) > 1.0)])
    times = np.array([distinct[group == g].mean() for g in range(int(group[-1]) + 1)])
    return times, group[np.searchsorted(distinct, time_s)]
