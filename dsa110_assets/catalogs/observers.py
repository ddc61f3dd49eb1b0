"""The observer's own list of positions, and its match with a catalog."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.errors import NonRetriableError

SAME_POSITION_ARCSEC = 5.0
"""NVSS positions are accurate to 1 arcsec for the sources in use; its beam is 45 arcsec."""


def read_list(source: Path) -> pd.DataFrame:
    """Read an observer's list: CSV with name, ra_deg, dec_deg (ICRS).

    Raises:
        NonRetriableError: it cannot be read, or columns are missing.
    """
    try:
        table = pd.read_csv(source)
    except (OSError, ValueError) as error:
        raise NonRetriableError(
            source, f"cannot be read as CSV ({error})", "correct the file or set PIPELINE_MONITORED_SOURCES_FILE"
        ) from error
    if not {"name", "ra_deg", "dec_deg"} <= set(table.columns):
        raise NonRetriableError(source, f"columns are {list(table.columns)}, expected name, ra_deg, dec_deg", "correct the header line")
    return table


def named_by_observer(bright: pd.DataFrame, own: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Match a catalog with the observer's list, so that a source on both is measured only once.

    Such a source keeps the observer's name and gets the catalog's flux.

    Returns:
        The catalog without these sources, and the observer's list with ``reference_flux_jy`` (NaN without a match).
    """
    own = own.reset_index(drop=True).assign(reference_flux_jy=float("nan"))
    if own.empty or bright.empty:
        return bright, own
    separation = np.degrees(
        angular_separation_rad(
            np.radians(own["ra_deg"].to_numpy())[:, None],
            np.radians(own["dec_deg"].to_numpy())[:, None],
            np.radians(bright["ra_deg"].to_numpy())[None, :],
            np.radians(bright["dec_deg"].to_numpy())[None, :],
        )
    )
    nearest = separation.argmin(axis=1)
    same = separation.min(axis=1) * 3600 < SAME_POSITION_ARCSEC
    own.loc[same, "reference_flux_jy"] = bright["reference_flux_jy"].to_numpy()[nearest[same]]
    return bright.drop(index=bright.index[nearest[same]]), own
