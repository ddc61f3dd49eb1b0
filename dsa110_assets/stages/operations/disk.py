"""The free disk space: whether new work may begin, and when a disk will be full at the present rate."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from dsa110_assets.config import PipelineConfig

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

GIB = 1 << 30
FARTHEST_DAYS = 3650
"""Farthest day of a forecast."""
RATE_DAYS = 7
"""The rate of new products is the mean of these last whole days."""


@dataclass(frozen=True)
class Kept:
    """A part of products on a disk: bytes on disk by the day on which they were made, and for how many days it is kept.

    ``days``: 0 means forever. ``rate``: new bytes a day.
    """

    days: float
    rate: float
    made: Mapping[date, int]


def days_until_full(free_bytes: float, kept: Sequence[Kept], today: date) -> int | None:
    """Return after how many days a disk is full at the present rate, less what retention removes. None: never.

    Args:
        free_bytes: that may still be written.
        kept: parts of products on that disk.
        today: UTC date.
    """
    left = free_bytes
    for day in range(1, FARTHEST_DAYS + 1):
        for part in kept:
            left -= part.rate
            if part.days:
                removed = today + timedelta(days=day - int(part.days) - 1)
                left += part.rate if day > part.days else _made_until(part, removed) if day == 1 else part.made.get(removed, 0)
        if left < 0:
            return day
    return None


def _made_until(part: Kept, last: date) -> int:
    """What the first cleaning removes."""
    return sum(size for day, size in part.made.items() if day <= last)


def forecast(platform: Platform, now: datetime) -> dict[Path, int]:
    """Return after how many days each file system of products is full at the present rate.

    One that does not fill in ten years is left out. Raw files, the database and other programs are not included.
    """
    from dsa110_assets.registry.queries.storage import bytes_by_day
    from dsa110_assets.stages.operations.retiring import rules
    from dsa110_assets.stages.table import TABLE

    today = now.date()
    first = today - timedelta(days=RATE_DAYS)
    disks: dict[int, tuple[Path, list[Kept]]] = {}
    with platform.database.session() as session:
        for rule, (part, days) in rules(platform.config).items():
            since = now - timedelta(days=max(2 * days, RATE_DAYS + 1))
            made = bytes_by_day(session, rule, since)
            rate = sum(size for day, size in made.items() if first <= day < today) / RATE_DAYS
            folder = next(platform.paths.folder(row.folder) for row in TABLE if row.folder is not None and part in row.parts)
            place = _existing(folder)
            disks.setdefault(place.stat().st_dev, (place, []))[1].append(Kept(days, rate, made))
    free = {place: shutil.disk_usage(place).free - platform.config.min_free_gib * GIB for place, _ in disks.values()}
    found = {place: days_until_full(free[place], kept, today) for place, kept in disks.values() if free[place] > 0}  # else: `shortage`
    return {place: days for place, days in found.items() if days is not None}


def shortage(config: PipelineConfig) -> str | None:
    """Return why no new work may begin: a file system with less than ``min_free_gib`` free; None if there is space.

    Runs in progress continue. A full-size tile needs up to 4 GiB, for which the limit leaves space.
    """
    for name, path in (("output", config.output_dir), ("scratch", config.scratch_dir), ("state", config.state_dir)):
        free_gib = shutil.disk_usage(_existing(path)).free / GIB
        if free_gib < config.min_free_gib:
            return (
                f"paused: the {name} directory {path} has {free_gib:.1f} GiB left, less than PIPELINE_MIN_FREE_GIB ({config.min_free_gib:g}); "
                "make room (`dsa110 clean`), and work resumes automatically"
            )
    return None


def _existing(path: Path) -> Path:
    """The path, or the nearest directory above it that exists."""
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
