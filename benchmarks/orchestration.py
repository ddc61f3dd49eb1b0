"""Times of ingest and orchestration, measured on the running services of `dsa110 up`.

``python -m benchmarks.orchestration`` measures: a sensor's tick with 100 000 known files in the directory; the time
from a file's last byte to user code in a run; the cost of a tile's runs beyond their work; the time from a killed run
to the next attempt at its observation. Tiles are small (`dsa110_assets_tests.chaos.small_night`), so nearly all of the
time is orchestration.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
from sqlalchemy import insert, select

from dsa110_assets.cli.services import free_port
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.schema import GroupState, IngestGroup, ProductVersion, SubbandFile
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue import intake
from dsa110_assets.times import group_id_of
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import SmallNight, prepare

JD_MINUS_MJD = 2_400_000.5
LIMIT_S = 300.0


def main(arguments: list[str] | None = None) -> None:
    """Run the services, measure, and print the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--directory", type=Path, default=Path("orchestration-benchmark"), help="deleted and created at the start, removed at the end"
    )
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--tiles", type=int, default=4)
    options = parser.parse_args(arguments)
    root: Path = options.directory.absolute()
    shutil.rmtree(root, ignore_errors=True)
    night, port = SmallNight.of(options.tiles + 2), free_port()
    _, settings = prepare(root, night, port)
    with running(root, settings | {"PIPELINE_HOUR_SETTLE_S": "3600"}, port) as target:  # so that only tiles are in the queue
        print(json.dumps(measure(target, night, options.tiles, options.files), indent=1), flush=True)
    shutil.rmtree(root)


def measure(target: RunningPlatform, night: SmallNight, tiles: int, n_files: int) -> dict[str, object]:
    """Measure all figures."""
    load = os.getloadavg()[0]
    for tile in (1, 0):
        _report(f"tile {tile}")
        night.write(target.config.input_dir, tile)
        _wait(lambda wanted=1 if tile else 2: _completed(target) == wanted)
    delays: list[float] = []
    for tile in range(2, tiles + 1):
        group = group_id_of(night.start_mjd(tile) + JD_MINUS_MJD)
        _report(f"tile {tile}")
        night.write(target.config.input_dir, tile)
        landed = time.time()
        _wait(lambda group=group: _step_start(target, group) is not None)
        delays.append((_step_start(target, group) or 0.0) - landed)
        _wait(lambda wanted=tile + 1: _completed(target) == wanted)
    _wait(lambda: target.instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == 0)
    overhead = [_overhead(target, group_id_of(night.start_mjd(tile) + JD_MINUS_MJD)) for tile in range(2, tiles + 1)]
    _report(f"last byte -> user code: {[round(delay, 1) for delay in delays]} s; killing a run")
    dead_s = _dead_run(target, night, tiles + 1)
    _wait(lambda: _completed(target) == tiles + 2)
    _report(f"next attempt after {dead_s:.1f} s; writing {n_files} files")
    return {
        "load of the machine before, and at the end": [round(load, 1), round(os.getloadavg()[0], 1)],
        "last byte -> user code (s)": _spread(delays),
        "orchestration of a tile beyond its work (s)": _spread(overhead),
        "killed run -> next attempt begins (s)": round(dead_s, 1),
        f"sensor's look at {n_files} known files": _scan_known_files(target, n_files),
    }


def _report(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 1), "longest": round(max(values), 1), "n": len(values)}


def _wait(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not done():
        if time.monotonic() > limit:
            raise TimeoutError(f"waited for {LIMIT_S} s")
        time.sleep(0.25)


def _completed(target: RunningPlatform) -> int:
    with target.platform.database.session() as session:
        return len(session.scalars(select(IngestGroup.group_id).where(IngestGroup.state == GroupState.COMPLETED)).all())


def _runs(target: RunningPlatform, group: str) -> Any:
    return target.instance.get_run_records(dg.RunsFilter(tags={GROUP_TAG: group}))


def _step_start(target: RunningPlatform, group: str) -> float | None:
    """Time when user code first ran for an observation."""
    times = [
        event.timestamp
        for record in _runs(target, group)
        for event in target.instance.all_logs(record.dagster_run.run_id, of_type=dg.DagsterEventType.STEP_START)
    ]
    return min(times, default=None)


def _overhead(target: RunningPlatform, group: str) -> float:
    """Seconds from the request of an observation's runs to their ends, minus the recorded durations of the stages."""
    records = _runs(target, group)
    wall = sum(record.end_time - record.create_timestamp.timestamp() for record in records if record.end_time is not None)
    with target.platform.database.session() as session:
        work = session.scalars(select(ProductVersion.duration_s).where(ProductVersion.key == group)).all()
    return wall - sum(duration or 0.0 for duration in work)


def _dead_run(target: RunningPlatform, night: SmallNight, tile: int) -> float:
    """Kill the worker of an observation, and return the seconds until the next attempt runs."""
    group = group_id_of(night.start_mjd(tile) + JD_MINUS_MJD)
    night.write(target.config.input_dir, tile)
    _wait(lambda: _step_start(target, group) is not None)
    for worker in target.processes()["run worker"]:
        worker.kill()
    killed = time.time()

    def begun() -> bool:
        with target.platform.database.session() as session:
            one = session.get_one(IngestGroup, group)
            return one.attempt > 1 and one.run_id is not None and one.state == GroupState.IN_PROGRESS

    _wait(begun)
    return time.time() - killed


def _scan_known_files(target: RunningPlatform, n_files: int) -> dict[str, float]:
    """Times of the sensor's scans of a directory with many known files."""
    directory = target.config.input_dir.parent / "many"
    directory.mkdir()
    rows = []
    for number in range(n_files):
        stamp = f"2025-{1 + number // 40000 % 12:02d}-{1 + number // 1440 % 28:02d}T{number // 60 % 24:02d}:{number % 60:02d}:{number // 40320 % 60:02d}"
        path = directory / f"{stamp}_sb{number % 16:02d}.hdf5"
        path.touch()
        facts = path.stat()
        rows.append({
            "path": str(path), "state": "rejected", "reason": "content: of the benchmark", "size_bytes": facts.st_size,
            "mtime_ns": facts.st_mtime_ns, "subband": number % 16,
        })  # fmt: skip
    with target.platform.database.session() as session:
        for start in range(0, n_files, 10_000):
            session.execute(insert(SubbandFile), rows[start : start + 10_000])
    platform = replace(target.platform, config=target.config.model_copy(update={"input_dir": directory, "scan_interval_s": 0.001}))
    sweeps = [_sweep(platform) for _ in range(4)]  # the first one checks every file in the ledger, as once an hour
    first, later = sweeps[0], [call for sweep in sweeps[1:] for call in sweep]
    return {
        "longest call (s)": round(max(max(sweep) for sweep in sweeps), 2),
        "calls of the first sweep, of later ones": [len(first), round(len(later) / 3, 1)],
        "first sweep, later ones altogether (s)": [round(sum(first), 2), round(sum(later) / 3, 2)],
        "call between sweeps (s)": round(_call_between(platform), 3),
    }


def _sweep(platform: Platform) -> list[float]:
    """Times of the sensor's scans from the beginning of a sweep to its end."""
    calls: list[float] = []
    while True:
        began = time.perf_counter()
        report = intake.scan_input(platform)
        calls.append(time.perf_counter() - began)
        assert report.n_opened == 0
        if intake.sweep_is_done(platform):
            return calls


def _call_between(platform: Platform) -> float:
    """Time of a scan between sweeps, without hints."""
    idle = replace(platform, config=platform.config.model_copy(update={"scan_interval_s": 3600.0}))
    _sweep(idle)
    began = time.perf_counter()
    intake.scan_input(idle)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
