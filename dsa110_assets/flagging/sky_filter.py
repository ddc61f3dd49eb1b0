"""The sequences that span the sky on one baseline; `_interference_kernels.subtract_sky` fits and subtracts them.

The dishes see sources within a degree or two of the phase center. On a baseline of length b, this limits their delay to
``b sin(theta) / c`` and their fringe rate to ``b omega sin(theta) / lambda``. We fit everything within these limits by
prolate spheroidal sequences (Slepian 1978, Bell Syst. Tech. J. 57, 1371; used for delay filters by Ewall-Wice et al.
2021, MNRAS 500, 5195) and subtract it. Otherwise a threshold would flag the beats of two bright sources as
interference. Narrowband and short-lived signals do not fit into this space and stay.
"""

# numpy's stubs lose the precision of linear algebra:
# pyright: reportArgumentType=false, reportReturnType=false

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.interferometry import EARTH_ROTATION_RAD_PER_S, SPEED_OF_LIGHT_M_PER_S

FIELD_RADIUS_RAD = np.radians(1.5)
RECEIVER_DELAY_S = 30e-9
"""Ripples of the receivers' bandpasses spread each source by about this delay."""
_MAX_FRACTION = 0.6
"""The sky may take at most this fraction of the channels, and of the integrations."""


@cache
def _sequences(length: int, half_turns: int) -> NDArray[np.float32]:
    """Orthonormal sequences (length, K) that span signals of up to ``half_turns / 2`` turns over ``length`` samples."""
    from scipy.linalg import eigh_tridiagonal

    if half_turns >= length - 1:
        return np.eye(length, dtype=np.float32)
    count = min(half_turns + 3, length)
    n = np.arange(length)
    diagonal = ((length - 1 - 2 * n) / 2) ** 2 * np.cos(np.pi * max(half_turns, 1) / length)
    beside = n[1:] * (length - n[1:]) / 2
    _, vectors = eigh_tridiagonal(diagonal, beside, select="i", select_range=(length - count, length - 1))
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _round_up(half_turns: float) -> int:
    """Round up to a whole number in steps of a tenth, so that few sets of sequences serve all baselines."""
    step = max(1, int(half_turns / 10))
    return int(np.ceil(half_turns / step)) * step


def sky_basis(
    baseline_m: float, n_times: int, n_chan: int, *, bandwidth_hz: float, duration_s: float, top_hz: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sequences in time (Ntimes, Kt) and frequency (Nchan, Kf) that span the sky on a baseline of this length."""
    offset = np.sin(FIELD_RADIUS_RAD)
    delay_s = baseline_m * offset / SPEED_OF_LIGHT_M_PER_S + RECEIVER_DELAY_S
    rate_hz = baseline_m * EARTH_ROTATION_RAD_PER_S * offset * top_hz / SPEED_OF_LIGHT_M_PER_S
    in_time = min(_round_up(2 * rate_hz * duration_s), int(_MAX_FRACTION * n_times))
    in_frequency = min(_round_up(2 * delay_s * bandwidth_hz), int(_MAX_FRACTION * n_chan))
    return _sequences(n_times, in_time), _sequences(n_chan, in_frequency)
