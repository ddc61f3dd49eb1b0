"""Simulated receivers: gains, bandpasses, slow drifts, dead antennas, system noise.

The values of each antenna depend only on the seed and its number, so that they are the same in every tile of a night
and for every choice of antennas.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

N_POLARIZATIONS = 2
_BAND_CENTER_HZ = 1_405_015_258.7890625
_BAND_WIDTH_HZ = 187.5e6


@dataclass(frozen=True)
class Receivers:
    """Gains and faults of the receivers.

    ``seed``: of all random numbers here. ``median_amplitude``: of the gains, raw units per sqrt(Jy) (the telescope's:
    0.068). ``amplitude_scatter``: natural-log scatter between receivers. ``random_phases``: uniform over the circle,
    else zero. ``bandpass_slope``, ``bandpass_ripple``: amplitude of the smooth shape and of the standing wave,
    fractions; phases get the same numbers in radians, with less than 3 deg of slope across the band.
    ``drift_amplitude`` (fraction), ``drift_phase_deg``: amplitude of a sinusoid in time with a period of 4 to 9 hours.
    ``dead_antennas``: antenna numbers that give zeros or, with ``dead_mode`` "noise", uncorrelated noise.
    ``dead_receivers``: (number, polarization 0 or 1).
    """

    seed: int = 1
    median_amplitude: float = 0.068
    amplitude_scatter: float = 0.15
    random_phases: bool = True
    bandpass_slope: float = 0.15
    bandpass_ripple: float = 0.03
    drift_amplitude: float = 0.0
    drift_phase_deg: float = 0.0
    dead_antennas: tuple[int, ...] = ()
    dead_receivers: tuple[tuple[int, int], ...] = ()
    dead_mode: Literal["zeros", "noise"] = "zeros"

    @classmethod
    def perfect(cls) -> Receivers:
        """Receivers with unit gains: visibilities in Jy."""
        return cls(median_amplitude=1.0, amplitude_scatter=0.0, random_phases=False, bandpass_slope=0.0, bandpass_ripple=0.0)

    def gains(
        self, antenna_numbers: tuple[int, ...], frequency_hz: NDArray[np.float64], time_mjd: NDArray[np.float64]
    ) -> NDArray[np.complex128]:
        """Complex voltage gains, shape (Ntimes, Nants, Nfreqs, Npols); zero if dead and ``dead_mode`` is "zeros".

        The raw visibility is ``g(ant_1) conj(g(ant_2)) V``.
        """
        gain = np.empty((len(time_mjd), len(antenna_numbers), len(frequency_hz), N_POLARIZATIONS), dtype=np.complex128)
        for i, number in enumerate(antenna_numbers):
            for pol in range(N_POLARIZATIONS):
                rng = np.random.default_rng([self.seed, number, pol])
                spectrum = self._static_gain(rng) * self._bandpass(rng, frequency_hz)
                gain[:, i, :, pol] = self._drift(rng, time_mjd)[:, np.newaxis] * spectrum
        if self.dead_mode == "zeros":
            gain *= self.working(antenna_numbers)[np.newaxis, :, np.newaxis, :]
        return gain

    def working(self, antenna_numbers: tuple[int, ...]) -> NDArray[np.bool_]:
        """Whether each receiver works; shape (Nants, Npols)."""
        return np.array(
            [
                [number not in self.dead_antennas and (number, pol) not in self.dead_receivers for pol in range(N_POLARIZATIONS)]
                for number in antenna_numbers
            ]
        )

    def _static_gain(self, rng: np.random.Generator) -> complex:
        amplitude = self.median_amplitude * np.exp(self.amplitude_scatter * rng.standard_normal())
        phase_rad = rng.uniform(-np.pi, np.pi) * self.random_phases
        return complex(amplitude * np.exp(1j * phase_rad))

    def _bandpass(self, rng: np.random.Generator, frequency_hz: NDArray[np.float64]) -> NDArray[np.complex128]:
        x = 2.0 * (frequency_hz - _BAND_CENTER_HZ) / _BAND_WIDTH_HZ  # -1 to 1 across the band
        slope, curvature, phase_curvature = self.bandpass_slope * rng.uniform(-1, 1, 3)
        phase_slope_rad = np.radians(1.4) * rng.uniform(-1, 1) * (self.bandpass_slope > 0)
        period_hz = rng.uniform(18e6, 40e6)
        start_amplitude, start_phase = rng.uniform(0, 2 * np.pi, 2)
        ripple_phase = 2 * np.pi * frequency_hz / period_hz
        amplitude = 1.0 + slope * x + curvature * (x**2 - 1 / 3) + self.bandpass_ripple * np.cos(ripple_phase + start_amplitude)
        phase_rad = phase_slope_rad * x + phase_curvature * (x**2 - 1 / 3) + self.bandpass_ripple * np.cos(ripple_phase + start_phase)
        return amplitude * np.exp(1j * phase_rad)

    def _drift(self, rng: np.random.Generator, time_mjd: NDArray[np.float64]) -> NDArray[np.complex128]:
        period_days = rng.uniform(4.0, 9.0) / 24.0
        start_amplitude, start_phase = rng.uniform(0, 2 * np.pi, 2)
        turn = 2 * np.pi * time_mjd / period_days
        amplitude = 1.0 + self.drift_amplitude * np.sin(turn + start_amplitude)
        return amplitude * np.exp(1j * np.radians(self.drift_phase_deg) * np.sin(turn + start_phase))


def noise_sigma_jy(sefd_jy: float, channel_width_hz: float, integration_s: float) -> float:
    """Rms of the real part, and of the imaginary part, of one cross-correlation: ``SEFD / sqrt(2 dnu tau)``.

    A band ``dnu`` sampled for ``tau`` gives ``dnu tau`` independent complex samples, so the mean square of the complex
    visibility is ``SEFD**2 / (dnu tau)``, and each part has half of it (Thompson, Moran & Swenson 2017, eq. 6.50).
    """
    return sefd_jy / float(np.sqrt(2.0 * channel_width_hz * integration_s))
