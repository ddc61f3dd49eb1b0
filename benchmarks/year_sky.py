"""A sky with a known truth, and the fluxes that a year of hourly mosaics of it would give.

It uses numpy only and nothing of the platform's path from fluxes to candidates. A drift scan sees the meridian, so the
hour that is centered on a time covers `HOUR_DEG` of right ascension around `meridian_deg` of that time. A source has
about one epoch a night.

Measured flux = gain of the epoch x true flux x shape at that time + noise. The noise is that of the mosaic over the
response of the beam at the source's declination, and its error is stated exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HOUR_DEG = 360.98564736629 / 24
"""Right ascension that passes the meridian in an hour, degrees."""

DECLINATION_DEG = 16.0
GAIN_RMS = 0.05
NOISE_JY = 5e-4
VARIABLE_SHARE = 0.02
N_EVENTS = 6
LIMIT_SNR = 5.0


def meridian_deg(mjd: float) -> float:
    """Right ascension on the meridian of longitude 0, degrees, from a UTC MJD (mean sidereal time)."""
    return float((280.46061837 + 360.98564736629 * (mjd - 51544.5)) % 360.0)


@dataclass(frozen=True)
class YearSky:
    """The truth. Sources are numbered from 1, by right ascension.

    ``ra_deg``, ``dec_deg``, ``flux_jy``, ``beam`` (response), ``reference_jy`` (catalog): shape (Nsources,).
    ``variable``: (Nvariable, 4) of index, amplitude, period (days), phase (rad). ``events``: (Nevents, 4) of index,
    depth, first and last MJD. ``first_mjd``: 0 h UTC of the first night. ``seed``: of gains and noise.
    """

    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    beam: NDArray[np.float64]
    reference_jy: NDArray[np.float64]
    variable: NDArray[np.float64]
    events: NDArray[np.float64]
    first_mjd: float
    seed: int

    @property
    def event_ids(self) -> list[int]:
        """Numbers of the sources with an event."""
        return [int(one) + 1 for one in self.events[:, 0]]

    @property
    def variable_ids(self) -> list[int]:
        """Numbers of the variable sources."""
        return [int(one) + 1 for one in self.variable[:, 0]]

    def gain(self, night: int, hour: int) -> tuple[float, float]:
        """Gain and noise (Jy) of a mosaic."""
        rng = np.random.default_rng((self.seed, 1, night, hour))
        return float(np.exp(GAIN_RMS * rng.standard_normal())), float(NOISE_JY * rng.uniform(0.8, 1.4))

    def middle_mjd(self, night: int, hour: int) -> float:
        """Middle of an hour, UTC MJD."""
        return self.first_mjd + night + (hour + 0.5) / 24

    def hour(self, night: int, hour: int) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], float]:
        """Source numbers, measured fluxes and errors (Jy) in an hour's mosaic, and the mosaic's noise (Jy)."""
        mjd = self.middle_mjd(night, hour)
        west = (meridian_deg(mjd) - HOUR_DEG / 2) % 360.0
        begin, end = np.searchsorted(self.ra_deg, [west, west + HOUR_DEG])
        index = np.arange(begin, end)
        if west + HOUR_DEG > 360.0:
            index = np.concatenate([np.arange(np.searchsorted(self.ra_deg, west + HOUR_DEG - 360.0)), index])
        shape = np.ones(self.flux_jy.size)
        number, amplitude, period, phase = self.variable.T
        shape[number.astype(int)] += amplitude * np.sin(2 * np.pi * mjd / period + phase)
        for source, depth, first, last in self.events:
            shape[int(source)] *= _event(mjd, depth, first, last)
        gain, noise = self.gain(night, hour)
        error = noise / self.beam[index]
        draw = np.random.default_rng((self.seed, 2, night, hour)).standard_normal(index.size)
        return index + 1, gain * self.flux_jy[index] * shape[index] + error * draw, error, noise


def _event(mjd: float, depth: float, first: float, last: float) -> float:
    """A lens in front of a source: a minimum between two maxima of a tenth of its length."""
    edge = 0.1 * (last - first)
    if first <= mjd <= last:
        return 1.0 - depth
    return 1.0 + 0.4 * depth if first - edge <= mjd < first or last < mjd <= last + edge else 1.0


def draw_sky(n_sources: int, n_nights: int, first_mjd: float, seed: int = 11) -> YearSky:
    """Draw the sky of N nights from ``first_mjd`` (0 h UTC).

    Events last a quarter of the nights, from 6 to 40 nights, and are spread over all of them. The last one begins four
    nights before the end and goes on. Their sources have at least 80 mJy.
    """
    rng = np.random.default_rng((seed, 0))
    ra = np.sort(rng.uniform(0.0, 360.0, n_sources))
    offset = rng.uniform(-1.3, 1.3, n_sources)
    flux = np.minimum(0.005 * rng.random(n_sources) ** (-1 / 1.2), 5.0)
    chosen = rng.permutation(n_sources)
    special, varying = chosen[:N_EVENTS], chosen[N_EVENTS : N_EVENTS + max(1, round(VARIABLE_SHARE * n_sources))]
    flux[special] = np.maximum(flux[special], 0.08)
    length = float(np.clip(n_nights / 4, 6.0, 40.0))
    begin = first_mjd + np.append(np.linspace(0.1, 0.9, N_EVENTS - 1) * max(n_nights - length, 0.0), n_nights - 4.0)
    events = np.column_stack([special, rng.uniform(0.4, 0.6, N_EVENTS), begin, begin + length])
    variable = np.column_stack(
        [varying, rng.uniform(0.1, 0.3, varying.size), rng.uniform(3.0, 20.0, varying.size), rng.uniform(0.0, 2 * np.pi, varying.size)]
    )
    reference = flux * np.exp(0.03 * rng.standard_normal(n_sources))
    return YearSky(ra, DECLINATION_DEG + offset, flux, np.exp(-(offset**2) / 3.0), reference, variable, events, first_mjd, seed)


_ROW = np.dtype(
    [("fields", ">i2")]
    + [
        entry
        for name, kind, size in (
            ("time_mjd", ">f8", 8), ("source_id", ">i8", 8), ("mosaic_name", "S20", 20), ("flux_jy", ">f8", 8), ("flux_err_jy", ">f8", 8),
            ("noise", ">f8", 8), ("background", ">f8", 8), ("snr", ">f8", 8), ("upper_limit", ">f8", 8), ("is_limit", "u1", 1),
        )
        for entry in ((f"{name}_size", ">i4"), (name, kind))
    ]
)  # fmt: skip
COPY_COLUMNS = (
    "time_mjd, source_id, mosaic_name, flux_jy, flux_err_jy, noise_jy_per_beam, background_jy_per_beam, snr, upper_limit_jy, is_limit"
)
COPY_BEGIN = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END = b"\xff\xff"


def copy_rows(sky: YearSky, night: int, hour: int, mosaic_name: str) -> bytes:
    """Rows of an hour for PostgreSQL's ``COPY photometry (COPY_COLUMNS) FROM STDIN (FORMAT binary)``."""
    source_id, flux, error, noise = sky.hour(night, hour)
    rows = np.zeros(source_id.size, _ROW)
    rows["fields"] = 10
    for name in (one for one in _ROW.names or () if one.endswith("_size")):
        rows[name] = _ROW[name.removesuffix("_size")].itemsize
    snr = flux / error
    rows["time_mjd"], rows["mosaic_name"], rows["noise"] = sky.middle_mjd(night, hour), mosaic_name.encode(), noise
    rows["source_id"], rows["flux_jy"], rows["flux_err_jy"], rows["snr"] = source_id, flux, error, snr
    rows["is_limit"] = snr < LIMIT_SNR
    rows["upper_limit"] = np.where(rows["is_limit"], 3 * error, np.nan)
    return rows.tobytes()
