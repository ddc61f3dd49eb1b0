"""`make chaos`: send SIGKILL at random moments to every part of a running platform; at the end everything must agree.

``python -m dsa110_assets_tests.chaos.kills --kills 100 --seed 1``. The real services of `dsa110 up` process
`small_night`. New observations arrive until the last kill. A kill hits the daemon (the sensors' loop), the webserver,
the code server (the sensors themselves), a run worker, a CASA child or the database. Among those that live at the
moment, a kind with fewer kills is more likely. The next kill comes after a random pause, when the services run again
and a run works, or eight seconds later; so a slow machine is also hit at work, not only while it starts. At the end
`agreement` checks for anything lost, incomplete or doubled, and is itself checked with planted faults.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import numpy as np
import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.cli.services import free_port
from dsa110_assets.errors import PipelineError
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.times import JD_MINUS_MJD, group_id_of
from dsa110_assets_tests.chaos.agreement import Night, disagreements, planted_faults
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import SmallNight, digests, prepare

SERVICES = ("daemon", "webserver", "code server", "database")
MEAN_PAUSE_S = 3.0
LONGEST_START_S = 8.0
"""A kill waits this long for services that are still starting, and for a run to work."""
QUIET_LIMIT_S = 1200.0
FEWEST_IN_WORK = 3
MOST_UNFINISHED = 7
"""Another observation arrives when fewer than the first number are ready, and fewer than the second are unfinished."""


@dataclass
class Tally:
    """Counts of an attack.

    ``kills``: of each role. ``returned_s``: seconds from a worker's death until its observation was back in the queue.
    ``killed``: attempt and time of death of each observation that is not back yet.
    """

    kills: Counter[str] = field(default_factory=Counter)
    returned_s: list[float] = field(default_factory=list)
    killed: dict[str, tuple[int, float]] = field(default_factory=dict)

    def update(self, session: Session) -> None:
        """Record the observations that are back in the queue."""
        for group_id, (attempt, since) in list(self.killed.items()):
            row = session.get(IngestGroup, group_id, populate_existing=True)
            if row is not None and (row.state, row.attempt) != (GroupState.IN_PROGRESS, attempt):
                self.returned_s.append(time.monotonic() - since)
                del self.killed[group_id]


def main(arguments: list[str] | None = None) -> int:
    """Run the command. The exit code is 0 only if everything agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path("chaos"), help="emptied first")
    parser.add_argument("--mean-pause", type=float, default=MEAN_PAUSE_S, help="mean number of seconds between two kills")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures to this file")
    options = parser.parse_args(arguments)
    root: Path = options.directory.absolute()
    shutil.rmtree(root, ignore_errors=True)
    night, port = SmallNight.of(24), free_port()
    _, settings = prepare(root, night, port)
    began = time.monotonic()
    with running(root, settings, port) as target:
        tally, tiles = _attack(target, night, options.kills, options.seed, options.mean_pause)
        attacked_s = time.monotonic() - began
        quiet_s = _wait_until_quiet(target, tiles, tally)
        group_ids = frozenset(group_id_of(night.start_mjd(tile) + JD_MINUS_MJD) for tile in range(tiles))
        expected = Night(group_ids, _RAW, target.config.input_dir)
        with Session(target.platform.database.engine) as session:
            found = disagreements(session, target.platform, target.instance, expected)
            attempts = sum(session.scalars(select(IngestGroup.attempt)))
        planted = planted_faults(target.platform, target.instance, expected) if not found else {}
        runs = Counter(run.status.value for run in target.instance.get_runs())
    figures = {
        "kills": dict(tally.kills), "seed": options.seed, "observations": tiles, "attempts": attempts, "runs": dict(runs),
        "under attack (s)": round(attacked_s), "then quiet after (s)": None if quiet_s is None else round(quiet_s),
        "dead runs given back": len(tally.returned_s),
        "given back after (s), median and longest": [round(float(f(tally.returned_s)), 1) for f in (np.median, max)] if tally.returned_s else None,
        "disagreements": found, "planted faults found": f"{sum(planted.values())} of {len(planted)}",
    }  # fmt: skip
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    good = quiet_s is not None and not found and all(planted.values())
    print("all agrees" if good else "BROKEN", flush=True)
    return 0 if good else 1


_RAW: dict[str, tuple[str, int, int]] = {}


def _attack(target: RunningPlatform, night: SmallNight, n_kills: int, seed: int, mean_pause_s: float) -> tuple[Tally, int]:
    """Kill processes. Return the counts and the number of observations that arrived meanwhile."""
    rng = np.random.default_rng(seed)
    tally, tiles, next_kill = Tally(), 0, time.monotonic() + 15.0
    while sum(tally.kills.values()) < n_kills:
        try:
            with target.platform.database.session() as session:
                tally.update(session)
                rows = session.execute(select(IngestGroup.state, IngestGroup.pending_at)).tuples().all()
            unfinished = tiles - sum(state == GroupState.COMPLETED for state, _ in rows)
            delayed = sum(state == GroupState.PENDING and at is not None and at > now() for state, at in rows)
            if tiles < night.n_tiles and unfinished - delayed < FEWEST_IN_WORK and unfinished < MOST_UNFINISHED:
                _arrive(target, night, tiles)
                tiles += 1
        except PipelineError:  # the database was just killed
            pass
        if (late_s := time.monotonic() - next_kill) >= 0:
            alive = {role: found for role, found in target.processes().items() if found}
            if all(role in alive for role in (*SERVICES, "run worker")) or late_s > LONGEST_START_S:
                _kill_one(target, alive, rng, tally)
                next_kill = time.monotonic() + rng.exponential(mean_pause_s)
        time.sleep(0.2)
    for tile in range(tiles, 2):  # a night without its calibrator would wait forever
        _arrive(target, night, tile)
    return tally, max(tiles, 2)


def _arrive(target: RunningPlatform, night: SmallNight, tile: int) -> None:
    names = {path.name for path in night.write(target.config.input_dir, tile)}
    _RAW.update({name: facts for name, facts in digests(target.config.input_dir).items() if name in names})


def _kill_one(target: RunningPlatform, alive: dict[str, list[psutil.Process]], rng: np.random.Generator, tally: Tally) -> None:
    if not alive:
        return
    weights = np.array([1.0 / (1 + tally.kills[role]) for role in alive])
    role = str(rng.choice(list(alive), p=weights / weights.sum()))
    victim = alive[role][int(rng.integers(len(alive[role])))]
    attempt = _attempt_of(target, victim.pid) if role == "run worker" else None
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return
    tally.kills[role] += 1
    print(f"kill {sum(tally.kills.values())}: {role} {victim.pid}", file=sys.stderr, flush=True)
    if attempt is not None:
        tally.killed[attempt[0]] = (attempt[1], time.monotonic())


def _attempt_of(target: RunningPlatform, pid: int) -> tuple[str, int] | None:
    """Observation and attempt of a worker; None for another kind of run, or while the database is down."""
    try:
        with target.platform.database.session() as session:
            leased = session.scalars(
                select(IngestGroup).where(IngestGroup.state == GroupState.IN_PROGRESS, IngestGroup.run_id.is_not(None))
            ).all()
            for row in leased:
                for event in target.instance.all_logs(str(row.run_id), of_type=dg.DagsterEventType.ENGINE_EVENT):
                    if f"(pid: {pid})" in (event.message or event.user_message):
                        return row.group_id, row.attempt
    except Exception:  # noqa: BLE001 - the registry or Dagster's storage is down; kill the worker anyway
        return None
    return None


def _wait_until_quiet(target: RunningPlatform, tiles: int, tally: Tally) -> float | None:
    """Seconds until no work is left; None after the time limit."""
    began = time.monotonic()
    while time.monotonic() - began < QUIET_LIMIT_S:
        try:
            with target.platform.database.session() as session:
                tally.update(session)
            if target.is_quiet(tiles):
                return time.monotonic() - began
        except PipelineError:
            pass
        time.sleep(1.0)
    return None


if __name__ == "__main__":
    sys.exit(main())
