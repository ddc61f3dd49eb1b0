"""Time, peak memory and size of the export of one tile in each format.

``python -m benchmarks.export_tile MEASUREMENT_SET WORK_DIRECTORY``. Each format is written in its own process and
deleted afterward. Prints one line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path


def export_one(ms: Path, work: Path, name: str) -> None:
    """Export one format in this process and print its cost."""
    from dsa110_assets.conversion.export import ExportFormat, export_visibilities

    out = work / f"exported.{name}"
    started = time.perf_counter()
    report = export_visibilities(ms, out, ExportFormat(name), vis_units="uncalib")
    figures = {
        "format": name,
        "visibilities": report.n_times * report.n_baselines * report.n_channels * 2,
        "seconds": time.perf_counter() - started,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "size_gb": report.n_bytes / 1e9,
    }
    print(json.dumps(figures))
    shutil.rmtree(out) if out.is_dir() else out.unlink()


def main() -> None:
    """Measure each format in its own process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("ms", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--one", choices=["uvh5", "uvfits", "ms"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        export_one(arguments.ms, arguments.work, arguments.one)
        return
    for name in ("uvh5", "uvfits", "ms"):
        command = [sys.executable, "-m", "benchmarks.export_tile", str(arguments.ms), str(arguments.work), "--one", name]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
