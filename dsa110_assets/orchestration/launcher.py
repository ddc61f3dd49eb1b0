"""A run launcher that notices dead run workers.

Dagster's default launcher learns of a worker's death from the code server that started it. When that one dies too, or the
whole machine, the run would stay STARTED until its longest runtime. Here the daemon's monitoring looks for the worker's process. What
does not belong here: giving the observation of a dead run back to the queue (`sensors.dead_runs`).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any, Self

import psutil
from dagster import DagsterEventType, DagsterRun, DefaultRunLauncher

from dsa110_assets.orchestration.private import GRPC_INFO_TAG, CheckRunHealthResult, ConfigurableClassData, WorkerStatus, instance_of

CLOCK_TOLERANCE_S = 2.0


class WatchedRunLauncher(DefaultRunLauncher):
    """The default launcher, and a look at the worker's process for runs of this machine."""

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Dagster's way to make one from ``dagster.yaml``."""
        return cls(inst_data=inst_data)

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Asked by run monitoring."""
        return True

    def check_run_worker_health(self, run: DagsterRun) -> CheckRunHealthResult:
        """FAILED when the process that said that it runs this run has gone, or its number is another's by now."""
        if not _is_here(run):
            return CheckRunHealthResult(WorkerStatus.RUNNING, "on another machine, which this one cannot see")
        for event in reversed(instance_of(self).all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)):
            data = event.dagster_event.event_specific_data if event.dagster_event is not None else None
            pid = getattr(data, "metadata", {}).get("pid")
            if pid is not None:
                return _health(int(str(pid.value)), event.timestamp)
        return CheckRunHealthResult(WorkerStatus.RUNNING, "its process has not said its number yet")


def _is_here(run: DagsterRun) -> bool:
    server = json.loads(run.tags.get(GRPC_INFO_TAG, "{}"))
    return "socket" in server or server.get("host") in ("127.0.0.1", "::1", "localhost", socket.gethostname())


def _health(pid: int, said_at: float) -> CheckRunHealthResult:
    try:
        process = psutil.Process(pid)
        if process.status() != psutil.STATUS_ZOMBIE and process.create_time() <= said_at + CLOCK_TOLERANCE_S:
            return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=str(pid))
    except psutil.NoSuchProcess:
        pass
    return CheckRunHealthResult(WorkerStatus.FAILED, f"the run's process {pid} has died", run_worker_id=str(pid))
