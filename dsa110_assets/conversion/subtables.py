"""Subtables of a Measurement Set: antennas, frequencies, the one field, where the dishes pointed, history.

Every value comes from the raw header (pitfall 3).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import EarthLocation

from dsa110_assets.conversion.tile import Tile
from dsa110_assets.rawfile import RawHeader
from dsa110_assets.times import JD_MINUS_MJD

SECONDS_PER_DAY = 86400.0
CORR_TYPE = (9, 12)
"""XX and YY in casacore's Stokes numbering."""
TOPOCENTRIC = 5
"""Frequency frame TOPO in casacore's MFrequency numbering."""


def site_itrf_m(header: RawHeader) -> np.ndarray:
    """Geocentric ITRF position of the header's reference point (WGS84), meters, shape (3,)."""
    site = header.site
    location = EarthLocation.from_geodetic(site.longitude_rad * u.rad, site.latitude_rad * u.rad, site.altitude_m * u.m, ellipsoid="WGS84")
    return np.array([location.x.to_value("m"), location.y.to_value("m"), location.z.to_value("m")])


def write_subtables(tile: Tile, out: Path, *, field_name: str, telescope_name: str, history: Sequence[str], dish_diameter_m: float) -> None:
    """Fill the empty subtables that `casacore.tables.default_ms` made."""
    header, geometry = tile.header, tile.geometry
    time_s = (header.times_jd - JD_MINUS_MJD) * SECONDS_PER_DAY
    half = 0.5 * header.integration_s
    order = np.argsort(header.antenna_numbers)
    n_ant = order.size
    names = [header.antenna_names[i] for i in order]

    _fill(out, "ANTENNA", n_ant, {
        "NAME": names,
        "STATION": names,
        "TYPE": ["GROUND-BASED"] * n_ant,
        "MOUNT": ["ALT-AZ"] * n_ant,
        "POSITION": site_itrf_m(header) + header.antenna_positions_m[order],
        "OFFSET": np.zeros((n_ant, 3)),
        "DISH_DIAMETER": np.full(n_ant, dish_diameter_m),
        "FLAG_ROW": np.zeros(n_ant, dtype=np.bool_),
    })  # fmt: skip
    _fill(out, "FEED", n_ant, {
        "ANTENNA_ID": np.arange(n_ant, dtype=np.int32),
        "FEED_ID": np.zeros(n_ant, dtype=np.int32),
        "SPECTRAL_WINDOW_ID": np.full(n_ant, -1, dtype=np.int32),
        "TIME": np.full(n_ant, 0.5 * (time_s[0] + time_s[-1])),
        "INTERVAL": np.full(n_ant, time_s[-1] - time_s[0] + header.integration_s),
        "NUM_RECEPTORS": np.full(n_ant, 2, dtype=np.int32),
        "BEAM_ID": np.full(n_ant, -1, dtype=np.int32),
        "BEAM_OFFSET": np.zeros((n_ant, 2, 2)),
        "POLARIZATION_TYPE": {"shape": [n_ant, 2], "array": ["X", "Y"] * n_ant},
        "POL_RESPONSE": np.tile(np.eye(2, dtype=np.complex64), (n_ant, 1, 1)),
        "POSITION": np.zeros((n_ant, 3)),
        "RECEPTOR_ANGLE": np.zeros((n_ant, 2)),
    })  # fmt: skip
    _fill(out, "POLARIZATION", 1, {
        "NUM_CORR": np.array([2], dtype=np.int32),
        "CORR_TYPE": np.array([CORR_TYPE], dtype=np.int32),
        "CORR_PRODUCT": np.array([[[0, 0], [1, 1]]], dtype=np.int32),
        "FLAG_ROW": np.array([False]),
    })  # fmt: skip
    _fill(out, "DATA_DESCRIPTION", 1, {
        "SPECTRAL_WINDOW_ID": np.array([0], dtype=np.int32),
        "POLARIZATION_ID": np.array([0], dtype=np.int32),
        "FLAG_ROW": np.array([False]),
    })  # fmt: skip
    _write_spectral_window(tile, out)
    phase = np.array([[[_signed(geometry.phase_ra_rad), geometry.phase_dec_rad]]])
    _fill(out, "FIELD", 1, {
        "NAME": [field_name],
        "CODE": ["T"],
        "TIME": np.array([time_s[0] - half]),
        "NUM_POLY": np.array([0], dtype=np.int32),
        "DELAY_DIR": phase,
        "PHASE_DIR": phase,
        "REFERENCE_DIR": phase,
        "SOURCE_ID": np.array([-1], dtype=np.int32),
        "FLAG_ROW": np.array([False]),
    }, frame={"DELAY_DIR": "ICRS", "PHASE_DIR": "ICRS", "REFERENCE_DIR": "ICRS"})  # fmt: skip
    n_times = time_s.size
    direction = np.stack([_signed(geometry.pointing_ra_rad), geometry.pointing_dec_rad], axis=1)
    per_antenna = np.repeat(direction, n_ant, axis=0)[:, None, :]
    _fill(out, "POINTING", n_times * n_ant, {
        "ANTENNA_ID": np.tile(np.arange(n_ant, dtype=np.int32), n_times),
        "TIME": np.repeat(time_s, n_ant),
        "INTERVAL": np.full(n_times * n_ant, header.integration_s),
        "NAME": ["meridian"] * (n_times * n_ant),
        "NUM_POLY": np.zeros(n_times * n_ant, dtype=np.int32),
        "TIME_ORIGIN": np.repeat(time_s, n_ant),
        "DIRECTION": per_antenna,
        "TARGET": per_antenna,
        "TRACKING": np.zeros(n_times * n_ant, dtype=np.bool_),
    }, frame={"DIRECTION": "ICRS", "TARGET": "ICRS"})  # fmt: skip
    _fill(out, "OBSERVATION", 1, {
        "TELESCOPE_NAME": [telescope_name],
        "TIME_RANGE": np.array([[time_s[0] - half, time_s[-1] + half]]),
        "OBSERVER": ["DSA-110"],
        "PROJECT": ["continuum survey"],
        "SCHEDULE_TYPE": ["transit"],
        "RELEASE_DATE": np.array([time_s[-1] + half]),
        "FLAG_ROW": np.array([False]),
    })  # fmt: skip
    _add_site(out, header)
    lines = list(history)
    if lines:
        _fill(out, "HISTORY", len(lines), {
            "TIME": np.full(len(lines), time_s[-1] + half),
            "OBSERVATION_ID": np.zeros(len(lines), dtype=np.int32),
            "MESSAGE": lines,
            "PRIORITY": ["INFO"] * len(lines),
            "ORIGIN": ["dsa110_assets.conversion"] * len(lines),
            "OBJECT_ID": np.zeros(len(lines), dtype=np.int32),
            "APPLICATION": ["dsa110_assets"] * len(lines),
            "CLI_COMMAND": {"shape": [len(lines), 1], "array": [""] * len(lines)},
            "APP_PARAMS": {"shape": [len(lines), 1], "array": [""] * len(lines)},
        })  # fmt: skip


def _write_spectral_window(tile: Tile, out: Path) -> None:
    n_chan = tile.freq_hz.size
    width = np.full((1, n_chan), tile.channel_width_hz)
    _fill(out, "SPECTRAL_WINDOW", 1, {
        "NUM_CHAN": np.array([n_chan], dtype=np.int32),
        "NAME": ["DSA-110"],
        "REF_FREQUENCY": np.array([tile.freq_hz[0]]),
        "CHAN_FREQ": tile.freq_hz[None, :],
        "CHAN_WIDTH": width,
        "EFFECTIVE_BW": width,
        "RESOLUTION": width,
        "TOTAL_BANDWIDTH": np.array([n_chan * tile.channel_width_hz]),
        "MEAS_FREQ_REF": np.array([TOPOCENTRIC], dtype=np.int32),
        "NET_SIDEBAND": np.array([1], dtype=np.int32),
        "IF_CONV_CHAIN": np.array([0], dtype=np.int32),
        "FREQ_GROUP": np.array([0], dtype=np.int32),
        "FREQ_GROUP_NAME": ["none"],
        "FLAG_ROW": np.array([False]),
    })  # fmt: skip


def _add_site(out: Path, header: RawHeader) -> None:
    """Write the array's reference point where pyuvdata looks for it; without it, pyuvdata queries the internet."""
    from casacore import tables

    with tables.table(os.fspath(out / "OBSERVATION"), readonly=False, ack=False) as observation:
        observation.addcols(tables.makearrcoldesc("TELESCOPE_LOCATION", 0.0, shape=[3], valuetype="double"))
        observation.putcell("TELESCOPE_LOCATION", 0, site_itrf_m(header))


def _signed(angle_rad: Any) -> Any:
    """Bring a right ascension into (-pi, pi], as casacore writes directions."""
    return np.pi - np.mod(np.pi - np.asarray(angle_rad), 2 * np.pi)


def _fill(out: Path, name: str, n_rows: int, columns: Mapping[str, Any], frame: Mapping[str, str] | None = None) -> None:
    from casacore import tables

    with tables.table(os.fspath(out / name), readonly=False, ack=False) as subtable:
        subtable.addrows(n_rows)
        for column, code in (frame or {}).items():
            subtable.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": code})
        for column, values in columns.items():
            subtable.putcol(column, values)
