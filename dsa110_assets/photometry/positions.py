"""Assigning positions to mosaics when neighboring mosaics share tiles."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.cross_match import nearest

HALF_HEIGHT_DEG = 4.0
"""Positions up to this far from the strip's declination are tried; those outside the mosaic give no measurement."""
REACH_IN_OVERLAPS = 2
"""Tiles up to this many overlaps outside the hour may have observed one of its positions nearer to the meridian."""


def nearest_tile(positions: pd.DataFrame, tile_ra_deg: ArrayLike, tile_dec_deg: ArrayLike) -> NDArray[np.intp]:
    """Index of the tile with the center nearest to each position, shape (Npos,).

    That tile observed the position nearest to the meridian.

    Args:
        positions: ``ra_deg, dec_deg`` (ICRS), Npos rows.
        tile_ra_deg, tile_dec_deg: centers of the tiles, shape (Ntiles,).
    """
    return nearest(positions["ra_deg"], positions["dec_deg"], tile_ra_deg, tile_dec_deg)[0]
