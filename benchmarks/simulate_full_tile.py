"""Time and memory of simulating one full tile.

    python benchmarks/simulate_full_tile.py [--sources 50] [--imperfect] [--directory DIR]

96 antennas, 16 x 48 channels, 24 integrations, 50 sources, 2.3 GB of files. ``--imperfect`` gives each antenna its own
beam, feeds, gains and path through the ionosphere (`simulation.imperfections`). The files go into a temporary folder of
the directory, which is removed at the end. Prints one JSON line.
"""

import argparse
import json
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from dsa110_assets.simulation.array import full_array, tiny_array
from dsa110_assets.simulation.band import BandPlan, full_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.imperfections import NONE, REAL
from dsa110_assets.simulation.sky import draw_fluxes, point_sources
from dsa110_assets.simulation.tile import simulate_tile

START_MJD = 61_107.2
DECLINATION_DEG = 54.6


def main() -> None:
    """Simulate, measure, print the figures, remove the files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=50)
    parser.add_argument("--imperfect", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    rng = np.random.default_rng(1)
    centre_deg = local_sidereal_time_deg(START_MJD + 150 / 86_400)
    sky = point_sources(
        list((centre_deg + rng.uniform(-3, 3, arguments.sources)) % 360),
        list(DECLINATION_DEG + rng.uniform(-2, 2, arguments.sources)),
        list(draw_fluxes(rng, arguments.sources, 0.05, 5.0)),
    )
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        common = {"start_mjd": START_MJD, "declination_deg": DECLINATION_DEG, "sky": sky, "seed": 1}
        common["imperfections"] = REAL if arguments.imperfect else NONE
        simulate_tile(Path(directory) / "compile", array=tiny_array(), band=BandPlan(2), n_integrations=1, subbands=[0], **common)
        cpu, start = time.process_time(), time.perf_counter()
        files = simulate_tile(Path(directory) / "tile", array=full_array(), band=full_band(), **common)
        wall_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        size = sum(path.stat().st_size for path in files)
    print(
        json.dumps(
            {
                "sources": arguments.sources,
                "imperfect": arguments.imperfect,
                "files": len(files),
                "gigabytes": round(size / 1e9, 3),
                "wall_s": round(wall_s, 1),
                "cpu_s": round(cpu_s, 1),
                "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                "cores": os.cpu_count(),
                "load_after": round(os.getloadavg()[0], 1),
            }
        )
    )


if __name__ == "__main__":
    main()
