"""Child process of the flagger, which flags some of the baselines. `interference` starts it; do not run it by hand.

It reads one JSON line from standard input: descriptors and shapes of the shared arrays, the baselines, the strategy.
For each baseline it divides out the bandpass, subtracts the sky, clips the residual, runs AOFlagger on the rest, and
widens the flags of both. It marks the shared ``reasons`` and records each baseline's level. Each baseline belongs to
one child.

The clip goes first, and AOFlagger gets zeros where the clip flagged, because SumThreshold spreads a burst of 7 to 50
sigma in one integration over all of them even when the burst is masked.
"""

# the parent names the type of the shared arrays:
# pyright: reportOperatorIssue=false

from __future__ import annotations

import json
import sys

import numpy as np

from dsa110_assets.common.robust import MAD_TO_SIGMA_ROUNDED
from dsa110_assets.flagging.extension import extend
from dsa110_assets.flagging.shared import attach
from dsa110_assets.flagging.sky_filter import RAYLEIGH_MEDIAN, sky_basis, subtract_sky

RAYLEIGH_MAD = 0.4484771
"""Median absolute deviation of |z| from its median, for a complex Gaussian z whose parts have unit rms."""


def main() -> None:
    """Flag the baselines of one task."""
    import aoflagger

    task = json.loads(sys.stdin.readline())
    shape = tuple(task["shape"])
    n_times, n_bls, n_chan, n_pol = shape
    vis = attach(task["vis"], shape, "complex64")
    reasons = attach(task["reasons"], shape, "uint8")
    gain = attach(task["gain"], tuple(task["gain_shape"]), "float32")
    levels = attach(task["levels"], (n_bls, n_pol, 2), "float64")
    weights = attach(task["weights"], shape, "float16") if "weights" in task else None
    clip = RAYLEIGH_MEDIAN + task["clip_sigma"] * MAD_TO_SIGMA_ROUNDED * RAYLEIGH_MAD

    flagger = aoflagger.AOFlagger()
    strategy = flagger.load_strategy_file(task["strategy"])
    images = flagger.make_image_set(n_times, n_chan, 2 * n_pol)
    images.set(0.0)  # the imaginary parts stay zero
    known = flagger.make_flag_mask(n_times, n_chan, False)
    for b, a1, a2, length_m in task["baselines"]:
        reasons_here = reasons[:, b]
        bad = reasons_here != 0
        if bad.all():
            continue
        scaled = vis[:, b] / (gain[a1] * gain[a2])
        basis = sky_basis(length_m, n_times, n_chan, **task["band"])
        root_weight = None if weights is None else np.sqrt(weights[:, b].astype(np.float32))
        residual, sigma = subtract_sky(scaled, bad, basis, root_weight)
        amplitude = np.abs(residual)
        missing = bad.all(axis=2)
        clipped = ((amplitude > clip * sigma) & ~bad).any(axis=2)
        unused = missing | clipped
        for p in range(n_pol):
            good = np.abs(scaled[:, ::4, p][~bad[:, ::4, p]])
            levels[b, p] = (np.median(good) if good.size else np.nan), sigma[p]
            excess = np.where(unused | bad[:, :, p], 0.0, amplitude[:, :, p] - RAYLEIGH_MEDIAN * sigma[p])
            images.set_image_buffer(2 * p, np.ascontiguousarray(excess.T, dtype=np.float64))
        known.set_buffer(np.ascontiguousarray(unused.T))
        found = strategy.run(images, known).get_buffer().T & ~missing
        reasons_here[clipped[:, :, None] & ~bad] = task["clip_code"]
        reasons_here[extend(found | clipped, missing)[:, :, None] & (reasons_here == 0)] = task["rfi_code"]


if __name__ == "__main__":
    main()
