"""Smallest valid raw subband files for the tests of this package, written from the format's description alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np

SITE_LAT_DEG, SITE_LON_DEG, SITE_ALT_M = 37.2334051, -118.2830000, 1188.0519
TOP_HZ = 1498.6431884766e6
FINE_WIDTH_HZ = 244140.625
INTEGRATION_S = 12.884902000427246


def enu_to_itrf_offset(enu_m: np.ndarray) -> np.ndarray:
    lat, lon = np.radians(SITE_LAT_DEG), np.radians(SITE_LON_DEG)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    north = np.array([-np.sin(lat) * np.cos(lon), -np.sin(lat) * np.sin(lon), np.cos(lat)])
    up = np.array([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    return enu_m @ np.stack([east, north, up])


def antenna_offsets(n_antennas: int, seed: int = 1) -> np.ndarray:
    """ITRF offsets of a T-like array of kilometer size, shape (n, 3)."""
    rng = np.random.default_rng(seed)
    enu = np.stack([rng.uniform(-300, 1300, n_antennas), rng.uniform(-700, 1200, n_antennas), rng.uniform(-5, 5, n_antennas)], axis=1)
    return enu_to_itrf_offset(enu)


def correlator_pairs(order: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (order[j], order[i]) for each i and each j <= i, as the correlator writes them."""
    pairs = [(order[j], order[i]) for i in range(len(order)) for j in range(i + 1)]
    return np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs])


def meridian_uvw(baseline_m: np.ndarray, dec_rad: float, longitude_deg: float) -> np.ndarray:
    """(u, v, w) at hour angle 0 of ITRF baselines, shape (n, 3)."""
    lon = np.radians(longitude_deg)
    east = np.array([-np.sin(lon), np.cos(lon), 0.0])
    source = np.array([np.cos(dec_rad) * np.cos(lon), np.cos(dec_rad) * np.sin(lon), np.sin(dec_rad)])
    return baseline_m @ np.stack([east, np.cross(source, east), source], axis=1)


def subband_frequencies(subband: int, n_channels: int) -> np.ndarray:
    """Descending channel centers, Hz."""
    top_edge = TOP_HZ + FINE_WIDTH_HZ / 2 - subband * 48 * FINE_WIDTH_HZ
    width = 48 * FINE_WIDTH_HZ / n_channels
    return top_edge - (np.arange(n_channels) + 0.5) * width


def write_raw(
    path: Path,
    subband: int,
    *,
    start_jd: float,
    dec_rad: float,
    n_times: int = 4,
    n_channels: int = 8,
    order: Sequence[int] = (2, 0, 5, 1),
    n_antennas: int = 7,
    vis: np.ndarray | None = None,
    freq_hz: np.ndarray | None = None,
    site: tuple[float, float, float] = (SITE_LAT_DEG, SITE_LON_DEG, SITE_ALT_M),
    telescope_name: str = "OVRO_MMA",
) -> Path:
    """Write one subband file; ``vis`` has shape (Ntimes, Nbls, Nfreqs, 2), noise when None."""
    ant_1, ant_2 = correlator_pairs(order)
    n_bls = ant_1.size
    n_blts = n_bls * n_times
    freq = subband_frequencies(subband, n_channels) if freq_hz is None else freq_hz
    if vis is None:
        rng = np.random.default_rng(1000 + subband)
        vis = 0.1 * (rng.normal(size=(n_times, n_bls, n_channels, 2)) + 1j * rng.normal(size=(n_times, n_bls, n_channels, 2)))
        autos = ant_1 == ant_2
        vis[:, autos] = 20.0 + vis[:, autos].real
    times = start_jd + np.arange(n_times) * INTEGRATION_S / 86400
    offsets = antenna_offsets(n_antennas)
    with h5py.File(path, "w") as file:
        data = file.create_group("Data")
        shape = (n_blts, 1, n_channels, 2)
        rows = min(128, n_blts)
        data.create_dataset("visdata", data=vis.reshape(shape).astype(np.complex64), chunks=(rows, 1, min(12, n_channels), 1))
        data.create_dataset("flags", data=np.zeros(shape, dtype=bool), chunks=(rows, 1, min(24, n_channels), 1))
        data.create_dataset("nsamples", data=np.ones(shape, dtype=np.float32), chunks=(rows, 1, min(12, n_channels), 1))
        header = file.create_group("Header")
        header["latitude"], header["longitude"], header["altitude"] = site
        header["telescope_name"] = np.bytes_(telescope_name)
        header["instrument"] = np.bytes_("DSA")
        header["object_name"] = np.bytes_("search")
        header["history"] = np.bytes_("")
        header["phase_type"] = np.bytes_("drift")
        header["phase_center_app_dec"] = dec_rad
        header["Nants_data"] = len(order)
        header["Nants_telescope"] = n_antennas
        header["antenna_diameters"] = np.full(n_antennas, 4.65)
        header["ant_1_array"] = np.tile(ant_1, n_times)
        header["ant_2_array"] = np.tile(ant_2, n_times)
        header["antenna_names"] = np.array([str(n + 1) for n in range(n_antennas)], dtype="S4")
        header["antenna_numbers"] = np.arange(n_antennas)
        header["Nbls"], header["Nblts"], header["Nfreqs"], header["Npols"] = n_bls, n_blts, n_channels, 2
        header["Ntimes"], header["Nspws"] = n_times, 1
        header["uvw_array"] = np.tile(meridian_uvw(offsets[ant_2] - offsets[ant_1], dec_rad, site[1]), (n_times, 1)).astype(np.float32)
        header["time_array"] = np.repeat(times, n_bls)
        header["integration_time"] = np.full(n_blts, INTEGRATION_S)
        header["freq_array"] = freq[None, :]
        header["channel_width"] = 48 * FINE_WIDTH_HZ / n_channels
        header["spw_array"] = np.array([0])
        header["polarization_array"] = np.array([-5, -6])
        header["antenna_positions"] = offsets
        extra = header.create_group("extra_keywords")
        extra["phase_center_dec"] = dec_rad
        extra["ha_phase_center"] = 0.0
        extra["phase_center_epoch"] = np.bytes_("HADEC")
    return path
