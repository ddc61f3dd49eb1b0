"""What makes no sense in a foreign Measurement Set: refused by name, completed with a note, or flagged.

casacore gives numbers as they stand; units, time scales and empty cells are for the reader to look at. Choosing and
copying is in `foreign`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.measurement_sets import SECONDS_PER_DAY, open_table, read_antenna_pairs
from dsa110_assets.errors import ForeignDataError
from dsa110_assets.files import printable

_UNITS = (
    ("", "TIME", "s"),
    ("", "INTERVAL", "s"),
    ("", "EXPOSURE", "s"),
    ("", "UVW", "m"),
    ("ANTENNA", "POSITION", "m"),
    ("ANTENNA", "DISH_DIAMETER", "m"),
    ("FIELD", "PHASE_DIR", "rad"),
    ("POINTING", "DIRECTION", "rad"),
    ("POINTING", "TIME", "s"),
    ("SPECTRAL_WINDOW", "CHAN_FREQ", "Hz"),
    ("SPECTRAL_WINDOW", "CHAN_WIDTH", "Hz"),
)
"""Table, column and unit of the standard (CASA memo 229), in which the platform reads."""
_SCALES = ("", "UTC", "TAI", "IAT", "UT1", "UT")
"""Scales of TIME that differ from UTC by less than 40 s, in which a tracked source does not move in its field."""
_CREDIBLE_MJD = (15_000.0, 110_000.0)
_LOWEST_HZ = 1e6


def refuse_odd_units(ms: Path) -> None:
    """Refuse columns in other units than the standard's, and times of scales like sidereal time.

    Raises:
        ForeignDataError: names the column, its unit, and the standard's.
    """
    for subtable, column, wanted in _UNITS:
        with open_table(ms, subtable) as table:
            if column not in table.colnames():
                continue
            keywords = table.getcolkeywords(column)
        place = f"{subtable}/{column}".lstrip("/")
        found = {str(unit).strip() for unit in np.ravel(keywords.get("QuantumUnits", keywords.get("UNIT", [])))} - {"", wanted}
        if found:
            raise ForeignDataError(
                ms, f"has {place} in {', '.join(sorted(found))}, {wanted} was expected", "convert it and correct its unit"
            )
        scale = str(keywords.get("MEASINFO", {}).get("Ref", "")).upper()
        if column == "TIME" and scale not in _SCALES:
            raise ForeignDataError(ms, f"has {place} in the scale {scale}, UTC was expected", "convert it to UTC")


def refuse_moving_field(ms: Path, number: int) -> None:
    """Refuse a field whose phase center moves: planets with an ephemeris, or a polynomial in time.

    Raises:
        ForeignDataError: it does.
    """
    with open_table(ms, "FIELD") as table:
        has_ephemeris = "EPHEMERIS_ID" in table.colnames() and int(table.getcell("EPHEMERIS_ID", number)) >= 0
        rates = np.asarray(table.getcell("PHASE_DIR", number), dtype=np.float64).reshape(-1, 2)[1:]
    if has_ephemeris or np.any(rates != 0.0):
        how = "follows an ephemeris" if has_ephemeris else "is a polynomial in time"
        raise ForeignDataError(ms, f"has a phase center that moves: it {how}", "shift it to a fixed direction first: CASA's `fixvis`")


def check_rows(ms: Path, chosen: Any) -> None:
    """Check times, baselines and their coordinates.

    Raises:
        ForeignDataError: times are none, there are no cross-correlations, or they have no UVW.
    """
    days = np.asarray(chosen.getcol("TIME"), dtype=np.float64) / SECONDS_PER_DAY
    if not np.all((days > _CREDIBLE_MJD[0]) & (days < _CREDIBLE_MJD[1])):
        raise ForeignDataError(ms, f"has times from MJD {np.min(days):g} to {np.max(days):g}", "correct TIME (MJD in seconds)")
    antenna1, antenna2 = read_antenna_pairs(chosen, ms=ms)
    cross = antenna1 != antenna2
    if not cross.any():
        raise ForeignDataError(ms, "has autocorrelations only", "give data of an interferometer with cross-correlations")
    uvw = np.asarray(chosen.getcol("UVW"), dtype=np.float64)[cross]
    if not np.isfinite(uvw).all() or not uvw.any():
        what = "are 0" if np.isfinite(uvw).all() else "are not all numbers"
        raise ForeignDataError(ms, f"has UVW that {what}", "compute them from the antenna positions: CASA's `fixvis` with reuse=False")


def check_frequencies(ms: Path, frequency_hz: NDArray[np.float64], n_channels: int) -> None:
    """Check that each channel of the data has its frequency, in order.

    Raises:
        ForeignDataError: it has not.
    """
    if frequency_hz.ndim != 1 or frequency_hz.size != n_channels:
        cause = f"has {n_channels} channels in the data and {frequency_hz.size} in SPECTRAL_WINDOW/CHAN_FREQ"
        raise ForeignDataError(ms, cause, "export it again")
    if not np.all(frequency_hz > _LOWEST_HZ) or not np.isfinite(frequency_hz).all():
        raise ForeignDataError(ms, f"has channels at {frequency_hz.min():g} to {frequency_hz.max():g} Hz", "correct CHAN_FREQ (Hz)")
    steps = np.diff(frequency_hz)
    if steps.size and not (np.all(steps > 0) or np.all(steps < 0)):
        raise ForeignDataError(ms, "has channels that neither rise nor fall in frequency", "order them by frequency")


def has_weights(table: Any, column: str) -> bool:
    """Whether a column of weights has a positive one; CASA leaves columns that it made and did not fill at 0."""
    step = max(1, int(table.nrows()) // 10)
    return any(np.any(np.asarray(table.getcell(column, row)) > 0) for row in range(0, int(table.nrows()), step))


def flagged_where_unusable(
    block: dict[str, NDArray[Any]], flag_row: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]]:
    """Flags and weights of rows, with flags also where a sample is no number or has no weight, and in flagged rows.

    Returns:
        Flags and weights, each (Nrow, Nchan, 2); the numbers of usable, of newly flagged and of all samples.
    """
    flag, weight = np.asarray(block["FLAG"], dtype=bool) | flag_row[:, None, None], np.asarray(block["WEIGHT_SPECTRUM"])
    with np.errstate(invalid="ignore"):
        odd = ~np.isfinite(block["DATA"]) | ~np.isfinite(weight) | (weight <= 0)
    return flag | odd, np.where(odd, 0, weight).astype(np.float32), np.array([np.sum(~(flag | odd)), np.sum(odd & ~flag), flag.size])


def complete_intervals(ms: Path, out: Path, time_s: NDArray[np.float64]) -> list[str]:
    """Take INTERVAL and EXPOSURE from the times where they are 0 or no numbers.

    Raises:
        ForeignDataError: there is only one time.
    """
    notes: list[str] = []
    with open_table(out, writable=True) as made:
        for name in ("INTERVAL", "EXPOSURE"):
            length = np.asarray(made.getcol(name), dtype=np.float64)
            if (good := np.isfinite(length) & (length > 0)).all():
                continue
            if time_s.size == 1 and not good.any():
                raise ForeignDataError(ms, f"has {name} 0 and only one time", f"write the length of the integration into {name}, in s")
            made.putcol(name, np.where(good, length, np.median(length[good]) if good.any() else np.median(np.diff(time_s))))
            notes.append(f"{name} is 0 or no number; taken from the {'other rows' if good.any() else 'times'}")
    return notes


def name_antennas(out: Path) -> list[str]:
    """Number the antennas whose names are empty, occur twice or cannot be printed: people give antennas by name."""
    with open_table(out, "ANTENNA", writable=True) as table:
        names = [str(name).strip() for name in table.getcol("NAME")]
        if all(name and printable(name) == name for name in names) and len(set(names)) == len(names):
            return []
        table.putcol("NAME", [str(number) for number in range(len(names))])
    return ["antennas without names of their own; they are called by their numbers, from 0"]
