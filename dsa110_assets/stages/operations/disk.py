"""Check of the free disk space before new work begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from dsa110_assets.config import PipelineConfig

GIB = 1 << 30


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
