"""Time of each step and peak memory of converting a full-size tile, and of pyuvdata's read, phase and write_ms.

``python benchmarks/convert_full_tile.py RAW_DIRECTORY WORK_DIRECTORY [--pyuvdata] [--simulate]``. RAW_DIRECTORY has the
16 files of one observation (``--simulate`` makes them: 2.3 GB). Measurement Sets are deleted afterward. The budget is
10 s without flagging, 30 s for flagging, 2 GB. Prints one line of JSON per run.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path


def files_of(raw: Path) -> dict[int, Path]:
    """Raw file of each subband."""
    return {int(path.stem[-2:]): path for path in sorted(raw.glob("*_sb??.hdf5"))}


def convert(raw: Path, work: Path, flag_rfi: bool) -> dict[str, object]:
    """Convert and verify with the platform's own code."""
    from dsa110_assets.conversion import convert_observation, verify_ms

    out = work / "platform.ms"
    started = time.perf_counter()
    report = convert_observation(files_of(raw), out, flag_rfi=flag_rfi)
    seconds = time.perf_counter() - started
    verify_ms(out, report)
    return {"seconds": seconds, "steps": dict(report.seconds), "flagged": report.flags.fraction, "ms_gb": report.ms_bytes / 1e9}


def pyuvdata(raw: Path, work: Path) -> dict[str, object]:
    """Read the same files, phase them to one direction and write them with pyuvdata, for comparison."""
    from pyuvdata import UVData

    started = time.perf_counter()
    parts = []
    for path in files_of(raw).values():
        part = UVData()
        part.read_uvh5(str(path), fix_old_proj=False, run_check=False)
        part.uvw_array = part.uvw_array.astype(float)  # pyuvdata refuses the file's float32
        parts.append(part)
    uvd = parts.pop(0)
    uvd.fast_concat(parts, "freq", inplace=True, run_check=False)
    del parts
    read = time.perf_counter()
    uvd.phase(lon=2.0, lat=0.95, phase_frame="icrs", cat_name="tile")
    phased = time.perf_counter()
    uvd.write_ms(str(work / "pyuvdata.ms"), run_check=False)
    written = time.perf_counter()
    steps = {"read": read - started, "phase": phased - read, "write": written - phased}
    return {"seconds": written - started, "steps": steps}


def run_one(which: str, raw: Path, work: Path) -> None:
    """Measure one run in this process, with its peak memory, and delete its files."""
    work.mkdir(parents=True, exist_ok=True)
    result = pyuvdata(raw, work) if which == "pyuvdata" else convert(raw, work, which == "flagged")
    usage, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = sum(u.ru_utime + u.ru_stime for u in (usage, children))
    result |= {"run": which, "peak_gb": usage.ru_maxrss / 1e6, "cpu_s": cpu_s, "load": os.getloadavg()[0]}
    print(json.dumps(result))
    for ms in work.glob("*.ms"):
        shutil.rmtree(ms)


def main() -> None:
    """Measure each run in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("raw", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--simulate", action="store_true", help="make the raw files first")
    parser.add_argument("--pyuvdata", action="store_true", help="run pyuvdata too")
    parser.add_argument("--one", choices=["plain", "flagged", "pyuvdata"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        run_one(arguments.one, arguments.raw, arguments.work)
        return
    if arguments.simulate:
        from dsa110_assets.simulation.array import full_array
        from dsa110_assets.simulation.band import full_band
        from dsa110_assets.simulation.sky import point_sources
        from dsa110_assets.simulation.tile import simulate_tile

        sky = point_sources([113.0, 112.5], [54.7, 55.2], [8.0, 3.0])
        simulate_tile(arguments.raw, start_mjd=61_100.2, declination_deg=54.6, sky=sky, array=full_array(), band=full_band(), seed=5)
    for which in ["plain", "plain", "flagged"] + ["pyuvdata"] * arguments.pyuvdata:  # the first also compiles
        command = [sys.executable, "-W", "ignore", __file__, str(arguments.raw), str(arguments.work), "--one", which]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
