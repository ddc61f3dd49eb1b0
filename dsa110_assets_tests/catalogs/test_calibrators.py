"""The calibrator manual is read completely, stored without changes, and searched by a tile's pointing."""

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import EarthLocation, HADec, SkyCoord
from astropy.time import Time

from dsa110_assets.catalogs import calibrators
from dsa110_assets.common.directions import Site, TilePointing, meridian_icrs
from dsa110_assets.errors import NoCalibratorError, NonRetriableError
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.reference_data import reference_data

SITE = Site(np.radians(37.2334051), -2.064427799136453, 1188.0519)


@pytest.fixture
def catalog():
    return calibrators.parse_manual(MANUAL)


def pointing(start_mjd, app_dec_deg, n=24):
    time = start_mjd + np.arange(n) * 12.884901888 / 86400
    ra, dec = (np.degrees(a) for a in meridian_icrs(time + 2_400_000.5, np.radians(app_dec_deg), SITE))
    return TilePointing(time, ra, dec, float(ra[n // 2]), float(dec[n // 2]))


def test_positions_equal_astropys(catalog):
    truth = SkyCoord(["08h34m54.904117s 55d34m21.07098s", "09h22m46.418268s -39d59m35.06751s", "00h06m22.6338s -00d04m24.086s"])
    for name, expected in zip(("0834+555", "0922-399", "0006-000"), truth, strict=True):
        found = calibrators.find(catalog, name)
        assert SkyCoord(found.ra_deg * u.deg, found.dec_deg * u.deg).separation(expected).arcsec < 1e-4


def test_alternative_names_and_j_names_find_the_entry(catalog):
    assert calibrators.find(catalog, "3c286").name == "1331+305"
    assert calibrators.find(catalog, "J0834+555").flux_jy == 8.8
    assert calibrators.find(catalog, "0834+555").alt_name == ""
    with pytest.raises(NoCalibratorError):
        calibrators.find(catalog, "0000+000")


def test_the_catalog_comes_back_unchanged_from_sqlite(tmp_path, catalog):
    text = tmp_path / "manual.txt"
    text.write_text(MANUAL)
    assert calibrators.build_calibrator_db(text, tmp_path / "c.sqlite3") == len(catalog)
    assert calibrators.load(tmp_path / "c.sqlite3") == catalog


def test_a_bad_source_file_leaves_the_old_catalog(tmp_path):
    text, database = tmp_path / "manual.txt", tmp_path / "c.sqlite3"
    text.write_text(MANUAL)
    calibrators.build_calibrator_db(text, database)
    text.write_text("not the manual")
    with pytest.raises(NonRetriableError, match="no entry"):
        calibrators.build_calibrator_db(text, database)
    assert len(calibrators.load(database)) == 7
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["c.sqlite3", "manual.txt"]


def test_a_missing_or_junk_catalog_is_an_error(tmp_path):
    with pytest.raises(NonRetriableError, match="no calibrator catalog"):
        calibrators.load(tmp_path / "absent.sqlite3")
    (tmp_path / "junk.sqlite3").write_bytes(b"x" * 4096)
    with pytest.raises(NonRetriableError, match="not a calibrator catalog"):
        calibrators.load(tmp_path / "junk.sqlite3")


def test_the_real_manual_is_read_completely():
    entries = calibrators.parse_manual(reference_data("vla_calibrators.txt").read_text())
    assert len(entries) == 1865
    # 1041 have a figure at 20 cm; 13 of those figures are 0.00 (3C279, 0927+390 ...), which is not a flux density
    assert sum(c.flux_jy is not None for c in entries) == 1041 - 13
    assert calibrators.find(entries, "3C279").flux_jy is None
    assert calibrators.find(entries, "0834+555").flux_jy == 8.8
    assert {calibrators.find(entries, n).standard for n in ("3C48", "3C138", "3C147", "3C286")} == {"3C48", "3C138", "3C147", "3C286"}


@pytest.mark.parametrize("near_mjd", [61_100.2, 60_500.9])
def test_transit_time_equals_astropys_within_a_second(catalog, near_mjd):
    star = calibrators.find(catalog, "0834+555")
    transit = calibrators.transit_mjd(star.ra_deg, star.dec_deg, near_mjd, SITE)
    where = EarthLocation.from_geodetic(SITE.longitude_rad * u.rad, SITE.latitude_rad * u.rad, SITE.altitude_m * u.m)
    seen = SkyCoord(star.ra_deg * u.deg, star.dec_deg * u.deg).transform_to(HADec(obstime=Time(transit, format="mjd"), location=where))
    assert abs(seen.ha.wrap_at(180 * u.deg).to_value(u.hourangle)) * 3600 < 1.0
    assert abs(transit - near_mjd) <= 0.51


def test_only_sources_that_transit_in_the_tile_are_found(catalog):
    star = calibrators.find(catalog, "0834+555")
    transit = calibrators.transit_mjd(star.ra_deg, star.dec_deg, 61_100.2, SITE)
    tile_days = 24 * 12.884901888 / 86400
    assert [c.name for c in calibrators.in_tile(catalog, pointing(transit - tile_days / 2, 54.6))] == ["0834+555"]
    assert calibrators.in_tile(catalog, pointing(transit - tile_days / 2, 52.5)) == []  # outside the half-power beam
    assert calibrators.in_tile(catalog, pointing(transit + 0.002, 54.6)) == []  # after the transit
    # exactly one of several consecutive tiles has the transit
    found = [bool(calibrators.in_tile(catalog, pointing(transit + (k - 2.3) * tile_days, 54.6))) for k in range(5)]
    assert sum(found) == 1


def test_a_transit_across_0h_is_found(catalog):
    star = calibrators.find(catalog, "0006-000")
    transit = calibrators.transit_mjd(star.ra_deg, star.dec_deg, 61_100.2, SITE)
    tile = pointing(transit - 290 / 86400, 0.2)
    assert tile.ra_deg[0] > tile.ra_deg[-1] or tile.ra_deg[0] < 1.6
    assert [c.name for c in calibrators.in_tile(catalog, tile)] == ["0006-000"]
    across = TilePointing(tile.time_mjd, (np.linspace(359.6, 360.9, 24)) % 360, np.full(24, 0.2), 0.25, 0.2)
    near_0h = [calibrators.Calibrator("0001+000", "", 0.3, 0.0, "A", 2.0, None, "SSPP", is_variable=False)]
    assert calibrators.in_tile(near_0h, across) == near_0h


def test_the_best_calibrator_has_the_highest_apparent_flux():
    bright_off_axis = calibrators.Calibrator("A", "", 10.0, 31.2, "A", 3.0, None, "PPPP", is_variable=False)
    faint_on_axis = calibrators.Calibrator("B", "", 10.1, 30.0, "A", 2.2, None, "PPPP", is_variable=False)
    tile = TilePointing(np.arange(24.0), np.linspace(9.4, 10.7, 24), np.full(24, 30.0), 10.0, 30.0)
    assert [c.name for c in calibrators.in_tile([bright_off_axis, faint_on_axis], tile)] == ["B", "A"]
