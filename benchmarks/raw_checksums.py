"""CPU time that the checksum of a full-size raw file adds to reading it, from the page cache.

    python -m benchmarks.raw_checksums [--files N]

96 antennas, 48 channels, 24 integrations: 145 MB a file, sixteen files a tile.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dsa110_assets.conversion.reading import FileBuffer, read_raw_data
from dsa110_assets.raw_checksums import sha256_of
from dsa110_assets_tests.conversion.minimal_raw import write_raw


def cpu_s(work: Callable[[], object]) -> float:
    """CPU seconds of the best of three runs."""
    taken: list[float] = []
    for _ in range(3):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return min(taken)


def main() -> None:
    """Write files, read them in three ways, print the times of one file and of a tile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = [
            write_raw(
                Path(folder) / f"2026-03-12T05:00:00_sb{n:02d}.hdf5",
                n,
                start_jd=2461111.7,
                dec_rad=0.953,
                n_times=24,
                n_channels=48,
                n_antennas=96,
                order=tuple(range(96)),
            )
            for n in range(chosen.files)
        ]
        buffer = FileBuffer()
        size = paths[0].stat().st_size
        for what, read in {
            "read": lambda path: read_raw_data(path, buffer),
            "read with checksum": lambda path: read_raw_data(path, buffer, with_checksum=True),
            "checksum at first sight": sha256_of,
        }.items():
            one = sum(cpu_s(lambda path=path, read=read: read(path)) for path in paths) / len(paths)
            print(f"{what:24} {size / 1e6:6.0f} MB {one:6.3f} s of CPU, {size / one / 1e9:5.2f} GB/s; sixteen files {16 * one:5.2f} s")


if __name__ == "__main__":
    main()
