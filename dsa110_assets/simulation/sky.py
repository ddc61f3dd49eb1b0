"""The simulated sky: point sources with spectra and light curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from astropy.coordinates import SkyCoord
from numpy.typing import NDArray

REFERENCE_HZ = 1.4e9


class LightCurve(Protocol):
    """Flux relative to a source's cataloged flux, as a function of time."""

    def factor(self, time_mjd: float) -> float:
        """Flux density at a UTC MJD divided by the cataloged one."""
        ...


@dataclass(frozen=True)
class Constant:
    """A source that does not vary."""

    def factor(self, time_mjd: float) -> float:
        """Return 1."""
        return 1.0


@dataclass(frozen=True)
class Sinusoid:
    """Slow, mild variability: ``1 + amplitude sin(2 pi (t - epoch) / period)``."""

    amplitude: float
    period_days: float
    epoch_mjd: float

    def factor(self, time_mjd: float) -> float:
        """See the class."""
        return 1.0 + self.amplitude * float(np.sin(2 * np.pi * (time_mjd - self.epoch_mjd) / self.period_days))


@dataclass(frozen=True)
class Tabulated:
    """Linear interpolation of a table, constant before its first and after its last time."""

    time_mjd: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, time_mjd: float) -> float:
        """See the class."""
        return float(np.interp(time_mjd, self.time_mjd, self.factors))


@dataclass(frozen=True)
class ScatteringEvent:
    """Extreme scattering event: a flat drop between two caustic spikes (Fiedler et al. 1987).

    ``ingress_mjd``/``egress_mjd``: middle of the two flanks. ``depth``: lost fraction inside. ``spike``: excess
    fraction at the caustics, which lie just outside the flanks. ``flank_days``: width (one sigma) of the spikes and
    scale of the flanks.
    """

    ingress_mjd: float
    egress_mjd: float
    depth: float = 0.5
    spike: float = 0.3
    flank_days: float = 0.1

    def factor(self, time_mjd: float) -> float:
        """See the class."""
        inside = 0.5 * (np.tanh((time_mjd - self.ingress_mjd) / self.flank_days) - np.tanh((time_mjd - self.egress_mjd) / self.flank_days))
        spikes = sum(
            float(np.exp(-0.5 * ((time_mjd - caustic) / self.flank_days) ** 2))
            for caustic in (self.ingress_mjd - 2.5 * self.flank_days, self.egress_mjd + 2.5 * self.flank_days)
        )
        return float(1.0 - self.depth * inside + self.spike * spikes)


@dataclass(frozen=True)
class Sky:
    """Unpolarized point sources.

    ``ra_deg``, ``dec_deg``: ICRS, shape (Nsources,). ``flux_jy``: cataloged (mean or quiescent) flux density at 1.4
    GHz. ``spectral_index``: alpha of ``S ~ nu**alpha``. ``light_curves``: one for each source, or empty for constant
    sources.
    """

    names: tuple[str, ...]
    ra_deg: NDArray[np.float64]
    dec_deg: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    spectral_index: NDArray[np.float64]
    light_curves: tuple[LightCurve, ...] = field(default=())

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.ra_deg), len(self.dec_deg), len(self.flux_jy), len(self.spectral_index)}
        if len(lengths) != 1 or len(self.light_curves) not in {0, len(self.names)}:
            msg = f"Sky: columns of different lengths {sorted(lengths)}, {len(self.light_curves)} light curves"
            raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.names)

    def flux_at(self, time_mjd: float, frequency_hz: float | NDArray[np.float64] = REFERENCE_HZ) -> NDArray[np.float64]:
        """Flux densities (Jy) at a time; shape (Nsources,) for one frequency, (Nsources, Nfreqs) for an array."""
        frequency = np.asarray(frequency_hz, dtype=np.float64)
        factors = np.array([curve.factor(time_mjd) for curve in self.light_curves]) if self.light_curves else np.ones(len(self))
        flux_jy = self.flux_jy * factors
        spectrum = (frequency[..., np.newaxis] / REFERENCE_HZ) ** self.spectral_index
        return np.moveaxis(flux_jy * spectrum, -1, 0)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Sky:
        """Return the sources of a mask or of indices."""
        index = np.flatnonzero(keep) if np.asarray(keep).dtype == np.bool_ else np.asarray(keep)
        return Sky(
            tuple(self.names[i] for i in index),
            self.ra_deg[index],
            self.dec_deg[index],
            self.flux_jy[index],
            self.spectral_index[index],
            tuple(self.light_curves[i] for i in index) if self.light_curves else (),
        )


def point_sources(
    ra_deg: Sequence[float], dec_deg: Sequence[float], flux_jy: Sequence[float], *, spectral_index: float | Sequence[float] = -0.7
) -> Sky:
    """Make a sky of constant sources, named S0, S1, ..."""
    return Sky(
        tuple(f"S{i}" for i in range(len(ra_deg))),
        np.asarray(ra_deg, dtype=np.float64),
        np.asarray(dec_deg, dtype=np.float64),
        np.asarray(flux_jy, dtype=np.float64),
        np.broadcast_to(np.asarray(spectral_index, dtype=np.float64), len(ra_deg)).copy(),
    )


# --- a realistic sky --------------------------------------------------------------------------------------------------
CALIBRATOR_NAME = "0834+555"
CALIBRATOR_RA_DEG = 15.0 * (8 + 34 / 60 + 54.904117 / 3600)
CALIBRATOR_DEC_DEG = 55 + 34 / 60 + 21.070980 / 3600
CALIBRATOR_JY = 8.8
_SQUARE_DEGREES_PER_SR = (180.0 / np.pi) ** 2


def euclidean_counts(flux_jy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Normalized differential source counts ``S**2.5 dN/dS`` (Jy**1.5 / sr) at 1.4 GHz, valid from 0.03 to 6 Jy.

    A parabola in the logarithms through the counts compiled by de Zotti et al. (2010, A&A Rev. 18, 1).
    """
    log_s = np.log10(flux_jy)
    return 10.0 ** (2.575 - 0.097 * log_s - 0.314 * log_s**2)


def sources_per_square_degree(min_jy: float, max_jy: float) -> float:
    """Density of sources between two flux densities, from `euclidean_counts`."""
    flux = np.geomspace(min_jy, max_jy, 2000)
    return float(np.trapezoid(euclidean_counts(flux) * flux**-2.5, flux)) / _SQUARE_DEGREES_PER_SR


def draw_fluxes(rng: np.random.Generator, n: int, min_jy: float, max_jy: float) -> NDArray[np.float64]:
    """Draw ``n`` flux densities (Jy) that follow the counts between two limits; shape (n,)."""
    flux = np.geomspace(min_jy, max_jy, 4000)
    density = euclidean_counts(flux) * flux**-2.5
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (density[1:] + density[:-1]) * np.diff(flux))])
    return np.interp(rng.uniform(0, cumulative[-1], n), cumulative, flux)


def iau_name(ra_deg: float, dec_deg: float) -> str:
    """Designation ``JHHMMSS+DDMMSS``, truncated as the IAU recommends."""
    seconds, sign = int(ra_deg % 360 * 240), "-" if dec_deg < 0 else "+"
    arcsec = int(abs(dec_deg) * 3600)
    return f"J{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}{sign}{arcsec // 3600:02d}{arcsec // 60 % 60:02d}{arcsec % 60:02d}"


def demo_sky(
    *,
    seed: int,
    ra_range_deg: tuple[float, float],
    dec_range_deg: tuple[float, float],
    min_jy: float = 0.12,
    max_jy: float = 2.5,
    min_separation_arcmin: float = 4.0,
    n_variable: int = 8,
    variability_amplitude: float = 0.13,
    event: tuple[float, float] | None = None,
    event_position_deg: tuple[float, float] | None = None,
    event_jy: float = 0.7,
    epoch_mjd: float = 0.0,
) -> Sky:
    """Make a strip of sky with realistic counts, the calibrator 0834+555, variables and an extreme scattering event.

    Args:
        seed: of all random numbers.
        ra_range_deg: west and east edge, ICRS; the second may be beyond 360.
        dec_range_deg: south and north edge.
        min_jy, max_jy: limits of the random sources, at 1.4 GHz.
        min_separation_arcmin: smallest distance between two sources, which avoids blends.
        n_variable: number of sources in the inner half of the strip that vary sinusoidally by ``variability_amplitude``
        with periods of 2.5 to 7 days.
        event: times (MJD) of ingress and egress of the event; None for no event.
        event_position_deg: (ra, dec) of the source with the event; its quiescent flux is ``event_jy``.
        epoch_mjd: zero point of the variables' phases.

    Returns:
        The calibrator first, then the source with the event, then the others by decreasing flux.
    """
    rng = np.random.default_rng([seed, 1])
    area = np.diff(ra_range_deg)[0] * np.degrees(np.diff(np.sin(np.radians(dec_range_deg)))[0])
    n = rng.poisson(area * sources_per_square_degree(min_jy, max_jy))
    flux_jy = np.sort(draw_fluxes(rng, n, min_jy, max_jy))[::-1]
    fixed = [(CALIBRATOR_RA_DEG, CALIBRATOR_DEC_DEG, CALIBRATOR_JY)]
    if event is not None and event_position_deg is not None:
        fixed.append((*event_position_deg, event_jy))
    ra, dec = [f[0] for f in fixed], [f[1] for f in fixed]
    while len(ra) < len(fixed) + n:
        one_ra = rng.uniform(*ra_range_deg) % 360
        one_dec = float(np.degrees(np.arcsin(rng.uniform(*np.sin(np.radians(dec_range_deg))))))
        nearest: Any = SkyCoord(one_ra, one_dec, unit="deg").separation(SkyCoord(ra, dec, unit="deg")).min()
        if nearest.arcmin > min_separation_arcmin:
            ra.append(one_ra)
            dec.append(one_dec)
    light_curves: list[LightCurve] = [Constant() for _ in ra]
    if len(fixed) == 2 and event is not None:
        light_curves[1] = ScatteringEvent(*event, depth=0.5, spike=0.3, flank_days=0.08)
    middle, half_height = np.mean(dec_range_deg), np.diff(dec_range_deg)[0] / 2
    well_inside = len(fixed) + np.flatnonzero(np.abs(np.array(dec[len(fixed) :]) - middle) < half_height / 2)
    for i in rng.permutation(well_inside)[:n_variable]:
        light_curves[i] = Sinusoid(variability_amplitude, rng.uniform(2.5, 7.0), epoch_mjd + rng.uniform(0, 7))
    index = np.clip(rng.normal(-0.75, 0.15, len(ra)), -1.2, -0.3)
    index[0] = -0.7
    names = [iau_name(r, d) for r, d in zip(ra, dec, strict=True)]
    names[0] = CALIBRATOR_NAME
    flux = np.concatenate([[f[2] for f in fixed], flux_jy])
    return Sky(tuple(names), np.array(ra), np.array(dec), flux, index, tuple(light_curves))
