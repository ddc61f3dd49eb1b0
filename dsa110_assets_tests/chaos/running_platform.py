"""A platform started by `dsa110 up` in a directory of its own, with its processes by role."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import psutil
from sqlalchemy import select

from dsa110_assets.cli import up
from dsa110_assets.cli.services import port_is_open
from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration.running import RUN_NAME
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.registry.server import embedded_server
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue import planning

START_LIMIT_S = 180.0
_BY_COMMAND = {
    "daemon": "dagster-daemon",
    "webserver": "dagster-webserver",
    "code server": "api grpc",
    "casa": "calibration.casa_child",
    "run template": "multiprocessing.forkserver",
}
ROLES = (*_BY_COMMAND, "run worker", "database")


@dataclass(frozen=True)
class RunningPlatform:
    """A running platform. ``platform``: registry and paths. ``instance``: Dagster."""

    root: Path
    config: PipelineConfig
    platform: Platform
    instance: dg.DagsterInstance

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Live processes of each role."""
        found: dict[str, list[psutil.Process]] = {role: [] for role in ROLES}
        home = str(self.root / "state" / "dagster")
        for process in psutil.process_iter():
            try:
                if process.pid == os.getpid() or process.environ().get("DAGSTER_HOME") != home:
                    continue
                command, name = " ".join(process.cmdline()), process.name()
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            role = next((role for role, words in _BY_COMMAND.items() if words in command), None)
            if role == "run template" and name == RUN_NAME:  # a fork has the command line of its template
                role = "run worker"
            if role is not None and "resource_tracker" not in command:
                found[role].append(process)
        address = embedded_server(self.config).address()
        if address is not None and psutil.pid_exists(address.pid):
            found["database"].append(psutil.Process(address.pid))
        return found

    def is_quiet(self, n_tiles: int) -> bool:
        """Whether so many observations are completed, no run waits or works, and no hour or night is due."""
        with self.platform.database.session() as session:
            states = Counter(session.scalars(select(IngestGroup.state)))
        ended = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
        busy = self.instance.get_runs_count(dg.RunsFilter(statuses=[one for one in dg.DagsterRunStatus if one not in ended]))
        return states[GroupState.COMPLETED] == n_tiles and not busy and not planning.follow_ups(self.platform)


@contextmanager
def running(root: Path, settings: Mapping[str, str], port: int) -> Iterator[RunningPlatform]:
    """Run a platform during the block. The settings become this process's environment."""
    os.environ.update(settings)
    config = PipelineConfig.from_env()
    log = root / "up.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", "dsa110_assets.cli.main", "up"],
            env=dict(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        limit = time.monotonic() + START_LIMIT_S
        while not port_is_open(port) or not (root / "state" / "up.pid").is_file():
            if server.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"the platform did not start: {log.read_text()[-2000:]}")
            time.sleep(0.5)
        with dg.DagsterInstance.from_config(str(root / "state" / "dagster")) as instance:
            platform = Platform.open(config)
            yield RunningPlatform(root, config, platform, instance)
            platform.database.dispose()
    finally:
        up.stop(config)
        server.wait(60)
