"""Positions of the antennas, and the choice of antennas in the data, for simulated observations.

The station positions are facts of the telescope (WGS84, published with the antenna position list of 2022-02-15): two
arms on a regular grid and fifteen outriggers. The pipeline never reads this module: it takes positions from raw
headers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

SITE_LATITUDE_DEG = 37.2334051
SITE_LONGITUDE_DEG = -118.2830000
SITE_ALTITUDE_M = 1188.0519
"""Reference location that the correlator writes into every header (WGS84)."""

N_STATIONS = 117
DISH_DIAMETER_M = 4.65

_WGS84_A_M = 6_378_137.0
_WGS84_E2 = 6.694379990141317e-3
_UNIT_DEG = 1e-7  # the published resolution, 11 mm

# East-west arm, stations 1-51: one latitude, steps of 5.75 m with gaps of whole steps; in units of 1e-7 deg.
_EW_LATITUDE = 372_333_752
_EW_FIRST_LONGITUDE = -1_182_856_408
_EW_STEPS = (*[648] * 20, 649, 7128, *[648] * 5, 2592, 2592, *[648] * 5, 2592, *[648] * 6, 649, *[648] * 8)
# North-south arm, stations 52-102: one longitude, steps of 8.653 m.
_NS_LONGITUDE = -1_182_834_051
_NS_FIRST_LATITUDE_DEG = 37.23345314630165
_NS_STEP_DEG = 7.796790185574794e-5
_ARM_ELEVATION_M = 1182.6
# Outriggers, stations 103-117: latitude, longitude (1e-7 deg), elevation (m). The elevation of 117 is not published.
_OUTRIGGERS = (
    (372_300_025, -1_182_812_695, 1181.3),
    (372_352_578, -1_182_768_324, 1182.4),
    (372_429_815, -1_182_767_433, 1184.0),
    (372_470_153, -1_182_767_632, 1185.3),
    (372_485_647, -1_182_767_853, 1185.9),
    (372_499_993, -1_182_767_328, 1186.5),
    (372_499_587, -1_182_794_098, 1186.2),
    (372_499_316, -1_182_838_684, 1185.9),
    (372_499_476, -1_182_861_710, 1186.0),
    (372_499_040, -1_182_879_484, 1185.3),
    (372_499_407, -1_182_912_521, 1186.3),
    (372_499_516, -1_182_958_413, 1184.6),
    (372_449_792, -1_182_951_802, 1180.8),
    (372_314_169, -1_182_945_978, 1178.1),
    (372_315_343, -1_182_966_607, 1182.6),
)

ACTIVE_STATIONS = (*range(1, 10), *range(11, 21), *range(24, 52), *range(68, 117))
"""Stations (1-based) whose antennas are correlated: 96 of 117."""


def station_geodetic() -> NDArray[np.float64]:
    """Latitude (deg), longitude (deg) and height (m), WGS84, of stations 1-117; shape (117, 3)."""
    positions = np.empty((N_STATIONS, 3))
    positions[:51, 0] = _EW_LATITUDE * _UNIT_DEG
    positions[:51, 1] = (_EW_FIRST_LONGITUDE + np.concatenate([[0], np.cumsum(_EW_STEPS)])) * _UNIT_DEG
    positions[51:102, 0] = np.round(_NS_FIRST_LATITUDE_DEG + _NS_STEP_DEG * np.arange(51), 7)
    positions[51:102, 1] = _NS_LONGITUDE * _UNIT_DEG
    positions[:102, 2] = _ARM_ELEVATION_M
    positions[102:] = np.array(_OUTRIGGERS) * [_UNIT_DEG, _UNIT_DEG, 1.0]
    return positions


def geodetic_to_itrf(
    latitude_deg: NDArray[np.float64], longitude_deg: NDArray[np.float64], height_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Earth-centered coordinates (m), shape (..., 3), of WGS84 positions (Hofmann-Wellenhof et al. 2008, eq. 8.3)."""
    latitude, longitude = np.radians(latitude_deg), np.radians(longitude_deg)
    normal = _WGS84_A_M / np.sqrt(1.0 - _WGS84_E2 * np.sin(latitude) ** 2)
    return np.stack(
        [
            (normal + height_m) * np.cos(latitude) * np.cos(longitude),
            (normal + height_m) * np.cos(latitude) * np.sin(longitude),
            (normal * (1.0 - _WGS84_E2) + height_m) * np.sin(latitude),
        ],
        axis=-1,
    )


def _site_itrf() -> NDArray[np.float64]:
    return geodetic_to_itrf(np.asarray(SITE_LATITUDE_DEG), np.asarray(SITE_LONGITUDE_DEG), np.asarray(SITE_ALTITUDE_M))


@dataclass(frozen=True)
class ArrayLayout:
    """The array of a simulated observation.

    ``antenna_order``: numbers (0-based, name = number + 1) of the antennas in the data, in the correlator's order,
    which is not monotonic. The header always lists all 117 stations.
    """

    antenna_order: tuple[int, ...]
    itrf_offset_m: NDArray[np.float64] = field(
        default_factory=lambda: geodetic_to_itrf(*station_geodetic().T) - _site_itrf(), repr=False, compare=False
    )
    """Offsets (117, 3) from the site in ITRF axes, as in the header's ``antenna_positions``."""

    @property
    def n_antennas(self) -> int:
        """Number of antennas in the data."""
        return len(self.antenna_order)

    @property
    def enu_m(self) -> NDArray[np.float64]:
        """East, north, up (m) of all 117 stations at the site; shape (117, 3)."""
        sin_lat, cos_lat = np.sin(np.radians(SITE_LATITUDE_DEG)), np.cos(np.radians(SITE_LATITUDE_DEG))
        sin_lon, cos_lon = np.sin(np.radians(SITE_LONGITUDE_DEG)), np.cos(np.radians(SITE_LONGITUDE_DEG))
        rotation = np.array(
            [
                [-sin_lon, cos_lon, 0.0],
                [-sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat],
                [cos_lat * cos_lon, cos_lat * sin_lon, sin_lat],
            ]
        )
        return self.itrf_offset_m @ rotation.T

    def baselines(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Antenna numbers (ant_1, ant_2) of each baseline in row order: (order[j], order[i]) for i, for j <= i."""
        order = np.array(self.antenna_order, dtype=np.int64)
        second, first = np.tril_indices(len(order))
        return order[first], order[second]

    def baseline_enu_m(self) -> NDArray[np.float64]:
        """``r(ant_2) - r(ant_1)`` in east, north, up (m); shape (Nbls, 3)."""
        ant_1, ant_2 = self.baselines()
        enu = self.enu_m
        return enu[ant_2] - enu[ant_1]


def _layout(stations: tuple[int, ...]) -> ArrayLayout:
    """Put stations (1-based) into the correlator's order: eastern half arm, outriggers, western half, northern arm."""
    groups = (range(24, 52), range(103, 118), range(1, 24), range(52, 103))
    return ArrayLayout(tuple(s - 1 for group in groups for s in group if s in stations))


def full_array() -> ArrayLayout:
    """The 96 active antennas: 4656 baselines up to 2602 m."""
    return _layout(ACTIVE_STATIONS)


def demo_array() -> ArrayLayout:
    """24 antennas, 300 baselines: a beam of 20 by 29 arcsec at Dec +54.6 and Briggs 0.5, highest sidelobe 0.26.

    Chosen from the active antennas for low sidelobes; includes the preferred reference antenna 103.
    """
    return _layout((1, 5, 8, 13, 33, 37, 38, 46, 48, 50, 51, 68, 83, 88, 93, 97, 103, 104, 105, 106, 113, 114, 115, 116))


def tiny_array() -> ArrayLayout:
    """8 antennas, 36 baselines, for tests."""
    return _layout((3, 20, 30, 50, 70, 95, 103, 110))
