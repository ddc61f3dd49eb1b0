"""Compiled loops of flagging: value checks, receptor power, the residual clip, counting. Imported only when they run."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def check_values(vis, reasons, largest, zero_code, absurd_code):
    """Mark zeros, NaN, infinities and absurd values of (Ntimes, Nbls, Nchan, Npols); absurd ones become 0."""
    for row in prange(vis.shape[0] * vis.shape[1]):
        t, b = row // vis.shape[1], row % vis.shape[1]
        for k in range(vis.shape[2]):
            for p in range(vis.shape[3]):
                v = vis[t, b, k, p]
                size = abs(np.float64(v.real)) + abs(np.float64(v.imag))
                if not size <= largest:
                    vis[t, b, k, p] = 0.0
                    if reasons[t, b, k, p] == 0:
                        reasons[t, b, k, p] = absurd_code
                elif size == 0.0 and reasons[t, b, k, p] == 0:
                    reasons[t, b, k, p] = zero_code


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def auto_power(vis, reasons, auto_of_antenna):
    """Median over time of each autocorrelation's real part, (Nants, Nchan, Npols) float64; NaN where nothing is good."""
    n_times, _, n_chan, n_pol = vis.shape
    power = np.full((auto_of_antenna.size, n_chan, n_pol), np.nan)
    for a in prange(auto_of_antenna.size):
        b = auto_of_antenna[a]
        if b < 0:
            continue
        values = np.empty(n_times)
        for k in range(n_chan):
            for p in range(n_pol):
                n = 0
                for t in range(n_times):
                    if reasons[t, b, k, p] == 0:
                        values[n] = vis[t, b, k, p].real
                        n += 1
                if n > 0:
                    power[a, k, p] = np.median(values[:n])
    return power


@njit(cache=True, nogil=True, error_model="numpy")
def _median_in_place(values):
    """Median of a scratch array, which it reorders."""
    n = values.size
    middle = n // 2
    part = np.partition(values, middle)
    if n % 2:
        return part[middle]
    return 0.5 * (part[middle] + part[:middle].max())


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def clip_baselines(vis, reasons, crosses, ant_1, ant_2, gain, n_sigma, code):
    """Mark amplitudes above median + n_sigma * 1.4826 MAD of their own baseline and polarization.

    ``gain``: (Nants, Nchan, Npols) relative amplitude of each receptor, divided out first.
    """
    n_times, _, n_chan, n_pol = vis.shape
    for i in prange(crosses.size):
        b = crosses[i]
        a1, a2 = ant_1[b], ant_2[b]
        amplitude = np.empty(n_times * n_chan, dtype=np.float32)
        for p in range(n_pol):
            n = 0
            for t in range(n_times):
                for k in range(n_chan):
                    if reasons[t, b, k, p] == 0:
                        amplitude[n] = abs(vis[t, b, k, p]) / (gain[a1, k, p] * gain[a2, k, p])
                        n += 1
            if n < 16:
                continue
            level = _median_in_place(amplitude[:n])
            sigma = 1.4826 * _median_in_place(np.abs(amplitude[:n] - level))
            limit = level + n_sigma * sigma
            for t in range(n_times):
                for k in range(n_chan):
                    if reasons[t, b, k, p] == 0 and abs(vis[t, b, k, p]) / (gain[a1, k, p] * gain[a2, k, p]) > limit:
                        reasons[t, b, k, p] = code


@njit(parallel=True, cache=True, nogil=True, error_model="numpy")
def count_reasons(reasons, n_codes):
    """How often each code occurs: (Nbls, Ncodes) per baseline, and (Nbls, Nchan) flagged per baseline and channel."""
    n_times, n_bls, n_chan, n_pol = reasons.shape
    per_baseline = np.zeros((n_bls, n_codes), dtype=np.int64)
    per_channel = np.zeros((n_bls, n_chan), dtype=np.int32)
    for b in prange(n_bls):
        for t in range(n_times):
            for k in range(n_chan):
                for p in range(n_pol):
                    code = reasons[t, b, k, p]
                    per_baseline[b, code] += 1
                    if code != 0:
                        per_channel[b, k] += 1
    return per_baseline, per_channel
