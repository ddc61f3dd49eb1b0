"""Visibilities that further averaging of short baselines, in time and frequency, would save before imaging.

    python -m benchmarks.baseline_averaging [--loss 0.01]

For the full array, 24 integrations of 12.88 s and channels averaged by 4, at both declinations. Each baseline is
averaged over as many integrations (a divisor of 24) and channels (a divisor of 192) as cost at most ``--loss`` of the
flux of a source in the worst direction at the 20 % level of the primary beam. The loss is that of the further averaging
alone: ``sinc`` over the interval over ``sinc`` over one sample (Thompson, Moran & Swenson 2017, eqs. 6.66 and 6.80).
Prints one JSON line for each declination.
"""

from __future__ import annotations

import argparse
import json

import numpy as np

from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S
from dsa110_assets.simulation.array import full_array
from dsa110_assets.simulation.directions import EARTH_ROTATION_RAD_PER_S, meridian_uvw_m

INTEGRATION_S, N_INTEGRATIONS = 12.884901888, 24
CHANNEL_HZ, N_CHANNELS, TOP_HZ = 4 * 244_140.625, 192, 1498.765e6
EDGE_RAD = np.radians(1.95)
"""Distance of the 20 % level of the drift-averaged beam from the phase center."""


def largest(divided: int, kept: np.ndarray) -> np.ndarray:
    """Largest divisor of ``divided`` with ``kept`` (Nbaselines, Ndivisors) true; its first column is always true."""
    return divisors(divided)[kept.shape[1] - 1 - np.argmax(kept[:, ::-1], axis=1)]


def divisors(number: int) -> np.ndarray:
    """Divisors of a number, ascending."""
    return np.array([k for k in range(1, number + 1) if number % k == 0])


def remaining(turns: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Share of the flux left after averaging ``factors`` samples, shape (Nbaselines, Nfactors).

    ``turns`` (Nbaselines,): turns of the phase in one sample.
    """
    return np.sinc(turns[:, None] * factors) / np.sinc(turns[:, None])


def main() -> None:
    """Print the savings at both declinations."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--loss", type=float, default=0.01)
    loss = parser.parse_args().loss
    array = full_array()
    one, two = array.baselines()
    enu = array.baseline_enu_m()[one != two]
    for declination in (54.6, 16.3):
        u, v, w = meridian_uvw_m(enu, declination).T
        sin, cos = np.sin(np.radians(declination)), np.cos(np.radians(declination))
        rate = EARTH_ROTATION_RAD_PER_S * np.hypot(cos * w - sin * v, sin * u)  # of (u, v); the worst direction is along it
        per_integration = rate * EDGE_RAD * TOP_HZ / SPEED_OF_LIGHT_M_PER_S * INTEGRATION_S
        per_channel = np.hypot(u, v) * EDGE_RAD * CHANNEL_HZ / SPEED_OF_LIGHT_M_PER_S
        times, channels = divisors(N_INTEGRATIONS), divisors(N_CHANNELS)
        in_time, in_frequency = remaining(per_integration, times), remaining(per_channel, channels)
        time_alone = 1 / largest(N_INTEGRATIONS, in_time >= 1 - loss)
        frequency_alone = 1 / largest(N_CHANNELS, in_frequency >= 1 - loss)
        both = in_time[:, :, None] * in_frequency[:, None, :] >= 1 - loss
        left = np.where(both, 1 / (times[:, None] * channels[None, :]), 1.0).min(axis=(1, 2))
        groups, used = np.unique(largest(N_CHANNELS, in_frequency >= 1 - loss), return_counts=True)
        print(
            json.dumps(
                {
                    "declination_deg": declination,
                    "loss": loss,
                    "visibilities left, time only": round(float(time_alone.mean()), 3),
                    "frequency only": round(float(frequency_alone.mean()), 3),
                    "both": round(float(left.mean()), 3),
                    "baselines by channels averaged": dict(zip(groups.tolist(), used.tolist(), strict=True)),
                    "median baseline_m": round(float(np.median(np.linalg.norm(enu, axis=1)))),
                }
            )
        )


if __name__ == "__main__":
    main()
