"""A calibrated Measurement Set by direct summation over sources, independent of the imager and of the simulator.

The sky rotates about the ICRS pole at the sidereal rate, without precession; that is consistent, which is enough here.
The beam is scipy's Airy pattern at each integration's meridian point. UVW points from antenna 2 to antenna 1, as in
CASA.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import j1

C = 299_792_458.0
OMEGA = 7.292115855e-5
LATITUDE = np.radians(37.2334051)
START_MJD = 60_800.25


@dataclass(frozen=True)
class Tile:
    """Parameters of the tile that was written."""

    ms: Path
    ra0_deg: float
    dec0_deg: float
    frequency_hz: np.ndarray
    pointing_ra_deg: np.ndarray
    sigma_jy: float


def antennas_enu(n_antenna: int, seed: int = 1) -> np.ndarray:
    """Positions of a T with outriggers, meters east, north, up; the longest baseline is about 2.5 km."""
    rng = np.random.default_rng(seed)
    n_out = max(3, n_antenna // 4)
    n_ew = (n_antenna - n_out) * 6 // 10
    n_ns = n_antenna - n_out - n_ew
    east = np.concatenate([np.linspace(-150, 150, n_ew), np.zeros(n_ns), rng.uniform(-1250, 1250, n_out)])
    north = np.concatenate([np.zeros(n_ew), np.linspace(20, 440, n_ns), rng.uniform(-1100, 1100, n_out)])
    return np.stack([east, north, rng.normal(0, 2, n_antenna)], axis=1)


def airy(theta: np.ndarray, frequency_hz: np.ndarray) -> np.ndarray:
    x = np.pi * 4.65 * np.sin(theta) * frequency_hz / C + 1e-12
    return (2 * j1(x) / x) ** 2


def write_tile(  # noqa: PLR0912
    path: Path,
    sources: list[tuple[float, float, float, float]],
    *,
    n_antenna: int = 24,
    n_time: int = 24,
    n_channel: int = 32,
    band_hz: tuple[float, float] = (1311.265e6, 1498.765e6),
    ra0_deg: float = 150.0,
    dec0_deg: float = 54.6,
    sefd_jy: float = 6500.0,
    noise: bool = True,
    drift_beam: bool = True,
    smear: bool = False,
    seed: int = 5,
    calibrated: bool = True,
    flag_channels: slice | None = None,
    voltages: np.ndarray | None = None,
) -> Tile:
    """Write the Measurement Set.

    ``sources``: (ra_deg, dec_deg, flux_jy at 1.4 GHz, spectral index). ``smear``: average in integrations and channels,
    as the correlator does: with fringes stopped at the meridian point. ``voltages``: what each antenna makes of each
    source, (Nsource, n_antenna).
    """
    from casacore.tables import default_ms, makearrcoldesc, maketabdesc, table

    enu = antennas_enu(n_antenna)
    sin_lat, cos_lat = np.sin(LATITUDE), np.cos(LATITUDE)
    # equatorial: x toward (h=0, dec=0), y toward east, z toward the pole
    xyz = np.stack([-sin_lat * enu[:, 1] + cos_lat * enu[:, 2], enu[:, 0], cos_lat * enu[:, 1] + sin_lat * enu[:, 2]], axis=1)
    ant1, ant2 = np.triu_indices(n_antenna, 1)
    tau = 12.884901888
    width = (band_hz[1] - band_hz[0]) / n_channel
    frequency = band_hz[0] + (np.arange(n_channel) + 0.5) * width
    offsets = (np.arange(n_time) - (n_time - 1) / 2) * tau
    pointing_ra = np.radians(ra0_deg) + OMEGA * offsets
    ra0, dec0 = np.radians(ra0_deg), np.radians(dec0_deg)
    n_bl = ant1.size
    uvw = np.empty((n_time, n_bl, 3))
    data = np.zeros((n_time, n_bl, n_channel), dtype=np.complex64)
    sigma = sefd_jy / np.sqrt(2 * width * tau)
    rng = np.random.default_rng(seed)
    src = np.array(sources, dtype=float).reshape(-1, 4)
    ra, dec = np.radians(src[:, 0]), np.radians(src[:, 1])
    s = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=1)
    spectrum = src[:, 2, None] * (frequency / 1.4e9) ** src[:, 3, None]

    def basis(ra_, dec_):
        return np.array(
            [
                [-np.sin(ra_), np.cos(ra_), 0.0],
                [-np.sin(dec_) * np.cos(ra_), -np.sin(dec_) * np.sin(ra_), np.cos(dec_)],
                [np.cos(dec_) * np.cos(ra_), np.cos(dec_) * np.sin(ra_), np.sin(dec_)],
            ]
        )

    def baselines(lst):
        """Baselines (antenna 1 - antenna 2) in the ICRS frame."""
        cos, sin = np.cos(lst), np.sin(lst)
        rotated = np.stack([cos * xyz[:, 0] - sin * xyz[:, 1], sin * xyz[:, 0] + cos * xyz[:, 1], xyz[:, 2]], axis=1)
        return rotated[ant1] - rotated[ant2]

    s0 = basis(ra0, dec0)
    for t in range(n_time):
        b = baselines(pointing_ra[t])
        uvw[t] = b @ s0.T
        if src.size:
            p = basis(pointing_ra[t], dec0)[2]
            theta = 2 * np.arcsin(np.clip(np.linalg.norm(s - p, axis=1) / 2, 0, 1))
            apparent = spectrum * (airy(theta[:, None], frequency) if drift_beam else 1.0)
            d = b @ (s - s0[2]).T  # (Nbl, Nsrc)
            loss = 1.0
            if smear:  # numerical averages over the integration and the channel
                steps = (np.arange(15) - 7) / 15
                middle = b @ (s - p).T
                fringe_c = np.zeros(d.shape, dtype=complex)
                for step in steps:
                    moved = baselines(pointing_ra[t] + OMEGA * step * tau) @ (s - p).T
                    fringe_c += np.exp(2j * np.pi * frequency.mean() / C * (moved - middle))
                fringe = fringe_c.real / steps.size
                band = sum(np.cos(2 * np.pi * step * width / C * middle) for step in steps) / steps.size
                loss = fringe * band
            for k in range(src.shape[0]):
                one_loss = loss[:, k, None] if smear else 1.0
                seen = 1.0 if voltages is None else (voltages[k, ant1] * voltages[k, ant2].conj())[:, None]
                data[t] += (seen * one_loss * apparent[k] * np.exp(2j * np.pi / C * d[:, k, None] * frequency)).astype(np.complex64)
    both = np.repeat(data[..., None], 2, axis=-1)
    if noise:
        both = both + (sigma * (rng.standard_normal(both.shape) + 1j * rng.standard_normal(both.shape))).astype(np.complex64)
    n_row = n_time * n_bl

    columns = [
        makearrcoldesc("DATA", 0.0 + 0j, valuetype="complex", ndim=2),
        makearrcoldesc("WEIGHT_SPECTRUM", 0.0, valuetype="float", ndim=2),
    ]
    ms = default_ms(str(path), maketabdesc(columns))
    ms.addrows(n_row)
    flag = np.zeros((n_row, n_channel, 2), dtype=bool)
    if flag_channels is not None:
        flag[:, flag_channels] = True
    weight = np.where(flag, 0.0, 1 / sigma**2).astype(np.float32)
    time_s = np.repeat(START_MJD * 86400 + (np.arange(n_time) + 0.5) * tau, n_bl)
    ms.putcol("DATA", both.reshape(n_row, n_channel, 2).astype(np.complex64))
    ms.putcol("FLAG", flag)
    ms.putcol("WEIGHT_SPECTRUM", weight)
    ms.putcol("WEIGHT", weight.mean(axis=1))
    ms.putcol("SIGMA", np.full((n_row, 2), sigma, dtype=np.float32))
    ms.putcol("FLAG_ROW", np.zeros(n_row, dtype=bool))
    ms.putcol("UVW", uvw.reshape(n_row, 3))
    ms.putcol("TIME", time_s)
    ms.putcol("TIME_CENTROID", time_s)
    for column in ("INTERVAL", "EXPOSURE"):
        ms.putcol(column, np.full(n_row, tau))
    ms.putcol("ANTENNA1", np.tile(ant1, n_time).astype(np.int32))
    ms.putcol("ANTENNA2", np.tile(ant2, n_time).astype(np.int32))
    for column in ("FIELD_ID", "DATA_DESC_ID", "ARRAY_ID", "OBSERVATION_ID", "FEED1", "FEED2", "PROCESSOR_ID", "SCAN_NUMBER"):
        ms.putcol(column, np.zeros(n_row, dtype=np.int32))
    ms.putcol("STATE_ID", np.full(n_row, -1, dtype=np.int32))
    if calibrated:
        ms.putkeyword("DSA110_CALIBRATED", json.dumps({"caltables": ["bandpass.cal"], "channels_averaged": 1}))
    ms.close()

    def subtable(name, rows):
        opened = table(f"{path}::{name}", readonly=False, ack=False)
        opened.addrows(rows)
        return opened

    with subtable("SPECTRAL_WINDOW", 1) as t:
        t.putcell("CHAN_FREQ", 0, frequency)
        for column in ("CHAN_WIDTH", "EFFECTIVE_BW", "RESOLUTION"):
            t.putcell(column, 0, np.full(n_channel, width))
        t.putcell("NUM_CHAN", 0, n_channel)
        t.putcell("REF_FREQUENCY", 0, frequency[0])
        t.putcell("TOTAL_BANDWIDTH", 0, width * n_channel)
        t.putcell("MEAS_FREQ_REF", 0, 5)
        t.putcell("NAME", 0, "band")
    with subtable("POLARIZATION", 1) as t:
        t.putcell("NUM_CORR", 0, 2)
        t.putcell("CORR_TYPE", 0, np.array([9, 12], dtype=np.int32))
        t.putcell("CORR_PRODUCT", 0, np.array([[0, 0], [1, 1]], dtype=np.int32))
    with subtable("DATA_DESCRIPTION", 1) as t:
        t.putcell("SPECTRAL_WINDOW_ID", 0, 0)
        t.putcell("POLARIZATION_ID", 0, 0)
    with subtable("FIELD", 1) as t:
        for column in ("PHASE_DIR", "DELAY_DIR", "REFERENCE_DIR"):
            t.putcell(column, 0, np.array([[ra0, dec0]]))
            t.putcolkeyword(column, "MEASINFO", {"type": "direction", "Ref": "ICRS"})
        t.putcell("NAME", 0, "meridian")
        t.putcell("TIME", 0, START_MJD * 86400)
    with subtable("OBSERVATION", 1) as t:
        t.putcell("TELESCOPE_NAME", 0, "OVRO_MMA")
        t.putcell("TIME_RANGE", 0, np.array([time_s[0], time_s[-1]]))
        t.putcell("OBSERVER", 0, "nobody")
    with subtable("ANTENNA", n_antenna) as t:
        itrf = np.array([-2409585.79, -4478197.55, 3838767.46])
        longitude = np.radians(-118.283)
        cos, sin = np.cos(longitude), np.sin(longitude)
        rotated = np.stack([cos * xyz[:, 0] - sin * xyz[:, 1], sin * xyz[:, 0] + cos * xyz[:, 1], xyz[:, 2]], axis=1)
        t.putcol("POSITION", itrf + rotated)
        t.putcol("DISH_DIAMETER", np.full(n_antenna, 4.65))
        t.putcol("NAME", [str(i + 1) for i in range(n_antenna)])
        t.putcol("STATION", [str(i + 1) for i in range(n_antenna)])
        t.putcol("MOUNT", ["ALT-AZ"] * n_antenna)
    with subtable("FEED", n_antenna) as t:
        t.putcol("ANTENNA_ID", np.arange(n_antenna, dtype=np.int32))
        t.putcol("NUM_RECEPTORS", np.full(n_antenna, 2, dtype=np.int32))
        t.putcol("SPECTRAL_WINDOW_ID", np.full(n_antenna, -1, dtype=np.int32))
        t.putcol("INTERVAL", np.full(n_antenna, 1e30))
        for i in range(n_antenna):
            t.putcell("POLARIZATION_TYPE", i, ["X", "Y"])
            t.putcell("POL_RESPONSE", i, np.eye(2, dtype=np.complex64))
            t.putcell("BEAM_OFFSET", i, np.zeros((2, 2)))
            t.putcell("RECEPTOR_ANGLE", i, np.zeros(2))
            t.putcell("POSITION", i, np.zeros(3))
    with subtable("POINTING", n_antenna * n_time) as t:
        t.putcol("ANTENNA_ID", np.tile(np.arange(n_antenna, dtype=np.int32), n_time))
        t.putcol("TIME", np.repeat(START_MJD * 86400 + (np.arange(n_time) + 0.5) * tau, n_antenna))
        t.putcol("INTERVAL", np.full(n_antenna * n_time, tau))
        t.putcol("NUM_POLY", np.zeros(n_antenna * n_time, dtype=np.int32))
        direction = np.stack([np.repeat(pointing_ra, n_antenna), np.full(n_antenna * n_time, dec0)], axis=1)
        t.putcol("DIRECTION", direction[:, None, :])
        t.putcol("TARGET", direction[:, None, :])
        t.putcolkeyword("DIRECTION", "MEASINFO", {"type": "direction", "Ref": "ICRS"})
    return Tile(path, ra0_deg, dec0_deg, frequency, np.degrees(pointing_ra) % 360, sigma)


def offset_position(ra0_deg: float, dec0_deg: float, east_deg: float, north_deg: float) -> tuple[float, float]:
    """Direction at a great-circle offset, from astropy."""
    from astropy import units as u
    from astropy.coordinates import SkyCoord

    c = SkyCoord(ra0_deg * u.deg, dec0_deg * u.deg).spherical_offsets_by(east_deg * u.deg, north_deg * u.deg)
    return float(c.ra.deg), float(c.dec.deg)
