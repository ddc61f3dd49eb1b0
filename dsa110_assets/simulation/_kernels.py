"""Compiled loops of the simulator: visibilities of point sources, and their corruption. Imported when first needed."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

_C_M_PER_S = 299_792_458.0


@njit(parallel=True, fastmath=True, cache=True)
def point_source_visibilities(
    flux_jy: NDArray[np.float64],
    offset: NDArray[np.float64],
    offset_rate: NDArray[np.float64],
    baseline_m: NDArray[np.float64],
    top_hz: float,
    step_hz: float,
    smear_band_hz: float,
    smear_time_s: NDArray[np.float64],
) -> NDArray[np.complex64]:
    """``V = sum_s S_s exp(+2 pi i f / c  b . (s - s0))`` for channels ``top_hz + k step_hz``.

    Args:
        flux_jy: apparent flux density, (Ntimes, Nfreqs, Nsources).
        offset: ``s - s0``, (Ntimes, Nsources, 3); offset_rate its time derivative (1/s).
        baseline_m: ``r2 - r1``, (Nbls, 3).
        top_hz, step_hz: first channel and (signed) spacing.
        smear_band_hz: averaging interval in frequency whose sinc loss is applied; 0 for none.
        smear_time_s: the same in time, for each integration, (Ntimes,).

    Returns:
        (Ntimes, Nbls, Nfreqs) complex64. A complex recurrence in float64 advances the phase from channel to channel.
    """
    n_times, n_freqs, n_sources = flux_jy.shape
    n_bls = baseline_m.shape[0]
    out = np.empty((n_times, n_bls, n_freqs), dtype=np.complex64)
    two_pi = 2.0 * np.pi
    center_hz = top_hz + 0.5 * (n_freqs - 1) * step_hz
    for b in prange(n_bls):
        re = np.empty(n_sources)
        im = np.empty(n_sources)
        cos_step = np.empty(n_sources)
        sin_step = np.empty(n_sources)
        for t in range(n_times):
            for s in range(n_sources):
                delay = 0.0
                rate = 0.0
                for k in range(3):
                    delay += baseline_m[b, k] * offset[t, s, k]
                    rate += baseline_m[b, k] * offset_rate[t, s, k]
                delay /= _C_M_PER_S
                rate /= _C_M_PER_S
                loss = 1.0
                x = np.pi * delay * smear_band_hz
                if abs(x) > 1e-9:
                    loss *= np.sin(x) / x
                x = np.pi * rate * center_hz * smear_time_s[t]
                if abs(x) > 1e-9:
                    loss *= np.sin(x) / x
                re[s] = loss * np.cos(two_pi * top_hz * delay)
                im[s] = loss * np.sin(two_pi * top_hz * delay)
                cos_step[s] = np.cos(two_pi * step_hz * delay)
                sin_step[s] = np.sin(two_pi * step_hz * delay)
            for f in range(n_freqs):
                sum_re = 0.0
                sum_im = 0.0
                for s in range(n_sources):
                    sum_re += flux_jy[t, f, s] * re[s]
                    sum_im += flux_jy[t, f, s] * im[s]
                    rotated = re[s] * cos_step[s] - im[s] * sin_step[s]
                    im[s] = re[s] * sin_step[s] + im[s] * cos_step[s]
                    re[s] = rotated
                out[t, b, f] = np.complex64(complex(sum_re, sum_im))
    return out


@njit(parallel=True, cache=True)
def corrupt(
    model: NDArray[np.complex64],
    noise: NDArray[np.float32],
    gain: NDArray[np.complex128],
    working: NDArray[np.bool_],
    index_1: NDArray[np.int64],
    index_2: NDArray[np.int64],
    sigma_jy: NDArray[np.float64],
    system_jy: float,
) -> NDArray[np.complex64]:
    """Compute ``g1 conj(g2) (V + noise)``; autocorrelations are real and include the system temperature.

    Args:
        model: (Ntimes, Nbls, Nfreqs) in Jy.
        noise: unit normal deviates (Ntimes, Nbls, Nfreqs, Npols, 2), or an empty array for none.
        gain: (Ntimes, Nants, Nfreqs, Npols).
        working: (Nants, Npols); a receiver that does not work correlates only noise.
        index_1, index_2: (Nbls,) positions of the antennas in ``gain``.
        sigma_jy: (Ntimes,) rms of the real and of the imaginary part of a cross-correlation; autocorrelations have
            sqrt(2) of it.
        system_jy: level of the autocorrelations without sources.
    """
    n_times, n_bls, n_freqs = model.shape
    n_pols = gain.shape[3]
    noisy = noise.size > 0
    out = np.empty((n_times, n_bls, n_freqs, n_pols), dtype=np.complex64)
    for b in prange(n_bls):
        one, two = index_1[b], index_2[b]
        auto = one == two
        for t in range(n_times):
            for f in range(n_freqs):
                for p in range(n_pols):
                    value = complex(model[t, b, f]) if working[one, p] and working[two, p] else 0j
                    if auto:
                        value = complex(value.real + system_jy, 0.0)
                        if noisy:
                            value += sigma_jy[t] * np.sqrt(2.0) * noise[t, b, f, p, 0]
                    elif noisy:
                        value += sigma_jy[t] * complex(noise[t, b, f, p, 0], noise[t, b, f, p, 1])
                    out[t, b, f, p] = np.complex64(gain[t, one, f, p] * np.conj(gain[t, two, f, p]) * value)
    return out
