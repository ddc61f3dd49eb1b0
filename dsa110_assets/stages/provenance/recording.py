"""The result of a stage: figures, tables, verdicts, pictures; and its measured time and peak memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dsa110_assets.common.figures import Details, Figures
from dsa110_assets.quality.gate import TileVerdict
from dsa110_assets.quality.verdict import Verdict


@dataclass
class StageResult:
    """Result of a stage for one key.

    ``figures``, ``tables``: see `common.figures`. ``paths``: of the product. ``verdicts``: quality checks with their
    limits. ``verdict``: on a tile as a whole. ``preview``: a small PNG; ``pictures``: further ones by title.
    """

    product: str
    key: str
    figures: Figures = field(default_factory=dict)
    paths: dict[str, Path] = field(default_factory=dict)
    tables: Details = field(default_factory=dict)
    verdicts: list[Verdict] = field(default_factory=list)
    verdict: TileVerdict | None = None
    preview: Path | None = None
    pictures: dict[str, Path] = field(default_factory=dict)
    version_id: int | None = None


@dataclass
class Measured:
    """Wall-clock time of a block, and the peak resident memory of the process in it; set when the block ends."""

    duration_s: float = 0.0
    peak_memory_mb: float = 0.0


@contextmanager
def measured() -> Iterator[Measured]:
    """Measure time and peak memory of a block; the kernel's peak is reset first, because stages share a process."""
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
    except OSError:  # not permitted in some containers; then the peak of the whole process is reported
        return


def _peak_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0
