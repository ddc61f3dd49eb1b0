"""Interference: SumThreshold and a clip of the residual on all cross-correlations, in compiled loops on all cores.

Autocorrelations are never flagged. First we divide out each receptor's bandpass, taken from its autocorrelation, and
subtract the sky (`sky_filter`), so that neither looks like interference (pitfall 21).
"""

from __future__ import annotations

import os
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.robust import MAD_TO_SIGMA_ROUNDED
from dsa110_assets.flagging.reasons import FlagReason
from dsa110_assets.flagging.sky_filter import sky_basis

RAYLEIGH_MAD = 0.4484771
"""Median absolute deviation of |z| from its median, for a complex Gaussian z whose parts have unit rms."""
_TOGETHER = 32
"""Baselines of one thread's task: few enough that cores end together."""


def flag_interference(
    vis: NDArray[np.complex64],
    reasons: NDArray[np.uint8],
    *,
    crosses: NDArray[np.int64],
    ant_1: NDArray[np.int32],
    ant_2: NDArray[np.int32],
    baseline_length_m: NDArray[np.float64],
    freq_hz: NDArray[np.float64],
    integration_s: float,
    gain: NDArray[np.float32],
    clip_sigma: float,
    weights: NDArray | None = None,
    threads: int = 0,
) -> NDArray[np.float64]:
    """Mark interference and outliers in ``reasons``.

    Args:
        vis, reasons: (Ntimes, Nbls, Nchan, Npols), contiguous.
        crosses: baselines to search.
        ant_1, ant_2: antenna rows of all baselines.
        baseline_length_m: of all baselines.
        freq_hz: channel centers, ascending.
        integration_s: length of an integration.
        gain: relative amplitude of each receptor, (Nants, Nchan, Npols).
        weights: fraction of an integration in each visibility, or None; noise grows with its inverse root.
        clip_sigma: residual amplitudes this many (robust) standard deviations above their median are outliers.
        threads: 0 means one per core.

    Returns:
        (Nbls, Npols, 2): median amplitude and rms of the real part, after ``gain``, of each baseline and polarization;
        NaN for baselines that were not searched.
    """
    from threadpoolctl import threadpool_limits

    from dsa110_assets.flagging import _interference_kernels as kernels

    n_times, n_bls, n_chan, n_pol = vis.shape
    levels = np.full((n_bls, n_pol, 2), np.nan)
    bandwidth_hz = float(freq_hz[-1] - freq_hz[0]) * n_chan / max(n_chan - 1, 1)
    bases: dict[tuple[int, int], tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
    members: dict[tuple[int, int], list[int]] = defaultdict(list)
    for b in crosses:
        basis = sky_basis(
            float(baseline_length_m[b]),
            n_times,
            n_chan,
            bandwidth_hz=bandwidth_hz,
            duration_s=integration_s * n_times,
            top_hz=float(freq_hz[-1]),
        )
        key = basis[0].shape[1], basis[1].shape[1]
        bases[key] = basis
        members[key].append(int(b))
    parts = [(key, mine[n : n + _TOGETHER]) for key, mine in members.items() for n in range(0, len(mine), _TOGETHER)]
    values = vis.view(np.float32)
    clip = kernels.RAYLEIGH_MEDIAN + clip_sigma * MAD_TO_SIGMA_ROUNDED * RAYLEIGH_MAD
    all_complete = np.empty((0, n_times, n_chan), np.float32)

    def search(part: tuple[tuple[int, int], list[int]]) -> None:
        key, mine = part
        planes, size = np.empty((2 * n_pol, n_times, n_chan), np.float32), np.empty((n_pol, n_times, n_chan), np.float32)
        bad, missing = np.empty(size.shape, np.uint8), np.empty(size.shape[1:], np.uint8)
        for b in mine:
            kernels.load(b, gain[ant_1[b]], gain[ant_2[b]], values, reasons, planes, bad, missing, levels[b, :, 0])
            if missing.all():
                continue
            root_weight = all_complete
            if weights is not None:
                root_weight = np.ascontiguousarray(np.sqrt(weights[:, b].astype(np.float32)).transpose(2, 0, 1))
            sigma = np.empty(n_pol)
            kernels.subtract_sky(planes, bad, *bases[key], root_weight, size, sigma)
            levels[b, :, 1] = sigma
            kernels.mark(b, size, sigma, bad, missing, clip, int(FlagReason.OUTLIER), int(FlagReason.RFI), reasons)

    # each thread multiplies its own small matrices: more threads below would only wait for one another
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        # long baselines have the largest bases and come first, so that the cores end together
        list(pool.map(search, sorted(parts, key=lambda part: part[0][1], reverse=True)))
    return levels
