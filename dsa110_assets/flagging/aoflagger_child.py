"""Child process of the flagger: AOFlagger over its share of the baselines. Run by `interference`, never by a person.

Reads one JSON line from standard input: descriptors and shapes of the shared arrays, the baselines, the strategy. Marks
what AOFlagger finds in the shared ``reasons``; each baseline belongs to one child.
"""

from __future__ import annotations

import json
import sys

import numpy as np

from dsa110_assets.flagging.shared import attach


def main() -> None:
    """Flag the baselines of one task."""
    import aoflagger

    task = json.loads(sys.stdin.readline())
    vis = attach(task["vis"], tuple(task["shape"]), "complex64")
    reasons = attach(task["reasons"], tuple(task["shape"]), "uint8")
    gain = attach(task["gain"], tuple(task["gain_shape"]), "float32")
    n_times, _, n_chan, n_pol = vis.shape
    flagger = aoflagger.AOFlagger()
    strategy = flagger.load_strategy_file(task["strategy"])
    images = flagger.make_image_set(n_times, n_chan, 2 * n_pol)
    known = flagger.make_flag_mask(n_times, n_chan, False)
    code = task["code"]
    for b, a1, a2 in task["baselines"]:
        mine = reasons[:, b]
        bad = mine != 0
        if bad.all():
            continue
        scaled = vis[:, b] / (gain[a1] * gain[a2])
        for p in range(n_pol):
            images.set_image_buffer(2 * p, np.ascontiguousarray(scaled[:, :, p].real.T, dtype=np.float64))
            images.set_image_buffer(2 * p + 1, np.ascontiguousarray(scaled[:, :, p].imag.T, dtype=np.float64))
        known.set_buffer(np.ascontiguousarray(bad.any(axis=2).T))
        found = strategy.run(images, known).get_buffer().T
        mine[found[:, :, None] & ~bad] = code


if __name__ == "__main__":
    main()
