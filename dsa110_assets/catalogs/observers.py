"""The match of an observer's list of positions with a catalog; `common.position_lists` reads the list."""

from __future__ import annotations

import pandas as pd

from dsa110_assets.common.cross_match import nearest

SAME_POSITION_ARCSEC = 5.0
"""NVSS positions are accurate to 1 arcsec for the sources in use; its beam is 45 arcsec."""

LARGEST_CHANGE = 0.25
"""Part of the present positions that a new list may drop without being asked."""
FEWEST_DROPPED = 9
"""So many positions may always be dropped."""


def is_large_change(n_present: int, n_dropped: int) -> bool:
    """Whether a new list drops so many of the present positions that a person must confirm it."""
    return n_dropped > max(LARGEST_CHANGE * n_present, FEWEST_DROPPED)


def named_by_observer(bright: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match a catalog with the observer's list, so that a source on both is measured only once.

    Such a source keeps the observer's name and gets the catalog's flux.

    Returns:
        The catalog without these sources, and the observer's list with ``reference_flux_jy`` (NaN without a match).
    """
    own = own.reset_index(drop=True).assign(reference_flux_jy=float("nan"))
    if own.empty or bright.empty:
        return bright, own
    index, separation_deg = nearest(own["ra_deg"], own["dec_deg"], bright["ra_deg"], bright["dec_deg"])
    same = separation_deg * 3600 < SAME_POSITION_ARCSEC
    matched = index[same]
    own.loc[same, "reference_flux_jy"] = bright["reference_flux_jy"].to_numpy()[matched]
    return bright.drop(index=bright.index[matched]), own
