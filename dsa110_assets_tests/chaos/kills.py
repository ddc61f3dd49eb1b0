"""`make chaos`: SIGKILL at random instants to every part of a running platform, over a night; then everything must agree.

``python -m dsa110_assets_tests.chaos.kills --kills 100 --seed 1``. The real services of `dsa110 up` process `small_night`;
new observations arrive as long as there are kills to come. A kill hits the daemon (with the sensors' loop), the webserver, the
code server (the sensors themselves), a run worker, a CASA child or the database: of the kinds that live at the moment, those that
were hit least are the likeliest. The next one comes after a random pause, and when the services run again and a run works, or eight
seconds later, so that a slow machine is hit at work and not only while it starts. At the end `agreement` looks for anything lost,
half or twice, and is itself checked with planted faults. Exit code 0 only when all is well.
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
from dsa110_assets.stages.queue import planning
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.times import group_id_of
from dsa110_assets_tests.chaos.agreement import Night, disagreements, planted_faults
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import SmallNight, digests, prepare

SERVICES = ("daemon", "webserver", "code server", "database")
MEAN_PAUSE_S = 3.0
LONGEST_START_S = 8.0
"""So long a kill waits for services that are still starting, and for a run to work."""
QUIET_LIMIT_S = 1200.0
FEWEST_IN_WORK = 3
MOST_UNFINISHED = 7
"""Another observation arrives when fewer than the first number can be worked on now, and fewer than the second are unfinished."""
JD_MINUS_MJD = 2_400_000.5


@dataclass
class Tally:
    """What happened: kills of each role; seconds from a worker's death until the queue had its observation back."""

    kills: Counter[str] = field(default_factory=Counter)
    noticed_s: list[float] = field(default_factory=list)
    watched: dict[str, tuple[int, float]] = field(default_factory=dict)

    def look(self, session: Session) -> None:
        """Which dead runs have been noticed by now."""
        for group_id, (attempt, since) in list(self.watched.items()):
            group = session.get(IngestGroup, group_id, populate_existing=True)
            if group is not None and (group.state, group.attempt) != (GroupState.IN_PROGRESS, attempt):
                self.noticed_s.append(time.monotonic() - since)
                del self.watched[group_id]


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, default=Path("chaos"), help="made anew")
    parser.add_argument("--mean-pause", type=float, default=MEAN_PAUSE_S, help="seconds between two kills, on average")
    parser.add_argument("--json", type=Path, default=None, help="also write the figures there")
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
        groups = frozenset(group_id_of(night.start_mjd(tile) + JD_MINUS_MJD) for tile in range(tiles))
        expected = Night(groups, _RAW, target.config.input_dir)
        with Session(target.platform.database.engine) as session:
            found = disagreements(session, target.platform, target.instance, expected)
            attempts = sum(session.scalars(select(IngestGroup.attempt)))
        planted = planted_faults(target.platform, target.instance, expected) if not found else {}
        runs = Counter(run.status.value for run in target.instance.get_runs())
    figures = {
        "kills": dict(tally.kills), "seed": options.seed, "observations": tiles, "attempts": attempts, "runs": dict(runs),
        "under attack (s)": round(attacked_s), "then quiet after (s)": None if quiet_s is None else round(quiet_s),
        "dead runs given back": len(tally.noticed_s),
        "given back after (s), median and longest": [round(float(f(tally.noticed_s)), 1) for f in (np.median, max)] if tally.noticed_s else None,
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
    """Kill; returns what was killed, and the number of observations that arrived meanwhile."""
    rng = np.random.default_rng(seed)
    tally, tiles, next_kill = Tally(), 0, time.monotonic() + 15.0
    while sum(tally.kills.values()) < n_kills:
        try:
            with target.platform.database.session() as session:
                tally.look(session)
                groups = session.execute(select(IngestGroup.state, IngestGroup.pending_at)).tuples().all()
            unfinished = tiles - sum(state == GroupState.COMPLETED for state, _ in groups)
            delayed = sum(state == GroupState.PENDING and at is not None and at > now() for state, at in groups)
            if tiles < night.n_tiles and unfinished - delayed < FEWEST_IN_WORK and unfinished < MOST_UNFINISHED:
                _arrive(target, night, tiles)
                tiles += 1
        except PipelineError:  # the database has just been killed
            pass
        if (late_s := time.monotonic() - next_kill) >= 0:
            alive = {role: found for role, found in target.processes().items() if found}
            if all(role in alive for role in (*SERVICES, "run worker")) or late_s > LONGEST_START_S:
                _kill_one(target, alive, rng, tally)
                next_kill = time.monotonic() + rng.exponential(mean_pause_s)
        time.sleep(0.2)
    return tally, max(tiles, 2) if tiles >= 2 else _complete(target, night, tiles)


def _complete(target: RunningPlatform, night: SmallNight, tiles: int) -> int:
    """A night without its calibrator would wait for ever."""
    for tile in range(tiles, 2):
        _arrive(target, night, tile)
    return 2


def _arrive(target: RunningPlatform, night: SmallNight, tile: int) -> None:
    names = {path.name for path in night.write(target.config.input_dir, tile)}
    _RAW.update({name: facts for name, facts in digests(target.config.input_dir).items() if name in names})


def _kill_one(target: RunningPlatform, alive: dict[str, list[psutil.Process]], rng: np.random.Generator, tally: Tally) -> None:
    if not alive:
        return
    weights = np.array([1.0 / (1 + tally.kills[role]) for role in alive])
    role = str(rng.choice(list(alive), p=weights / weights.sum()))
    victim = alive[role][int(rng.integers(len(alive[role])))]
    group = _group_of(target, victim.pid) if role == "run worker" else None
    try:
        victim.kill()
    except psutil.NoSuchProcess:
        return
    tally.kills[role] += 1
    print(f"kill {sum(tally.kills.values())}: {role} {victim.pid}", file=sys.stderr, flush=True)
    if group is not None:
        tally.watched[group[0]] = (group[1], time.monotonic())


def _group_of(target: RunningPlatform, pid: int) -> tuple[str, int] | None:
    """Observation and attempt that a worker has taken; None for another kind of run, or when nobody can be asked."""
    try:
        with target.platform.database.session() as session:
            held = session.scalars(
                select(IngestGroup).where(IngestGroup.state == GroupState.IN_PROGRESS, IngestGroup.run_id.is_not(None))
            ).all()
            for group in held:
                for event in target.instance.all_logs(str(group.run_id), of_type=dg.DagsterEventType.ENGINE_EVENT):
                    if f"(pid: {pid})" in (event.message or event.user_message):
                        return group.group_id, group.attempt
    except Exception:  # noqa: BLE001 - database or Dagster storage are dead at the moment; the kill happens all the same
        return None
    return None


def _wait_until_quiet(target: RunningPlatform, tiles: int, tally: Tally) -> float | None:
    """Seconds until nothing is left to do; None when that never came."""
    began = time.monotonic()
    while time.monotonic() - began < QUIET_LIMIT_S:
        try:
            with target.platform.database.session() as session:
                tally.look(session)
                states = Counter(session.scalars(select(IngestGroup.state)))
            busy = target.instance.get_runs_count(
                dg.RunsFilter(
                    statuses=[
                        s
                        for s in dg.DagsterRunStatus
                        if s not in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
                    ]
                )
            )
            if states[GroupState.COMPLETED] == tiles and not busy and not planning.follow_ups(target.platform):
                return time.monotonic() - began
        except PipelineError:
            pass
        time.sleep(1.0)
    return None


if __name__ == "__main__":
    sys.exit(main())
