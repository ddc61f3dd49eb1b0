"""Random functions of time, or of place and time, with a given structure function.

Their values do not depend on where else they are evaluated, so that all tiles of a night agree. A sum of waves with
random phases, ``x(t) = sum_k a_k cos(2 pi f_k t + phi_k)``, changes over a lag L by ::

    D(L) = <[x(t + L) - x(t)]^2> = sum_k a_k^2 (1 - cos 2 pi f_k L)

With frequencies evenly spread in the logarithm and ``a_k^2 ~ 1 / f_k`` this is a random walk, ``D ~ L``. In two
dimensions ``a_k^2 ~ K_k^(-5/3)`` gives Kolmogorov turbulence, ``D ~ L^(5/3)`` (Tatarskii 1961; Thompson, Moran &
Swenson 2017, section 13.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import j0

SECONDS_PER_DAY = 86_400.0
HOUR_S = 3600.0
_SHORTEST_S, _LONGEST_S, _N_PERIODS = 30.0, 12 * HOUR_S, 48
_SHORTEST_M, _LONGEST_M, _N_WAVES = 2.0e3, 4.0e5, 240


def random_walks(keys: Sequence[Sequence[int]], time_mjd: NDArray[np.float64], rms: float, lag_s: float = HOUR_S) -> NDArray[np.float64]:
    """Random walks whose rms change over ``lag_s`` is ``rms``; (Nkeys, Ntimes).

    Between periods of 30 s and 12 h; one walk for each seed in ``keys``.
    """
    if rms == 0:
        return np.zeros((len(keys), len(time_mjd)))
    time_s = np.asarray(time_mjd) * SECONDS_PER_DAY
    walks = np.empty((len(keys), len(time_s)))
    grid = np.linspace(np.log(1 / _LONGEST_S), np.log(1 / _SHORTEST_S), _N_PERIODS)
    for row, key in enumerate(keys):
        rng = np.random.default_rng(list(key))
        frequency = np.exp(grid + rng.uniform(-0.5, 0.5, _N_PERIODS) * (grid[1] - grid[0]))
        variance = 1 / frequency
        variance *= rms**2 / float((variance * (1 - np.cos(2 * np.pi * frequency * lag_s))).sum())
        phase = rng.uniform(0, 2 * np.pi, _N_PERIODS)
        walks[row] = np.sqrt(variance) @ np.cos(2 * np.pi * frequency[:, np.newaxis] * time_s + phase[:, np.newaxis])
    return walks


def steps(keys: Sequence[Sequence[int]], time_mjd: NDArray[np.float64], rms: float, per_hour: float) -> NDArray[np.float64]:
    """Levels with standard deviation ``rms`` that change at random times, ``per_hour`` on average; (Nkeys, Ntimes).

    Each UTC day begins with a new level.
    """
    levels = np.zeros((len(keys), len(time_mjd)))
    if rms == 0:
        return levels
    day = np.floor(time_mjd).astype(int)
    for row, key in enumerate(keys):
        for one in np.unique(day):
            rng = np.random.default_rng([*key, int(one)])
            changes = one + np.sort(rng.uniform(0, 1, rng.poisson(24 * per_hour)))
            here = day == one
            levels[row, here] = rms * rng.standard_normal(len(changes) + 1)[np.searchsorted(changes, time_mjd[here])]
    return levels


@dataclass(frozen=True)
class Turbulence:
    """A frozen screen that drifts over the array.

    ``wave_vector`` (rad/m, east and north), ``amplitude``, ``phase``: of its waves, which are 2 to 400 km long.
    ``velocity_m_per_s``: east and north.
    """

    wave_vector: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    velocity_m_per_s: NDArray[np.float64]

    @classmethod
    def kolmogorov(cls, key: Sequence[int], rms: float, distance_m: float, speed_m_per_s: float) -> Self:
        """Draw a screen whose rms difference over ``distance_m`` is ``rms``, averaged over directions."""
        rng = np.random.default_rng(list(key))
        number = np.exp(np.linspace(np.log(2 * np.pi / _LONGEST_M), np.log(2 * np.pi / _SHORTEST_M), _N_WAVES))
        angle, heading = rng.uniform(0, 2 * np.pi, _N_WAVES), rng.uniform(0, 2 * np.pi)
        variance = number ** (-5 / 3)
        variance *= rms**2 / float((variance * (1 - j0(number * distance_m))).sum())
        return cls(
            wave_vector=number * np.stack([np.cos(angle), np.sin(angle)]),
            amplitude=np.sqrt(variance),
            phase=rng.uniform(0, 2 * np.pi, _N_WAVES),
            velocity_m_per_s=speed_m_per_s * np.array([np.cos(heading), np.sin(heading)]),
        )

    def at(self, east_m: NDArray[np.float64], north_m: NDArray[np.float64], time_mjd: NDArray[np.float64]) -> NDArray[np.float64]:
        """Evaluate at places and times that broadcast against each other."""
        time_s = np.asarray(time_mjd) * SECONDS_PER_DAY
        drift = self.phase - (self.velocity_m_per_s @ self.wave_vector) * time_s[..., np.newaxis]
        value = np.zeros(np.broadcast_shapes(east_m.shape, north_m.shape, time_s.shape))
        for k in range(len(self.amplitude)):
            value += self.amplitude[k] * np.cos(self.wave_vector[0, k] * east_m + self.wave_vector[1, k] * north_m + drift[..., k])
        return value
