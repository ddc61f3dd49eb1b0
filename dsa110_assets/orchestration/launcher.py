"""A run launcher that detects dead run workers.

Dagster's default launcher learns of a worker's death from the code server that started it. If the code server or the
machine dies too, the run would stay STARTED until its time limit. With this launcher, the daemon's run monitoring
checks the worker's process. On one machine that says more than a beat: a death is known at once, and a process that is
only slow is never taken for dead.

A run that one of Dagster's own commands executes (`dagster asset materialize`) has no worker that gives beats. It notes
the host on which it works (``HOST_TAG``), and is judged by its process there, with either launcher.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from typing import Any, Self

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DefaultRunLauncher

from dsa110_assets.config import RUN_MARK
from dsa110_assets.orchestration.private import GRPC_INFO_TAG, CheckRunHealthResult, ConfigurableClassData, WorkerStatus, instance_of

CLOCK_TOLERANCE_S = 2.0
HOST_TAG = "dsa110/host"
"""Tag of a run that no launcher has started: the host on which it works."""


class WatchedRunLauncher(DefaultRunLauncher):
    """The default launcher, with a check of the worker's process for runs on this machine."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Create the launcher from ``dagster.yaml``; called by Dagster."""
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Tell run monitoring that it can check workers."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the worker's process has ended, or if another process has its number."""
        if not (_is_launched_here(run) or is_executed_here(run)):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "on another machine, which cannot be checked from here")
        return health_by_process(instance_of(self), run)


def _is_launched_here(run: DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return "socket" in server or server.get("host") in ("127.0.0.1", "::1", "localhost", socket.gethostname())


def is_executed_here(run: DagsterRun) -> bool:
    """Whether one of Dagster's own commands executes the run on this host."""
    return run.tags.get(HOST_TAG) == socket.gethostname()


def note_host(instance: DagsterInstance, run: DagsterRun) -> None:
    """Note on a run that this process executes it here, unless a launcher has started it."""
    if GRPC_INFO_TAG not in run.tags and RUN_MARK not in os.environ and not is_executed_here(run):
        instance.add_run_tags(run.run_id, {HOST_TAG: socket.gethostname()})


def health_by_process(instance: DagsterInstance, run: DagsterRun) -> CheckRunHealthResult:
    """Health of a run on this host by the process that it last reported."""
    for event in reversed(instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)):
        data = event.dagster_event.event_specific_data if event.dagster_event is not None else None
        pid = getattr(data, "metadata", {}).get("pid")
        if pid is not None:
            return _health(int(str(pid.value)), event.timestamp)
    return CheckRunHealthResult(WorkerStatus.RUNNING, "its process has not reported its number yet")


def _health(pid: int, reported_at: float) -> CheckRunHealthResult:
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= reported_at + CLOCK_TOLERANCE_S:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
    except psutil.NoSuchProcess:
        pass
    return CheckRunHealthResult(WorkerStatus.FAILED, f"the run's process {pid} has died", run_worker_id=str(pid))
