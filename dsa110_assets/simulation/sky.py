"""The simulated sky: point sources with spectra and light curves.

What does not belong here: what the pipeline may know of it (`truth`), and where it stands at an instant (`directions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

REFERENCE_HZ = 1.4e9


class LightCurve(Protocol):
    """Flux relative to a source's catalogued flux, as a function of time."""

    def factor(self, time_mjd: float) -> float:
        """Flux density at a UTC MJD in units of the catalogued one."""
        ...


@dataclass(frozen=True)
class Constant:
    """A source that does not vary."""

    def factor(self, time_mjd: float) -> float:  # noqa: ARG002
        """Always one."""
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
    """Linear interpolation of a table; constant before its first and after its last time."""

    time_mjd: tuple[float, ...]
    factors: tuple[float, ...]

    def factor(self, time_mjd: float) -> float:
        """See the class."""
        return float(np.interp(time_mjd, self.time_mjd, self.factors))


@dataclass(frozen=True)
class ScatteringEvent:
    """Extreme scattering event: a flat drop between two caustic spikes (Fiedler et al. 1987).

    ``ingress_mjd``/``egress_mjd``: middle of the two flanks. ``depth``: lost fraction inside. ``spike``: excess fraction at
    the caustics, which lie just outside of the flanks. ``flank_days``: width (one sigma) of spikes, scale of the flanks.
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

    ``ra_deg``, ``dec_deg``: ICRS, shape (Nsources,). ``flux_jy``: catalogued (mean or quiescent) flux density at 1.4 GHz.
    ``spectral_index``: alpha of ``S ~ nu**alpha``. ``light_curves``: one for each source, or empty for constant sources.
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
        """Flux densities (Jy) at a time; shape (Nsources,) for one frequency, (Nsources, Nfreqs) for an array of them."""
        frequency = np.asarray(frequency_hz, dtype=np.float64)
        factors = np.array([curve.factor(time_mjd) for curve in self.light_curves]) if self.light_curves else np.ones(len(self))
        flux_jy = self.flux_jy * factors
        spectrum = (frequency[..., np.newaxis] / REFERENCE_HZ) ** self.spectral_index
        return np.moveaxis(flux_jy * spectrum, -1, 0)

    def select(self, keep: NDArray[np.bool_] | NDArray[np.int64]) -> Sky:
        """The sources of a mask or of indices."""
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
    """A sky of constant sources, named S0, S1, ..."""
    return Sky(
        tuple(f"S{i}" for i in range(len(ra_deg))),
        np.asarray(ra_deg, dtype=np.float64),
        np.asarray(dec_deg, dtype=np.float64),
        np.asarray(flux_jy, dtype=np.float64),
        np.broadcast_to(np.asarray(spectral_index, dtype=np.float64), len(ra_deg)).copy(),
    )
