"""`make cluster`: the platform on a head and three worker hosts, which die, are cut off and come back, while it works.

``python -m dsa110_assets_tests.chaos.cluster --seed 1``. The head is `dsa110 up` with the profile `distributed`; the
hosts are namespaces of this machine (`hosts`), each with `dsa110 worker`. PostgreSQL and Redis are real and are reached
over the hosts' network. `small_night` is processed while one case after the other happens, in an order that the seed
chooses. At the end `agreement` checks for anything lost, incomplete or doubled, and is itself checked with planted
faults. It needs root and Debian's redis-server.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import numpy as np
import psutil
from sqlalchemy import select
from sqlalchemy.orm import Session

import dsa110_assets
from dsa110_assets.cli.services import free_port
from dsa110_assets.errors import PipelineError
from dsa110_assets.ingest import ledger
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.schema import GroupState, IngestGroup, RunWorker
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets.stages.queue import planning
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.times import JD_MINUS_MJD, group_id_of
from dsa110_assets_tests.chaos.agreement import Digests, Night, disagreements, planted_faults
from dsa110_assets_tests.chaos.hosts import Broker, Host, Network, network, why_not_possible
from dsa110_assets_tests.chaos.running_platform import RunningPlatform, running
from dsa110_assets_tests.chaos.small_night import SmallNight, digests, prepare

LOST_S = 15.0
CASE_LIMIT_S = 240.0
QUIET_LIMIT_S = 900.0
RUN = "cluster.run_process"
FIRST_TILES = 2


@dataclass
class Cluster:
    """A running platform with its hosts. ``happened``: a line for each case."""

    target: RunningPlatform
    network: Network
    broker: Broker
    night: SmallNight
    settings: dict[str, str]
    slots: int
    raw: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    tiles: int = 0
    happened: list[str] = field(default_factory=list)

    @property
    def hosts(self) -> list[Host]:
        """The worker hosts."""
        return self.network.hosts

    def start_worker(self, host: Host, *, other_code: bool = False) -> None:
        """Start a worker on a host, if need be with other code."""
        environment, directory = {**os.environ, "PYTHONUNBUFFERED": "1"}, Path.cwd()
        if other_code:
            copy = self.target.root / "other-code"
            if not copy.is_dir():
                shutil.copytree(
                    Path(dsa110_assets.__file__).parent, copy / "dsa110_assets", ignore=shutil.ignore_patterns("static", "__pycache__")
                )
                (copy / "dsa110_assets" / "strips.py").open("a").write("\n# changed\n")
            environment["PYTHONPATH"], directory = str(copy), copy
        command = [sys.executable, "-m", "dsa110_assets.cli.main", "worker", "--concurrency", str(self.slots)]
        host.start(command, environment, self.target.root / f"{host.name}.log", directory)

    def arrive(self, number: int = 1) -> None:
        """Let observations arrive."""
        for _ in range(number):
            names = {path.name for path in self.night.write(self.target.config.input_dir, self.tiles)}
            self.raw.update({name: facts for name, facts in digests(self.target.config.input_dir).items() if name in names})
            self.tiles += 1

    def runs_at(self, host: Host) -> list[RunWorker]:
        """Runs that are at work on a host."""
        with self.target.platform.database.session() as session:
            query = select(RunWorker).where(RunWorker.host == host.name, RunWorker.ended_at.is_(None), RunWorker.lost_at.is_(None))
            return list(session.scalars(query))

    def busy_host(self) -> Host:
        """A host with a run whose process has begun; observations arrive until there is one."""
        limit, arrive_at = time.monotonic() + CASE_LIMIT_S, time.monotonic() + 10.0
        while time.monotonic() < limit:
            for host in self.hosts:
                if host.find(RUN) and any(run.pid is not None for run in self.runs_at(host)):
                    return host
            if time.monotonic() > arrive_at and self.unfinished() < 3 and self.tiles < self.night.n_tiles:
                self.arrive()
                arrive_at = time.monotonic() + 10.0
            time.sleep(0.3)
        raise RuntimeError("no run has begun on any host")

    def unfinished(self) -> int:
        """Observations that are not completed."""
        with self.target.platform.database.session() as session:
            states = Counter(session.scalars(select(IngestGroup.state)))
        return self.tiles - states[GroupState.COMPLETED]

    def wait(self, what: str, condition: Callable[[], bool]) -> float:
        """Wait for a condition; return the seconds."""
        began = time.monotonic()
        while True:
            with suppress(PipelineError):
                if condition():
                    return time.monotonic() - began
            if time.monotonic() - began > CASE_LIMIT_S:
                raise RuntimeError(f"waited {CASE_LIMIT_S:.0f} s in vain: {what}")
            time.sleep(0.3)

    def are_lost(self, run_ids: Sequence[str]) -> bool:
        """Whether all these runs were given up, and Dagster says that they have ended."""
        with self.target.platform.database.session() as session:
            rows = [workers.state_of(session, run_id) for run_id in run_ids]
            over = all(row is not None and (row.lost_at is not None or row.ended_at is not None) for row in rows)
        ended = [run for run_id in run_ids if (run := self.target.instance.get_run_by_id(run_id)) is not None and run.is_finished]
        return over and len(ended) == len(run_ids)


# --- the cases -----------------------------------------------------------------------------------------------------
def a_run_is_killed(cluster: Cluster) -> str:
    """The process of a run is killed; its worker lives and says so."""
    host = cluster.busy_host()
    runs = [run.run_id for run in cluster.runs_at(host)]
    for process in host.find(RUN):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    took = cluster.wait("Dagster knows that the run has ended", lambda: cluster.are_lost(runs))
    return f"{host.name}: run killed, known after {took:.1f} s"


def a_worker_is_killed(cluster: Cluster) -> str:
    """The worker alone is killed; its runs end with it, though nobody tells them."""
    host = cluster.busy_host()
    runs = [run.run_id for run in cluster.runs_at(host)]
    for process in host.find("cluster.worker"):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    died = cluster.wait("its runs have died with it", lambda: not host.find(RUN))
    took = cluster.wait("its runs are given up", lambda: cluster.are_lost(runs))
    cluster.start_worker(host)
    return f"{host.name}: worker killed, its runs died after {died:.1f} s and were given up after {took:.1f} s more"


def a_host_dies(cluster: Cluster) -> str:
    """All processes of a host die at once, and it boots again."""
    host = cluster.busy_host()
    runs = [run.run_id for run in cluster.runs_at(host)]
    host.kill()
    took = cluster.wait("its runs are given up", lambda: cluster.are_lost(runs))
    host.boot()
    cluster.start_worker(host)
    return f"{host.name}: host died, runs given up after {took:.1f} s"


def a_host_is_cut_off_and_dies(cluster: Cluster) -> str:
    """The network of a host goes, then the host; its connections to the database are never closed."""
    host = cluster.busy_host()
    runs = [run.run_id for run in cluster.runs_at(host)]
    host.unplug()
    time.sleep(3.0)
    host.kill()
    took = cluster.wait("its runs are given up", lambda: cluster.are_lost(runs))
    host.plug()
    host.boot()
    cluster.start_worker(host)
    return f"{host.name}: cut off and died, runs given up after {took + 3:.1f} s"


def a_host_is_cut_off_and_comes_back(cluster: Cluster) -> str:
    """The zombie: a host works on without network, and comes back after its runs were given to others."""
    host = cluster.busy_host()
    runs = [run.run_id for run in cluster.runs_at(host)]
    host.unplug()
    took = cluster.wait("its runs are given up", lambda: cluster.are_lost(runs))
    alive = len(host.find(RUN))
    host.plug()
    cluster.wait("the runs of before have ended there", lambda: _ended_at(host, runs))
    return f"{host.name}: cut off, runs given up after {took:.1f} s, {alive} still at work when it came back"


def a_host_freezes_and_its_runs_go_on_first(cluster: Cluster) -> str:
    """The worst zombie: everything on a host stops, and when its runs are given up, they go on before their worker."""
    host = cluster.busy_host()
    runs = [run.run_id for run in cluster.runs_at(host)]
    host.freeze(signal.SIGSTOP)
    took = cluster.wait("its runs are given up", lambda: cluster.are_lost(runs))
    for process in host.find(RUN):
        process.send_signal(signal.SIGCONT)
        for child in process.children(recursive=True):
            child.send_signal(signal.SIGCONT)
    until = time.monotonic() + 25.0
    while host.find(RUN) and time.monotonic() < until:
        time.sleep(0.3)
    alone = not host.find(RUN)
    host.freeze(signal.SIGCONT)
    cluster.wait("the runs of before have ended there", lambda: _ended_at(host, runs))
    return f"{host.name}: frozen, runs given up after {took:.1f} s; going on, they {'ended by themselves' if alone else 'were ended'}"


def _ended_at(host: Host, run_ids: Sequence[str]) -> bool:
    return not [process for process in host.find(RUN) if any(run_id in " ".join(process.cmdline()) for run_id in run_ids)]


def the_broker_restarts(cluster: Cluster) -> str:
    """The broker dies with all its messages; runs begin without it, and with it when it has come back empty."""
    cluster.busy_host()
    cluster.broker.kill()
    killed_at, died = now(), time.monotonic()
    cluster.arrive()

    def has_begun_since() -> bool:
        with cluster.target.platform.database.session() as session:
            query = select(RunWorker.run_id).where(RunWorker.requested_at > killed_at, RunWorker.claimed_at.is_not(None))
            return session.scalar(query.limit(1)) is not None

    cluster.wait("a run has begun without the broker", has_begun_since)
    away_s = time.monotonic() - died
    cluster.broker.start()
    cluster.busy_host()
    return f"broker killed with its messages; a run began without it, and it came back after {away_s:.0f} s"


def the_head_restarts(cluster: Cluster) -> str:
    """Every service of the head is killed at once, the runs go on, and the supervisor starts the services again."""
    host = cluster.busy_host()
    before = {run.run_id for run in cluster.runs_at(host)}
    for role, found in cluster.target.processes().items():
        for process in found:
            if role in ("daemon", "code server", "webserver"):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
    cluster.wait("the services run again", lambda: all(cluster.target.processes()[role] for role in ("daemon", "code server", "webserver")))
    lost = [run_id for run_id in before if (row := _row(cluster, run_id)) is not None and row.lost_at is not None]
    if lost:
        raise RuntimeError(f"the head's restart has cost the runs {lost}")
    return f"head's services killed while {len(before)} runs worked on {host.name}; none was lost"


def the_database_restarts(cluster: Cluster) -> str:
    """The database dies for longer than a worker may be silent; no run may be called lost for that."""
    host = cluster.busy_host()
    before = {run.run_id for run in cluster.runs_at(host)}
    _server(cluster).stop(immediate=True)
    time.sleep(LOST_S + 3.0)
    _server(cluster).ensure()
    time.sleep(4.0)
    lost = [run_id for run_id in before if (row := _row(cluster, run_id)) is not None and row.lost_at is not None]
    if lost:
        raise RuntimeError(f"the database was away, and the runs {lost} were given up for it")
    return f"database away for {LOST_S + 3:.0f} s while {len(before)} runs worked; none was given up"


def _row(cluster: Cluster, run_id: str) -> RunWorker | None:
    with cluster.target.platform.database.session() as session:
        return workers.state_of(session, run_id)


def a_host_has_other_code(cluster: Cluster) -> str:
    """A worker of another code version takes nothing and says so, while others work."""
    host = cluster.hosts[-1]
    for process in host.find("cluster.worker"):
        process.terminate()
    cluster.wait("its worker has ended", lambda: not host.find("cluster.worker"))
    cluster.start_worker(host, other_code=True)

    def says_so() -> bool:
        with cluster.target.platform.database.session() as session:
            return any(one.host == host.name and one.refusal is not None for one in workers.states(session))

    cluster.arrive()
    cluster.wait("the worker refuses", says_so)
    cluster.busy_host()
    time.sleep(5.0)
    if taken := cluster.runs_at(host):
        raise RuntimeError(f"a worker with other code took {[run.run_id for run in taken]}")
    with cluster.target.platform.database.session() as session:
        why = next(one.refusal for one in workers.states(session) if one.host == host.name)
    for process in host.find("cluster.worker"):
        process.terminate()
    cluster.wait("its worker has ended", lambda: not host.find("cluster.worker"))
    cluster.start_worker(host)
    return f"{host.name}: {why}"


def a_run_is_canceled(cluster: Cluster) -> str:
    """A person cancels a run at work, and later makes the observation again."""
    limit = time.monotonic() + CASE_LIMIT_S
    while True:  # until one is canceled before it has ended
        host = cluster.busy_host()
        for run_id in [run.run_id for run in cluster.runs_at(host) if GROUP_TAG in _tags(cluster, run.run_id)]:
            asked = cluster.target.instance.run_launcher.terminate(run_id)
            took = cluster.wait("the run has ended", lambda run_id=run_id: _is_finished(cluster, run_id))
            if asked and _status(cluster, run_id) == dg.DagsterRunStatus.CANCELED:
                return _make_canceled_again(cluster, host, run_id, took)
        if time.monotonic() > limit:
            raise RuntimeError("no run of an observation could be canceled while it worked")
        time.sleep(0.5)


def _make_canceled_again(cluster: Cluster, host: Host, run_id: str, took: float) -> str:
    group_id = _tags(cluster, run_id)[GROUP_TAG]
    cluster.wait("the observation has ended", lambda: _state(cluster, group_id) in (GroupState.FAILED, GroupState.COMPLETED))
    if _state(cluster, group_id) == GroupState.FAILED:
        with cluster.target.platform.database.session() as session:
            ledger.retry(session, group_id, now(), cluster.target.config)
    return f"{host.name}: run of {group_id} canceled, ended after {took:.1f} s; then made again"


def _status(cluster: Cluster, run_id: str) -> dg.DagsterRunStatus | None:
    run = cluster.target.instance.get_run_by_id(run_id)
    return run.status if run is not None else None


def _tags(cluster: Cluster, run_id: str) -> dict[str, str]:
    run = cluster.target.instance.get_run_by_id(run_id)
    return dict(run.tags) if run is not None else {}


def _is_finished(cluster: Cluster, run_id: str) -> bool:
    run = cluster.target.instance.get_run_by_id(run_id)
    return run is None or run.is_finished


def _state(cluster: Cluster, group_id: str) -> GroupState:
    with cluster.target.platform.database.session() as session:
        return GroupState(session.get_one(IngestGroup, group_id).state)


def more_runs_than_slots(cluster: Cluster) -> str:
    """More runs are asked for than the workers have slots; they wait, and each is made once."""
    slots = cluster.slots * len(cluster.hosts)
    cluster.arrive(min(slots + 2, cluster.night.n_tiles - cluster.tiles))
    most_waiting = most_working = 0
    until = time.monotonic() + 60.0
    while time.monotonic() < until and not (most_waiting and most_working == slots):
        with cluster.target.platform.database.session() as session:
            most_waiting = max(most_waiting, workers.waiting(session, cluster.target.config.worker_queue).number)
            states = workers.states(session)
        most_working = max(most_working, sum(one.n_runs for one in states))
        if too_many := [one.worker for one in states if one.n_runs > one.slots]:
            raise RuntimeError(f"more runs than slots at {too_many}")
        time.sleep(0.3)
    return f"{most_working} runs at work in {slots} slots, {most_waiting} waited"


CASES: dict[str, Callable[[Cluster], str]] = {
    case.__name__: case
    for case in (
        a_run_is_killed,
        a_worker_is_killed,
        a_host_dies,
        a_host_is_cut_off_and_dies,
        a_host_is_cut_off_and_comes_back,
        a_host_freezes_and_its_runs_go_on_first,
        the_broker_restarts,
        the_head_restarts,
        the_database_restarts,
        a_host_has_other_code,
        a_run_is_canceled,
        more_runs_than_slots,
    )
}


# --- the whole -----------------------------------------------------------------------------------------------------
def _server(cluster: Cluster) -> EmbeddedServer:
    return EmbeddedServer(Path(cluster.settings["DSA110_TEST_SERVER"]), settings={"listen_addresses": cluster.network.address})


@contextmanager
def _database(address: str) -> Iterator[Path]:
    """A PostgreSQL server on the hosts' network; yield its directory."""
    home = Path(tempfile.mkdtemp(prefix="dsa110-cluster-"))
    home.chmod(0o755)
    server = EmbeddedServer(home / "postgres", settings={"listen_addresses": address})
    try:
        server.ensure()
        with (home / "postgres" / "pg_hba.conf").open("a") as rules:
            rules.write("host all all samenet trust\n")
        rules_file = home / "postgres" / "pg_hba.conf"
        lines = [line for line in rules_file.read_text().splitlines() if "reject" not in line]
        rules_file.write_text("\n".join(lines) + "\n")
        server.stop()
        server.ensure()
        yield home / "postgres"
    finally:
        server.stop(immediate=True)
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def cluster_of(root: Path, *, number: int, n_tiles: int, slots: int) -> Iterator[Cluster]:
    """Run a head and hosts with workers during the block."""
    night, port = SmallNight.of(n_tiles), free_port()
    _, settings = prepare(root, night, port)
    with network(number, root) as net, _database(net.address) as data:
        broker = Broker(net.address, root)
        broker.start()
        settings |= {
            "PIPELINE_PROFILE": "distributed",
            "PIPELINE_DATABASE_URL": f"postgresql://postgres@{net.address}:5432/dsa110",
            "PIPELINE_BROKER_URL": f"redis://{net.address}:6379/0",
            "PIPELINE_CLUSTER_RUNS": str(number * slots + 3),
            "PIPELINE_WORKER_LOST_S": str(LOST_S),
            "DSA110_TEST_SERVER": str(data),
        }
        try:
            with running(root, settings, port) as target:
                cluster = Cluster(target, net, broker, night, settings, slots)
                os.environ["DAGSTER_HOME"] = str(root / "state" / "dagster")
                for host in net.hosts:
                    cluster.start_worker(host)
                cluster.wait("all workers have joined", lambda: _n_workers(cluster) == number)
                yield cluster
        finally:
            for host in net.hosts:
                host.kill()
            broker.kill()


def _n_workers(cluster: Cluster) -> int:
    with cluster.target.platform.database.session() as session:
        return len(workers.states(session))


def attack(cluster: Cluster, cases: Sequence[str]) -> dict[str, object]:
    """Let each case happen, wait until all is quiet, and compare everything. Return the figures."""
    began = time.monotonic()
    cluster.arrive(FIRST_TILES)
    cluster.wait("the reference catalogs are there", lambda: _n_in_progress(cluster) > 0)
    cpu_before = _cpu_s(cluster)
    for name in cases:
        print(f"{time.monotonic() - began:6.0f} s  {name}", file=sys.stderr, flush=True)
        cluster.happened.append(CASES[name](cluster))
        print(f"          {cluster.happened[-1]}", file=sys.stderr, flush=True)
    attacked_s = time.monotonic() - began
    quiet_s = _wait_until_quiet(cluster)
    cpu_s = {role: spent - cpu_before[role, pid] for (role, pid), spent in _cpu_s(cluster).items() if (role, pid) in cpu_before}
    worked_s = time.monotonic() - began
    group_ids = frozenset(group_id_of(cluster.night.start_mjd(tile) + JD_MINUS_MJD) for tile in range(cluster.tiles))
    raw: Digests = cluster.raw
    expected = Night(group_ids, raw, cluster.target.config.input_dir)
    platform, instance = cluster.target.platform, cluster.target.instance
    with Session(platform.database.engine) as session:
        found = disagreements(session, platform, instance, expected)
        rows = list(session.scalars(select(RunWorker)))
        attempts = sum(session.scalars(select(IngestGroup.attempt)))
        found += [f"still open: run {row.run_id} on {row.host}" for row in rows if row.ended_at is None and row.lost_at is None]
    did_runs = [row for row in rows if row.claimed_at is not None]
    did_work = Counter(str(row.host) for row in did_runs)
    found += [f"idle: {host.name} has made no run" for host in cluster.hosts if not did_work[host.name]]
    used_by: dict[int, set[str]] = {}
    for row in did_runs:
        if row.pid is not None:
            used_by.setdefault(row.pid, set()).add(str(row.host))
    planted = planted_faults(platform, instance, expected) if not found else {}
    waits = [(row.claimed_at - row.requested_at).total_seconds() for row in rows if row.claimed_at is not None]
    given_up = [row for row in rows if row.lost_at is not None and row.beat_at is not None]
    return {
        "cases": cluster.happened, "observations": cluster.tiles, "attempts": attempts,
        "runs": dict(Counter(run.status.value for run in instance.get_runs())), "runs by host": dict(sorted(did_work.items())),
        "runs given up": len(given_up), "process numbers used by two hosts": sum(len(one) > 1 for one in used_by.values()),
        "from request to a worker (s), median and longest": [round(float(f(waits)), 2) for f in (np.median, max)] if waits else None,
        "CPU for each run of those that nobody killed (s)": {role: round(spent / max(1, len(did_runs)), 2) for role, spent in cpu_s.items()},
        "cores while runs worked": {role: round(spent / worked_s, 3) for role, spent in cpu_s.items()},
        "under attack (s)": round(attacked_s), "then quiet after (s)": None if quiet_s is None else round(quiet_s),
        "disagreements": found, "planted faults found": f"{sum(planted.values())} of {len(planted)}",
        "good": quiet_s is not None and not found and bool(planted) and all(planted.values()),
    }  # fmt: skip


def _cpu_s(cluster: Cluster) -> dict[tuple[str, int], float]:
    """CPU of the head's services and of the database, with its sessions, by role and process."""
    postmaster = int((Path(cluster.settings["DSA110_TEST_SERVER"]) / "postmaster.pid").read_text().splitlines()[0])
    roots = [(role, found) for role in ("daemon", "code server") for found in cluster.target.processes()[role]]
    spent: dict[tuple[str, int], float] = {}
    for role, process in [*roots, ("database", psutil.Process(postmaster))]:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            spent[role, process.pid] = times.user + times.system
            if role == "database":
                spent[role, process.pid] += times.children_user + times.children_system
                spent[role, process.pid] += sum(sum(child.cpu_times()[:2]) for child in process.children())
    return spent


def _n_in_progress(cluster: Cluster) -> int:
    with cluster.target.platform.database.session() as session:
        return ledger.n_in_progress(session)


def _wait_until_quiet(cluster: Cluster) -> float | None:
    """Seconds until no work is left; None after the time limit."""
    began = time.monotonic()
    open_states = [
        s for s in dg.DagsterRunStatus if s not in (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
    ]
    while time.monotonic() - began < QUIET_LIMIT_S:
        with suppress(PipelineError):
            busy = cluster.target.instance.get_runs_count(dg.RunsFilter(statuses=open_states))
            with cluster.target.platform.database.session() as session:
                busy += len(workers.open_runs(session))  # processes that have not ended
            if not cluster.unfinished() and not busy and not planning.follow_ups(cluster.target.platform):
                return time.monotonic() - began
        time.sleep(1.0)
    return None


def main(arguments: list[str] | None = None) -> int:
    """Run the command. The exit code is 0 only if everything agrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1, help="chooses the order of the cases")
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--slots", type=int, default=1, help="of each host")
    parser.add_argument("--tiles", type=int, default=24, help="most observations")
    parser.add_argument("--directory", type=Path, default=Path("build/cluster"), help="emptied first")
    options = parser.parse_args(arguments)
    if (why := why_not_possible()) is not None:
        print(f"not possible: {why}")
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # hosts and servers end with this process
    root: Path = options.directory.absolute()
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    order = [str(name) for name in np.random.default_rng(options.seed).permutation(options.cases)]
    with cluster_of(root, number=3, n_tiles=options.tiles, slots=options.slots) as cluster:
        figures = {"seed": options.seed, **attack(cluster, order)}
    print(json.dumps(figures, indent=1))
    print("all agrees" if figures["good"] else "BROKEN", flush=True)
    return 0 if figures["good"] else 1


if __name__ == "__main__":
    sys.exit(main())
