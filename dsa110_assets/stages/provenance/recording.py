"""What a stage says about itself: time, peak memory, figures, a preview, and the row in `product_versions`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dsa110_assets.quality.gate import TileVerdict
from dsa110_assets.quality.verdict import Verdict

Figure = float | int | str | bool | None


@dataclass
class StageResult:
    """Outcome of one stage for one key.

    ``figures``: named numbers and words, units in the names; numbers become trends in the UI. ``preview``: a small PNG; ``pictures``: further ones by title.
    ``tables``: titled rows for people. ``paths``: what was made. ``verdicts``: quality measurements with their limits. ``verdict``: what
    they mean for a tile as a whole.
    """

    product: str
    key: str
    figures: dict[str, Figure] = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    tables: dict[str, list[Mapping[str, Figure]]] = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    verdict: TileVerdict | None = None
    preview: Path | None = None
    pictures: dict[str, Path] = field(default_factory=dict)
    version_id: int | None = None


@dataclass
class Measured:
    """Filled when the block ends: wall-clock seconds, and the highest resident memory of this process inside it."""

    duration_s: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Measured]:
    """Measure a block. Several stages share a process, so the kernel's high-water mark is reset first (Linux ``clear_refs``)."""
    _reset_peak()
    result = Measured()
    begin = time.perf_counter()
    try:
        yield result
    finally:
        result.duration_s = time.perf_counter() - begin
        result.peak_memory_mb = _peak_mb()


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not permitted in some containers: the mark of the whole process is reported instead
        return


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def median(values: object) -> float | None:
    """Median of a column of numbers, gaps left out; None for an empty one."""
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(np.median(numbers)) if numbers.size else None
