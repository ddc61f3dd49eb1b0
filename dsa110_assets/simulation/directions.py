"""Directions above the site: where sources are at a given time, and where the array points.

We use astropy's topocentric horizontal frame without refraction, which the correlator does not model either. The code
is deliberately not the pipeline's `common.directions`, because the simulator tests the pipeline.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import NDArray

from dsa110_assets.simulation.array import SITE_ALTITUDE_M, SITE_LATITUDE_DEG, SITE_LONGITUDE_DEG

EARTH_ROTATION_RAD_PER_S = 7.292115e-5


def _location() -> EarthLocation:
    return EarthLocation.from_geodetic(SITE_LONGITUDE_DEG * u.deg, SITE_LATITUDE_DEG * u.deg, SITE_ALTITUDE_M * u.m, ellipsoid="WGS84")


def source_enu(ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], time_mjd: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors (east, north, up) of ICRS directions at UTC times; shape (Ntimes, Nsources, 3)."""
    if len(ra_deg) == 0:
        return np.zeros((len(time_mjd), 0, 3))
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        times = Time(np.asarray(time_mjd)[:, np.newaxis], format="mjd", scale="utc")
        frame = AltAz(obstime=times, location=_location(), pressure=0 * u.hPa)
        sky = SkyCoord(np.asarray(ra_deg)[np.newaxis] * u.deg, np.asarray(dec_deg)[np.newaxis] * u.deg, frame="icrs")
        horizontal: Any = sky.transform_to(frame)
        azimuth, altitude = np.asarray(horizontal.az.rad), np.asarray(horizontal.alt.rad)
    return np.stack([np.cos(altitude) * np.sin(azimuth), np.cos(altitude) * np.cos(azimuth), np.sin(altitude)], axis=-1)


def meridian_enu(declination_deg: float) -> NDArray[np.float64]:
    """Unit vector (east, north, up) of hour angle 0 and an apparent declination, constant in time; shape (3,)."""
    zenith_angle_rad = np.radians(SITE_LATITUDE_DEG - declination_deg)  # positive toward the south
    return np.array([0.0, -np.sin(zenith_angle_rad), np.cos(zenith_angle_rad)])


def meridian_uvw_m(baseline_enu_m: NDArray[np.float64], declination_deg: float) -> NDArray[np.float64]:
    """Project baselines (..., 3) in east, north, up (m) to u (east), v (to the north), w (to the meridian point)."""
    zenith_angle_rad = np.radians(SITE_LATITUDE_DEG - declination_deg)
    north_of_sky = np.array([0.0, np.cos(zenith_angle_rad), np.sin(zenith_angle_rad)])
    axes = np.stack([np.array([1.0, 0.0, 0.0]), north_of_sky, meridian_enu(declination_deg)])
    return baseline_enu_m @ axes.T


def sky_rotation_rate(enu: NDArray[np.float64]) -> NDArray[np.float64]:
    """Time derivative (1/s) of directions that rotate with the sky; shape of ``enu`` (..., 3)."""
    latitude_rad = np.radians(SITE_LATITUDE_DEG)
    earth = EARTH_ROTATION_RAD_PER_S * np.array([0.0, np.cos(latitude_rad), np.sin(latitude_rad)])
    return np.cross(enu, earth)


def local_sidereal_time_deg(time_mjd: float) -> float:
    """Apparent local sidereal time at the site in degrees: the right ascension of date on the meridian."""
    with iers.conf.set_temp("auto_download", False), iers.conf.set_temp("auto_max_age", None):
        sidereal: Any = Time(time_mjd, format="mjd", scale="utc").sidereal_time("apparent", longitude=SITE_LONGITUDE_DEG * u.deg)
    return float(sidereal.deg)
