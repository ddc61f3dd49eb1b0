"""Export of a tile for other software: UVH5, UVFITS or a Measurement Set, which pyuvdata writes from one of ours.

The source is a Measurement Set of the platform, not the raw files: raw files are phased to 24 meridian points, carry
single-precision uvw and no flags, and are UVH5 already. DATA, FLAG, UVW and TIME keep their values; WEIGHT_SPECTRUM
becomes ``nsamples``: fractions of an integration (1 where the telescope's files hold 96), which is pyuvdata's unit, or
1/Jy^2 in calibrated data. This module sets what pyuvdata cannot know: the orientation of the feeds, the instrument,
and, in a Measurement Set, where the dishes pointed (pyuvdata writes the zenith).

Values equal those of the source bit for bit. Exceptions: times are Julian dates in UVH5 and UVFITS (40 microseconds),
and UVFITS splits dates and uvw into single-precision halves. CASA's importuvfits has three faults. It reads only the
first half of uvw (0.1 mm). It calls the frame J2000 whatever the file declares (the numbers are ICRS, which differs by
up to 23 milliarcseconds). It does not rotate the stations back from the local meridian (AIPS memo 117), so images are
right and antenna positions are not. For CASA, export a Measurement Set.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from dsa110_assets.common.measurement_sets import SCALE_KEYWORD, naming_damage, open_table
from dsa110_assets.errors import MeasurementSetError, ProductVerificationError, StorageError

FEED_ANGLE_RAD = (0.0, np.pi / 2)
"""Position angles of X and Y. The raw headers do not state them; we assume X to the north, as the IAU and CASA do."""
OWN_KEYWORDS = "DSA110_"
"""Prefix of the platform's own keywords in a Measurement Set: calibration, and the scale of aberration."""
_COPIED = ("WEIGHT", "SIGMA", "TIME", "TIME_CENTROID")
"""Columns that pyuvdata recomputes; it leaves uninitialized values in flagged rows of SIGMA."""
_NEXT_STEP = "nothing is published; check the disk, then try again"
_UVW_TOLERANCE_M = 1e-3
_TIME_TOLERANCE_DAYS = 1e-9


class ExportFormat(StrEnum):
    """File formats that pyuvdata writes."""

    UVH5 = "uvh5"
    UVFITS = "uvfits"
    MS = "ms"


@dataclass(frozen=True)
class ExportReport:
    """Result of an export.

    ``format``; ``vis_units``: ``Jy`` or ``uncalib``. ``n_times``, ``n_baselines``, ``n_channels``: sizes. ``n_bytes``
    on disk. ``flagged_fraction``: of the visibilities. ``phase_ra_deg``, ``phase_dec_deg``: the ICRS phase center.
    """

    path: Path
    format: ExportFormat
    vis_units: str
    n_times: int
    n_baselines: int
    n_channels: int
    n_bytes: int
    flagged_fraction: float
    phase_ra_deg: float
    phase_dec_deg: float


def export_visibilities(
    ms: Path,
    out: Path,
    file_format: ExportFormat,
    *,
    vis_units: str,
    history: Sequence[str] = (),
    progress: Callable[[str, float], None] | None = None,
) -> ExportReport:
    """Write a tile's Measurement Set in another format, then read it back.

    The whole tile is in memory. pyuvdata takes about 24 bytes per visibility, 68 for UVFITS: 4 GB and 12 GB for a raw
    tile of full size (``benchmarks/export_tile.py``), a third of that after averaging three channels.

    Args:
        ms: raw or calibrated Measurement Set of the platform; only read.
        out: file or Measurement Set to write, which must not exist (the staging path of a publication).
        file_format: what to write.
        vis_units: ``Jy`` for calibrated data, ``uncalib`` for the correlator's units.
        history: lines to add to the history.
        progress: called with the current step and the fraction done.

    Raises:
        ProductVerificationError: the output cannot be read back, or differs from the source.
    """
    from pyuvdata import UVData

    report_progress = progress or (lambda _step, _fraction: None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # remarks on units and unknown telescopes
        report_progress("reading", 0.0)
        uvd: Any = UVData()
        with naming_damage(ms):
            uvd.read_ms(os.fspath(ms), ignore_single_chan=False, run_check=False, fix_autos=False)
            _add_metadata(uvd, ms, vis_units, history)
            uvd.check(check_autos=False)
        report_progress("writing", 0.3)
        if file_format is ExportFormat.UVH5:
            uvd.write_uvh5(os.fspath(out), run_check=False)
        elif file_format is ExportFormat.UVFITS:
            _write_uvfits(uvd, out)
        else:
            uvd.write_ms(os.fspath(out), run_check=False)
            _restore_ms_columns(ms, out)
        report_progress("reading back", 0.8)
        _verify(uvd, ms, out, file_format)
    report_progress("done", 1.0)
    center = next(iter(uvd.phase_center_catalog.values()))
    return ExportReport(
        path=out,
        format=file_format,
        vis_units=vis_units,
        n_times=int(uvd.Ntimes),
        n_baselines=int(uvd.Nbls),
        n_channels=int(uvd.Nfreqs),
        n_bytes=sum(p.stat().st_size for p in out.rglob("*") if p.is_file()) if out.is_dir() else out.stat().st_size,
        flagged_fraction=float(np.mean(uvd.flag_array)),
        phase_ra_deg=float(np.mod(np.degrees(center["cat_lon"]), 360.0)),
        phase_dec_deg=float(np.degrees(center["cat_lat"])),
    )


def _add_metadata(uvd: Any, ms: Path, vis_units: str, history: Sequence[str]) -> None:
    """Set what `UVData.read_ms` does not find in a Measurement Set, or misreads."""
    uvd.vis_units = vis_units
    uvd.telescope.instrument = "DSA"
    uvd.telescope.feed_angle = np.tile(np.array(FEED_ANGLE_RAD), (uvd.telescope.Nants, 1))
    with open_table(ms) as main:
        own = {name: main.getkeyword(name) for name in main.keywordnames() if name.startswith(OWN_KEYWORDS)}
    with open_table(ms, "HISTORY") as past:
        lines = [str(line) for line in past.getcol("MESSAGE")] if past.nrows() else []
    lines += [f"{name} {value}" for name, value in own.items()]
    uvd.history = "\n".join([*lines, *history, uvd.pyuvdata_version_str.strip()])
    keywords: dict[str, str | float] = {"observer": "DSA-110"}  # UVFITS allows names of at most 8 letters
    if SCALE_KEYWORD in own:
        keywords["UVSCALE"] = float(own[SCALE_KEYWORD])
    uvd.extra_keywords = keywords


def _write_uvfits(uvd: Any, out: Path) -> None:
    """Write UVFITS with the keywords that other readers look for, and antennas counted from 1, as AIPS and CASA expect.

    pyuvdata writes VELTYP = LSR, so CASA would treat topocentric frequencies as LSRK and images would differ by 0.3 %.
    Without TIMSYS (the older spelling of TIMESYS) CASA treats times as TAI, which is 37 s off (pitfall 5). The FITS
    standard writes RADESYS in capitals, which pyuvdata does not read.
    """
    from astropy.io import fits

    uvd.extra_keywords |= {"PHSFRAME": "icrs", "SPECSYS": "TOPOCENT"}  # pyuvdata looks at PHSFRAME first
    uvd.write_uvfits(os.fspath(out), run_check=False, use_miriad_convention=True)
    with fits.open(out, mode="update", memmap=True) as hdus:  # updates the headers, does not copy the data
        hdus[0].header["RADESYS"] = "ICRS"
        hdus["AIPS AN"].header["TIMSYS"] = "UTC"
        hdus["AIPS SU"].header["VELTYP"] = "TOPOCENT"


def _restore_ms_columns(ms: Path, out: Path) -> None:
    """Copy what pyuvdata drops: the dishes' directions, the weights of rows, and the platform's own keywords."""
    with open_table(ms) as old, open_table(out, writable=True) as new:
        for name in _COPIED:
            new.putcol(name, old.getcol(name))
        for name in old.keywordnames():
            if name.startswith(OWN_KEYWORDS):
                new.putkeyword(name, old.getkeyword(name))
    with open_table(ms, "POINTING") as old, open_table(out, "POINTING", writable=True) as new:
        new.removerows(list(range(new.nrows())))
        new.addrows(old.nrows())
        for name in ("DIRECTION", "TARGET"):
            new.putcolkeyword(name, "MEASINFO", old.getcolkeyword(name, "MEASINFO"))
        for name in ("ANTENNA_ID", "TIME", "INTERVAL", "NAME", "NUM_POLY", "TIME_ORIGIN", "DIRECTION", "TARGET", "TRACKING"):
            new.putcol(name, old.getcol(name))


def _verify(uvd: Any, ms: Path, out: Path, file_format: ExportFormat) -> None:
    """Read back the axes and the first integration of the output, and compare them with the source.

    Raises:
        ProductVerificationError: the output cannot be read, or differs.
    """
    try:
        equal = _compare_ms(ms, out) if file_format is ExportFormat.MS else _compare_file(uvd, out, file_format)
    except (OSError, RuntimeError, KeyError, ValueError, MeasurementSetError, StorageError) as error:
        raise ProductVerificationError(out, f"the export cannot be read back ({error})", _NEXT_STEP) from error
    if different := [what for what, same in equal.items() if not same]:
        raise ProductVerificationError(out, f"{', '.join(different)} differ from the source's", _NEXT_STEP)


def _compare_file(uvd: Any, out: Path, file_format: ExportFormat) -> dict[str, bool]:
    from pyuvdata import UVData

    first = float(uvd.time_array[0])
    mine = uvd.time_array == first
    back: Any = UVData()
    back.read(os.fspath(out), file_type=str(file_format), time_range=[first - 1e-5, first + 1e-5], run_check=False, fix_autos=False)
    return {
        "visibilities": np.array_equal(back.data_array, uvd.data_array[mine], equal_nan=True),
        "flags": np.array_equal(back.flag_array, uvd.flag_array[mine]),
        "frequencies": np.allclose(back.freq_array, uvd.freq_array, rtol=0, atol=1.0),
        "times": float(np.abs(back.time_array - first).max()) < _TIME_TOLERANCE_DAYS,
        "uvw": float(np.abs(back.uvw_array - uvd.uvw_array[mine]).max()) < _UVW_TOLERANCE_M,
        "antenna names": list(back.telescope.antenna_names) == list(uvd.telescope.antenna_names),
    }


def _compare_ms(ms: Path, out: Path) -> dict[str, bool]:
    equal: dict[str, bool] = {}
    with open_table(ms) as old, open_table(out) as new:
        equal["numbers of rows"] = old.nrows() == new.nrows()
        rows = int(np.count_nonzero(np.asarray(old.getcol("TIME")) == old.getcell("TIME", 0)))
        for name in ("DATA", "FLAG", "WEIGHT_SPECTRUM", "UVW", "TIME", "ANTENNA1", "ANTENNA2"):
            equal[name] = np.array_equal(old.getcol(name, 0, rows), new.getcol(name, 0, rows), equal_nan=name == "DATA")
    for subtable, name in (("FIELD", "PHASE_DIR"), ("SPECTRAL_WINDOW", "CHAN_FREQ"), ("ANTENNA", "NAME")):
        with open_table(ms, subtable) as old, open_table(out, subtable) as new:
            mine, theirs = np.asarray(old.getcol(name)), np.asarray(new.getcol(name))
            equal[f"{subtable}::{name}"] = mine.shape == theirs.shape and bool(np.all(mine == theirs))
    return equal
