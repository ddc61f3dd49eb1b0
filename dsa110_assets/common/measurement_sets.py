"""Measurement Sets of the platform: open them, read their metadata, and split them into blocks.

A Measurement Set is *calibrated* only if its main table has the keyword `CALIBRATED_KEYWORD`. Then DATA is in Jy, and
there is no CORRECTED_DATA that could be absent or empty (pitfall 13). Rows are ordered by time. There is one field, and
one spectral window with ascending channels.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import TilePointing
from dsa110_assets.common.smearing import Averaging
from dsa110_assets.errors import MeasurementSetError, StorageError
from dsa110_assets.files import is_special, printable, why_not_openable

CALIBRATED_KEYWORD = "DSA110_CALIBRATED"
"""Keyword of a calibrated Measurement Set: a JSON record, which includes the number of averaged channels."""
SCALE_KEYWORD = "DSA110_APPARENT_SCALE"
"""Keyword of a Measurement Set with geometric baselines: `directions.apparent_scale` at its phase center."""
TRACKING_KEYWORD = "DSA110_TRACKING"
"""Keyword of a Measurement Set of another telescope, which tracked: tables of any declination fit."""
SECONDS_PER_DAY = 86400.0
MAKE_AGAIN = (
    "make the measurement_set of this observation again; for one of another telescope or program, first run `dsa110 convert ms IN OUT`"
)
WAIT_FOR_WRITER_S = 30.0
"""How long a set is waited for that another program is writing; casacore itself waits for ever."""


# --- opening --------------------------------------------------------------------------------------------------------
def is_measurement_set(path: Path) -> bool:
    """Whether a path has the main table of a Measurement Set."""
    return (path / "table.dat").is_file()


def open_table(ms: Path, subtable: str = "", *, writable: bool = False) -> Any:
    """Open the main table or a subtable; use it as a context manager, which closes it.

    Args:
        ms: the Measurement Set.
        subtable: name of a subtable; empty for the main table.
        writable: False forbids writing.

    Raises:
        MeasurementSetError: there is no such table, or it is damaged.
        StorageError: the disk refuses to read it.
    """
    from casacore.tables import table

    if not is_measurement_set(ms):
        raise MeasurementSetError(ms, "is not a Measurement Set", "give the path of one; the calibrated_ms asset makes calibrated ones")
    if not (ms / subtable / "table.dat").is_file():
        raise MeasurementSetError(ms, f"has no table {subtable}", MAKE_AGAIN)
    if (odd := odd_file(ms / subtable)) is not None:
        raise MeasurementSetError(ms, f"holds {printable(odd.relative_to(ms))}, which {why_not_openable(odd)}", MAKE_AGAIN)
    wait_for_writer(ms / subtable)
    try:
        return table(str(ms / subtable), readonly=not writable, ack=False)
    except RuntimeError as error:
        name = subtable or "the main table"
        if (trouble := _why_unreadable(ms / subtable)) is not None:
            raise StorageError(ms, f"{name} cannot be read ({trouble})", "look at the disk and its permissions, then retry") from error
        raise MeasurementSetError(ms, f"{name} cannot be opened ({error})", MAKE_AGAIN) from error


def odd_file(directory: Path) -> Path | None:
    """First file of a table, or of its subtables, that is a pipe or a device, for which casacore waits for ever."""
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith("table.") and is_special(entry.path):
                return Path(entry.path)
        below = (odd_file(Path(entry.path)) for entry in entries if entry.is_dir(follow_symlinks=False))
        return next((odd for odd in below if odd is not None), None)
    except OSError:
        return None  # casacore says why


def wait_for_writer(directory: Path) -> None:
    """Wait while another process holds the write lock of a table, for `WAIT_FOR_WRITER_S` at most.

    Raises:
        StorageError: it still holds it.
    """
    deadline = time.monotonic() + WAIT_FOR_WRITER_S
    while (writer := _writer_of(directory)) is not None:
        if time.monotonic() > deadline:
            raise StorageError(directory, f"is open for writing in process {writer}", "close it there, then try again")
        time.sleep(0.2)


def _writer_of(directory: Path) -> int | None:
    """Another process with a write lock on the first byte of a table's lock file, casacore's lock; None if none has."""
    try:
        inode = (directory / "table.lock").stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    for line in lines:  # 1: POSIX  ADVISORY  WRITE 20820 fe:00:3130021 0 0
        words = line.split()
        if words[1] == "POSIX" and words[3] == "WRITE" and words[5].endswith(f":{inode}") and words[6] == "0":
            return None if int(words[4]) == os.getpid() else int(words[4])
    return None


@contextmanager
def naming_damage(ms: Path) -> Iterator[None]:
    """Name the set where a reader stumbles over what it lacks or holds: casacore, pyuvdata, numpy raise any of these.

    Raises:
        MeasurementSetError: it is damaged or incomplete.
        StorageError: the disk refuses to read it.
    """
    try:
        yield
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        for directory in (ms, *(one for one in ms.iterdir() if one.is_dir())):
            if (trouble := _why_unreadable(directory)) is not None:
                raise StorageError(ms, f"cannot be read ({trouble})", "look at the disk and its permissions, then retry") from error
        first = (str(error).splitlines() or [""])[-1][:200]
        raise MeasurementSetError(ms, f"is damaged or incomplete ({type(error).__name__}: {first})", MAKE_AGAIN) from error


def _why_unreadable(directory: Path) -> str | None:
    """What the disk answers where a file of a table cannot be read; None if all can: then the table is damaged."""
    try:
        for file in directory.glob("table.*"):
            with file.open("rb") as stream:
                stream.read(1)
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"
    return None


# --- metadata -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Summary:
    """Metadata of a Measurement Set.

    ``time_s``: middles of the integrations, MJD seconds, UTC, ascending, (Ntimes,). ``integration_s``: length of an
    integration. ``frequency_hz``, ``channel_width_hz``: centers and widths of the channels, (Nchan,).
    ``phase_ra_rad``, ``phase_dec_rad``: ICRS phase center. ``antenna_names``: in order of their numbers.
    ``telescope_name``: name in CASA (pitfall 6).
    """

    time_s: NDArray[np.float64]
    integration_s: float
    frequency_hz: NDArray[np.float64]
    channel_width_hz: NDArray[np.float64]
    phase_ra_rad: float
    phase_dec_rad: float
    antenna_names: tuple[str, ...]
    field_name: str
    telescope_name: str

    @property
    def middle_mjd(self) -> float:
        """Middle between the first and the last integration, UTC MJD."""
        return float(self.time_s.min() + self.time_s.max()) / 2 / SECONDS_PER_DAY

    @property
    def duration_s(self) -> float:
        """Time from the start of the first integration to the end of the last."""
        return float(np.ptp(self.time_s)) + self.integration_s


def read_summary(ms: Path) -> Summary:
    """Read the metadata of a Measurement Set, but no visibilities.

    Raises:
        MeasurementSetError: it is not one, has no rows, or does not have exactly one spectral window.
    """
    frequency_hz, channel_width_hz = read_channels(ms)
    with open_table(ms) as main:
        if main.nrows() == 0:
            raise MeasurementSetError(ms, "has no rows", MAKE_AGAIN)
        time_s = np.unique(np.asarray(main.getcol("TIME"), dtype=np.float64))
        integration_s = float(main.getcell("INTERVAL", 0))
    with open_table(ms, "FIELD") as field:
        phase = np.asarray(field.getcell("PHASE_DIR", 0), dtype=np.float64)[0]
        field_name = str(field.getcell("NAME", 0))
    with open_table(ms, "ANTENNA") as antenna:
        names = tuple(str(name) for name in antenna.getcol("NAME"))
    with open_table(ms, "OBSERVATION") as observation:
        telescope = str(observation.getcell("TELESCOPE_NAME", 0)) if observation.nrows() else ""
    return Summary(
        time_s=time_s,
        integration_s=integration_s,
        frequency_hz=frequency_hz,
        channel_width_hz=channel_width_hz,
        phase_ra_rad=float(phase[0]),
        phase_dec_rad=float(phase[1]),
        antenna_names=names,
        field_name=field_name,
        telescope_name=telescope,
    )


def read_antenna_pairs(
    main: Any, start: int = 0, count: int = -1, *, ms: Path | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Read ANTENNA1 and ANTENNA2 of rows, (nrow,) each. Compiled code uses them as indices and does not look.

    ``ms`` is the set to which ``main`` belongs, if that is a selection of its rows.

    Raises:
        MeasurementSetError: an antenna is not in the table ANTENNA.
    """
    ms = ms or Path(str(main.name()))
    antenna1, antenna2 = (np.asarray(main.getcol(name, start, count), dtype=np.int32) for name in ("ANTENNA1", "ANTENNA2"))
    with open_table(ms, "ANTENNA") as antennas:
        known = int(antennas.nrows())
    for one in (antenna1, antenna2):
        if one.size and not 0 <= one.min() <= one.max() < known:
            wrong = int(one.min() if one.min() < 0 else one.max())
            raise MeasurementSetError(ms, f"has rows of antenna {wrong}; its table ANTENNA has {known}, from 0", MAKE_AGAIN)
    return antenna1, antenna2


def read_channels(ms: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the centers and widths (positive) of the channels, Hz, (Nchan,) each.

    Raises:
        MeasurementSetError: the Measurement Set does not have exactly one spectral window.
    """
    with open_table(ms, "SPECTRAL_WINDOW") as window:
        if window.nrows() != 1:
            raise MeasurementSetError(ms, f"has {window.nrows()} spectral windows, expected 1", MAKE_AGAIN)
        frequency_hz = np.asarray(window.getcell("CHAN_FREQ", 0), dtype=np.float64)
        return frequency_hz, np.abs(np.atleast_1d(np.asarray(window.getcell("CHAN_WIDTH", 0), dtype=np.float64)))


def read_tile_pointing(ms: Path) -> TilePointing:
    """Read where the telescope pointed (POINTING and FIELD tables, written by `conversion`)."""
    with open_table(ms, "FIELD") as field:
        phase = np.asarray(field.getcell("PHASE_DIR", 0), dtype=np.float64)[0]
    with open_table(ms, "POINTING") as pointing:
        first = pointing.query("ANTENNA_ID == 0", sortlist="TIME", columns="TIME, DIRECTION")
        time_mjd = np.asarray(first.getcol("TIME"), dtype=np.float64) / SECONDS_PER_DAY
        direction = np.asarray(first.getcol("DIRECTION") if first.nrows() else np.empty((0, 1, 2)), dtype=np.float64)[:, 0, :]
        first.close()
    if time_mjd.size == 0:
        raise MeasurementSetError(ms, "has no pointing", MAKE_AGAIN)
    with open_table(ms, "ANTENNA") as antenna:
        diameter_m = float(np.median(antenna.getcol("DISH_DIAMETER")))
    degrees = np.degrees(direction)
    return TilePointing(
        time_mjd=time_mjd,
        ra_deg=np.mod(degrees[:, 0], 360.0),
        dec_deg=degrees[:, 1],
        phase_ra_deg=float(np.mod(np.degrees(phase[0]), 360.0)),
        phase_dec_deg=float(np.degrees(phase[1])),
        dish_diameter_m=diameter_m if diameter_m > 0 else None,
    )


def read_apparent_scale(main: Any) -> float:
    """Factor that converts the UVW of an open Measurement Set to baselines for ICRS directions.

    It is 1 if the keyword is absent: in data of other programs, and in calibrated data, whose UVW include the factor.
    """
    return float(main.getkeyword(SCALE_KEYWORD)) if SCALE_KEYWORD in main.keywordnames() else 1.0


def read_averaging(ms: Path) -> Averaging:
    """Read the averaging of visibilities; a calibrated Measurement Set records how many channels were averaged."""
    _, width_hz = read_channels(ms)
    with open_table(ms) as main:
        integration_s = float(main.getcell("INTERVAL", 0))
    channels = int((calibration_of(ms) or {}).get("channels_averaged", 1))
    return Averaging(float(width_hz[0]) / channels, integration_s, channels)


def is_tracking(ms: Path) -> bool:
    """Whether another telescope made it by tracking its field (`conversion.foreign`)."""
    with open_table(ms) as main:
        return TRACKING_KEYWORD in main.keywordnames()


# --- calibrated or not ----------------------------------------------------------------------------------------------
def mark_calibrated(main: Any, record: Mapping[str, Any]) -> None:
    """Mark an open Measurement Set as calibrated, with a record of what was done (JSON types)."""
    main.putkeyword(CALIBRATED_KEYWORD, json.dumps(record, sort_keys=True))


def calibration_of(ms: Path) -> dict[str, Any] | None:
    """Read the record of the calibration; None if the Measurement Set is not calibrated."""
    with open_table(ms) as main:
        return json.loads(main.getkeyword(CALIBRATED_KEYWORD)) if CALIBRATED_KEYWORD in main.keywordnames() else None


def is_calibrated(path: Path) -> bool:
    """Whether a path, which need not exist, is a calibrated Measurement Set."""
    return is_measurement_set(path) and calibration_of(path) is not None


def require_calibrated(ms: Path) -> dict[str, Any]:
    """Read the record of the calibration.

    Raises:
        MeasurementSetError: this platform did not calibrate it; raw data are never used instead (pitfall 13).
    """
    record = calibration_of(ms)
    if record is None:
        cause = f"is not calibrated (no keyword {CALIBRATED_KEYWORD})"
        raise MeasurementSetError(ms, cause, "materialize calibrated_ms, or run `dsa110 apply --ms MS`, first")
    return record


# --- blocks ---------------------------------------------------------------------------------------------------------
def integrations(time_s: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(first row, last row + 1) of each run of equal times in a TIME column; rows are ordered by time."""
    starts = np.append(np.flatnonzero(np.diff(time_s, prepend=np.nan) != 0), time_s.size)
    return list(zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True))


def row_blocks(n_rows: int, n_chan: int, *, bytes_per_visibility: int = 8, bytes_per_block: int = 256 << 20) -> Iterator[tuple[int, int]]:
    """(first row, number of rows) of blocks of about ``bytes_per_block`` for visibilities of two polarizations."""
    step = max(1, bytes_per_block // (n_chan * 2 * bytes_per_visibility))
    for start in range(0, n_rows, step):
        yield start, min(step, n_rows - start)
