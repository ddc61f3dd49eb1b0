"""Verification of a new calibrated Measurement Set before it is published (pitfall 29).

`verify_calibrated` reads back what imaging relies on: the keyword that marks calibrated data, rows and channels, and
every visibility. It does not judge the calibration; `quality` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsa110_assets.calibration.apply import ApplyReport
from dsa110_assets.common.measurement_sets import CALIBRATED_KEYWORD, calibration_of, open_table, read_antenna_pairs, row_blocks
from dsa110_assets.errors import MeasurementSetError, ProductVerificationError, StorageError

_SUBTABLES = ("ANTENNA", "DATA_DESCRIPTION", "FEED", "FIELD", "HISTORY", "OBSERVATION", "POLARIZATION", "SPECTRAL_WINDOW")
_BLOCK_BYTES = 64 << 20


def verify_calibrated(path: Path, report: ApplyReport) -> None:
    """Check that a calibrated Measurement Set is complete and agrees with its report.

    Args:
        path: the Measurement Set; every visibility is read.
        report: of `apply_calibration`.

    Raises:
        ProductVerificationError: names the first thing that is wrong.
    """
    try:
        _verify(path, report)
    except (RuntimeError, OSError, KeyError, IndexError, ValueError, MeasurementSetError, StorageError) as error:
        raise _verification_error(path, f"cannot be read back ({error})") from error


def _verification_error(path: Path, cause: str) -> ProductVerificationError:
    return ProductVerificationError(path, cause, "the product is not published; check the disk, retry the calibration")


def _verify(path: Path, report: ApplyReport) -> None:
    missing = [name for name in _SUBTABLES if not (path / name / "table.dat").is_file()]
    if missing or not (path / "table.dat").is_file():
        raise _verification_error(path, f"incomplete: {missing or 'the main table'} missing")
    with open_table(path, "SPECTRAL_WINDOW") as window:
        frequency = np.asarray(window.getcell("CHAN_FREQ", 0))
    if frequency.shape != (report.n_channels,) or np.any(np.diff(frequency) <= 0):
        raise _verification_error(path, f"has {frequency.size} channels, expected {report.n_channels} in ascending order")
    for name in ("ANTENNA", "FIELD", "OBSERVATION", "HISTORY"):
        with open_table(path, name) as subtable:
            if subtable.nrows() == 0:
                raise _verification_error(path, f"{name} has no rows")
    record = calibration_of(path)
    with open_table(path) as ms:
        if record is None:
            raise _verification_error(path, f"is not marked as calibrated (keyword {CALIBRATED_KEYWORD})")
        averaged = record["channels_averaged"]
        if averaged != report.channels_averaged:
            raise _verification_error(path, f"was averaged over {averaged} channels, expected {report.channels_averaged}")
        if ms.nrows() != report.n_rows:
            raise _verification_error(path, f"has {ms.nrows()} rows, expected {report.n_rows}")
        if not np.all(np.isfinite(ms.getcol("UVW"))):
            raise _verification_error(path, "UVW holds values that are not finite")
        if np.any(np.equal(*read_antenna_pairs(ms))):
            raise _verification_error(path, "has autocorrelations")
        unflagged = _check_visibilities(path, ms, report.n_channels)
    expected = round((1 - report.flagged_fraction) * report.n_rows * report.n_channels * 2)
    if unflagged != expected:
        raise _verification_error(path, f"has {unflagged} unflagged visibilities, expected {expected}")


def _check_visibilities(path: Path, ms: Any, n_channels: int) -> int:
    """Read and check all visibilities; return how many are not flagged.

    Holes of a broken write read as zeros and contradict the other columns.
    """
    unflagged = 0
    for row, count in row_blocks(ms.nrows(), n_channels, bytes_per_block=_BLOCK_BYTES):
        data, flag, weight = (np.asarray(ms.getcol(name, row, count)) for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM"))
        if data.shape[1:] != (n_channels, 2) or flag.shape != data.shape or weight.shape != data.shape:
            raise _verification_error(
                path, f"cells have shapes {data.shape[1:]}, {flag.shape[1:]}, {weight.shape[1:]}, expected {(n_channels, 2)}"
            )
        if not np.all(np.isfinite(data)) or not np.all(np.isfinite(weight)):
            raise _verification_error(path, f"DATA or WEIGHT_SPECTRUM hold values that are not finite, in rows from {row}")
        empty_rows = (data == 0).all(axis=(1, 2)) & ~flag.all(axis=(1, 2))
        if np.any((weight > 0) == flag) or empty_rows.any():
            raise _verification_error(path, f"DATA, FLAG and WEIGHT_SPECTRUM contradict one another, in rows from {row}")
        unflagged += int(np.count_nonzero(~flag))
    return unflagged
