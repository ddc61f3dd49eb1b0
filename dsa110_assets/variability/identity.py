"""Identity of events: an event that is found again, with other epochs or other light curves, is the same event."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SAME_EVENT_GAP_D = 2.0
"""Two events of a source are one if at most this time lies between them: a night may be missing."""


def same_events(found: pd.DataFrame, known: pd.DataFrame) -> NDArray[np.int64]:
    """Which known event each found one is.

    Args:
        found: ``source_id, first_mjd, last_mjd`` (first and last epoch, MJD), at most one event of a source.
        known: ``event_id`` (positive), and the same.

    Returns:
        ``event_id`` of the known event of the same source that overlaps most (or is nearest, up to
        `SAME_EVENT_GAP_D`), shape (Nfound,); 0 for a new event.
    """
    result = np.zeros(len(found), dtype=np.int64)
    if known.empty or found.empty:
        return result
    pairs = found.reset_index(drop=True).reset_index(names="at").merge(known, on="source_id", suffixes=("", "_known"))
    overlap = np.minimum(pairs["last_mjd"], pairs["last_mjd_known"]) - np.maximum(pairs["first_mjd"], pairs["first_mjd_known"])
    pairs = pairs.assign(overlap=overlap).loc[overlap >= -SAME_EVENT_GAP_D].sort_values(["overlap", "event_id"], kind="stable")
    result[pairs["at"].to_numpy()] = pairs["event_id"].to_numpy()  # the last, which overlaps most, stays
    return result
