"""Subtraction of the sky from one baseline's visibilities, which leaves noise and interference.

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
_MASKS = 3
"""Maximum number of times that the mask of outliers is renewed."""
_SETTLED = 0.002
"""The fit is done when the mask changes for a smaller fraction of the visibilities."""
_STEPS = 5
_CONVERGED = 1e-2
_MASK_SIGMA = 5.0
_ENOUGH_CHANNELS = 200
"""Medians of about this many channels are good enough (noise to 1 %)."""
RAYLEIGH_MEDIAN = 1.1774100225154747
"""Median of |z| for a complex Gaussian z whose parts have unit rms: sqrt(2 ln 2)."""


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


def subtract_sky(
    vis: NDArray[np.complex64],
    bad: NDArray[np.bool_],
    basis: tuple[NDArray[np.float32], NDArray[np.float32]],
    root_weight: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.complex64], NDArray[np.float64]]:
    """Fit the sky to the good visibilities of one baseline, without outliers, and subtract it.

    Args:
        vis: (Ntimes, Nchan, Npols).
        bad: same shape; these visibilities are not used.
        basis: from `sky_basis`.
        root_weight: same shape; noise over that of each visibility, so that a partial integration, which is noisier, is
        not taken for interference. 1 if None.

    Returns:
        ``vis`` minus the sky, times ``root_weight``, everywhere; and the robust rms of its real part for each
        polarization, shape (Npols,).
    """
    n_pol = vis.shape[2]
    thin = max(1, vis.shape[1] // _ENOUGH_CHANNELS)
    amplitude = np.abs(vis)
    mask = bad.copy()
    for p in range(n_pol):
        good = amplitude[:, :, p][~bad[:, :, p]]
        if good.size:
            middle = np.median(good)
            mask[:, :, p] |= amplitude[:, :, p] > middle + 12.0 * np.median(np.abs(good - middle))
    filled = np.where(mask, 0, vis)
    residual, sigma = vis, np.zeros(n_pol)
    for _ in range(_MASKS):
        filled, model = _fill(filled, mask, basis)
        residual = vis - model if root_weight is None else (vis - model) * root_weight
        size = np.abs(residual)
        for p in range(n_pol):
            good = size[:, ::thin, p][~mask[:, ::thin, p]]
            sigma[p] = np.median(good) / RAYLEIGH_MEDIAN if good.size else 0.0
        before, mask = mask, bad | (size > _MASK_SIGMA * sigma)
        if np.count_nonzero(before != mask) < _SETTLED * mask.size:
            break
        filled = np.where(mask, model, vis)
    return residual, sigma


def _fill(
    filled: NDArray[np.complex64], mask: NDArray[np.bool_], basis: tuple[NDArray[np.float32], NDArray[np.float32]]
) -> tuple[NDArray[np.complex64], NDArray[np.complex64]]:
    """Fit the sky by least squares to the unmasked visibilities: find the masked values that the fit itself returns.

    Solves ``(1 - M P M) f = M P (1 - M) v`` by conjugate gradients, starting from ``filled``; P is the projection, M
    the mask.

    Returns:
        The completed visibilities and the sky, both of the shape of ``filled``.
    """
    model = _project(filled, basis)
    rest = np.where(mask, model - filled, 0)
    step, power = rest, float(np.vdot(rest, rest).real)
    first = power
    for _ in range(_STEPS):
        if power <= _CONVERGED * first or power == 0.0:
            break
        projected = _project(step, basis)
        change = np.where(mask, step - projected, 0)
        length = np.float32(power / float(np.vdot(step, change).real))
        filled = filled + length * step
        model = model + length * projected
        rest = rest - length * change
        last, power = power, float(np.vdot(rest, rest).real)
        step = rest + np.float32(power / last) * step
    return filled, model


def _project(values: NDArray[np.complex64], basis: tuple[NDArray[np.float32], NDArray[np.float32]]) -> NDArray[np.complex64]:
    """Project (Ntimes, Nchan, Npols) orthogonally onto the products of the sequences in time and frequency."""
    in_time, in_frequency = basis
    n_times, n_chan, n_pol = values.shape
    parts = values.view(np.float32).reshape(n_times, n_chan, 2 * n_pol)
    short = (in_time.T @ parts.reshape(n_times, -1)).reshape(-1, n_chan, 2 * n_pol)
    columns = np.ascontiguousarray(short.transpose(1, 0, 2)).reshape(n_chan, -1)
    smooth = (in_frequency @ (in_frequency.T @ columns)).reshape(n_chan, -1, 2 * n_pol)
    whole = in_time @ np.ascontiguousarray(smooth.transpose(1, 0, 2)).reshape(in_time.shape[1], -1)
    return whole.view(np.complex64).reshape(values.shape)
