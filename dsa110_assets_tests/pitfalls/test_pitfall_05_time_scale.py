"""Pitfall 5: TIME is UTC in seconds of MJD; TAI for UTC is 37 s (23 m of uvw), a wrong epoch moves RA by 40 deg."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.conversion import convert_observation
from dsa110_assets_tests.conversion.casa_probe import inspect_with_casa
from dsa110_assets_tests.conversion.minimal_raw import write_raw


def test_pitfall_05_time_is_utc_and_uvw_belong_to_it(tmp_path: Path) -> None:
    from astropy.time import Time
    from casacore.tables import table

    start = Time("2025-11-20T06:00:00", scale="utc")
    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=start.jd, dec_rad=0.953, n_times=3)
    report = convert_observation({0: path}, tmp_path / "a.ms", expected_subbands=1, flag_rfi=False)
    with table(str(tmp_path / "a.ms"), ack=False) as ms:
        for column in ("TIME", "TIME_CENTROID"):
            assert ms.getcolkeyword(column, "MEASINFO") == {"type": "epoch", "Ref": "UTC"}
            assert list(ms.getcolkeyword(column, "QuantumUnits")) == ["s"]
            first = Time(ms.getcell(column, 0) / 86400, format="mjd", scale="utc")
            assert (first - start).sec == pytest.approx(0, abs=1e-3)
    with table(str(tmp_path / "a.ms::OBSERVATION"), ack=False) as observation:
        begin, end = observation.getcell("TIME_RANGE", 0) / 86400
    assert begin == pytest.approx(report.start_mjd, abs=1e-9)
    assert end == pytest.approx(report.end_mjd, abs=1e-9)
    # CASA turns the baselines to the time that it reads; an error of 37 s is 3e-3 of their length
    casa = inspect_with_casa(tmp_path / "a.ms")
    assert casa["worst_uvw"] < 1e-5
    np.testing.assert_allclose(np.array(casa["times"]) / 86400 - start.mjd, np.arange(3) * 12.884902 / 86400, atol=1e-8)
