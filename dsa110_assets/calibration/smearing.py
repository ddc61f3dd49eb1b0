"""How many channels may be averaged: the flux lost by bandwidth smearing, and the largest factor within a budget.

What does not belong here: the averaging itself (`apply`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.instrument import BEAM_CUTOFF, DISH_DIAMETER_M, SPEED_OF_LIGHT_M_PER_S

_AZIMUTHS = 12


def cutoff_radius_rad(frequency_hz: float, level: float = BEAM_CUTOFF) -> float:
    """Angle from the axis at which the Airy power beam falls to ``level``."""
    from scipy.optimize import root_scalar
    from scipy.special import j1

    x = float(root_scalar(lambda v: (2 * j1(v) / v) ** 2 - level, bracket=(1e-6, 3.8317), method="brentq").root)
    return float(np.arcsin(x * SPEED_OF_LIGHT_M_PER_S / (np.pi * DISH_DIAMETER_M * frequency_hz)))


def smearing_loss(uvw_m: NDArray[np.float64], bandwidth_hz: float, radius_rad: float, weight: NDArray[np.float64] | None = None) -> float:
    """Fractional loss of peak flux of a point source ``radius_rad`` from the phase centre, natural weights, worst position angle.

    A channel of width B loses ``1 - sinc(B tau)`` with ``tau = (u l + v m + w (n - 1)) / c`` (Thompson, Moran & Swenson 2017, section 6.3.1);
    the image's peak loses the weighted mean over visibilities.

    Args:
        uvw_m: (Nrows, 3), metres; a sample of rows suffices.
        bandwidth_hz: of an averaged channel.
        radius_rad: distance from the phase centre.
        weight: (Nrows,); equal when None.
    """
    angle = np.linspace(0.0, 2 * np.pi, _AZIMUTHS, endpoint=False)
    n_minus_1 = np.sqrt(1 - np.sin(radius_rad) ** 2) - 1
    direction = np.stack([np.sin(radius_rad) * np.cos(angle), np.sin(radius_rad) * np.sin(angle), np.full(angle.size, n_minus_1)])
    kept = np.sinc(bandwidth_hz * (uvw_m @ direction) / SPEED_OF_LIGHT_M_PER_S)
    return float(1.0 - np.average(kept, axis=0, weights=weight).min())


def choose_factor(
    uvw_m: NDArray[np.float64], channel_width_hz: float, n_channels: int, frequency_hz: float, max_smearing: float
) -> tuple[int, float]:
    """Largest divisor of ``n_channels`` for which a source at the 20 % beam radius loses less than ``max_smearing``; 1 if none does.

    Returns:
        (channels to average, loss with that factor).
    """
    radius = cutoff_radius_rad(frequency_hz)
    best, loss = 1, smearing_loss(uvw_m, channel_width_hz, radius)
    for factor in (f for f in range(2, n_channels + 1) if n_channels % f == 0):
        candidate = smearing_loss(uvw_m, factor * channel_width_hz, radius)
        if candidate >= max_smearing:
            break  # the loss grows with the factor
        best, loss = factor, candidate
    return best, loss
