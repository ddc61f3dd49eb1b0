"""Facts about the DSA-110 that no file header has: dish, primary beam, frequency plan.

Positions, site and pointing are *not* here: they come only from the raw header of each observation (pitfall 3). The
drift of the sky through the beam is here because images, mosaics, sky models and photometry must all use the same beam
(pitfalls 7 and 37). The simulator has its own, independent implementation, so that tests can compare the two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S

DISH_DIAMETER_M = 4.65
"""Diameter of a dish. The Airy power beam then has a FWHM of 2.7 deg at 1.4 GHz."""

N_SUBBANDS = 16
CHANNELS_PER_SUBBAND = 48
CHANNEL_WIDTH_HZ = 244_140.625
TOP_CHANNEL_HZ = 1_498_643_188.4766
"""Center of the highest channel (the first of sb00). Frequency falls with subband number and in a file (pitfall 1)."""

INTEGRATIONS_PER_TILE = 24
INTEGRATION_S = 12.884901888
SAMPLES_PER_INTEGRATION = 96
"""``nsamples`` of a complete integration in the telescope's files: the correlator's samples of 0.134217728 s."""
BAND_CENTRE_HZ = TOP_CHANNEL_HZ - (N_SUBBANDS * CHANNELS_PER_SUBBAND - 1) / 2 * CHANNEL_WIDTH_HZ

LARGEST_CREDIBLE_VALUE = 1e15
"""Correlator units are of order 0.1. Anything above this is not a visibility: uninitialized memory appears as 1e37."""

BEAM_CUTOFF = 0.2
"""Level of the drift-averaged power beam below which images and mosaics are blank."""

SKY_RADIUS_DEG = 6.0
"""Sources this close to a tile's center can be seen in it: the main lobe and the first side lobe of the beam.

The second null is at 5.9 deg at 1.4 GHz."""


def airy_power_beam(separation_rad: ArrayLike, frequency_hz: ArrayLike, dish_diameter_m: float | None = None) -> NDArray[np.float64]:
    """Power beam of a uniformly illuminated dish: ``(2 J1(x) / x)**2`` with ``x = pi D sin(theta) / lambda``.

    Args:
        separation_rad: angle from the pointing center; any shape that broadcasts with ``frequency_hz``.
        frequency_hz: frequency.
        dish_diameter_m: None for the DSA-110's.

    Returns:
        Power response relative to the axis, in [0, 1]; 1 at the center. (Born & Wolf, Principles of Optics, 8.5.2.)
    """
    from scipy.special import j1

    diameter_m = DISH_DIAMETER_M if dish_diameter_m is None else dish_diameter_m
    x = (np.pi * diameter_m / SPEED_OF_LIGHT_M_PER_S) * np.sin(np.asarray(separation_rad)) * np.asarray(frequency_hz)
    x = np.abs(np.asarray(x, dtype=np.float64))
    small = x < 1e-6
    x_safe = np.where(small, 1.0, x)
    return np.where(small, 1.0, (2.0 * j1(x_safe) / x_safe) ** 2)


def cutoff_radius_rad(frequency_hz: float, level: float = BEAM_CUTOFF) -> float:
    """Angle from the axis at which the Airy power beam falls to ``level``."""
    from scipy.optimize import root_scalar
    from scipy.special import j1

    x = float(root_scalar(lambda v: (2 * j1(v) / v) ** 2 - level, bracket=(1e-6, 3.8317), method="brentq").root)
    return float(np.arcsin(x * SPEED_OF_LIGHT_M_PER_S / (np.pi * DISH_DIAMETER_M * frequency_hz)))


def drift_averaged_power_beam(
    ra_rad: ArrayLike,
    dec_rad: ArrayLike,
    pointing_ra_rad: ArrayLike,
    pointing_dec_rad: ArrayLike,
    frequency_hz: float,
    time_weight: ArrayLike | None = None,
    dish_diameter_m: float | None = None,
) -> NDArray[np.float64]:
    """Effective power beam of a tile: the mean of the Airy beams at its integrations' meridian points (pitfall 37).

    Args:
        ra_rad, dec_rad: ICRS directions, any (equal) shape.
        pointing_ra_rad, pointing_dec_rad: ICRS meridian point of each integration, shape ``(Ntimes,)``.
        frequency_hz: frequency of the beam.
        time_weight: weight of each integration, shape ``(Ntimes,)``; equal if None.
        dish_diameter_m: None for the DSA-110's.

    Returns:
        Mean power response, shape of ``ra_rad``.
    """
    ra, dec = np.asarray(ra_rad, dtype=np.float64), np.asarray(dec_rad, dtype=np.float64)
    p_ra, p_dec = np.atleast_1d(pointing_ra_rad), np.atleast_1d(pointing_dec_rad)
    weight = np.ones(p_ra.shape) if time_weight is None else np.asarray(time_weight, dtype=np.float64)
    if not weight.sum() > 0:
        msg = "drift_averaged_power_beam: the integrations' weights sum to zero; no integration has data"
        raise ValueError(msg)
    total = np.zeros(ra.shape)
    for one_ra, one_dec, w in zip(p_ra, p_dec, weight / weight.sum(), strict=True):
        if w > 0:
            total += w * airy_power_beam(angular_separation_rad(ra, dec, one_ra, one_dec), frequency_hz, dish_diameter_m)
    return total
