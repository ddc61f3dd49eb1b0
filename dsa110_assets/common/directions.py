"""Directions on the sky, apparent and ICRS: where the telescope pointed, and angles between directions.

The DSA-110 does not track. The correlator fringe-stops each integration to the meridian: right ascension = apparent
local sidereal time, declination = the pointing declination, both *of date*. Everything after conversion uses ICRS, so
this is the one place that converts apparent coordinates to ICRS. The site is always an argument: it comes from the raw
header.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import erfa
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common import earth_rotation

if TYPE_CHECKING:
    from astropy.time import Time


@dataclass(frozen=True)
class Site:
    """Geodetic (WGS84) reference location of the array, from the raw header."""

    latitude_rad: float
    longitude_rad: float
    altitude_m: float


@dataclass(frozen=True)
class TilePointing:
    """Where the telescope pointed during one tile; all ICRS.

    ``time_mjd``: center of each integration, UTC, shape (Ntimes,). ``ra_deg``/``dec_deg``: meridian point of each
    integration, shape (Ntimes,). ``phase_ra_deg``/``phase_dec_deg``: the phase center of the Measurement Set.
    ``dish_diameter_m``: of another telescope's dishes; None for the DSA-110's.
    """

    time_mjd: NDArray[np.float64]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    phase_ra_deg: float
    phase_dec_deg: float
    dish_diameter_m: float | None = None


def local_apparent_sidereal_time_rad(time_jd_utc: ArrayLike, site: Site) -> NDArray[np.float64]:
    """Apparent local sidereal time (IAU 2006/2000A) in radians, shape of ``time_jd_utc``."""
    t = _utc(time_jd_utc)
    last = erfa.gst06a(t.ut1.jd1, t.ut1.jd2, t.tt.jd1, t.tt.jd2) + site.longitude_rad
    return np.mod(np.asarray(last), 2 * np.pi)


def apparent_to_icrs(
    app_ra_rad: ArrayLike, app_dec_rad: ArrayLike, time_jd_utc: ArrayLike, site: Site
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert topocentric apparent places (true equator and equinox of date) to ICRS; radians, arguments broadcast.

    This inverts the transformation that pyuvdata uses for its apparent coordinates: observed place without refraction
    (`erfa.atoc13` with zero pressure), with right ascension measured from the true equinox.
    """
    t = _utc(time_jd_utc)
    eo = erfa.eo06a(t.tt.jd1, t.tt.jd2)
    ra, dec = erfa.atoc13(
        "R",
        np.asarray(app_ra_rad) + eo,
        np.asarray(app_dec_rad),
        *_observer(t, site),
    )
    return np.mod(np.asarray(ra), 2 * np.pi), np.asarray(dec)


def _utc(time_jd_utc: ArrayLike) -> Any:
    """UTC Julian dates as astropy's times. Astropy is imported here: commands that only need angles start faster."""
    from astropy.time import Time

    earth_rotation.configure()
    return Time(np.asarray(time_jd_utc, dtype=np.float64), format="jd", scale="utc")


def _observer(time: Time, site: Site) -> tuple[Any, ...]:
    """The last twelve arguments of `erfa.atoc13` and `erfa.atco13`: time, place, polar motion, and no refraction."""
    from astropy.utils import iers

    xp, yp = iers.earth_orientation_table.get().pm_xy(time)
    place = (site.longitude_rad, site.latitude_rad, site.altitude_m)
    return time.utc.jd1, time.utc.jd2, time.delta_ut1_utc, *place, xp.to_value("rad"), yp.to_value("rad"), 0.0, 0.0, 0.0, 0.0


def icrs_to_apparent(
    ra_rad: ArrayLike, dec_rad: ArrayLike, time_jd_utc: ArrayLike, site: Site
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Convert ICRS to topocentric apparent places, the inverse of `apparent_to_icrs` (`erfa.atco13`); radians."""
    t = _utc(time_jd_utc)
    _, _, _, app_dec, intermediate_ra, eo = erfa.atco13(
        np.asarray(ra_rad),
        np.asarray(dec_rad),
        0.0,
        0.0,
        0.0,
        0.0,
        *_observer(t, site),
    )
    return np.mod(np.asarray(intermediate_ra) - eo, 2 * np.pi), np.asarray(app_dec)


def apparent_scale(ra_rad: float, dec_rad: float, time_jd_utc: float) -> float:
    """Ratio of apparent to ICRS angles near a direction: ``1 - v.s / c``, with the Earth's barycentric velocity v.

    Annual aberration is conformal: it scales a field by up to 1e-4, which is 0.5 arcsec at the edge of a tile. The
    baselines of a Measurement Set are geometric, so an imager that grids them with cells of ``apparent_scale`` times
    the ICRS cell puts sources at their ICRS positions (first order of Lorentz's formula, Explanatory Supplement 2013,
    eq. 7.40).
    """
    t = _utc(time_jd_utc)
    _, barycentric = erfa.epv00(t.tdb.jd1, t.tdb.jd2)
    velocity_au_per_day = np.asarray(barycentric["v"])
    direction = np.array([np.cos(dec_rad) * np.cos(ra_rad), np.cos(dec_rad) * np.sin(ra_rad), np.sin(dec_rad)])
    return float(1.0 - velocity_au_per_day @ direction * (erfa.DAU / erfa.DAYSEC / erfa.CMPS))


def meridian_icrs(time_jd_utc: ArrayLike, app_dec_rad: ArrayLike, site: Site) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ICRS (ra, dec), radians, of the meridian point at apparent declination ``app_dec_rad`` at each time."""
    time_jd = np.atleast_1d(np.asarray(time_jd_utc, dtype=np.float64))
    lst = local_apparent_sidereal_time_rad(time_jd, site)
    return apparent_to_icrs(lst, np.broadcast_to(app_dec_rad, time_jd.shape), time_jd, site)


def angular_separation_rad(ra1_rad: ArrayLike, dec1_rad: ArrayLike, ra2_rad: ArrayLike, dec2_rad: ArrayLike) -> NDArray[np.float64]:
    """Great-circle distance; all arguments broadcast. The haversine formula is exact to rounding at degree scales."""
    ra1, dec1, ra2, dec2 = (np.asarray(a, dtype=np.float64) for a in (ra1_rad, dec1_rad, ra2_rad, dec2_rad))
    h = np.sin((dec2 - dec1) / 2) ** 2 + np.cos(dec1) * np.cos(dec2) * np.sin((ra2 - ra1) / 2) ** 2
    return 2.0 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0)))


def unit_vectors(ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.float64]:
    """Unit vectors of directions in degrees (N,), shape (N, 3); a chord of length d spans ``2 arcsin(d / 2)``."""
    ra, dec = np.radians(np.asarray(ra_deg, dtype=np.float64)), np.radians(np.asarray(dec_deg, dtype=np.float64))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)


def circular_mean_rad(angle_rad: ArrayLike, weight: ArrayLike | None = None) -> float:
    """Mean direction of angles, in [0, 2 pi). Never average right ascensions arithmetically (pitfall 8)."""
    angle = np.asarray(angle_rad, dtype=np.float64)
    w = np.ones(angle.shape) if weight is None else np.asarray(weight, dtype=np.float64)
    return float(np.mod(np.arctan2(np.sum(w * np.sin(angle)), np.sum(w * np.cos(angle))), 2 * np.pi))
