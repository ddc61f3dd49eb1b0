"""`make pace`: run the telescope at four times its pace; memory must stay flat and the lag bounded.

``python -m dsa110_assets_tests.chaos.pace --minutes 20``. A small tile arrives at a running platform every
309.24 s / 4. The memory of each service and the number of unfinished observations are sampled. The first third is for
warming up.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from sqlalchemy import select

from dsa110_assets.cli.services import free_port
from dsa110_assets.errors import PipelineError
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.simulation.tile import TILE_S
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import SmallNight, prepare

SERVICES = ("daemon", "webserver", "code server", "database")
SAMPLE_S = 5.0
MOST_GROWTH = 0.05
MOST_GROWTH_MB = 12.0
MOST_BEHIND = 4
CATCH_UP_S = 240.0


@dataclass(frozen=True)
class Sample:
    """A sample. ``at_s``: since the start. ``memory_mb``: of each service. ``arrived``, ``completed``: observations."""

    at_s: float
    memory_mb: dict[str, float]
    arrived: int
    completed: int


def growth_mb(samples: Sequence[Sample], service: str) -> tuple[float, float]:
    """Median memory (MB) in the second third of the time, and the increase to the last third."""
    values = np.array([sample.memory_mb[service] for sample in samples if service in sample.memory_mb])
    third = len(values) // 3
    middle, last = np.median(values[third : 2 * third]), np.median(values[2 * third :])
    return float(middle), float(last - middle)


def verdict(samples: Sequence[Sample]) -> list[str]:
    """Errors, if memory is not flat or the lag not bounded."""
    wrong: list[str] = []
    for service in SERVICES:
        middle, growth = growth_mb(samples, service)
        if growth > max(MOST_GROWTH * middle, MOST_GROWTH_MB):
            wrong.append(f"the {service} has grown by {growth:.0f} MB from {middle:.0f} MB")
    behind = max(sample.arrived - sample.completed for sample in samples)
    if behind > MOST_BEHIND:
        wrong.append(f"{behind} observations behind")
    if samples[-1].arrived != samples[-1].completed:
        wrong.append(f"{samples[-1].arrived - samples[-1].completed} observations were never completed")
    return wrong


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--speed", type=float, default=4.0)
    parser.add_argument("--directory", type=Path, default=Path("pace"), help="emptied first")
    options = parser.parse_args(arguments)
    root: Path = options.directory.absolute()
    shutil.rmtree(root, ignore_errors=True)
    night, port = SmallNight.of(200), free_port()
    _, settings = prepare(root, night, port)
    with running(root, settings, port) as target:
        samples = _observe(target, night, options.minutes * 60, TILE_S / options.speed)
    figures = {
        "minutes": options.minutes, "speed": options.speed, "observations": samples[-1].arrived,
        "most behind": max(sample.arrived - sample.completed for sample in samples),
        "behind on average": round(float(np.mean([sample.arrived - sample.completed for sample in samples])), 2),
        "memory (MB), then growth in the last third": {name: [round(v, 1) for v in growth_mb(samples, name)] for name in SERVICES},
    }  # fmt: skip
    wrong = verdict(samples)
    print(json.dumps(figures, indent=1))
    print("\n".join(wrong) or "memory is flat and the lag bounded", flush=True)
    return 1 if wrong else 0


def _observe(target: RunningPlatform, night: SmallNight, duration_s: float, every_s: float) -> list[Sample]:
    samples: list[Sample] = []
    began = time.monotonic()
    arrived = 0
    while True:
        at_s = time.monotonic() - began
        if at_s >= duration_s and (samples[-1].completed == arrived or at_s > duration_s + CATCH_UP_S):
            return samples
        if at_s < duration_s and at_s >= arrived * every_s:
            night.write(target.config.input_dir, arrived)
            arrived += 1
        samples.append(_sample(target, time.monotonic() - began, arrived))
        time.sleep(max(0.0, SAMPLE_S - (time.monotonic() - began - at_s)))


def _sample(target: RunningPlatform, at_s: float, arrived: int) -> Sample:
    memory: dict[str, float] = {}
    for role, found in target.processes().items():
        if role in SERVICES and found:
            family = [found[0], *(found[0].children(recursive=True) if role == "database" else [])]
            memory[role] = sum(private_mb(process) for process in family)
    try:
        with target.platform.database.session() as session:
            done = len(session.scalars(select(IngestGroup.group_id).where(IngestGroup.state == GroupState.COMPLETED)).all())
    except PipelineError:
        done = 0
    return Sample(at_s, memory, arrived, done)


def private_mb(process: psutil.Process) -> float:
    """Memory (MB) that only this process uses.

    Mappings that are meant to be shared do not count, even if no other process has touched their pages yet: the
    database's buffers would seem to grow until all of them are in use (``shared_buffers`` is their limit).
    """
    private_kb, is_shared = 0, False
    try:
        for line in Path(f"/proc/{process.pid}/smaps").read_text().splitlines():
            first, _, rest = line.partition(" ")
            if not first.endswith(":"):
                is_shared = rest[3:4] == "s"  # a mapping begins: address range, permissions
            elif not is_shared and first in ("Private_Clean:", "Private_Dirty:"):
                private_kb += int(rest.split()[0])
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0.0
    return private_kb / 1e3


if __name__ == "__main__":
    sys.exit(main())
