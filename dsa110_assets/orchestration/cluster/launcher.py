"""The run launcher of the profile `distributed`: a run waits in the registry until a worker takes it.

The health of a run is the age of its worker's beat. Looking for a process number would call the runs of every other
host alive forever, and two hosts have equal numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Self

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration.cluster import broker
from dsa110_assets.orchestration.launcher import health_by_process, is_executed_here
from dsa110_assets.orchestration.private import (
    CheckRunHealthResult,
    ConfigurableClass,
    ConfigurableClassData,
    LaunchRunContext,
    RunLauncher,
    WorkerStatus,
    instance_of,
)
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import workers
from dsa110_assets.stages.provenance.installed import installed

PRIORITY_TAG = "dagster/priority"
_log = logging.getLogger(__name__)


class ClusterRunLauncher(RunLauncher[dg.DagsterInstance], ConfigurableClass):  # type: ignore[type-arg]
    """Puts runs into the registry's queue for workers, and judges them by their beats."""

    def __init__(self, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__()
        self._inst_data = inst_data
        self._config = PipelineConfig.from_env(validate_paths=False)
        self._opened: Database | None = None
        self._version = str(installed(self._config))  # now, as files may change later
        queue = broker.queue_of(self._config.worker_queue, self._version)
        self._bell = broker.Bell(broker.celery_app(self._config), queue)

    @property
    def inst_data(self) -> ConfigurableClassData | None:
        """What Dagster made the launcher from."""
        return self._inst_data

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """No settings of its own."""
        return {}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Self:
        """Create the launcher from ``dagster.yaml``; called by Dagster."""
        return cls(inst_data)

    @property
    def _database(self) -> Database:
        if self._opened is None:
            self._opened = Database.connect(self._config, migrate=False)
        return self._opened

    def launch_run(self, context: LaunchRunContext) -> None:
        """Let the run wait for a worker, and wake one."""
        run, queue = context.dagster_run, self._config.worker_queue
        with self._database.session() as session:
            workers.request(
                session,
                run.run_id,
                queue=queue,
                version=self._version,
                priority=int(run.tags.get(PRIORITY_TAG, "0")),
                group_id=run.tags.get(GROUP_TAG),
            )
        if not self._bell.ring():
            _log.warning("the broker does not answer; workers find run %s by themselves", run.run_id)

    def terminate(self, run_id: str) -> bool:
        """Cancel a run: at once if it still waits, else by its worker, which sees it with its next beat."""
        run = instance_of(self).get_run_by_id(run_id)
        if run is None or run.is_finished:
            return False
        instance_of(self).report_run_canceling(run)
        with self._database.session() as session:
            at_work = workers.request_cancel(session, run_id)
        if not at_work:
            instance_of(self).report_run_canceled(run, "It had no worker.")
        return True

    @property
    def supports_check_run_worker_health(self) -> bool:
        """Tell run monitoring that it can check workers."""
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """Return FAILED if the run was given up, or if its process has ended without an end of the run."""
        with self._database.session() as session:
            workers.give_up_silent(session, self._config.worker_lost_s)
            row = workers.state_of(session, run.run_id)
        if row is None:
            if is_executed_here(run):
                return health_by_process(instance_of(self), run)
            return CheckRunHealthResult(WorkerStatus.RUNNING, "no worker was asked for it")
        where = f"{row.host}:{row.pid}"
        if row.lost_at is not None:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"the run was given up: {row.lost_why}", run_worker_id=where)
        if row.ended_at is not None:
            return CheckRunHealthResult(WorkerStatus.FAILED, f"its process ended with code {row.exit_code}", run_worker_id=where)
        return CheckRunHealthResult(WorkerStatus.RUNNING, run_worker_id=where)

    def dispose(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.dispose()
