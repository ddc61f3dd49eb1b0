"""The services of `dsa110 up` on this machine: are they running, requests to restart one, the end of their logs.

A request is an empty file in the state directory, which the supervisor of `dsa110 up` finds within a second. So whoever
asks needs no privilege, nothing listens on the network for it, and a request can name nothing but a service.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import psutil

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NotFoundError

TAIL_BYTES = 64 * 1024
"""Most bytes of a log that are read."""
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
"""What the restart of a service does."""


@dataclass(frozen=True)
class Service:
    """A service. ``log_bytes``: size of its log, None without one. ``waiting``: for a requested restart."""

    name: ServiceName
    log_bytes: int | None
    waiting: bool


def pid_file(config: PipelineConfig) -> Path:
    """File that holds the supervisor's process ID while a platform runs."""
    return config.state_dir.absolute() / "up.pid"


def running_pid(config: PipelineConfig) -> int | None:
    """Process ID of this state directory's supervisor, or None if none is running."""
    try:
        pid = int(pid_file(config).read_text())
        alive = "up" in psutil.Process(pid).cmdline()
    except (OSError, ValueError, psutil.NoSuchProcess):
        return None
    return pid if alive else None


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
    """Ask the supervisor to restart a service; it does so within some seconds.

    Raises:
        InvalidRequestError: no supervisor runs on this state directory.
    """
    if running_pid(config) is None:
        raise InvalidRequestError(
            f"service {name}",
            "no `dsa110 up` runs on this state directory",
            "start the platform with `dsa110 up`",
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
        NotFoundError: it has no log in this state directory.
    """
    log = log_file(config, name)
    if not log.is_file():
        raise NotFoundError(f"log of {name}", "there is none in this state directory", "start the platform with `dsa110 up`")
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
        stream.seek(max(0, size - most))
        found = stream.read(most)
    if size > most:
        found = found.partition(b"\n")[2]
    return _PASSWORD.sub(r"\1:***@", found.decode("utf-8", "replace"))


def _request(config: PipelineConfig, name: ServiceName) -> Path:
    return config.state_dir.absolute() / "requests" / f"restart-{name}"
