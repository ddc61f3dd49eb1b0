"""Small but real raw files in an input directory, and a fingerprint that shows changes to them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path

from dsa110_assets_tests.conversion.minimal_raw import write_raw
from dsa110_assets_tests.ingest.bookkeeping import START, julian_date


def raw_path(directory: Path, subband: int, start: datetime = START, delay_s: float = 0.0) -> Path:
    """Path of a subband's file when its node opens it ``delay_s`` after the start."""
    return directory / f"{start + timedelta(seconds=delay_s):%Y-%m-%dT%H:%M:%S}_sb{subband:02d}.hdf5"


def write_observation(
    directory: Path, subbands: Iterable[int] = range(16), start: datetime = START, delays_s: Mapping[int, float] | None = None
) -> list[Path]:
    """Write one file of a few kilobytes for each subband. ``delays_s`` shifts the times in the names."""
    delays_s = delays_s or {}
    return [
        write_raw(
            raw_path(directory, subband, start, delays_s.get(subband, 0.0)),
            subband,
            start_jd=julian_date(start),
            dec_rad=0.953,
            n_times=2,
            n_channels=4,
            order=(1, 0),
            n_antennas=3,
        )
        for subband in subbands
    ]


def fingerprint(directory: Path) -> dict[str, tuple[str, int, int, int]]:
    """Content, inode, permissions and time of modification of each file in a directory, by name."""
    found: dict[str, tuple[str, int, int, int]] = {}
    for path in sorted(directory.iterdir()):
        facts = path.stat()
        found[path.name] = (hashlib.sha256(path.read_bytes()).hexdigest(), facts.st_ino, facts.st_mode, facts.st_mtime_ns)
    return found
