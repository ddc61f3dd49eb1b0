"""Compiled loops that turn the chunks of a raw file into rows of the tile, phased and in ascending frequency.

Imported only when a conversion runs. The loops read HDF5 chunks in place from the file's bytes, so nothing is copied
twice. Each loop takes a range of chunks and releases the interpreter's lock; chunks are independent, so
`flagging.threads.over_range` runs the ranges on all cores.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S


@njit(cache=True, nogil=True, error_model="numpy")
def phasors(
    first,  # range of integrations * baselines
    last,
    delta_w_m,  # (Ntimes * Nbls,) float64
    freq_0_hz,
    freq_step_hz,  # negative: channels descend in the file
    block_channels,  # channels of a chunk
    steps,  # (Ntimes * Nbls, 2) float64, written: (cos, sin) of the phase from one channel to the next
    at_blocks,  # (Ntimes * Nbls, Nblocks, 2) float64, written: (cos, sin) at the first channel of each chunk
):
    """Compute the phases ``-2 pi f/c delta_w`` at which `phase_chunks` starts, once for both polarizations."""
    for row in range(first, last):
        turn = -2.0 * np.pi / SPEED_OF_LIGHT_M_PER_S * delta_w_m[row]
        steps[row, 0], steps[row, 1] = np.cos(turn * freq_step_hz), np.sin(turn * freq_step_hz)
        cos_b, sin_b = np.cos(turn * freq_step_hz * block_channels), np.sin(turn * freq_step_hz * block_channels)
        cos_p, sin_p = np.cos(turn * freq_0_hz), np.sin(turn * freq_0_hz)
        for block in range(at_blocks.shape[1]):
            at_blocks[row, block, 0], at_blocks[row, block, 1] = cos_p, sin_p
            cos_p, sin_p = cos_p * cos_b - sin_p * sin_b, sin_p * cos_b + cos_p * sin_b


@njit(cache=True, nogil=True, error_model="numpy")
def phase_chunks(
    first,  # range of chunks
    last,
    values,  # (N,) float32: the bytes that hold the chunks, (re, im) alternating
    starts,  # (Nchunks,) int64: first float32 of each chunk
    origins,  # (Nchunks, 3) int64: first row, channel, polarization of each chunk
    chunk_shape,  # (3,) int64: rows, channels, polarizations of a chunk
    row_place,  # (Nblts,) int64: integration * Nbls + baseline of each row; empty when the rows run in this order
    n_bls,
    steps,  # of `phasors`
    at_blocks,  # of `phasors`
    conjugate,  # (Nbls,) bool: conjugate this baseline after phasing
    row_of,  # (Nbls,) int64: place of the baseline in the output
    n_freqs,
    largest,  # magnitudes above are absurd
    zero_code,
    absurd_code,
    vis,  # (Ntimes, Nbls, Nchan, 2) complex64, written
    reasons,  # (Ntimes, Nbls, Nchan, 2) uint8, written where a value is bad
    channel_0,  # first (lowest) channel of the subband in the output
):
    """Apply ``exp(-2 pi i f/c delta_w)``, conjugate, reverse the channels; zero and mark impossible values."""
    n_rows = steps.shape[0]
    n_pols = vis.shape[3]
    for c in range(first, last):
        row_0, chan_0, pol_0 = origins[c, 0], origins[c, 1], origins[c, 2]
        block = chan_0 // chunk_shape[1]
        last_k = channel_0 + n_freqs - 1 - chan_0
        for r in range(min(chunk_shape[0], n_rows - row_0)):
            row = row_place[row_0 + r] if row_place.size else row_0 + r
            t = row // n_bls
            b = row - t * n_bls
            out_b = row_of[b]
            out, marks = vis[t, out_b], reasons[t, out_b]
            cos_p, sin_p, cos_s, sin_s = at_blocks[row, block, 0], at_blocks[row, block, 1], steps[row, 0], steps[row, 1]
            sign = -1.0 if conjugate[b] else 1.0
            place = starts[c] + 2 * r * chunk_shape[1] * chunk_shape[2]
            for k in range(min(chunk_shape[1], n_freqs - chan_0)):
                out_k = last_k - k
                for p in range(min(chunk_shape[2], n_pols - pol_0)):
                    at = place + 2 * (k * chunk_shape[2] + p)
                    re, im = np.float64(values[at]), np.float64(values[at + 1])
                    size = abs(re) + abs(im)
                    if not size <= largest:  # NaN compares false
                        marks[out_k, pol_0 + p] = absurd_code
                        out[out_k, pol_0 + p] = 0.0
                        continue
                    if size == 0.0:
                        marks[out_k, pol_0 + p] = zero_code
                    out[out_k, pol_0 + p] = complex(re * cos_p - im * sin_p, sign * (re * sin_p + im * cos_p))
                cos_p, sin_p = cos_p * cos_s - sin_p * sin_s, sin_p * cos_s + cos_p * sin_s


@njit(cache=True, nogil=True, error_model="numpy")
def _is_inside(origin, chunk_shape, n_rows, n_freqs, n_pols):
    """Return whether no part of a chunk reaches beyond the data."""
    return origin[0] + chunk_shape[0] <= n_rows and origin[1] + chunk_shape[1] <= n_freqs and origin[2] + chunk_shape[2] <= n_pols


@njit(cache=True, nogil=True, error_model="numpy")
def _all_equal(values, first, last, number):
    """Return whether all of ``values[first:last]`` are ``number``; without a branch, so that it runs on vectors."""
    different = False
    for value in values[first:last]:
        different |= value != number
    return not different


@njit(cache=True, nogil=True, error_model="numpy")
def compare_samples_with_one(first, last, values, starts, origins, chunk_shape, n_rows, n_freqs, n_pols, largest):
    """Return how many numbers of samples are in (0, 1], and how many in (1, ``largest``]."""
    at_most_one = above = 0
    chunk_size = chunk_shape[0] * chunk_shape[1] * chunk_shape[2]
    for c in range(first, last):
        n = values[starts[c]]
        if _is_inside(origins[c], chunk_shape, n_rows, n_freqs, n_pols) and _all_equal(values, starts[c], starts[c] + chunk_size, n):
            above += chunk_size if n > 1.0 and n <= largest else 0
            at_most_one += chunk_size if n > 0.0 and n <= 1.0 else 0
            continue
        for r in range(min(chunk_shape[0], n_rows - origins[c, 0])):
            place = starts[c] + r * chunk_shape[1] * chunk_shape[2]
            for k in range(min(chunk_shape[1], n_freqs - origins[c, 1])):
                for p in range(min(chunk_shape[2], n_pols - origins[c, 2])):
                    n = values[place + k * chunk_shape[2] + p]
                    if n > 1.0 and n <= largest:
                        above += 1
                    elif n > 0.0 and n <= 1.0:
                        at_most_one += 1
    return at_most_one, above


@njit(cache=True, nogil=True, error_model="numpy")
def check_samples(
    first,
    last,
    values,
    starts,
    origins,
    chunk_shape,
    row_place,
    n_rows,
    n_bls,
    n_freqs,
    complete,
    smallest,
    code,
    row_of,
    reasons,
    channel_0,
):
    """Mark visibilities whose number of samples is zero or impossible; return how many are below ``complete``.

    ``complete``: number in a complete integration, the largest possible one. ``smallest``: the smallest possible one.
    """
    n_pols = reasons.shape[3]
    partial = 0
    chunk_size = chunk_shape[0] * chunk_shape[1] * chunk_shape[2]
    for c in range(first, last):
        row_0, chan_0, pol_0 = origins[c, 0], origins[c, 1], origins[c, 2]
        if _is_inside(origins[c], chunk_shape, n_rows, n_freqs, n_pols) and _all_equal(values, starts[c], starts[c] + chunk_size, complete):
            continue
        for r in range(min(chunk_shape[0], n_rows - row_0)):
            row = row_place[row_0 + r] if row_place.size else row_0 + r
            t = row // n_bls
            out_b = row_of[row - t * n_bls]
            place = starts[c] + r * chunk_shape[1] * chunk_shape[2]
            for k in range(min(chunk_shape[1], n_freqs - chan_0)):
                for p in range(min(chunk_shape[2], n_pols - pol_0)):
                    n = values[place + k * chunk_shape[2] + p]
                    if n == complete:
                        continue
                    if n >= smallest and n < complete:
                        partial += 1
                        continue
                    out_k = channel_0 + n_freqs - 1 - (chan_0 + k)
                    if n == 0.0 or reasons[t, out_b, out_k, pol_0 + p] == 0:  # without samples the data are NaN
                        reasons[t, out_b, out_k, pol_0 + p] = code
    return partial


@njit(cache=True, nogil=True, error_model="numpy")
def copy_samples(first, last, values, starts, origins, chunk_shape, row_place, n_rows, n_bls, n_freqs, complete, smallest, row_of, weights):
    """Write possible numbers of samples over ``complete`` into ``weights``; leave the others as they are.

    ``weights``: of one subband, (Ntimes, Nbls, Nfreqs, 2) float32, ascending in frequency.
    """
    n_pols = weights.shape[3]
    for c in range(first, last):
        row_0, chan_0, pol_0 = origins[c, 0], origins[c, 1], origins[c, 2]
        for r in range(min(chunk_shape[0], n_rows - row_0)):
            row = row_place[row_0 + r] if row_place.size else row_0 + r
            t = row // n_bls
            out_b = row_of[row - t * n_bls]
            place = starts[c] + r * chunk_shape[1] * chunk_shape[2]
            for k in range(min(chunk_shape[1], n_freqs - chan_0)):
                out_k = n_freqs - 1 - (chan_0 + k)
                for p in range(min(chunk_shape[2], n_pols - pol_0)):
                    n = values[place + k * chunk_shape[2] + p]
                    if n >= smallest and n <= complete:
                        weights[t, out_b, out_k, pol_0 + p] = n / complete
