"""The services on this machine: are they running, requests to restart one, the end of their logs.

A request is an empty file in the state directory, which the supervisor of `dsa110 up` finds within a second. So whoever
asks needs no privilege, nothing listens on the network for it, and a request can name nothing but a service. If systemd
has started the API, the request and the logs are systemd's (`systemd`).
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dsa110_assets.errors import ConfigurationError, InvalidRequestError, NotFoundError
from dsa110_assets.stages.operations import systemd

if TYPE_CHECKING:
    from dsa110_assets.config import PipelineConfig

TAIL_BYTES = 64 * 1024
"""Most bytes of a log that are read."""
RESTARTS_KEPT = 200
_LOCK_LIMIT_S = 2.0
_shares: list[IO[str]] = []
"""Files whose lock this process shares until it ends."""
_PASSWORD = re.compile(r"(?<=://)([^\s:/@]+):[^\s@/]+@")


class ServiceName(StrEnum):
    """All services, in the order in which they start."""

    CODE_SERVER = "code-server"
    WEBSERVER = "webserver"
    DAEMON = "daemon"
    API = "api"


RESTART_MEANS = {
    ServiceName.CODE_SERVER: "New code is loaded. Runs go on; new ones begin after about 20 s.",
    ServiceName.WEBSERVER: "The Dagster UI is away for about 20 s. Runs go on.",
    ServiceName.DAEMON: "Sensors, schedules and the run queue pause for about 20 s. Runs go on.",
    ServiceName.API: "These pages and the API are away for about 10 s. Runs go on.",
}
"""What the restart of a service of `dsa110 up` does."""
_MEANS_UNDER_SYSTEMD = {
    ServiceName.CODE_SERVER: "New code is loaded, and the daemon restarts too. Runs are interrupted, count no failure, and are made again."
}
"""What is different under systemd, which ends all processes of a unit."""
SYSTEMD = "systemd"
SUPERVISOR = "dsa110 up"


def manager(config: PipelineConfig) -> str | None:
    """Who starts and restarts the services: `SYSTEMD`, `SUPERVISOR`, or None if nobody does."""
    if systemd.started_this_process():
        return SYSTEMD
    return None if running_pid(config) is None else SUPERVISOR


def restart_means(name: ServiceName) -> str:
    """What the restart of a service does here."""
    return (_MEANS_UNDER_SYSTEMD if systemd.started_this_process() else {}).get(name, RESTART_MEANS[name])


@dataclass(frozen=True)
class Service:
    """A service. ``log_bytes``: size of its log, None without one. ``waiting``: for a requested restart."""

    name: ServiceName
    log_bytes: int | None
    waiting: bool


@dataclass(frozen=True)
class Restart:
    """A service that had ended by itself and was started again. ``name``: of `ServiceName`, or ``database``."""

    name: str
    at: datetime
    why: str


def pid_file(config: PipelineConfig) -> Path:
    """File that the supervisor locks while it runs, and that holds its process ID."""
    return config.state_dir.absolute() / "up.pid"


@contextmanager
def supervising(config: PipelineConfig) -> Iterator[None]:
    """Be the only supervisor of the state directory during the block. The lock ends with the process, however it ends.

    Raises:
        ConfigurationError: another one runs.
    """
    path = pid_file(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + _LOCK_LIMIT_S
        while not _locks(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                pid = path.read_text().strip()
                who = f"process {pid}" if pid else "services of a service manager"
                raise ConfigurationError(
                    config.state_dir, f"a platform is already running there ({who})", "stop it: `dsa110 down`, or systemctl"
                )
            time.sleep(0.1)  # `running_pid` of another process holds the lock for a moment
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def share_state(config: PipelineConfig) -> None:
    """Keep `dsa110 up` off the state directory as long as this process lives, whatever program it becomes.

    Raises:
        ConfigurationError: `dsa110 up` runs there.
    """
    path = pid_file(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+")
    deadline = time.monotonic() + _LOCK_LIMIT_S
    while not _locks(file, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            raise ConfigurationError(config.state_dir, f"`dsa110 up` runs there (process {path.read_text()})", "stop it with `dsa110 down`")
        time.sleep(0.1)
    os.set_inheritable(file.fileno(), True)
    _shares.append(file)


def running_pid(config: PipelineConfig) -> int | None:
    """Process ID of this state directory's supervisor, or None if none is running."""
    try:
        with pid_file(config).open() as file:
            return None if _locks(file, fcntl.LOCK_SH) else int(file.read())
    except (OSError, ValueError):
        return None


def _locks(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def record_stop(config: PipelineConfig) -> None:
    """Record that the platform was stopped in order just now: runs that began before ended with it."""
    _stop_file(config).touch()


def last_stop(config: PipelineConfig) -> datetime | None:
    """Time of the platform's last orderly stop."""
    try:
        return datetime.fromtimestamp(_stop_file(config).stat().st_mtime, UTC)
    except FileNotFoundError:
        return None


def _stop_file(config: PipelineConfig) -> Path:
    return config.state_dir.absolute() / "stopped"


def record_restart(config: PipelineConfig, restart: Restart) -> None:
    """Add to the record of services that were started again; it keeps the last `RESTARTS_KEPT`."""
    lines = [*_restart_lines(config)[1 - RESTARTS_KEPT :], json.dumps([restart.name, restart.at.isoformat(), restart.why])]
    _restarts_file(config).write_text("\n".join(lines) + "\n")


def restarts_since(config: PipelineConfig, since: datetime) -> list[Restart]:
    """Services that have ended by themselves and were started again since a time, oldest first."""
    found: list[Restart] = []
    for line in _restart_lines(config):
        with suppress(ValueError):  # a line that was not written to its end
            name, at, why = json.loads(line)
            found.append(Restart(name, datetime.fromisoformat(at), why))
    return [one for one in found if one.at >= since]


def _restart_lines(config: PipelineConfig) -> list[str]:
    path = _restarts_file(config)
    return path.read_text().splitlines() if path.is_file() else []


def _restarts_file(config: PipelineConfig) -> Path:
    return config.state_dir.absolute() / "restarts.jsonl"


def log_file(config: PipelineConfig, name: ServiceName) -> Path:
    """Log of a service."""
    return config.state_dir.absolute() / "logs" / f"{name}.log"


def services(config: PipelineConfig) -> list[Service]:
    """All services of this state directory."""
    found: list[Service] = []
    for name in ServiceName:
        log = log_file(config, name)
        found.append(Service(name, log.stat().st_size if log.is_file() else None, _request(config, name).exists()))
    return found


def request_restart(config: PipelineConfig, name: ServiceName) -> None:
    """Ask the supervisor or systemd to restart a service; it does so within some seconds.

    Raises:
        InvalidRequestError: no supervisor runs on this state directory.
        ConfigurationError: systemd refuses.
    """
    if systemd.started_this_process():
        systemd.restart(name)
        return
    if running_pid(config) is None:
        raise InvalidRequestError(
            f"service {name}",
            "no `dsa110 up` runs on this state directory",
            f"start the platform with `dsa110 up`; if systemd runs the service, use `systemctl restart {systemd.UNITS[name]}`",
        )
    request = _request(config, name)
    request.parent.mkdir(mode=0o700, exist_ok=True)
    request.touch(mode=0o600)


def take_requests(config: PipelineConfig) -> Iterator[ServiceName]:
    """Requests that wait, each one once. For the supervisor."""
    for name in ServiceName:
        request = _request(config, name)
        if request.exists():
            request.unlink(missing_ok=True)
            yield name


def drop_requests(config: PipelineConfig) -> None:
    """Forget requests that were made before this start."""
    for _ in take_requests(config):
        pass


def log_tail(config: PipelineConfig, name: ServiceName, *, most: int = TAIL_BYTES) -> str:
    """Return the last lines of a service's log, without passwords in addresses.

    Raises:
        NotFoundError: it has no log in this state directory, or systemd's journal shows none.
    """
    if systemd.started_this_process():
        return _end_of(systemd.journal(name).encode(), most)
    log = log_file(config, name)
    if not log.is_file():
        raise NotFoundError(
            f"log of {name}",
            "there is none in this state directory",
            f"start the platform with `dsa110 up`; if systemd runs the service, use `journalctl -u {systemd.UNITS[name]}`",
        )
    return tail(log, most)


def run_log_tail(config: PipelineConfig, run_id: str, *, most: int = TAIL_BYTES) -> str:
    """Return the last lines that a run of Dagster wrote to its standard error; its newest step if there are several.

    Raises:
        NotFoundError: there is no output of this run.
    """
    known = {one.name: one for one in (config.run_output_dir.glob(run_id) if re.fullmatch(r"[0-9a-f-]{36}", run_id) else ())}
    outputs = sorted(known[run_id].glob("compute_logs/*.err"), key=lambda path: path.stat().st_mtime) if run_id in known else []
    if not outputs:
        raise NotFoundError(
            f"output of run {run_id[:36]}", "there is none: it has not begun, or housekeeping removed it", "open the run in Dagster"
        )
    return tail(outputs[-1], most)


def tail(path: Path, most: int) -> str:
    """Return the last ``most`` bytes of a text file, from the beginning of a line, without passwords in addresses."""
    with path.open("rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - most - 1))
        return _end_of(stream.read(most + 1), most)


def _end_of(output: bytes, most: int) -> str:
    found = output[-most:]
    if len(output) > most:
        found = found.partition(b"\n")[2]
    return _PASSWORD.sub(r"\1:***@", found.decode("utf-8", "replace"))


def _request(config: PipelineConfig, name: ServiceName) -> Path:
    return config.state_dir.absolute() / "requests" / f"restart-{name}"
