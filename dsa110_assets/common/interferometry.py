"""Constants, direction cosines and baseline rates of an interferometer.

The whole platform uses one convention. Direction cosines are (l, m, n - 1) about the phase center, along the first
axis, l to the east and m to the north. u, v, w are in meters, from antenna 2 to antenna 1. A source of flux density S
has the visibility ``S exp(+2 pi i f/c (u l + v m + w (n - 1)))`` (CASA's sign).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad

SPEED_OF_LIGHT_M_PER_S = 299_792_458.0
EARTH_ROTATION_RAD_PER_S = 7.292115855e-5
"""Rate of sidereal time, relative to the equinox as right ascension is (Aoki et al. 1982, A&A 105, 359)."""
SIDEREAL_DAY_DAYS = 0.997_269_566_329_08
"""Mean sidereal day in days of UT1 (Aoki et al. 1982)."""


def direction_cosines(
    ra_rad: NDArray[np.float64], dec_rad: NDArray[np.float64], ra0_rad: float, dec0_rad: float, *, by_products: bool = False
) -> NDArray[np.float64]:
    """(l, m, n - 1) of directions relative to a phase center, shape (3, ...); l to the east, m to the north.

    (Thompson, Moran & Swenson 2017, equation 3.11.)

    Args:
        ra_rad, dec_rad: directions, of any equal shape.
        ra0_rad, dec0_rad: phase center.
        by_products: compute m and n as sums of products, as in the equation, and subtract 1 from n: the absolute error
            of n - 1 is 1e-16. The imager does this because the other form would change the last bits of its images (by
            less than the order of its threads does). False, for models of calibrators: compute n - 1 without
            cancellation near the center.
    """
    d_ra = ra_rad - ra0_rad
    east = np.cos(dec_rad) * np.sin(d_ra)
    if by_products:
        north = np.sin(dec_rad) * np.cos(dec0_rad) - np.cos(dec_rad) * np.sin(dec0_rad) * np.cos(d_ra)
        n = np.sin(dec_rad) * np.sin(dec0_rad) + np.cos(dec_rad) * np.cos(dec0_rad) * np.cos(d_ra)
        return np.stack([east, north, n - 1.0])
    half = np.sin(d_ra / 2) ** 2
    north = np.sin(dec_rad - dec0_rad) + 2 * half * np.cos(dec_rad) * np.sin(dec0_rad)
    squared = east**2 + north**2
    behind = np.cos(angular_separation_rad(ra_rad, dec_rad, ra0_rad, dec0_rad)) < 0
    root = np.sqrt(np.clip(1 - squared, 0, None))
    return np.stack([east, north, np.where(behind, -root - 1, -squared / (1 + root))])


def baseline_rate(uvw_m: NDArray[np.float64], dec_rad: float) -> NDArray[np.float64]:
    """Rate of change of baselines due to the rotation of the Earth, m/s, shape (N, 3).

    It is ``omega x b`` with the pole at (0, cos dec, sin dec), from Thompson, Moran & Swenson 2017, equation 4.3,
    differentiated. The pole is that of the ICRS. The pole of date is 0.15 deg away, which changes the smearing by 0.3 %
    of its value.

    Args:
        uvw_m: (N, 3) meters.
        dec_rad: declination of the phase center.
    """
    u, v, w = uvw_m.T
    cos, sin = np.cos(dec_rad), np.sin(dec_rad)
    return EARTH_ROTATION_RAD_PER_S * np.stack([cos * w - sin * v, sin * u, -cos * u], axis=1)
