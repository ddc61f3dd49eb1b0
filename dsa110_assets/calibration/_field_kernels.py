"""Compiled inner loops of `field`. Import them inside functions only: numba is slow to load. They hold no lock."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

_SIN = tuple(float((-1) ** k * (2 * np.pi) ** (2 * k + 1) / np.prod(np.arange(1.0, 2 * k + 2))) for k in range(9))
_COS = tuple(float((-1) ** k * (2 * np.pi) ** (2 * k) / np.prod(np.arange(1.0, 2 * k + 1))) for k in range(10))
"""Series of sin and cos of turns, right to 1e-13 up to a quarter of a turn. Unlike calls, they are vectorized."""


@numba.njit(nogil=True, fastmath=True, cache=True)
def unit_block(
    delay_s: NDArray[np.float64],
    amplitude_jy: NDArray[np.float64],
    response: NDArray[np.float64],
    x: float,
    frequency_hz: float,
    first_row: int,
    n_baselines: int,
    re: NDArray[np.float32],
    im: NDArray[np.float32],
) -> None:
    """Visibilities of each source of unit factor at one frequency; rows are baselines within integrations.

    ``delay_s`` (Nrows, Nsources), ``amplitude_jy`` (Ntimes, Nsources), ``response`` (Nrows, Nsources, 3) at ``x`` as in
    `_kernels.predict`. ``re``, ``im`` (Nblock, Nsources): of the rows from ``first_row`` on.
    """
    n_rows, n_sources = re.shape
    smeared = response.shape[0] > 0
    for k in range(n_rows):
        row = first_row + k
        time = row // n_baselines
        for s in range(n_sources):
            turns = frequency_hz * delay_s[row, s]
            half = np.floor(2.0 * turns + 0.5)
            flux = amplitude_jy[time, s] * (1.0 - 2.0 * (half - 2.0 * np.floor(0.5 * half)))
            y = turns - 0.5 * half
            y2 = y * y
            sin, cos = _SIN[8], _COS[9]
            for n in range(8):
                sin = sin * y2 + _SIN[7 - n]
            for n in range(9):
                cos = cos * y2 + _COS[8 - n]
            if smeared:
                flux *= response[row, s, 0] + x * (response[row, s, 1] + x * response[row, s, 2])
            re[k, s] = flux * cos
            im[k, s] = flux * (sin * y)


@numba.njit(nogil=True, fastmath=True, cache=True)
def add_block(
    re: NDArray[np.float32],
    im: NDArray[np.float32],
    factor: NDArray[np.float64],
    n_fixed: int,
    new: NDArray[np.int64],
    turn: NDArray[np.float64],
    data: NDArray[np.complex64],
    weight: NDArray[np.float32],
    first_row: int,
    n_baselines: int,
    planes: NDArray[np.float32],
    q: NDArray[np.float64],
    side: NDArray[np.float64],
    gradient: NDArray[np.float64],
) -> None:
    """Add a block of rows to the sums of a group of channels.

    ``re``, ``im`` (Nblock, Nsources): `unit_block`. ``factor`` (Nfree,): of the sources but the first ``n_fixed``.
    ``new`` (Nnew,): of these, whose position is free. ``turn`` (Nrows, 2): radians by direction cosine. ``data``,
    ``weight`` (Nrows, 2). Results, with Npar = Nfree + 2 Nnew: ``planes`` (2, Nblock, Npar), derivatives of the real
    and the imaginary part, times the root of the weight; added to: ``q`` (2, Nbl), the sky's weighted power; ``side``
    (2, 2, Nbl, Npar + 1), by polarization: real and imaginary part of ``sum w conj(sky) d``, the residual last;
    ``gradient`` (Npar,).
    """
    n_rows, n_sources = re.shape
    n_free, n_new = n_sources - n_fixed, new.size
    n_par = n_free + 2 * n_new
    own_re, own_im = np.empty(n_par, dtype=np.float32), np.empty(n_par, dtype=np.float32)
    for k in range(n_rows):
        row = first_row + k
        b = row % n_baselines
        sky_re, sky_im = 0.0, 0.0
        for s in range(n_fixed):
            sky_re += re[k, s]
            sky_im += im[k, s]
        for s in range(n_free):
            own_re[s], own_im[s] = re[k, n_fixed + s], im[k, n_fixed + s]
            sky_re += own_re[s] * factor[s]
            sky_im += own_im[s] * factor[s]
        for j in range(n_new):
            s = new[j]
            for axis in range(2):
                by = turn[row, axis] * factor[s]
                own_re[n_free + axis * n_new + j] = -by * own_im[s]
                own_im[n_free + axis * n_new + j] = by * own_re[s]
        total, pull_re, pull_im = 0.0, 0.0, 0.0
        for p in range(2):
            w = weight[row, p]
            if not w > 0.0:
                continue
            left_re, left_im = data[row, p].real - sky_re, data[row, p].imag - sky_im
            total += w
            pull_re += w * left_re
            pull_im += w * left_im
            ours_re, ours_im = w * sky_re, w * sky_im
            q[p, b] += ours_re * sky_re + ours_im * sky_im
            side[p, 0, b, n_par] += ours_re * left_re + ours_im * left_im
            side[p, 1, b, n_par] += ours_re * left_im - ours_im * left_re
            for s in range(n_par):
                side[p, 0, b, s] += ours_re * own_re[s] + ours_im * own_im[s]
            for s in range(n_par):
                side[p, 1, b, s] += ours_re * own_im[s] - ours_im * own_re[s]
        root = np.float32(np.sqrt(total))
        for s in range(n_par):
            planes[0, k, s] = root * own_re[s]
            planes[1, k, s] = root * own_im[s]
            gradient[s] += own_re[s] * pull_re + own_im[s] * pull_im


@numba.njit(nogil=True, cache=True)
def by_antenna(side: NDArray[np.float64], ant1: NDArray[np.int64], ant2: NDArray[np.int64], sign: float, out: NDArray[np.float64]) -> None:
    """Add sums of baselines, (Nbl, Ncolumns), to their antennas' rows of ``out``; to the second one times ``sign``."""
    for b in range(ant1.size):
        for s in range(side.shape[1]):
            out[ant1[b], s] += side[b, s]
            out[ant2[b], s] += sign * side[b, s]
