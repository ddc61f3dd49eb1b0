"""Interference: AOFlagger and a residual clip on all cross-correlations, in child processes on shared memory.

The strategy is ``dsa110.lua`` beside this file. It never flags autocorrelations. First we divide out each receptor's
bandpass, taken from its autocorrelation, and subtract the sky (`sky_filter`), so that neither looks like interference
(pitfall 21). We do not use AOFlagger's own ``normalize_subbands``, which harms these data.
"""

# the type of the flagger's shared arrays is known only at run time:
# pyright: reportReturnType=false

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.child_process import Child, run_children
from dsa110_assets.flagging.reasons import FlagReason
from dsa110_assets.flagging.shared import allocate_shared, descriptor_of

STRATEGY = Path(__file__).with_name("dsa110.lua")


def flag_interference(
    vis: NDArray,
    reasons: NDArray,
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
    processes: int = 0,
    timeout_s: float = 900.0,
) -> NDArray[np.float64]:
    """Mark in ``reasons`` what AOFlagger and the clip find.

    Args:
        vis, reasons: (Ntimes, Nbls, Nchan, 2); the children map them without a copy when `allocate_shared` made them.
        crosses: baselines to search.
        ant_1, ant_2: antenna rows of all baselines.
        baseline_length_m: of all baselines.
        freq_hz: channel centers, ascending.
        integration_s: length of an integration.
        gain: relative amplitude of each receptor, (Nants, Nchan, 2).
        weights: fraction of an integration in each visibility, or None; noise grows with its inverse root.
        clip_sigma: residual amplitudes this many (robust) standard deviations above their median are outliers.
        processes: children; 0 means one per core.
        timeout_s: wall-clock limit for all of them.

    Returns:
        (Nbls, 2, 2): median amplitude and rms of the real part, after ``gain``, of each baseline and polarization; NaN
        for baselines that were not searched.

    Raises:
        ChildFailedError: a child died or ran out of time.
    """
    shared_vis, shared_reasons, shared_gain = _shared(vis), _shared(reasons), _shared(gain)
    levels = allocate_shared((vis.shape[1], vis.shape[3], 2), np.float64)
    levels[...] = np.nan
    n_times, n_chan = vis.shape[0], vis.shape[2]
    arrays = {"vis": shared_vis, "reasons": shared_reasons, "gain": shared_gain, "levels": levels}
    if weights is not None:
        arrays["weights"] = _shared(weights)
    descriptors = {name: descriptor_of(array) for name, array in arrays.items()}
    task = {
        **descriptors,
        "shape": vis.shape,
        "gain_shape": gain.shape,
        "strategy": os.fspath(STRATEGY),
        "band": {
            "bandwidth_hz": float(freq_hz[-1] - freq_hz[0]) * n_chan / max(n_chan - 1, 1),
            "duration_s": integration_s * n_times,
            "top_hz": float(freq_hz[-1]),
        },
        "clip_sigma": clip_sigma,
        "rfi_code": int(FlagReason.RFI),
        "clip_code": int(FlagReason.OUTLIER),
    }
    by_length = crosses[np.argsort(baseline_length_m[crosses], kind="stable")]
    baselines = [[int(b), int(ant_1[b]), int(ant_2[b]), float(baseline_length_m[b])] for b in by_length]
    count = max(1, min(processes or os.cpu_count() or 1, -(-len(baselines) // 50)))
    # the work grows with the baseline's length: every child takes each count-th baseline
    tasks = [json.dumps({**task, "baselines": baselines[n::count]}) for n in range(count)]
    _run(tasks, list(descriptors.values()), timeout_s)
    if shared_reasons is not reasons:
        reasons[...] = shared_reasons
    return np.array(levels)


def _shared(array: NDArray) -> NDArray:
    if descriptor_of(array) is not None:
        return array
    copy = allocate_shared(array.shape, array.dtype.type)
    copy[...] = array
    return copy


def _run(tasks: Sequence[str], descriptors: Sequence[int | None], timeout_s: float) -> None:
    children = [
        Child(
            "AOFlagger",
            [sys.executable, "-m", "dsa110_assets.flagging.aoflagger_child"],
            environment={"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
            stdin=task + "\n",
            pass_fds=[d for d in descriptors if d is not None],
        )
        for task in tasks
    ]
    ends = run_children(children, subject="interference", timeout_s=timeout_s, timeout_advice="retry; check the load of the machine")
    for end in ends:
        end.raise_if_failed("interference", "retry; if it fails again, report the tile")
