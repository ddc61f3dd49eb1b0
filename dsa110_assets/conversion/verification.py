"""Verification of a new Measurement Set before it is published (pitfall 29).

`verify_ms` reads back what readers rely on: shapes, order of rows and channels, one field with three equal directions,
times of the observation, readable cells at both ends. It does not look for bad data; `flagging` does.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.measurement_sets import open_table, read_antenna_pairs
from dsa110_assets.conversion.convert import ConversionReport
from dsa110_assets.errors import MeasurementSetError, ProductVerificationError, StorageError

_TIME_TOLERANCE_S = 0.001
_INPUT = re.compile(r"input sb(\d+) (.+)")
_SUBTABLES = ("ANTENNA", "DATA_DESCRIPTION", "FEED", "FIELD", "HISTORY", "OBSERVATION", "POINTING", "POLARIZATION", "SPECTRAL_WINDOW")


def verify_ms(path: Path, report: ConversionReport | None = None, *, thorough: bool = False) -> None:
    """Check that a Measurement Set is complete and agrees with its report.

    Args:
        path: the Measurement Set.
        report: of its conversion; without it only inner consistency is checked.
        thorough: read every visibility: an interrupted copy has holes that read as zeros.

    Raises:
        ProductVerificationError: names the first thing that is wrong.
    """
    try:
        _verify(path, report)
        if thorough:
            _check_visibilities(path)
    except (RuntimeError, OSError, KeyError, IndexError, MeasurementSetError, StorageError) as error:
        raise _verification_error(path, f"cannot be read back ({error})") from error


def inputs_of(path: Path) -> list[str]:
    """Names of the raw files from which a Measurement Set was made (from HISTORY), in order of subband.

    Raises:
        ProductVerificationError: there is no HISTORY to read.
    """
    try:
        with open_table(path, "HISTORY") as history:
            lines = list(history.getcol("MESSAGE")) if history.nrows() else []
    except (RuntimeError, MeasurementSetError, StorageError) as error:
        raise _verification_error(path, f"its HISTORY cannot be read ({error})") from error
    found = [match for line in lines if (match := _INPUT.fullmatch(line)) is not None]
    return [match[2] for match in sorted(found, key=lambda match: int(match[1]))]


def _check_visibilities(path: Path) -> None:
    """Check that unflagged data have a weight and a value: a hole in one of the columns contradicts the others."""
    with open_table(path) as ms:
        n_bls = int(np.count_nonzero(np.asarray(ms.getcol("TIME")) == ms.getcell("TIME", 0)))
        for row in range(0, ms.nrows(), n_bls):
            data, flag, weight = (np.asarray(ms.getcol(name, row, n_bls)) for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM"))
            if np.any((weight > 0) == flag) or np.any((data == 0) & ~flag) or not np.all(np.isfinite(data)):
                raise _verification_error(path, f"DATA, FLAG and WEIGHT_SPECTRUM contradict one another in integration {row // n_bls}")


def _verification_error(path: Path, cause: str) -> ProductVerificationError:
    return ProductVerificationError(path, cause, "the product is not published; check the disk, retry the conversion")


def _verify(path: Path, report: ConversionReport | None) -> None:
    missing = [name for name in _SUBTABLES if not (path / name / "table.dat").is_file()]
    if missing or not (path / "table.dat").is_file():
        raise _verification_error(path, f"incomplete: {missing or 'the main table'} missing")
    with open_table(path) as ms:
        n_rows = ms.nrows()
        times = np.asarray(ms.getcol("TIME"))
        baselines = np.stack(read_antenna_pairs(ms), axis=1)
        uvw_ok = bool(np.all(np.isfinite(ms.getcol("UVW"))))
        shapes = {name: tuple(ms.getcell(name, row).shape) for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM") for row in (0, n_rows - 1)}
        ends = np.concatenate([ms.getcol("DATA", 0, 1), ms.getcol("DATA", n_rows - 1, 1)])
    n_times = _check_rows(path, times, baselines)
    if not uvw_ok or not np.all(np.isfinite(ends)):
        raise _verification_error(path, "UVW or DATA hold values that are not finite")
    n_chan = _check_subtables(path)
    if set(shapes.values()) != {(n_chan, 2)}:
        raise _verification_error(path, f"cells have shapes {shapes}, expected {(n_chan, 2)}")
    if report is not None:
        found, expected = (n_rows, n_times, n_chan), (report.n_rows, report.n_times, report.n_channels)
        if found != expected:
            raise _verification_error(path, f"has (rows, integrations, channels) {found}, expected {expected}")
        middle = 0.5 * (times[0] + times[-1])
        if abs(middle - report.mid_mjd * 86400.0) > _TIME_TOLERANCE_S:
            raise _verification_error(path, f"is centered on MJD {middle / 86400.0:.6f}, expected {report.mid_mjd:.6f}")


def _check_rows(path: Path, times: NDArray[np.float64], baselines: NDArray[np.int32]) -> int:
    """Check that rows run by time, then baseline, with all baselines in each integration; return Ntimes."""
    if times.size == 0:
        raise _verification_error(path, "has no rows")
    steps = np.flatnonzero(np.diff(times) != 0) + 1
    n_times = steps.size + 1
    n_bls = times.size // n_times
    if n_bls * n_times != times.size or np.any(steps != n_bls * np.arange(1, n_times)) or np.any(np.diff(times) < 0):
        raise _verification_error(path, "rows are not ordered by integration")
    blocks = baselines.reshape(n_times, n_bls, 2)
    if np.any(blocks != blocks[0]) or np.any(blocks[0, :, 0] > blocks[0, :, 1]):
        raise _verification_error(path, "integrations differ in their baselines, or ANTENNA1 > ANTENNA2")
    return n_times


def _check_subtables(path: Path) -> int:
    """Check for one ascending spectral window and one field with equal directions; return the number of channels."""
    with open_table(path, "SPECTRAL_WINDOW") as spw:
        if spw.nrows() != 1:
            raise _verification_error(path, f"has {spw.nrows()} spectral windows, expected 1")
        freq, width = np.asarray(spw.getcell("CHAN_FREQ", 0)), np.asarray(spw.getcell("CHAN_WIDTH", 0))
    if np.any(np.diff(freq) <= 0) or np.any(width <= 0):
        raise _verification_error(path, "channels do not ascend")
    with open_table(path, "FIELD") as field:
        if field.nrows() != 1:
            raise _verification_error(path, f"has {field.nrows()} fields, expected 1")
        directions = [np.asarray(field.getcell(name, 0)) for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")]
        frames = {field.getcolkeyword(name, "MEASINFO")["Ref"] for name in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR")}
    if any(not np.array_equal(directions[0], other) for other in directions[1:]) or frames != {"ICRS"}:
        raise _verification_error(path, "PHASE_DIR, DELAY_DIR and REFERENCE_DIR differ or are not ICRS (pitfall 4)")
    for name in ("ANTENNA", "OBSERVATION", "POINTING", "POLARIZATION", "FEED"):
        with open_table(path, name) as subtable:
            if subtable.nrows() == 0:
                raise _verification_error(path, f"{name} has no rows")
    return freq.size
