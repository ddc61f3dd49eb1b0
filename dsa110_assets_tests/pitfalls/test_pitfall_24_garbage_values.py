"""Pitfall 24: data or nsamples full of 1e37 or NaN, with every flag False, must not pass ingest."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from dsa110_assets.errors import InvalidRawFileError
from dsa110_assets.rawfile import validate_raw_file
from dsa110_assets_tests.conversion.minimal_raw import write_raw


@pytest.mark.parametrize("field", ["visdata", "nsamples"])
@pytest.mark.parametrize("value", [1e37, np.nan, np.inf])
def test_pitfall_24_a_file_of_garbage_is_rejected(tmp_path: Path, field: str, value: float) -> None:
    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb03.hdf5", 3, start_jd=2461000.75, dec_rad=0.95)
    validate_raw_file(path)
    with h5py.File(path, "r+") as file:
        assert not file["Data/flags"][()].any()
        file[f"Data/{field}"][...] = value
    with pytest.raises(InvalidRawFileError, match=f"Data/{field} holds nothing but"):
        validate_raw_file(path)
