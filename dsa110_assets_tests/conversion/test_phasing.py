"""Phases and baselines equal pyuvdata's own at several declinations, across RA 0h and across midnight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.conversion import convert_observation
from dsa110_assets_tests.conversion.minimal_raw import write_raw

# (start JD, declination): the last two put the tile's center across RA 0h, and across UTC midnight
CASES = {
    "dec +54.6": (2461000.75, 54.6),
    "dec +16.3": (2461001.10, 16.3),
    "dec +65.7": (2460900.33, 65.7),
    "dec +33": (2460700.9, 33.0),
    "dec -5": (2461200.2, -5.0),
    "RA 0h": (2461000.6595, 54.6),
    "midnight": (2461000.5 - 150 / 86400, 16.3),
}


def as_phased_by_the_correlator(path: Path, dec_rad: float):
    """The raw file in pyuvdata, with each integration declared as phased to (apparent LST, apparent declination)."""
    from pyuvdata import UVData
    from pyuvdata.utils import phasing

    uvd = UVData()
    uvd.read_uvh5(str(path), fix_old_proj=False, run_check=False)
    lst = uvd.lst_array
    dec = np.full(uvd.Nblts, dec_rad)
    location = uvd.telescope.location
    uvd.uvw_array = phasing.calc_uvw(
        app_ra=lst,
        app_dec=dec,
        frame_pa=np.zeros(uvd.Nblts),
        lst_array=lst,
        use_ant_pos=True,
        antenna_positions=uvd.telescope.antenna_positions,
        antenna_numbers=uvd.telescope.antenna_numbers,
        ant_1_array=uvd.ant_1_array,
        ant_2_array=uvd.ant_2_array,
        telescope_lat=location.lat.rad,
        telescope_lon=location.lon.rad,
    )
    uvd._clear_unused_phase_centers()
    cat_id = uvd._add_phase_center(cat_name="meridian", cat_type="driftscan", cat_lon=0.0, cat_lat=1.0, cat_frame="altaz")
    uvd.phase_center_id_array[:] = cat_id
    uvd._clear_unused_phase_centers()
    uvd.phase_center_app_ra, uvd.phase_center_app_dec, uvd.phase_center_frame_pa = lst.copy(), dec, np.zeros(uvd.Nblts)
    return uvd


@pytest.mark.filterwarnings("ignore:.where. used without .out.:UserWarning")  # pyuvdata's write_ms with numpy 2.4
@pytest.mark.parametrize("case", CASES)
def test_visibilities_and_baselines_equal_pyuvdatas(tmp_path: Path, case: str) -> None:
    from casacore.tables import table

    start_jd, dec_deg = CASES[case]
    dec_rad = np.radians(dec_deg)
    path = write_raw(tmp_path / "2025-11-20T06:00:01_sb00.hdf5", 0, start_jd=start_jd, dec_rad=dec_rad, n_times=24, n_channels=12)
    report = convert_observation({0: path}, tmp_path / "mine.ms", expected_subbands=1, flag_rfi=False)

    if case == "RA 0h":
        assert min(report.phase_ra_deg, 360 - report.phase_ra_deg) < 0.6
    if case == "midnight":
        assert int(report.start_mjd) + 1 == int(report.end_mjd)

    uvd = as_phased_by_the_correlator(path, dec_rad)
    uvd.vis_units = "Jy"  # only avoids a warning of write_ms
    raw = uvd.data_array.copy()
    uvd.phase(lon=np.radians(report.phase_ra_deg), lat=np.radians(report.phase_dec_deg), phase_frame="icrs", cat_name="tile")
    amplitude = np.abs(raw[uvd.ant_1_array != uvd.ant_2_array]).max()
    assert np.abs(uvd.data_array - raw).max() > 0.5 * amplitude  # the re-phasing matters
    uvd.conjugate_bls("ant1<ant2")
    uvd.write_ms(str(tmp_path / "pyuvdata.ms"), run_check=False)

    with table(str(tmp_path / "mine.ms"), ack=False) as mine, table(str(tmp_path / "pyuvdata.ms"), ack=False) as other:
        key = "TIME, ANTENNA1, ANTENNA2"
        mine, other = mine.sort(key), other.sort(key)  # noqa: PLW2901
        for column in ("ANTENNA1", "ANTENNA2"):
            np.testing.assert_array_equal(mine.getcol(column), other.getcol(column))
        np.testing.assert_allclose(mine.getcol("TIME"), other.getcol("TIME"), rtol=0, atol=2e-4)
        np.testing.assert_allclose(mine.getcol("INTERVAL"), other.getcol("INTERVAL"), rtol=1e-12)
        uvw, theirs = mine.getcol("UVW"), other.getcol("UVW")
        np.testing.assert_allclose(uvw[:, 2], theirs[:, 2], rtol=0, atol=2e-4)
        np.testing.assert_allclose(np.hypot(*uvw.T[:2]), np.hypot(*theirs.T[:2]), rtol=0, atol=2e-4)
        # pyuvdata measures north half a degree south of the center, a rotation that CASA's measures do not share
        # (test_readers.py)
        np.testing.assert_allclose(uvw, theirs, rtol=0, atol=2e-4 * 3000)
        data, expected = mine.getcol("DATA"), other.getcol("DATA")[:, ::-1]
        assert np.abs(data - expected).max() < 1e-5 * amplitude
        np.testing.assert_allclose(np.abs(data), np.abs(expected), rtol=1e-5)
