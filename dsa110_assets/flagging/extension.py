"""Widening of flags by the scale-invariant rank operator of Offringa, van de Gronde & Roerdink (2012, A&A 539, A95).

Interference fades out below any threshold. The operator flags each interval if at least a fraction ``1 - eta`` of it is
flagged. Long features grow a lot, single samples not at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ETA = 0.1


def extend(flags: NDArray[np.bool_], missing: NDArray[np.bool_], eta: float = ETA) -> NDArray[np.bool_]:
    """Widen flags in time and in frequency.

    Args:
        flags: (Ntimes, Nchan).
        missing: same shape; samples without data, which neither stop nor support an interval.
        eta: fraction of unflagged samples that an interval may hold.

    Returns:
        Same shape: the flags and the additions in both directions; never ``missing``.
    """
    wide = flags.copy()
    channels = np.flatnonzero(flags.any(axis=0))  # a channel without flags gains none
    wide[:, channels] |= _along_first(flags[:, channels], missing[:, channels], eta)
    times = np.flatnonzero(flags.any(axis=1))
    wide[times] |= _along_first(flags[times].T, missing[times].T, eta).T
    return wide & ~missing


def _along_first(flags: NDArray[np.bool_], missing: NDArray[np.bool_], eta: float) -> NDArray[np.bool_]:
    """Apply the operator along axis 0 (eq. 9 to 12): flag a sample if some interval around it has a sum >= 0."""
    score = np.where(missing, 0.0, np.where(flags, eta, eta - 1.0))
    total = np.concatenate([np.zeros((1, score.shape[1])), np.cumsum(score, axis=0)])
    lowest_before = np.minimum.accumulate(total[:-1], axis=0)
    highest_after = np.maximum.accumulate(total[:0:-1], axis=0)[::-1]
    return highest_after >= lowest_before - 1e-9
