"""Pitfall 30 (Dagster): a killed run does not stay STARTED for ever, and its observation goes back to the queue."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus
from sqlalchemy.exc import OperationalError

from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.orchestration import jobs, sensors
from dsa110_assets.orchestration.launcher import WatchedRunLauncher
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue.attempts import attempt, now
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.ingest.bookkeeping import observation, settings

GROUP = "2026-03-01T05:10:11"
HERE = '{"host": "127.0.0.1", "port": 1}'


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as one:
        yield one


@pytest.fixture
def launcher(instance: dg.DagsterInstance) -> WatchedRunLauncher:
    one = WatchedRunLauncher()
    one.register_instance(instance)
    return one


def create_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
    @dg.job(name=jobs.TILE)
    def tile() -> None:
        """Stand-in for the tile's job."""

    return instance.create_run_for_job(tile, tags={".dagster/grpc_info": HERE, **tags}, status=status)


def test_pitfall_30_a_run_whose_process_is_killed_is_unhealthy_at_once(instance: dg.DagsterInstance, launcher: WatchedRunLauncher) -> None:
    run = create_run(instance, dg.DagsterRunStatus.STARTED)
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING, "its process is not known yet"
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(worker.pid))
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
    worker.kill()
    worker.wait()
    assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED


def test_pitfall_30_another_process_with_the_same_pid_is_not_taken_for_the_run(
    instance: dg.DagsterInstance, launcher: WatchedRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = create_run(instance, dg.DagsterRunStatus.STARTED)
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        long_ago = time.time() - 3600
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda: long_ago)
            instance.report_engine_event("Started process for run", run, EngineEventData.in_process(worker.pid))
        assert launcher.check_run_worker_health(run).status == WorkerStatus.FAILED
    finally:
        worker.kill()
        worker.wait()


def test_pitfall_30_a_run_on_another_machine_is_not_declared_dead(instance: dg.DagsterInstance, launcher: WatchedRunLauncher) -> None:
    run = create_run(instance, dg.DagsterRunStatus.STARTED, **{".dagster/grpc_info": '{"host": "cluster-node-7", "port": 1}'})
    instance.report_engine_event("Started process for run", run, EngineEventData.in_process(2**22 - 1))
    assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING


@pytest.mark.parametrize(
    ("status", "attached", "leased_s", "state"),
    [
        (dg.DagsterRunStatus.FAILURE, True, 5, GroupState.PENDING),
        (dg.DagsterRunStatus.CANCELED, True, 5, GroupState.FAILED),  # a person canceled it
        (dg.DagsterRunStatus.CANCELED, False, 5, GroupState.FAILED),  # canceled in Dagster's queue
        (dg.DagsterRunStatus.FAILURE, False, 5, GroupState.PENDING),  # killed before it took its observation
        (None, False, 60, GroupState.PENDING),  # the daemon died between lease and launch
        (None, False, 5, GroupState.IN_PROGRESS),  # about to be launched
        (dg.DagsterRunStatus.STARTED, True, 5, GroupState.IN_PROGRESS),
        (dg.DagsterRunStatus.NOT_STARTED, False, 5000, GroupState.IN_PROGRESS),  # waiting in Dagster's queue
    ],
)
def test_pitfall_30_the_observation_of_a_dead_or_lost_run_goes_back_and_no_other(
    database: Database,
    registry_config: PipelineConfig,
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus | None,
    attached: bool,
    leased_s: float,
    state: GroupState,
) -> None:
    since = now() - timedelta(seconds=leased_s)
    with database.session() as session:
        accept_files(session, observation(), since)
        close_ready_observations(session, since, settings())
        (lease,) = ledger.lease_pending(session, "sensor", 1, since, lease_s=6000)
    run = None if status is None else create_run(instance, status, **{GROUP_TAG: GROUP, "dagster/run_key": lease.run_key})
    if attached and run is not None:
        with database.session() as session:
            ledger.attach_run(session, GROUP, lease.attempt, run.run_id, since, lease_s=6000)
    resource = PlatformResource.with_config(registry_config)
    answer = sensors.dead_runs(dg.build_sensor_context(instance=instance, resources={"platform": resource}))
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
    assert group.state == state, answer
    if state == GroupState.PENDING:
        assert group.error_type == "ChildFailedError"
    elif state == GroupState.FAILED:
        assert "canceled by a person" in str(group.error)


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (None, GroupState.PENDING),  # killed
        (OperationalError("INSERT INTO event_logs", {}, Exception("server closed the connection unexpectedly")), GroupState.PENDING),
        (ValueError("the gate has refused the image"), GroupState.COMPLETED),
    ],
)
def test_pitfall_30_an_observation_is_made_again_if_its_run_died_after_the_registry_and_before_dagster(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance, error: Exception | None, state: GroupState
) -> None:
    @dg.op
    def gate() -> None:
        assert error is not None
        raise error

    @dg.job(name=jobs.TILE)
    def tile() -> None:
        gate()

    if error is None:
        run_id = create_run(instance, dg.DagsterRunStatus.FAILURE).run_id
    else:
        run_id = tile.execute_in_process(instance=instance, raise_on_error=False).run_id
    with database.session() as session:
        accept_files(session, observation(), now())
        close_ready_observations(session, now(), settings())
        (lease,) = ledger.lease_pending(session, "sensor", 1, now(), lease_s=60)
        ledger.attach_run(session, GROUP, lease.attempt, run_id, now(), lease_s=60)
        ledger.complete(session, GROUP, lease.attempt, now(), stage=TileStage.IMAGED)
    resource = PlatformResource.with_config(registry_config)
    for _ in range(2):
        sensors.dead_runs(dg.build_sensor_context(instance=instance, resources={"platform": resource}))
        with database.session() as session:
            assert session.get_one(IngestGroup, GROUP).state == state


@pytest.mark.parametrize(
    ("cancelled", "state", "error"),
    [
        (False, GroupState.PENDING, "interrupted (KeyboardInterrupt)"),
        (True, GroupState.FAILED, f"{GROUP}: its run was canceled by a person"),
    ],
)
def test_pitfall_30_a_run_stopped_with_the_platform_returns_its_observation_and_a_canceled_one_does_not(
    database: Database, registry_config: PipelineConfig, cancelled: bool, state: GroupState, error: str
) -> None:
    with database.session() as session:
        accept_files(session, observation(), now())
        close_ready_observations(session, now(), settings())

    def stopped() -> None:
        with attempt(Platform.open(registry_config), TileRun(GROUP, "run-1", is_cancelled=lambda: cancelled)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        assert group.state == state
        assert str(group.error).startswith(error)
