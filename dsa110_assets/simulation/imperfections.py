"""Imperfections of the simulated telescope, each with a level and a stream of random numbers of its own.

A level of 0 switches an effect off. `NONE` is the perfect telescope of unit tests; `REAL` has the levels that we expect
of the DSA-110. Where no measurement is published, the level is an assumption, and its field says so. No effect is
constant over the time, band or direction that a solver here treats as one: gains wander within an integration's
neighbors, ripple is finer than the beam's spectrum, pointing and ionosphere differ between directions.

The sky's own imperfections (sizes, spectra, variability, an incomplete catalog) are in `imperfect_sky`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.simulation.faults import FaintSatellites
from dsa110_assets.simulation.receivers import N_POLARIZATIONS, Receivers
from dsa110_assets.simulation.wander import HOUR_S, Turbulence, random_walks, steps

RADIANS_PER_TECU_GHZ = 8.447
"""Phase of 1 TECU (1e16 electrons per square meter) at 1 GHz, ``r_e c / f`` (e.g. Mevius et al. 2016)."""
SCREEN_HEIGHT_M = 3.0e5
SCREEN_SPEED_M_PER_S = 100.0
ARRAY_M = 2600.0
"""Length over which ``ionosphere_tecu`` is the rms difference: the array's longest baseline."""
_RIPPLE_PERIODS_HZ = (4e6, 10e6)
_RIPPLE_WALK_RAD, _RIPPLE_WALK_S = 1.0, 3 * HOUR_S


@dataclass(frozen=True)
class Imperfections:
    """Levels of all effects.

    ``seed``: of all random numbers here. Receivers: ``phase_wander_deg``, ``amplitude_wander`` (fraction): rms change
    of a gain within an hour, a random walk. ``phase_jump_deg``, ``jumps_per_hour``: scatter and rate of jumps of one
    receptor's phase. ``clock_step_ns``, ``clock_steps_per_hour``: the same for one antenna's delay. ``ripple``:
    amplitude of standing waves with periods of 4 to 10 MHz, which start anew each UTC day and drift by a radian in
    three hours. ``sefd_scatter``: natural-log scatter of the receptors' system noise. ``dead_antennas``: numbers; they
    correlate noise. ``turned_antennas``: their phase turns by ``turned_deg`` and back, every ``turned_every_s``.

    Beams: ``pointing_arcmin``: rms of each coordinate. ``beam_width``: scatter (fraction). ``receptor_beams``: X is
    wider east-west by this fraction than north-south, Y the other way. Feeds: ``leakage``: amplitude of the complex
    leakage. ``polarization``: mean polarized fraction of the sources, without which leakage shows in second order only.

    Path: ``ionosphere_tecu``: rms difference of the electron content over 2.6 km (night: 0.02); a Kolmogorov screen at
    300 km, which moves at 100 m/s, so that its gradients differ in time and direction. ``satellite_jy``,
    ``satellites_per_hour``: median flux and rate of `faults.FaintSatellites`.

    Sky (`imperfect_sky`): ``extended``: share of sources with a size. ``spectral_scatter``: of the spectral indices.
    ``variable``: share of sources that vary. Catalog: ``catalog_error``: fraction of the flux. ``catalog_missing``:
    share of sources.
    """

    seed: int = 1
    phase_wander_deg: float = 0.0
    amplitude_wander: float = 0.0
    phase_jump_deg: float = 0.0
    jumps_per_hour: float = 0.1
    clock_step_ns: float = 0.0
    clock_steps_per_hour: float = 0.1
    ripple: float = 0.0
    sefd_scatter: float = 0.0
    dead_antennas: tuple[int, ...] = ()
    turned_antennas: tuple[int, ...] = ()
    turned_deg: float = 44.0
    turned_every_s: float = 900.0
    pointing_arcmin: float = 0.0
    beam_width: float = 0.0
    receptor_beams: float = 0.0
    leakage: float = 0.0
    polarization: float = 0.0
    ionosphere_tecu: float = 0.0
    satellite_jy: float = 0.0
    satellites_per_hour: float = 12.0
    extended: float = 0.0
    spectral_scatter: float = 0.0
    variable: float = 0.0
    catalog_error: float = 0.0
    catalog_missing: float = 0.0

    EFFECTS: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType(
        {
            "gain phases wander": ("phase_wander_deg",),
            "gain phases jump": ("phase_jump_deg",),
            "gain amplitudes wander": ("amplitude_wander",),
            "clock steps": ("clock_step_ns",),
            "bandpass ripple": ("ripple",),
            "receptors differ": ("sefd_scatter", "receptor_beams"),
            "a dead antenna": ("dead_antennas",),
            "a turned antenna": ("turned_antennas",),
            "pointing errors": ("pointing_arcmin",),
            "beam widths": ("beam_width",),
            "leakage": ("leakage", "polarization"),
            "ionosphere": ("ionosphere_tecu",),
            "satellites": ("satellite_jy",),
            "extended sources": ("extended",),
            "spectral indices": ("spectral_scatter",),
            "variables": ("variable",),
            "catalog errors": ("catalog_error",),
            "catalog lacks a fifth": ("catalog_missing",),
        }
    )
    """Fields of each effect, by its name in tables."""

    def only(self, *effects: str) -> Imperfections:
        """Return these effects alone, at the same levels and with the same random numbers."""
        kept = {name: getattr(self, name) for effect in effects for name in self.EFFECTS[effect]}
        levels = {name for names in self.EFFECTS.values() for name in names}
        rates = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in levels}
        return Imperfections(**(rates | kept))

    @property
    def in_directions(self) -> bool:
        """Whether antennas see the sky differently, which `_kernels.imperfect_visibilities` computes."""
        return any((self.pointing_arcmin, self.beam_width, self.receptor_beams, self.leakage, self.polarization, self.ionosphere_tecu))

    def receivers(self, receivers: Receivers) -> Receivers:
        """Add the dead antennas."""
        if not self.dead_antennas:
            return receivers
        return replace(receivers, dead_antennas=(*receivers.dead_antennas, *self.dead_antennas), dead_mode="noise")

    def interference(self) -> tuple[FaintSatellites, ...]:
        """The satellites."""
        return (FaintSatellites(self.satellite_jy, self.satellites_per_hour, self.seed),) if self.satellite_jy else ()

    def gains(
        self, antenna_numbers: tuple[int, ...], frequency_hz: NDArray[np.float64], time_mjd: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Factor on the receivers' gains, (Ntimes, Nants, Nfreqs, Npols)."""
        receptors = [(self.seed, number, pol) for number in antenna_numbers for pol in range(N_POLARIZATIONS)]
        shape = (len(antenna_numbers), N_POLARIZATIONS, len(time_mjd))
        degrees = random_walks([(*key, 1) for key in receptors], time_mjd, self.phase_wander_deg)
        degrees += steps([(*key, 2) for key in receptors], time_mjd, self.phase_jump_deg, self.jumps_per_hour)
        phase_rad = np.radians(degrees).reshape(shape)
        turned = np.isin(antenna_numbers, self.turned_antennas)
        on = np.floor(np.asarray(time_mjd) * 86_400.0 / self.turned_every_s) % 2 == 1
        phase_rad[turned] += np.radians(self.turned_deg) * on
        amplitude = 1 + random_walks([(*key, 3) for key in receptors], time_mjd, self.amplitude_wander).reshape(shape)
        clock_s = 1e-9 * steps([(self.seed, n, 0, 4) for n in antenna_numbers], time_mjd, self.clock_step_ns, self.clock_steps_per_hour)
        gain = np.moveaxis(amplitude * np.exp(1j * phase_rad), 2, 0)[:, :, np.newaxis, :]
        clock = np.exp(2j * np.pi * clock_s.T[:, :, np.newaxis] * frequency_hz)[..., np.newaxis]
        return np.asarray(gain * clock * self._ripple(receptors, frequency_hz, time_mjd), dtype=np.complex128)

    def _ripple(
        self, receptors: list[tuple[int, int, int]], frequency_hz: NDArray[np.float64], time_mjd: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Standing waves in amplitude and phase, (Ntimes, Nants, Nfreqs, Npols)."""
        shape = (len(receptors) // N_POLARIZATIONS, N_POLARIZATIONS)
        if self.ripple == 0:
            return np.ones((1, shape[0], 1, N_POLARIZATIONS), dtype=np.complex128)
        period_hz = np.array([np.random.default_rng([*key, 5]).uniform(*_RIPPLE_PERIODS_HZ) for key in receptors])
        start = random_walks([(*key, 6) for key in receptors], time_mjd, _RIPPLE_WALK_RAD, _RIPPLE_WALK_S)
        start += _night_phase([(*key, 7) for key in receptors], time_mjd)
        turn = 2 * np.pi * frequency_hz / period_hz[:, np.newaxis]
        wave = turn[:, np.newaxis, :] + start[:, :, np.newaxis]  # (receptors, times, frequencies)
        factor = np.asarray(1 + self.ripple * np.exp(1j * wave), dtype=np.complex128)
        return np.moveaxis(factor.reshape(*shape, len(time_mjd), len(frequency_hz)), (0, 1, 2, 3), (1, 3, 0, 2))

    def system(self, antenna_numbers: tuple[int, ...]) -> NDArray[np.float64]:
        """SEFD of each receptor over the typical one, (Nants, Npols)."""
        return np.exp(self.sefd_scatter * self._normal(antenna_numbers, 8, N_POLARIZATIONS))

    def leakages(self, antenna_numbers: tuple[int, ...]) -> NDArray[np.complex128]:
        """Complex leakage of each receptor, with rms modulus ``leakage``; (Nants, Npols)."""
        parts = self._normal(antenna_numbers, 9, 2 * N_POLARIZATIONS).reshape(-1, N_POLARIZATIONS, 2)
        return self.leakage / np.sqrt(2) * (parts[..., 0] + 1j * parts[..., 1])

    def voltage_beams(
        self,
        antenna_numbers: tuple[int, ...],
        east: NDArray[np.float64],
        north: NDArray[np.float64],
        frequency_hz: float,
        diameter_m: float,
    ) -> NDArray[np.float64]:
        """Voltage beam ``2 J1(x) / x`` of each receptor, with its sign; (Ntimes, Nants, Npols, Nsources).

        Args:
            antenna_numbers: of the antennas.
            east, north: direction cosines of the sources against the nominal axis, (Ntimes, Nsources).
            frequency_hz: one frequency.
            diameter_m: nominal diameter of a dish; ``beam_width`` divides it.
        """
        axis = np.radians(self.pointing_arcmin / 60) * self._normal(antenna_numbers, 10, 2)
        width = 1 + self.beam_width * self._normal(antenna_numbers, 11, 1)[:, 0]
        # X (pol 0) is wider along east than along north, by receptor_beams in all
        stretch = 1 + 0.5 * self.receptor_beams * np.array([[1.0, -1.0], [-1.0, 1.0]])  # (pol, axis)
        x = (east[:, np.newaxis, :] - axis[:, 0][:, np.newaxis])[:, :, np.newaxis, :] / stretch[:, 0][:, np.newaxis]
        y = (north[:, np.newaxis, :] - axis[:, 1][:, np.newaxis])[:, :, np.newaxis, :] / stretch[:, 1][:, np.newaxis]
        argument = np.pi * diameter_m * frequency_hz / 299_792_458.0 * np.hypot(x, y) / width[:, np.newaxis, np.newaxis]
        return _airy_voltage(argument)

    def electrons(
        self,
        east_m: NDArray[np.float64],
        north_m: NDArray[np.float64],
        source_enu: NDArray[np.float64],
        time_mjd: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Electron content (TECU) between each antenna and each source, (Ntimes, Nants, Nsources).

        A flat screen is pierced at ``r + h s_horizontal / s_up``; the path through it is longer by ``1 / s_up``.
        """
        shape = (len(time_mjd), len(east_m), source_enu.shape[1])
        if self.ionosphere_tecu == 0:
            return np.zeros(shape)
        up = np.maximum(source_enu[:, :, 2], 0.05)
        screen = Turbulence.kolmogorov((self.seed, 12), self.ionosphere_tecu, ARRAY_M, SCREEN_SPEED_M_PER_S)
        pierced = [SCREEN_HEIGHT_M * source_enu[:, :, k] / up for k in (0, 1)]
        content = screen.at(
            east_m[np.newaxis, :, np.newaxis] + pierced[0][:, np.newaxis, :],
            north_m[np.newaxis, :, np.newaxis] + pierced[1][:, np.newaxis, :],
            np.asarray(time_mjd)[:, np.newaxis, np.newaxis],
        )
        return content / up[:, np.newaxis, :]

    def _normal(self, antenna_numbers: tuple[int, ...], stream: int, n: int) -> NDArray[np.float64]:
        """Normal deviates that depend on the antenna's number only, (Nants, n)."""
        return np.array([np.random.default_rng([self.seed, number, stream]).standard_normal(n) for number in antenna_numbers])


NONE = Imperfections()
"""The perfect telescope with a perfect catalog."""
REAL = Imperfections(
    phase_wander_deg=5.0,
    amplitude_wander=0.02,
    phase_jump_deg=10.0,  # assumed, as is its rate
    clock_step_ns=0.05,  # assumed: 25 deg at 1.4 GHz, with a slope of 3.4 deg over the band
    ripple=0.01,
    sefd_scatter=0.1,  # assumed; system temperatures of 25-28 K and apertures that differ
    dead_antennas=(7,),
    turned_antennas=(87,),
    pointing_arcmin=5.0,
    beam_width=0.02,
    receptor_beams=0.03,  # assumed: E and H plane of a dipole feed
    leakage=0.01,
    polarization=0.02,  # Tucci et al. 2004: about 2 % at 1.4 GHz
    ionosphere_tecu=0.02,
    satellite_jy=5.0,  # chosen so that the flagger finds about half
    extended=0.3,
    spectral_scatter=0.3,
    variable=0.1,
    catalog_error=0.1,
    catalog_missing=0.2,
)
"""The levels of the telescope, and of its catalogs."""
WRONG_CATALOG = REAL.only("variables", "catalog errors", "catalog lacks a fifth")
"""A perfect telescope under a sky that its catalog does not know."""


def ionospheric_phase_rad(electrons_tecu: NDArray[np.float64], frequency_hz: float) -> NDArray[np.float64]:
    """Phase advance of an electron content, inverse to frequency."""
    return RADIANS_PER_TECU_GHZ * 1e9 / frequency_hz * electrons_tecu


def _night_phase(keys: list[tuple[int, ...]], time_mjd: NDArray[np.float64]) -> NDArray[np.float64]:
    """A phase in each UTC day, (Nkeys, Ntimes)."""
    day = np.floor(time_mjd).astype(int)
    phase = np.empty((len(keys), len(day)))
    for row, key in enumerate(keys):
        for one in np.unique(day):
            phase[row, day == one] = np.random.default_rng([*key, int(one)]).uniform(0, 2 * np.pi)
    return phase


def _airy_voltage(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``2 J1(x) / x``, interpolated between values 0.002 apart (error below 1e-6)."""
    from scipy.special import jv

    grid = np.arange(0.0, float(x.max(initial=0.0)) + 0.01, 0.002)
    return np.interp(x, grid, jv(0, grid) + jv(2, grid))
