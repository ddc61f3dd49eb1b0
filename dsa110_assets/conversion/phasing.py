"""Geometry of one tile: its old and new phase centers, and the baselines toward each.

The correlator leaves each integration phased to its meridian point of date (hour angle 0, apparent pointing
declination). We re-phase a tile to one ICRS direction, the meridian point at its middle. Baselines are float64 and come
from the antenna positions; the file's float32 ``uvw_array`` is never read (pitfall 2). `_kernels` applies the phases.

Sign: a baseline is ``r(ant_2) - r(ant_1)`` and ``V = sum S exp(+2 pi i f/c b.(s - s0))``, as in pyuvdata, so moving the
phase center multiplies by ``exp(-2 pi i f/c (w_new - w_old))`` (Keating, pyuvdata memo "phasing", eq. 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import erfa
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.directions import apparent_to_icrs, icrs_to_apparent, local_apparent_sidereal_time_rad, meridian_icrs
from dsa110_assets.rawfile import RawHeader

_NORTH_STEP_RAD = 1e-4
"""Length of the arc, at the phase center, over which the direction of north is measured."""


@dataclass(frozen=True, eq=False)
class TileGeometry:
    """Phase center and baselines of a tile.

    ``phase_ra_rad``/``phase_dec_rad``: ICRS phase center. ``pointing_ra_rad``/``pointing_dec_rad``: ICRS meridian point
    of each integration, shape (Ntimes,). ``uvw_m``: baselines ``r(ant_2) - r(ant_1)`` toward the phase center, v to
    ICRS north, shape (Ntimes, Nbls, 3). ``delta_w_m``: w_new - w_old, shape (Ntimes, Nbls).
    """

    phase_ra_rad: float
    phase_dec_rad: float
    pointing_ra_rad: NDArray[np.float64]
    pointing_dec_rad: NDArray[np.float64]
    uvw_m: NDArray[np.float64]
    delta_w_m: NDArray[np.float64]


def tile_geometry(header: RawHeader) -> TileGeometry:
    """Compute the geometry of a tile from the header of its longest file."""
    times, site = header.times_jd, header.site
    mid_jd = 0.5 * (times[0] + times[-1])
    center_ra, center_dec = meridian_icrs(mid_jd, header.pointing_dec_rad, site)
    phase_ra, phase_dec = float(center_ra[0]), float(center_dec[0])
    pointing_ra, pointing_dec = meridian_icrs(times, header.pointing_dec_rad, site)

    app_ra, app_dec = icrs_to_apparent(phase_ra, phase_dec, times, site)
    hour_angle = local_apparent_sidereal_time_rad(times, site) - app_ra
    tilt = _angle_of_icrs_north(app_ra, app_dec, phase_ra, phase_dec, header)

    row_of = {int(number): row for row, number in enumerate(header.antenna_numbers)}
    first = np.array([row_of[int(a)] for a in header.ant_1])
    second = np.array([row_of[int(a)] for a in header.ant_2])
    antennas_new = _project(header, hour_angle, app_dec)
    uvw_new = antennas_new[:, second] - antennas_new[:, first]
    antennas_old = _project(header, np.zeros(1), np.array([header.pointing_dec_rad]))
    w_old = antennas_old[0, second, 2] - antennas_old[0, first, 2]
    return TileGeometry(
        phase_ra_rad=phase_ra,
        phase_dec_rad=phase_dec,
        pointing_ra_rad=pointing_ra,
        pointing_dec_rad=pointing_dec,
        uvw_m=_rotate_uv(uvw_new, tilt),
        delta_w_m=uvw_new[:, :, 2] - w_old,
    )


def _project(header: RawHeader, hour_angle_rad: NDArray[np.float64], dec_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """(u, v, w) of each antenna toward an apparent direction, shape (Ntimes, Nants, 3).

    Source: Thompson, Moran & Swenson 2017, eq. 4.1.
    """
    greenwich = hour_angle_rad - header.site.longitude_rad
    sin_h, cos_h, sin_d, cos_d = np.sin(greenwich), np.cos(greenwich), np.sin(dec_rad), np.cos(dec_rad)
    zero = np.zeros_like(sin_h)
    rotation = np.stack(
        [
            np.stack([sin_h, cos_h, zero], axis=-1),
            np.stack([-sin_d * cos_h, sin_d * sin_h, cos_d], axis=-1),
            np.stack([cos_d * cos_h, -cos_d * sin_h, sin_d], axis=-1),
        ],
        axis=-2,
    )
    return np.einsum("tij,aj->tai", rotation, header.antenna_positions_m)


def _angle_of_icrs_north(
    app_ra: NDArray[np.float64], app_dec: NDArray[np.float64], phase_ra: float, phase_dec: float, header: RawHeader
) -> NDArray[np.float64]:
    """Position angle of apparent north, from ICRS north through east, at the phase center; radians, shape (Ntimes,).

    pyuvdata measures it half a degree south of the phase center, which rotates the field by about 5e-5 rad (0.2 arcsec
    at the edge of the beam). Measured at the phase center, it agrees with CASA.
    """
    north_ra, north_dec = apparent_to_icrs(app_ra, app_dec + _NORTH_STEP_RAD, header.times_jd, header.site)
    return np.asarray(erfa.pas(phase_ra, phase_dec, north_ra, north_dec))


def _rotate_uv(uvw_m: NDArray[np.float64], angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Express (u, v) in axes whose north lies ``angle_rad`` away from the present one; w is unchanged."""
    cos_a, sin_a = np.cos(angle_rad)[:, None], np.sin(angle_rad)[:, None]
    u, v, w = uvw_m[..., 0], uvw_m[..., 1], uvw_m[..., 2]
    return np.stack([cos_a * u + sin_a * v, cos_a * v - sin_a * u, w], axis=-1)
