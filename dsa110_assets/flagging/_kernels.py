"""Compiled loops of flagging: value checks, receptor power, counting. Imported only when they run.

Each loop takes a range of baselines or antennas and releases the interpreter's lock; `threads.over_range` runs the
ranges on all cores. (Numba's own parallel loops take four times as long to compile, and its default thread pool ends
the process when two threads use it at once.)
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, error_model="numpy")
def _median_in_place(values):
    """Return the median of a scratch array; reorders the array."""
    n = values.size
    middle = n // 2
    part = np.partition(values, middle)
    if n % 2:
        return part[middle]
    return 0.5 * (part[middle] + part[:middle].max())


@njit(cache=True, nogil=True, error_model="numpy")
def check_values(first, last, vis, reasons, largest, zero_code, absurd_code):
    """Mark zeros, NaN, infinities and absurd values of (Ntimes, Nbls, Nchan, Npols); set absurd ones to 0."""
    for row in range(first, last):
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


@njit(cache=True, nogil=True, error_model="numpy")
def auto_power(first, last, vis, reasons, auto_of_antenna, power):
    """Write the median over time of each autocorrelation's real part into ``power`` (Nants, Nchan, Npols).

    NaN where no value is good.
    """
    n_times, _, n_chan, n_pol = vis.shape
    for a in range(first, last):
        power[a] = np.nan
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
                    power[a, k, p] = _median_in_place(values[:n])


@njit(cache=True, nogil=True, error_model="numpy")
def count_reasons(first, last, reasons, per_baseline, per_channel):
    """Count each code per baseline, (Nbls, Ncodes), and flagged values per baseline and channel, (Nbls, Nchan)."""
    n_times, _, n_chan, n_pol = reasons.shape
    for t in range(n_times):
        for b in range(first, last):
            for k in range(n_chan):
                for p in range(n_pol):
                    code = reasons[t, b, k, p]
                    per_baseline[b, code] += 1
                    if code != 0:
                        per_channel[b, k] += 1
