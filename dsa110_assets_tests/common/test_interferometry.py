"""Directions and baselines agree with astropy, ERFA and pyuvdata."""

import astropy.constants
import astropy.units as u
import erfa
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.time import Time

from dsa110_assets.common.directions import Site, angular_separation_rad, circular_mean_rad, local_apparent_sidereal_time_rad, unit_vectors
from dsa110_assets.common.interferometry import (
    EARTH_ROTATION_RAD_PER_S,
    SIDEREAL_DAY_DAYS,
    SPEED_OF_LIGHT_M_PER_S,
    baseline_rate,
    direction_cosines,
)

OVRO = Site(np.radians(37.2339), np.radians(-118.2834), 1188.0)


def test_constants_agree_with_astropy_and_erfa():
    assert astropy.constants.c.to_value("m/s") == SPEED_OF_LIGHT_M_PER_S
    t = Time(61_100.0, format="mjd", scale="utc")
    first, second = (float(erfa.gmst06(one.ut1.jd1, one.ut1.jd2, one.tt.jd1, one.tt.jd2)) for one in (t, t + 1 * u.day))
    day_of_ut1_s = 86_400.0  # UT1 and UTC differ by less than 2 ms a day
    assert ((second - first) % (2 * np.pi) + 2 * np.pi) / day_of_ut1_s == pytest.approx(EARTH_ROTATION_RAD_PER_S, rel=1e-7)
    assert 2 * np.pi / (SIDEREAL_DAY_DAYS * 86_400) == pytest.approx(EARTH_ROTATION_RAD_PER_S, rel=1e-9)


@pytest.mark.parametrize("by_products", [False, True])
def test_direction_cosines_equal_those_of_the_astropy_offset_frame(by_products):
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(0, 2 * np.pi, 50), rng.uniform(-1.5, 1.5, 50)
    center = SkyCoord(10 * u.deg, 54.6 * u.deg)
    offset = SkyCoord(ra * u.rad, dec * u.rad).transform_to(center.skyoffset_frame()).cartesian
    l_, m, n_minus_1 = direction_cosines(ra, dec, np.radians(10), np.radians(54.6), by_products=by_products)
    np.testing.assert_allclose(l_, offset.y.value, atol=1e-12)
    np.testing.assert_allclose(m, offset.z.value, atol=1e-12)
    np.testing.assert_allclose(n_minus_1, offset.x.value - 1, atol=1e-12)


def test_n_minus_1_keeps_its_digits_near_the_phase_center():
    """At 1 arcsec, n - 1 is -theta^2 / 2 = -1.2e-11; 1 - cos(theta) would have five digits of it."""
    theta = np.radians(1 / 3600)
    n_minus_1 = direction_cosines(np.array([0.0]), np.array([0.5 + theta]), 0.0, 0.5)[2, 0]
    assert n_minus_1 == pytest.approx(-2 * np.sin(theta / 2) ** 2, rel=1e-9)


def test_separations_equal_those_of_astropy():
    rng = np.random.default_rng(5)
    ra1, ra2 = rng.uniform(0, 2 * np.pi, (2, 200))
    dec1, dec2 = rng.uniform(-1.57, 1.57, (2, 200))
    expected = SkyCoord(ra1 * u.rad, dec1 * u.rad).separation(SkyCoord(ra2 * u.rad, dec2 * u.rad)).rad
    np.testing.assert_allclose(angular_separation_rad(ra1, dec1, ra2, dec2), expected, atol=1e-8)
    near = angular_separation_rad(ra1, dec1, ra1 + 1e-9, dec1)
    np.testing.assert_allclose(near, 1e-9 * np.cos(dec1), rtol=1e-6)


def test_unit_vectors_equal_those_of_astropy():
    rng = np.random.default_rng(7)
    ra, dec = rng.uniform(0, 360, 50), rng.uniform(-90, 90, 50)
    expected = SkyCoord(ra * u.deg, dec * u.deg).cartesian.xyz.value.T
    np.testing.assert_allclose(unit_vectors(ra, dec), expected, atol=1e-15)


def test_baselines_rotate_as_in_pyuvdata():
    """Difference pyuvdata's uvw 30 s before and after, for a fixed apparent direction."""
    from pyuvdata.utils.phasing import calc_uvw

    rng = np.random.default_rng(6)
    positions = rng.normal(0, 600, (8, 3))
    ant_1, ant_2 = np.triu_indices(8, 1)
    app_ra, app_dec = 1.3, np.radians(54.6)

    def uvw(time_jd):
        lst = float(local_apparent_sidereal_time_rad(time_jd, OVRO))
        n = ant_1.size
        return calc_uvw(
            app_ra=np.full(n, app_ra),
            app_dec=np.full(n, app_dec),
            frame_pa=np.zeros(n),
            lst_array=np.full(n, lst),
            use_ant_pos=True,
            antenna_positions=positions,
            antenna_numbers=np.arange(8),
            ant_1_array=ant_1,
            ant_2_array=ant_2,
            telescope_lat=OVRO.latitude_rad,
            telescope_lon=OVRO.longitude_rad,
        )

    middle, step = 2_461_100.7, 30.0 / 86_400
    expected = (uvw(middle + step) - uvw(middle - step)) / 60.0
    found = baseline_rate(uvw(middle), app_dec)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(found, expected, atol=3e-6 * np.abs(expected).max())


def test_the_mean_right_ascension_across_0h_is_near_0h():
    assert circular_mean_rad(np.radians([350.0, 5.0, 10.0])) == pytest.approx(np.radians(1.7), abs=np.radians(0.1))
