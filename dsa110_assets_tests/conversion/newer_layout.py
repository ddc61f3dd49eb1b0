"""Raw files in UVH5's newer layout, which pyuvdata 3 itself writes from files of the correlator's layout."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Change = Callable[[Any], None]


def rewritten_by_pyuvdata(path: Path, out: Path, change: Change | None = None, **options: Any) -> Path:
    """Read a raw file with pyuvdata, apply ``change`` to the UVData, and write it again.

    pyuvdata's own check is off, because the correlator's single-precision uvw do not pass it.
    """
    from pyuvdata import UVData

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        uvd = UVData()
        uvd.read_uvh5(str(path), run_check=False, fix_old_proj=False)
        if change is not None:
            change(uvd)
        uvd.write_uvh5(str(out), run_check=False, **options)
    return out


def as_drift_scan(declination_rad: float) -> Change:
    """Declare what the correlator did: it phased each integration to the meridian, at this apparent declination."""

    def change(uvd: Any) -> None:
        number = uvd._add_phase_center(cat_name="meridian", cat_type="driftscan", cat_lon=0.0, cat_lat=1.0, cat_frame="altaz")
        uvd.phase_center_id_array[:] = number
        uvd._clear_unused_phase_centers()
        uvd.phase_center_app_ra[:] = uvd.lst_array
        uvd.phase_center_app_dec[:] = declination_rad

    return change
