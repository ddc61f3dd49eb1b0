"""Pitfall 2: a raw file's ``uvw_array`` is float32 and for the meridian; it must never be used."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from dsa110_assets.conversion import convert_observation
from dsa110_assets_tests.conversion.minimal_raw import antenna_offsets, write_raw


def test_pitfall_02_baselines_come_from_antenna_positions_in_double_precision(tmp_path: Path) -> None:
    from casacore.tables import table

    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=2461000.75, dec_rad=0.953, n_times=6)
    convert_observation({0: path}, tmp_path / "zeros.ms", expected_subbands=1, flag_rfi=False)
    with h5py.File(path, "r+") as file:
        file["Header/uvw_array"][...] = 12345.678
    convert_observation({0: path}, tmp_path / "nonsense.ms", expected_subbands=1, flag_rfi=False)
    offsets = antenna_offsets(7)
    with table(str(tmp_path / "zeros.ms"), ack=False) as one, table(str(tmp_path / "nonsense.ms"), ack=False) as other:
        for column in ("UVW", "DATA"):
            np.testing.assert_array_equal(one.getcol(column), other.getcol(column))
        uvw, a1, a2 = one.getcol("UVW"), one.getcol("ANTENNA1"), one.getcol("ANTENNA2")
    lengths = np.linalg.norm(offsets[a1] - offsets[a2], axis=1)
    np.testing.assert_allclose(np.linalg.norm(uvw, axis=1), lengths, atol=1e-9)  # float32 errs by 1e-4 m
    longest = lengths.argmax()
    same = (a1 == a1[longest]) & (a2 == a2[longest])
    assert np.ptp(uvw[same], axis=0).max() > 1  # it turns with the sky; the file's is constant


def test_pitfall_02_a_file_without_uvw_converts(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=2461000.75, dec_rad=0.953)
    with h5py.File(path, "r+") as file:
        del file["Header/uvw_array"]
    report = convert_observation({0: path}, tmp_path / "a.ms", expected_subbands=1, flag_rfi=False)
    assert report.n_rows == 40
