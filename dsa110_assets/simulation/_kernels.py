"""Compiled loops of the simulator: visibilities of point sources, and their corruption. Imported when first needed."""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

_C_M_PER_S = 299_792_458.0


@njit(fastmath=True, cache=True)
def _delay_and_loss(
    baseline_m: NDArray[np.float64], offset: NDArray[np.float64], offset_rate: NDArray[np.float64], band_hz: float, turns: float
) -> tuple[float, float]:
    """Delay (s) of a source on a baseline, and what averaging leaves; ``turns``: frequency times integration."""
    delay = 0.0
    rate = 0.0
    for k in range(3):
        delay += baseline_m[k] * offset[k]
        rate += baseline_m[k] * offset_rate[k]
    delay /= _C_M_PER_S
    rate /= _C_M_PER_S
    loss = 1.0
    x = np.pi * delay * band_hz
    if abs(x) > 1e-9:
        loss *= np.sin(x) / x
    x = np.pi * rate * turns
    if abs(x) > 1e-9:
        loss *= np.sin(x) / x
    return delay, loss


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
                delay, loss = _delay_and_loss(baseline_m[b], offset[t, s], offset_rate[t, s], smear_band_hz, center_hz * smear_time_s[t])
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


@njit(parallel=True, fastmath=True, cache=True)
def imperfect_visibilities(
    flux_jy: NDArray[np.float64],
    polarized: NDArray[np.float64],
    offset: NDArray[np.float64],
    offset_rate: NDArray[np.float64],
    baseline_m: NDArray[np.float64],
    index_1: NDArray[np.int64],
    index_2: NDArray[np.int64],
    top_hz: float,
    step_hz: float,
    smear_band_hz: float,
    smear_time_s: NDArray[np.float64],
    voltage: NDArray[np.float64],
    voltage_slope: NDArray[np.float64],
    phase: NDArray[np.float64],
    leakage: NDArray[np.complex128],
) -> NDArray[np.complex64]:
    """Compute the same sum for antennas whose beams, paths through the ionosphere and feeds differ.

    ``V_p = P_p (1 + d1 conj(d2)) + U_p (d1 + conj(d2))``, where ``P_p`` sums ``S (1 +- q) E1 E2 exp(i (phi1 - phi2))``
    and ``U_p`` sums ``S u E1 E2 exp(i (phi1 - phi2))`` over the sources, each with the fringe of
    `point_source_visibilities`.

    Args:
        flux_jy, offset, offset_rate, baseline_m, top_hz, step_hz, smear_band_hz, smear_time_s: see
            `point_source_visibilities`; ``flux_jy`` does not hold the beam.
        polarized: q and u of the sources as fractions of I, (2, Nfreqs, Nsources).
        index_1, index_2: (Nbls,) positions of the antennas.
        voltage: voltage beam at the middle of the band, (Ntimes, Nants, Npols, Nsources).
        voltage_slope: its change from there to the first channel, same shape; linear in frequency.
        phase: of the ionosphere at the middle of the band (rad), (Ntimes, Nants, Nsources); inverse to frequency.
        leakage: complex, (Nants, Npols).

    Returns:
        (Ntimes, Nbls, Nfreqs, Npols) complex64.
    """
    n_times, n_freqs, n_sources = flux_jy.shape
    n_bls = baseline_m.shape[0]
    n_pols = voltage.shape[2]
    out = np.empty((n_times, n_bls, n_freqs, n_pols), dtype=np.complex64)
    two_pi = 2.0 * np.pi
    half = 0.5 * (n_freqs - 1)
    center_hz = top_hz + half * step_hz
    for b in prange(n_bls):
        one, two = index_1[b], index_2[b]
        re = np.empty(n_sources)
        im = np.empty(n_sources)
        cos_step = np.empty(n_sources)
        sin_step = np.empty(n_sources)
        beam = np.empty((n_pols, 3, n_sources))
        for t in range(n_times):
            for s in range(n_sources):
                delay, loss = _delay_and_loss(baseline_m[b], offset[t, s], offset_rate[t, s], smear_band_hz, center_hz * smear_time_s[t])
                path = phase[t, one, s] - phase[t, two, s]
                start = two_pi * top_hz * delay + path * (1.0 + half * step_hz / center_hz)
                turn = two_pi * step_hz * delay - path * step_hz / center_hz
                re[s] = loss * np.cos(start)
                im[s] = loss * np.sin(start)
                cos_step[s] = np.cos(turn)
                sin_step[s] = np.sin(turn)
            for p in range(n_pols):
                for s in range(n_sources):
                    e1, e2 = voltage[t, one, p, s], voltage[t, two, p, s]
                    d1, d2 = voltage_slope[t, one, p, s], voltage_slope[t, two, p, s]
                    beam[p, 0, s] = e1 * e2
                    beam[p, 1, s] = e1 * d2 + d1 * e2
                    beam[p, 2, s] = d1 * d2
            for f in range(n_freqs):
                along = 1.0 - f / half if half > 0 else 0.0  # 1 at the first channel, -1 at the last
                for p in range(n_pols):
                    sign = 1.0 - 2.0 * p
                    i_re = 0.0
                    i_im = 0.0
                    u_re = 0.0
                    u_im = 0.0
                    for s in range(n_sources):
                        apparent = flux_jy[t, f, s] * (beam[p, 0, s] + along * (beam[p, 1, s] + along * beam[p, 2, s]))
                        straight = apparent * (1.0 + sign * polarized[0, f, s])
                        crossed = apparent * polarized[1, f, s]
                        i_re += straight * re[s]
                        i_im += straight * im[s]
                        u_re += crossed * re[s]
                        u_im += crossed * im[s]
                    d_1, d_2 = leakage[one, p], np.conj(leakage[two, p])
                    total = complex(i_re, i_im) * (1.0 + d_1 * d_2) + complex(u_re, u_im) * (d_1 + d_2)
                    out[t, b, f, p] = np.complex64(total)
                for s in range(n_sources):
                    rotated = re[s] * cos_step[s] - im[s] * sin_step[s]
                    im[s] = re[s] * sin_step[s] + im[s] * cos_step[s]
                    re[s] = rotated
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
    system: NDArray[np.float64],
) -> NDArray[np.complex64]:
    """Compute ``g1 conj(g2) (V + noise)``; autocorrelations are real and include the system temperature.

    Args:
        model: (Ntimes, Nbls, Nfreqs, 1 or Npols) in Jy.
        noise: unit normal deviates (Ntimes, Nbls, Nfreqs, Npols, 2), or an empty array for none.
        gain: (Ntimes, Nants, Nfreqs, Npols).
        working: (Nants, Npols); a receiver that does not work correlates only noise.
        index_1, index_2: (Nbls,) positions of the antennas in ``gain``.
        sigma_jy: (Ntimes,) rms of the real and of the imaginary part of a cross-correlation; autocorrelations have
            sqrt(2) of it.
        system_jy: level of the autocorrelations without sources.
        system: SEFD of each receptor over the typical one, (Nants, Npols).
    """
    n_times, n_bls, n_freqs, n_models = model.shape
    n_pols = gain.shape[3]
    noisy = noise.size > 0
    out = np.empty((n_times, n_bls, n_freqs, n_pols), dtype=np.complex64)
    for b in prange(n_bls):
        one, two = index_1[b], index_2[b]
        auto = one == two
        for t in range(n_times):
            for f in range(n_freqs):
                for p in range(n_pols):
                    value = complex(model[t, b, f, min(p, n_models - 1)]) if working[one, p] and working[two, p] else 0j
                    sigma = sigma_jy[t] * np.sqrt(system[one, p] * system[two, p])
                    if auto:
                        value = complex(value.real + system_jy * system[one, p], 0.0)
                        if noisy:
                            value += sigma * np.sqrt(2.0) * noise[t, b, f, p, 0]
                    elif noisy:
                        value += sigma * complex(noise[t, b, f, p, 0], noise[t, b, f, p, 1])
                    out[t, b, f, p] = np.complex64(gain[t, one, f, p] * np.conj(gain[t, two, f, p]) * value)
    return out
