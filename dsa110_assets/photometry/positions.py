"""Which positions belong to a mosaic, when neighbouring mosaics share tiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.directions import angular_separation_rad

HALF_HEIGHT_DEG = 4.0
"""Positions so far from the strip's declination are looked at; those outside of the mosaic give no measurement."""
REACH_IN_OVERLAPS = 2
"""Tiles so many overlaps outside of the hour may have seen a position of its mosaic nearer to the meridian."""


def nearest_tile(positions: pd.DataFrame, tile_ra_deg: ArrayLike, tile_dec_deg: ArrayLike) -> NDArray[np.intp]:
    """Index of the tile whose centre is nearest to each position, so that it saw it nearest to the meridian; shape (Npos,).

    Args:
        positions: ``ra_deg, dec_deg`` (ICRS), Npos rows.
        tile_ra_deg, tile_dec_deg: centres of the tiles, shape (Ntiles,).
    """
    ra, dec = np.radians(positions["ra_deg"].to_numpy()), np.radians(positions["dec_deg"].to_numpy())
    separation = angular_separation_rad(ra[:, None], dec[:, None], np.radians(tile_ra_deg)[None, :], np.radians(tile_dec_deg)[None, :])
    return np.argmin(separation, axis=1)
