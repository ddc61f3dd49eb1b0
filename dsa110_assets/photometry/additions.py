"""Which past mosaics to measure for new positions, and with which neighbors."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.interferometry import SIDEREAL_DAY_DAYS

REACH_DEG = 6.0
"""A mosaic covers less than this beyond the right ascensions that crossed the meridian in its time."""
HALF_HEIGHT_DEG = 5.0
"""A mosaic covers less than this in declination on each side of its center."""
NEAR_DEG = 0.5
"""Blends and their neighbors are within this, dozens of beams."""


def may_cover(
    positions: pd.DataFrame, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64], duration_days: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether each mosaic may cover any of the positions, (Nmosaics,); never false for one that does.

    Args:
        positions: ``ra_deg, dec_deg`` (ICRS), Npos rows.
        ra_deg, dec_deg: centers of the mosaics, (Nmosaics,).
        duration_days: from the first to the last integration, (Nmosaics,).
    """
    ra, dec = positions["ra_deg"].to_numpy(float), positions["dec_deg"].to_numpy(float)
    half = duration_days * 180.0 / SIDEREAL_DAY_DAYS + REACH_DEG / np.cos(np.radians(dec_deg))
    found = np.zeros(len(ra_deg), dtype=bool)
    for number in range(len(found)):
        east = np.abs((ra - ra_deg[number] + 180.0) % 360.0 - 180.0)
        found[number] = np.any((east <= half[number]) & (np.abs(dec - dec_deg[number]) <= HALF_HEIGHT_DEG))
    return found


def near_any(positions: pd.DataFrame, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each position is within `NEAR_DEG` of a chosen one, (Npos,); ``chosen``: (Npos,)."""
    ra, dec = np.radians(positions["ra_deg"].to_numpy(float)), np.radians(positions["dec_deg"].to_numpy(float))
    apart = angular_separation_rad(ra[:, None], dec[:, None], ra[None, chosen], dec[None, chosen])
    return np.min(apart, axis=1) <= np.radians(NEAR_DEG)
