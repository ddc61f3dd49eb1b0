"""CPU time and flags of the search for interference, compared with AOFlagger on the same data in the same process.

``python -m benchmarks.flagging [--full] [--repeat 3]``. Simulates a tile of 24 antennas (``--full``: 96) with all 768
channels, three bright sources, and interference of satellites, a carrier and short baselines. Every fourth baseline
is searched (``--full``: every sixteenth). Peers, with AOFlagger's Python bindings on one core:

* its own strategy for telescopes it does not know, on the visibilities as they are, as the program would be used
* its SumThreshold alone, on the residual that ours gets: the referee of the flags

"Found": the part of the referee's flags that ours has. "More": ours among all other samples. Prints JSON per repeat.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from dsa110_assets.common.robust import MAD_TO_SIGMA_ROUNDED
from dsa110_assets.conversion.tile import Tile, read_tile
from dsa110_assets.flagging import _interference_kernels as kernels
from dsa110_assets.flagging import flag_visibilities, interference
from dsa110_assets.flagging.flag import CLIP_SIGMA
from dsa110_assets.flagging.sky_filter import sky_basis
from dsa110_assets.simulation.array import demo_array, full_array
from dsa110_assets.simulation.band import full_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.faults import NarrowCarrier, SatelliteBurst, ShortBaselineInterference
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import simulate_tile

START_MJD = 61_100.2
STRATEGY = Path(__file__).parents[1] / "dsa110_assets_tests" / "flagging" / "aoflagger.lua"


def tile_with_interference(raw: Path, full: bool) -> Tile:
    """Simulate and read a tile."""
    ra_deg = local_sidereal_time_deg(START_MJD + 0.5 * 309 / 86400) % 360
    files = simulate_tile(
        raw,
        start_mjd=START_MJD,
        declination_deg=54.6,
        sky=point_sources([ra_deg, ra_deg + 0.5, ra_deg - 0.7], [54.6, 55.3, 54.0], [20.0, 10.0, 6.0]),
        array=full_array() if full else demo_array(),
        band=full_band(),
        seed=5,
        interference=(SatelliteBurst(), NarrowCarrier(), ShortBaselineInterference()),
    )
    return read_tile({int(path.stem[-2:]): path for path in files}, 16, np.zeros)


def report_of(tile: Tile, reasons: np.ndarray, *, rfi: bool) -> None:
    """Flag the whole tile in ``reasons``."""
    flag_visibilities(
        tile.vis,
        reasons,
        ant_1=tile.ant_1,
        ant_2=tile.ant_2,
        antenna_names=tile.header.antenna_names,
        baseline_length_m=np.linalg.norm(tile.uvw_m[0], axis=1),
        freq_hz=tile.freq_hz,
        rfi=rfi,
    )


def residuals(tile: Tile, before: np.ndarray, baselines: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Amplitudes minus their median (Npols, Ntimes, Nchan), and the mask (Ntimes, Nchan), that SumThreshold gets."""
    n_times, _, n_chan, n_pol = tile.vis.shape
    clip = kernels.RAYLEIGH_MEDIAN + CLIP_SIGMA * MAD_TO_SIGMA_ROUNDED * interference.RAYLEIGH_MAD
    gain = np.ones((n_chan, n_pol), np.float32)
    found = {}
    for b in baselines:
        planes, size = np.empty((2 * n_pol, n_times, n_chan), np.float32), np.empty((n_pol, n_times, n_chan), np.float32)
        bad, missing, sigma = np.empty(size.shape, np.uint8), np.empty(size.shape[1:], np.uint8), np.empty(n_pol)
        kernels.load(b, gain, gain, tile.vis.view(np.float32), before, planes, bad, missing, np.empty(n_pol))
        basis = sky_basis(float(np.linalg.norm(tile.uvw_m[0, b])), n_times, n_chan, bandwidth_hz=187.5e6, duration_s=309.2, top_hz=1.4986e9)
        kernels.subtract_sky(planes, bad, *basis, np.empty((0, n_times, n_chan), np.float32), size, sigma)
        unused = missing.astype(bool) | ((size > clip * sigma[:, None, None]) & (bad == 0)).any(axis=0)
        found[int(b)] = np.where(bad, 0, size - kernels.RAYLEIGH_MEDIAN * sigma[:, None, None]).astype(np.float32), unused
    return found


def main() -> None:
    """Measure and print."""
    import aoflagger

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        tile = tile_with_interference(Path(folder), options.full)
    n_times, _, n_chan, n_pol = tile.vis.shape
    crosses = np.flatnonzero(tile.ant_1 != tile.ant_2)
    sample = crosses[:: 16 if options.full else 4]
    before = tile.reasons.copy()
    report_of(tile, before, rfi=False)
    report_of(tile, before.copy(), rfi=True)  # compiles
    planes = residuals(tile, before, sample)
    flagger = aoflagger.AOFlagger()
    generic = flagger.load_strategy_file(flagger.find_strategy_file(aoflagger.TelescopeId.Generic))
    referee = flagger.load_strategy_file(str(STRATEGY))
    for _ in range(options.repeat):
        clock, reasons = time.process_time(), tile.reasons.copy()
        report_of(tile, reasons, rfi=True)
        whole = (time.process_time() - clock) / crosses.size
        clock = time.process_time()
        for b in sample:
            images = flagger.make_image_set(n_times, n_chan, 2 * n_pol)
            for p in range(n_pol):
                images.set_image_buffer(2 * p, np.ascontiguousarray(tile.vis[:, b, :, p].real.T, dtype=np.float64))
                images.set_image_buffer(2 * p + 1, np.ascontiguousarray(tile.vis[:, b, :, p].imag.T, dtype=np.float64))
            known = flagger.make_flag_mask(n_times, n_chan, False)
            known.set_buffer(np.ascontiguousarray((before[:, b] != 0).any(axis=-1).T))
            generic.run(images, known).get_buffer()
        theirs_whole = (time.process_time() - clock) / sample.size
        mine_s = theirs_s = 0.0
        theirs = both = mine_only = others = 0
        for plane, unused in planes.values():
            clock, found = time.process_time(), unused.astype(np.uint8)
            for p in range(n_pol):
                kernels.sum_threshold(plane[p], found.copy(), found)
            mine_s += time.process_time() - clock
            clock = time.process_time()
            images = flagger.make_image_set(n_times, n_chan, 2 * n_pol)
            images.set(0.0)
            for p in range(n_pol):
                images.set_image_buffer(2 * p, np.ascontiguousarray(np.where(unused, 0, plane[p]).T, dtype=np.float64))
            known = flagger.make_flag_mask(n_times, n_chan, False)
            known.set_buffer(np.ascontiguousarray(unused.T))
            reference = referee.run(images, known).get_buffer().T & ~unused
            theirs_s += time.process_time() - clock
            mine = (found != 0) & ~unused
            theirs, both, mine_only = theirs + reference.sum(), both + (mine & reference).sum(), mine_only + (mine & ~reference).sum()
            others += (~reference).sum()
        result = {
            "cpu_ms_per_baseline": {
                "flagging": 1e3 * whole,
                "aoflagger_generic": 1e3 * theirs_whole,
                "sum_threshold": 1e3 * mine_s / sample.size,
                "aoflagger_sum_threshold": 1e3 * theirs_s / sample.size,
            },
            "found": float(both / theirs),
            "more": float(mine_only / others),
            "flagged": float((reasons[:, crosses] != 0).mean()),
            "load": os.getloadavg()[0],
        }
        print(json.dumps({key: value if isinstance(value, dict) else round(value, 5) for key, value in result.items()}))


if __name__ == "__main__":
    main()
