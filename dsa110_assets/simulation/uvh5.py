"""Writing one subband file exactly as the correlator does: pyuvdata's UVH5, in the old four-dimensional layout.

The file has the name ``..._incomplete.hdf5`` until it is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from dsa110_assets.simulation.array import (
    DISH_DIAMETER_M,
    N_STATIONS,
    SITE_ALTITUDE_M,
    SITE_LATITUDE_DEG,
    SITE_LONGITUDE_DEG,
    ArrayLayout,
)
from dsa110_assets.simulation.directions import meridian_uvw_m

SAMPLES_PER_INTEGRATION = 96
SAMPLE_S = 0.134217728
"""Length of the correlator's own samples, 2**27 ns; ``nsamples`` is how many of them an integration holds."""
INTEGRATION_S = 12.884901888
"""Spacing of the integrations, 96 samples."""

HEADER_INTEGRATION_S = 12.884902000427246
"""Value in the header, which the correlator stores in single precision."""

_CHUNKS = {"visdata": (128, 1, 12, 1), "flags": (256, 1, 24, 1), "nsamples": (256, 1, 12, 1)}
_MJD_TO_JD = 2_400_000.5


@dataclass(frozen=True)
class SubbandHeader:
    """Header values that differ between files.

    ``time_mjd``: centers of the integrations, UTC, (Ntimes,). ``frequency_hz``: channel centers, descending, (Nfreqs,).
    ``channel_width_hz``: positive. ``declination_deg``: apparent declination of the meridian phase center.
    ``service_declination_deg``: the declination that the correlator's service read when it started, which can be stale.
    ``opened_mjd``: the node's wall clock when it opened the file. ``samples``: number of the correlator's samples in
    each integration, 96 in a complete one, (Ntimes,).
    """

    array: ArrayLayout
    time_mjd: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    channel_width_hz: float
    declination_deg: float
    service_declination_deg: float
    opened_mjd: float
    samples: NDArray[np.int64]


def stamp(time_mjd: float) -> str:
    """Format a wall-clock time as in file names, truncated to whole seconds."""
    return datetime.fromtimestamp((time_mjd - 40_587.0) * 86_400.0, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")


def write_subband(directory: Path, subband: int, header: SubbandHeader, visibilities: NDArray[np.complex64]) -> Path:
    """Write a file, and rename it when it is complete.

    Args:
        directory: the flat directory of raw files, which must exist.
        subband: number for the file name, 0 for the top of the band.
        header: see `SubbandHeader`.
        visibilities: raw units, (Ntimes, Nbls, Nfreqs, Npols), baselines in the array's row order.

    Returns:
        ``<stamp>_sb<NN>.hdf5``.
    """
    n_times, n_bls, n_freqs, n_pols = visibilities.shape
    shape = (n_times * n_bls, 1, n_freqs, n_pols)
    name = f"{stamp(header.opened_mjd)}_sb{subband:02d}"
    incomplete, complete = directory / f"{name}_incomplete.hdf5", directory / f"{name}.hdf5"
    with h5py.File(incomplete, "w") as file:
        _write_header(file.create_group("Header"), header, n_times, n_bls)
        data = file.create_group("Data")
        contents = {
            "visdata": visibilities.reshape(shape),
            "flags": np.zeros(shape, dtype=np.bool_),
            "nsamples": np.broadcast_to(np.repeat(header.samples, n_bls)[:, np.newaxis, np.newaxis, np.newaxis], shape).astype(np.float32),
        }
        for key, values in contents.items():
            chunks = tuple(min(c, s) for c, s in zip(_CHUNKS[key], shape, strict=True))
            data.create_dataset(key, data=values, chunks=chunks, maxshape=(None, *shape[1:]))
    return incomplete.rename(complete)


def _write_header(header: h5py.Group, facts: SubbandHeader, n_times: int, n_bls: int) -> None:
    array = facts.array
    ant_1, ant_2 = array.baselines()
    uvw_m = meridian_uvw_m(array.baseline_enu_m(), facts.declination_deg).astype(np.float32)
    n_blts = n_times * n_bls
    scalars: dict[str, object] = {
        "latitude": SITE_LATITUDE_DEG,
        "longitude": SITE_LONGITUDE_DEG,
        "altitude": SITE_ALTITUDE_M,
        "telescope_name": np.bytes_("OVRO_MMA"),
        "instrument": np.bytes_("DSA"),
        "object_name": np.bytes_("search"),
        "history": np.bytes_(f"simulated for DSA-110, opened on {stamp(facts.opened_mjd)}"),
        "phase_type": np.bytes_("drift"),
        "phase_center_app_dec": np.radians(facts.declination_deg),
        "Nants_data": array.n_antennas,
        "Nants_telescope": N_STATIONS,
        "Nbls": n_bls,
        "Nblts": n_blts,
        "Nfreqs": len(facts.frequency_hz),
        "Npols": 2,
        "Ntimes": n_times,
        "Nspws": 1,
        "channel_width": facts.channel_width_hz,
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "antenna_diameters": np.full(N_STATIONS, DISH_DIAMETER_M),
        "antenna_names": np.array([str(n + 1) for n in range(N_STATIONS)], dtype="S4"),
        "antenna_numbers": np.arange(N_STATIONS),
        "antenna_positions": array.itrf_offset_m,
        "freq_array": facts.frequency_hz[np.newaxis, :],
        "spw_array": np.array([1]),
        "polarization_array": np.array([-5, -6]),
    }
    per_row: dict[str, NDArray[np.generic]] = {
        "ant_1_array": np.tile(ant_1, n_times),
        "ant_2_array": np.tile(ant_2, n_times),
        "uvw_array": np.tile(uvw_m, (n_times, 1)),
        "time_array": np.repeat(facts.time_mjd + _MJD_TO_JD, n_bls),
        "integration_time": np.full(n_blts, HEADER_INTEGRATION_S),
    }
    for key, value in (scalars | arrays).items():
        header[key] = value
    for key, value in per_row.items():
        header.create_dataset(key, data=value, chunks=True, maxshape=(None, *value.shape[1:]))
    extra = header.create_group("extra_keywords")
    extra["phase_center_dec"] = np.radians(facts.service_declination_deg)
    extra["ha_phase_center"] = 0.0
    extra["phase_center_epoch"] = "HADEC"  # of variable length, unlike the other texts
    extra["fs_table"] = np.bytes_("fringestopping_table.npz")
    extra["applied_delays_ns"] = np.bytes_(" ".join(str(d) for d in _applied_delays_ns(array)))


def _applied_delays_ns(array: ArrayLayout) -> NDArray[np.int64]:
    """Make up two plausible cable delays for each station, zero where no antenna is connected; nothing uses them."""
    connected = np.isin(np.arange(N_STATIONS), array.antenna_order)
    distance_m = np.linalg.norm(array.enu_m, axis=1)
    delays = np.round(16_000.0 - distance_m * 4.9).astype(np.int64) // 2 * 2
    return np.repeat(np.where(connected, delays, 0), 2)
