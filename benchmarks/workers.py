"""What workers cost the database: queue, beats and fence, for 1, 4, 16 and 64 workers.

``python -m benchmarks.workers`` runs a PostgreSQL server with the platform's settings and, for each number, so many
workers with connections of their own. First they take, hold and end runs as fast as they can: that gives the server's
CPU for a run, and the time to take one in a crowd. Then they work at the real pace (a beat every 5 s, a run in
``--run`` seconds): that gives the load. The runs do nothing, so nothing of Dagster is in these figures: what database,
daemon and code server do for real runs is printed by `make cluster`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.workers import BEAT_S, Host
from dsa110_assets.registry.server import EmbeddedServer

QUEUE, VERSION = "dsa110-pipeline", "0123456789ab-01234567"
HOLDS = 6
"""Times that a tile's run holds its row: three products, each moved into place and registered."""


class _Worker:
    """A worker with one slot. ``took_s``: times to take a run."""

    def __init__(self, url: str, number: int) -> None:
        self.database = Database(url)
        self.name, self.host = f"host{number}:4", Host(f"host{number}", f"boot{number}")
        self.took_s: list[float] = []
        self.beats = 0
        with self.database.session() as session:
            workers.join(session, self.name, self.host, pid=4, queue=QUEUE, slots=1, version=VERSION)

    def make_one(self, *, pause_s: float = 0.0) -> bool:
        """Take a run, hold it as a tile does, and end it; False if none waits."""
        began = time.perf_counter()
        with self.database.session() as session:
            run_id = workers.claim(session, worker=self.name, host=self.host, queue=QUEUE, version=VERSION)
        if run_id is None:
            return False
        self.took_s.append(time.perf_counter() - began)
        with self.database.session() as session:
            workers.record_process(session, run_id, 9)
        for _ in range(HOLDS):
            with self.database.session() as session:
                workers.hold(session, run_id)
        end = time.monotonic() + pause_s
        while time.monotonic() < end:
            self.beat([run_id])
            time.sleep(min(BEAT_S, max(0.0, end - time.monotonic())))
        with self.database.session() as session:
            workers.record_end(session, run_id, 0)
        return True

    def beat(self, run_ids: list[str]) -> None:
        """Give a beat as `Worker.beat` does."""
        self.beats += 1
        with self.database.session() as session:
            workers.beat(session, self.name, run_ids, None)
            workers.waiting(session, QUEUE)
            workers.newest_version(session, QUEUE)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--runs", type=int, default=2000, help="runs that are made as fast as possible")
    parser.add_argument("--run", type=float, default=100.0, help="seconds of a run at the real pace")
    parser.add_argument("--seconds", type=float, default=40.0, help="how long the real pace is measured")
    options = parser.parse_args(arguments)
    home = Path(tempfile.mkdtemp(prefix="dsa110-workers-"))
    home.chmod(0o755)
    server = EmbeddedServer(home / "postgres")
    try:
        address = server.ensure()
        url = address.url("postgres")
        Database(url).migrate()
        print(json.dumps([_measure(url, address.pid, number, options) for number in options.workers], indent=1))
    finally:
        server.stop(immediate=True)
        shutil.rmtree(home, ignore_errors=True)


def _measure(url: str, server: int, number: int, options: argparse.Namespace) -> dict[str, object]:
    crowd = [_Worker(url, one) for one in range(number)]
    _request(crowd[0].database, options.runs)
    before, began = _cpu_s(server), time.perf_counter()
    _together([lambda one=one: _until_empty(one) for one in crowd])
    fast_s, fast_cpu_s = time.perf_counter() - began, _cpu_s(server) - before
    took = sorted(took for one in crowd for took in one.took_s)
    for one in crowd:
        one.took_s.clear()
    _request(crowd[0].database, int(number * (options.seconds / options.run + 2)))
    before, stop = _cpu_s(server), time.monotonic() + options.seconds
    _together([lambda one=one, n=n: _at_pace(one, n / number * BEAT_S, options.run, stop) for n, one in enumerate(crowd)])
    paced_cpu_s, beats = _cpu_s(server) - before, sum(one.beats for one in crowd)
    for one in crowd:
        one.database.dispose()
    return {
        "workers": number, "load of the machine": round(os.getloadavg()[0], 1),
        "server CPU for a run (ms)": round(1000 * fast_cpu_s / options.runs, 2), "runs a second at most": round(options.runs / fast_s),
        "to take a run in the crowd (ms), median and longest": [round(1000 * statistics.median(took), 1), round(1000 * took[-1], 1)],
        "at the real pace": {
            "beats a second": round(beats / options.seconds, 1), "cores of the server": round(paced_cpu_s / options.seconds, 4),
            "server CPU for a beat (ms)": round(1000 * paced_cpu_s / max(beats, 1), 2),
        },
    }  # fmt: skip


def _request(database: Database, number: int) -> None:
    with database.session() as session:
        for _ in range(number):
            workers.request(session, str(uuid.uuid4()), queue=QUEUE, version=VERSION, priority=10, group_id=None)


def _until_empty(one: _Worker) -> None:
    while one.make_one():
        pass


def _at_pace(one: _Worker, first_s: float, run_s: float, stop: float) -> None:
    one.beats = 0
    time.sleep(first_s)
    while (left := stop - time.monotonic()) > 0:
        one.make_one(pause_s=min(run_s, left))


def _together(tasks: Sequence[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def _cpu_s(server: int) -> float:
    """CPU of the server: its own, that of living sessions, and that of ended ones."""
    root = psutil.Process(server)
    times = root.cpu_times()
    total = times.user + times.system + times.children_user + times.children_system
    for child in root.children():
        own = child.cpu_times()
        total += own.user + own.system
    return total


if __name__ == "__main__":
    main()
