"""Pitfall 3: the site comes from the raw header; published positions differ by 0.0013 deg, or 4.7 arcsec of RA."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import dsa110_assets
from dsa110_assets.conversion import convert_observation
from dsa110_assets_tests.conversion.minimal_raw import SITE_ALT_M, SITE_LAT_DEG, SITE_LON_DEG, write_raw


def test_pitfall_03_the_phase_center_follows_the_header(tmp_path: Path) -> None:
    from casacore.tables import table

    centre, positions = {}, {}
    for name, lon_deg in (("header", SITE_LON_DEG), ("elsewhere", SITE_LON_DEG + 0.0013)):
        path = write_raw(
            tmp_path / f"{name}.hdf5", 0, start_jd=2461000.75, dec_rad=np.radians(54.6), site=(SITE_LAT_DEG, lon_deg, SITE_ALT_M)
        )
        report = convert_observation({0: path}, tmp_path / f"{name}.ms", expected_subbands=1, flag_rfi=False)
        centre[name] = report.phase_ra_deg
        with table(str(tmp_path / f"{name}.ms::ANTENNA"), ack=False) as antenna:
            positions[name] = antenna.getcol("POSITION")
    assert (centre["elsewhere"] - centre["header"]) * 3600 == pytest.approx(4.7, abs=0.1)
    assert np.linalg.norm(positions["elsewhere"] - positions["header"], axis=1) == pytest.approx(115, abs=1)


def test_pitfall_03_the_lst_is_astropys_at_the_headers_longitude(tmp_path: Path) -> None:
    from astropy import units as u
    from astropy.coordinates import TETE, EarthLocation, SkyCoord
    from astropy.time import Time

    path = write_raw(tmp_path / "a.hdf5", 0, start_jd=2461000.75, dec_rad=np.radians(54.6), n_times=1)
    report = convert_observation({0: path}, tmp_path / "a.ms", expected_subbands=1, flag_rfi=False)
    site = EarthLocation.from_geodetic(SITE_LON_DEG * u.deg, SITE_LAT_DEG * u.deg, SITE_ALT_M * u.m)
    time = Time(2461000.75, format="jd")
    of_date = SkyCoord(report.phase_ra_deg * u.deg, report.phase_dec_deg * u.deg).transform_to(TETE(obstime=time, location=site))
    lst = time.sidereal_time("apparent", longitude=SITE_LON_DEG * u.deg)
    assert (of_date.ra - lst).wrap_at(180 * u.deg).arcsec == pytest.approx(0, abs=0.5)
    assert of_date.dec.deg == pytest.approx(54.6, abs=0.6 / 3600)  # astropy ignores polar motion


def test_pitfall_03_only_the_simulator_contains_the_site() -> None:
    """The pipeline's source has no copy of the site's latitude or longitude."""
    package = Path(dsa110_assets.__file__).parent
    site = re.compile(r"37\.23\d|118\.28\d|2\.0644\d|-2409\d{3}|-4478\d{3}")
    holders = [str(f.relative_to(package)) for f in package.rglob("*.py") if site.search(f.read_text(encoding="utf-8"))]
    assert all(name.startswith("simulation") for name in holders), holders
