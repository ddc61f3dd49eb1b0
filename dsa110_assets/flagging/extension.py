"""Widening flags: the scale-invariant rank operator of Offringa, van de Gronde & Roerdink (2012, A&A 539, A95).

Interference fades out below any threshold. The operator flags each interval of which at least a share ``1 - eta`` is flagged,
so that long features grow by much and single samples by nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ETA = 0.1


def extend(flags: NDArray[np.bool_], missing: NDArray[np.bool_], eta: float = ETA) -> NDArray[np.bool_]:
    """Widen flags in time and in frequency.

    Args:
        flags: (Ntimes, Nchan).
        missing: same shape; no data there, so they neither stop nor support an interval.
        eta: share of unflagged samples that an interval may hold.

    Returns:
        Same shape: the flags and what both directions add; never ``missing``.
    """
    wide = flags.copy()
    channels = np.flatnonzero(flags.any(axis=0))  # where nothing is flagged nothing grows
    wide[:, channels] |= _along_first(flags[:, channels], missing[:, channels], eta)
    times = np.flatnonzero(flags.any(axis=1))
    wide[times] |= _along_first(flags[times].T, missing[times].T, eta).T
    return wide & ~missing


def _along_first(flags: NDArray[np.bool_], missing: NDArray[np.bool_], eta: float) -> NDArray[np.bool_]:
    """The operator along axis 0 (eq. 9 to 12): a sample is flagged when an interval around it has a sum that is not negative."""
    score = np.where(missing, 0.0, np.where(flags, eta, eta - 1.0))
    total = np.concatenate([np.zeros((1, score.shape[1])), np.cumsum(score, axis=0)])
    lowest_before = np.minimum.accumulate(total[:-1], axis=0)
    highest_after = np.maximum.accumulate(total[:0:-1], axis=0)[::-1]
    return highest_after >= lowest_before - 1e-9
