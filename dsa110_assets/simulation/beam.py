"""Primary beam of a simulated dish: the telescope's Airy pattern, written independently of the pipeline's."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import jv

from dsa110_assets.simulation.array import DISH_DIAMETER_M

_SPEED_OF_LIGHT_M_PER_S = 299_792_458.0


def power_beam(cos_separation: NDArray[np.float64], frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power response of the Airy pattern ``[2 J1(x) / x]**2`` with ``x = pi D sin(theta) / lambda``.

    Computed as ``[J0(x) + J2(x)]**2`` (Abramowitz & Stegun 9.1.27), which needs no special case on the axis.

    Args:
        cos_separation: cosine of the angle from the axis, any shape.
        frequency_hz: broadcasts with ``cos_separation``.
    """
    sin_separation = np.sqrt(np.clip(1.0 - cos_separation**2, 0.0, None))
    x = np.pi * DISH_DIAMETER_M * sin_separation * frequency_hz / _SPEED_OF_LIGHT_M_PER_S
    return (jv(0, x) + jv(2, x)) ** 2
