"""Supervisor of a platform on one machine: it starts, watches, restarts and stops its services.

Everything ends with the supervisor. If the supervisor is killed, the next start or `dsa110 down` finds what it left by
a variable in the environment of each process (`PROCESS_MARK`), which children inherit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml

from dsa110_assets.cli.logs import rotate
from dsa110_assets.common.child_process import Child, run_child
from dsa110_assets.config import PROCESS_MARK, PipelineConfig
from dsa110_assets.errors import ChildFailedError, ConfigurationError
from dsa110_assets.publication import publish
from dsa110_assets.stages.operations.services import ServiceName

RESTART_PAUSE_S = 2.0
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 20.0
LONGEST_WAIT_FOR_WORKER_S = 7 * 86400
RUN_MEMORY_BYTES = 7 << 30
"""Most memory that a full-size tile needs (`docs/developers/performance.md`)."""
LOCATION = "dsa110_assets"
"""Name of the code location. ``pyproject.toml`` and ``workspace.yaml`` use the same one for Dagster's own commands."""


@dataclass
class Service:
    """One process. ``port``: open once the process is ready; None if it does not listen."""

    name: str
    command: list[str]
    port: int | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


def worker_count(config: PipelineConfig) -> int:
    """Number of runs at a time: those of all workers, or what cores and memory of this machine allow, at least one."""
    if config.profile == "distributed":
        return config.cluster_runs
    return max(1, min(workers_for_cores(config), int(psutil.virtual_memory().total // RUN_MEMORY_BYTES)))


def workers_for_cores(config: PipelineConfig) -> int:
    """Number of runs at a time if memory were no limit: PIPELINE_MAX_WORKERS, at most cores + 1 (runs also wait)."""
    return min(config.max_workers, len(os.sched_getaffinity(0)) + 1)


def free_port() -> int:
    """A free TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def code_server_port(config: PipelineConfig) -> int | None:
    """Port of the code server in the workspace file; None if there is none yet, or if the file is damaged."""
    try:
        return int(yaml.safe_load(_workspace_file(config).read_text())["load_from"][0]["grpc_server"]["port"])
    except (OSError, LookupError, TypeError, ValueError, yaml.YAMLError):
        return None


def why_not_bindable(host: str, port: int) -> str | None:
    """Why a server cannot take the port, also if another one has it and does not listen yet; None if it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of the last start may linger
        try:
            probe.bind((host, port))
        except PermissionError:
            return "needs privileges"
        except OSError as error:
            return "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
    return None


def port_is_open(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0


def project_file(name: str) -> Path:
    """A file of the project's top level: beside the package in a checkout, else in the working directory."""
    for folder in (Path(__file__).parents[2], Path.cwd()):
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(
        name, "not found beside the package or in the working directory", "start the platform from the project's checkout"
    )


def dagster_home(config: PipelineConfig) -> Path:
    """Write the project's ``dagster.yaml``, with the number of runs set, to Dagster's home; returns the directory."""
    home = config.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    instance = yaml.safe_load(project_file("dagster.yaml").read_text())
    instance["concurrency"]["runs"]["max_concurrent_runs"] = worker_count(config)
    if config.profile == "distributed":
        instance["run_launcher"] = {"module": "dsa110_assets.orchestration.cluster.launcher", "class": "ClusterRunLauncher"}
        # a run may wait for a worker; the sensor `dead_runs` finds workers that died before their run began
        instance["run_monitoring"]["start_timeout_seconds"] = LONGEST_WAIT_FOR_WORKER_S
    with publish(home / "dagster.yaml") as staged:
        staged.write_text(yaml.safe_dump(instance, sort_keys=False))
    return home


def workspace(config: PipelineConfig) -> int:
    """Write the workspace file of web server and daemon, which makes both use one code server; return its port.

    Without it each would start its own code server, and each of these would watch the input directory. The port stays
    that of the last start unless another program has it: Dagster identifies sensors and schedules by it too, so with
    another port it shows none of their earlier ticks.
    """
    port = code_server_port(config)
    if port is not None and (_has_code_server(port) or why_not_bindable("127.0.0.1", port) is None):
        return port
    port = free_port()
    server = {"host": "127.0.0.1", "port": port, "location_name": LOCATION}
    with publish(_workspace_file(config)) as staged:
        staged.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}, sort_keys=False))
    return port


def _has_code_server(port: int) -> bool:
    """Whether a code server of the platform already has the port."""
    words = {"api", "grpc", str(port)}
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if words <= set(process.cmdline()):
                return True
    return False


def _workspace_file(config: PipelineConfig) -> Path:
    return config.dagster_home / "workspace.yaml"


@contextmanager
def alone_in_home(config: PipelineConfig) -> Iterator[None]:
    """Let one process at a time change Dagster's home."""
    config.dagster_home.mkdir(parents=True, exist_ok=True)
    with (config.dagster_home / "prepare.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def environment(config: PipelineConfig) -> dict[str, str]:
    """Environment of the services: the configuration's directories, absolute, Dagster's home, and their mark."""
    return {
        **os.environ,
        "PIPELINE_INPUT_DIR": str(config.input_dir.absolute()),
        "PIPELINE_OUTPUT_DIR": str(config.output_dir.absolute()),
        "PIPELINE_SCRATCH_DIR": str(config.scratch_dir.absolute()),
        "PIPELINE_STATE_DIR": str(config.state_dir.absolute()),
        "DAGSTER_HOME": str(config.dagster_home),
        "PYTHONUNBUFFERED": "1",
        PROCESS_MARK: str(config.state_dir.absolute()),
    }


def services(config: PipelineConfig) -> list[Service]:
    """Code server, webserver, daemon and API, in the order in which they must start.

    Raises:
        ConfigurationError: `prepare.make_ready` has not been called for this state directory.
    """
    bin_dir = Path(sys.executable).parent
    targets = ["-w", str(_workspace_file(config))]
    code_port = code_server_port(config)
    if code_port is None:
        raise ConfigurationError(_workspace_file(config), "names no code server", "run `dsa110 prepare`")
    return [
        Service(
            ServiceName.CODE_SERVER,
            # one process; `dagster code-server` is two, and never recovers from the death of the inner one
            [
                *(sys.executable, "-m", "dsa110_assets.orchestration.code_server"),
                *("api", "grpc", "-m", "dsa110_assets.definitions", "-h", "127.0.0.1", "-p", str(code_port)),
            ],
            code_port,
        ),
        Service(
            ServiceName.WEBSERVER,
            [
                *(str(bin_dir / "dagster-webserver"), *targets, "-h", config.api_host, "-p", str(config.dagster_port)),
                *(["--path-prefix", config.dagster_prefix] if config.dagster_prefix else []),
            ],
            config.dagster_port,
        ),
        Service(ServiceName.DAEMON, [str(bin_dir / "dagster-daemon"), "run", *targets]),
        Service(ServiceName.API, [str(bin_dir / "dsa110"), "api"], config.api_port),
    ]


def set_pool_limits(config: PipelineConfig) -> None:
    """Set the limit of each pool before the first runs need it (`orchestration.pools`).

    Raises:
        ChildFailedError: the program failed; its message is quoted.
    """
    command = [sys.executable, "-m", "dsa110_assets.orchestration.pools", str(worker_count(config))]
    advice = "check `dsa110 db status`"
    setting = Child("the setting of pool limits", command, environment=environment(config))
    ended = run_child(setting, subject="pools", timeout_s=START_TIMEOUT_S, timeout_advice=advice)
    ended.raise_if_failed("pools", advice)


class Supervisor:
    """Starts services, restarts those that die, and stops them in reverse order."""

    def __init__(self, members: list[Service], env: Mapping[str, str], log_dir: Path, *, log_limit_mb: float = 50.0) -> None:
        self.members = members
        self._log_limit_bytes = log_limit_mb * 1e6
        self._env = dict(env)
        self._log_dir = log_dir
        log_dir.mkdir(parents=True, exist_ok=True)

    def start(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Start all services, each one after the one before it listens, until ``stop`` returns True.

        Raises:
            ChildFailedError: a service ended or did not listen in time; names its log.
        """
        for member in self.members:
            if stop():
                return
            self._launch(member)
            self._wait_until_ready(member, stop)

    def watch(
        self,
        stop: Callable[[], bool],
        poll_s: float = 1.0,
        *,
        revive_database: Callable[[], None] = lambda: None,
        restarts: Callable[[], Iterable[str]] = tuple,
        tell: Callable[[str, str], None] = lambda _name, _why: None,
    ) -> None:
        """Restart services that die, until ``stop`` returns True; the database first, because all services need it.

        ``restarts``: names of services that a person wants to restart now. ``tell``: called with the name of each
        service that ended by itself, and how.
        """
        while not stop():
            revive_database()
            wanted = set(restarts())
            for member in self.members:
                rotate(self.log_of(member), self._log_limit_bytes)
                if member.process is not None and member.process.poll() is not None:
                    tell(member.name, how_ended(member.process.returncode))
                elif member.name in wanted and member.process is not None:
                    _end_alone(member)
                else:
                    continue
                time.sleep(RESTART_PAUSE_S)
                self._launch(member)
            time.sleep(poll_s)

    def stop(self) -> None:
        """Terminate all services and their children; kill those that do not end in time."""
        for member in reversed(self.members):
            if member.process is not None and member.process.poll() is None:
                stop_tree(member.process.pid, STOP_TIMEOUT_S)

    def log_of(self, member: Service) -> Path:
        """The service's log file."""
        return self._log_dir / f"{member.name}.log"

    def _launch(self, member: Service) -> None:
        with self.log_of(member).open("ab") as log:
            member.process = subprocess.Popen(
                member.command, env=self._env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )

    def _wait_until_ready(self, member: Service, stop: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while member.port is not None and not port_is_open(member.port) and not stop():
            ended = member.process is None or member.process.poll() is not None
            if ended or time.monotonic() > deadline:
                cause = "ended while starting" if ended else f"did not listen on port {member.port} within {START_TIMEOUT_S:.0f} s"
                raise ChildFailedError(member.name, cause, f"read {self.log_of(member)}")
            time.sleep(0.2)


def _end_alone(member: Service) -> None:
    """End a service for a restart, and leave its children: the runs go on.

    The code server is killed, because its orderly end would end its runs too. The platform survives that at any time.
    """
    assert member.process is not None
    if member.name != ServiceName.CODE_SERVER:
        member.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            member.process.wait(STOP_TIMEOUT_S)
    member.process.kill()
    member.process.wait()


def how_ended(code: int) -> str:
    """How a process ended, from its return code."""
    return f"ended with code {code}" if code >= 0 else f"was killed by signal {-code}"


def left_behind(config: PipelineConfig) -> list[psutil.Process]:
    """Processes that a supervisor of this state directory started, directly or not, and that are still there."""
    found: list[psutil.Process] = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # ended meanwhile, or another user's
            if process.pid != os.getpid() and process.environ().get(PROCESS_MARK) == str(config.state_dir.absolute()):
                found.append(process)
    return found


def end_left_behind(config: PipelineConfig) -> int:
    """End what a supervisor that was killed has left, services first; return the number of processes."""
    family = left_behind(config)
    inner = {child for process in family for child in _children_of(process)}
    _end([process for process in family if process.pid not in inner], family, STOP_TIMEOUT_S)
    return len(family)


def _children_of(process: psutil.Process) -> set[int]:
    try:
        return {child.pid for child in process.children()}
    except psutil.NoSuchProcess:
        return set()


def stop_tree(pid: int, timeout_s: float) -> None:
    """Send SIGTERM to a process, then to its descendants, and SIGKILL to those left after ``timeout_s``."""
    try:
        root = psutil.Process(pid)
        family = [*root.children(recursive=True), root]
    except psutil.NoSuchProcess:
        return
    _end([root], family, timeout_s)


def _end(roots: list[psutil.Process], family: list[psutil.Process], timeout_s: float) -> None:
    _signal_all(roots, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=timeout_s / 2)
    _signal_all(alive, signal.SIGTERM)
    _, alive = psutil.wait_procs(alive, timeout=timeout_s / 2)
    _signal_all(alive, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=5)


def _signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
