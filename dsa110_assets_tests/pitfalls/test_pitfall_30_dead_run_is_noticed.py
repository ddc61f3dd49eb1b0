"""Pitfall 30 (Dagster): a killed run does not stay STARTED for ever, and its observation goes back to the queue."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.launcher.base import WorkerStatus
from sqlalchemy.exc import OperationalError

from dsa110_assets.cli.services import project_file
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.orchestration import jobs, sensors
from dsa110_assets.orchestration.launcher import HOST_TAG, WatchedRunLauncher, note_host
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.schema import GroupState, IngestGroup, RunWorker, TileStage
from dsa110_assets.stages.operations import alerts, services
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


@dg.job(name="nothing")
def _nothing() -> None:
    """Job of a run that no launcher has started."""


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


def test_pitfall_30_a_killed_command_of_dagsters_does_not_hold_its_observation(
    instance: dg.DagsterInstance, launcher: WatchedRunLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dagster asset materialize` executes its run itself: no launcher started it, no worker gives beats for it."""
    launched = create_run(instance, dg.DagsterRunStatus.STARTED)
    by_command = instance.create_run_for_job(_nothing, status=dg.DagsterRunStatus.STARTED)
    for run in (by_command, launched):
        note_host(instance, run)
    by_command, launched = (found for run in (by_command, launched) if (found := instance.get_run_by_id(run.run_id)) is not None)
    assert HOST_TAG in by_command.tags
    assert HOST_TAG not in launched.tags
    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    instance.report_engine_event("Executing steps in process", by_command, EngineEventData.in_process(worker.pid))
    assert launcher.check_run_worker_health(by_command).status == WorkerStatus.RUNNING
    worker.kill()
    worker.wait()
    assert launcher.check_run_worker_health(by_command).status == WorkerStatus.FAILED
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert launcher.check_run_worker_health(by_command).status == WorkerStatus.RUNNING, "it cannot be checked from another host"


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
        (False, GroupState.PENDING, f"{GROUP}: its run ended because the platform was stopped (KeyboardInterrupt)"),
        (True, GroupState.FAILED, f"{GROUP}: its run was canceled by a person"),
    ],
)
def test_pitfall_30_a_run_stopped_with_the_platform_returns_its_observation_and_a_canceled_one_does_not(
    database: Database, registry_config: PipelineConfig, cancelled: bool, state: GroupState, error: str
) -> None:
    with database.session() as session:
        accept_files(session, observation(), now())
        close_ready_observations(session, now(), settings())

    def stopped(run_id: str) -> None:
        with attempt(Platform.open(registry_config), TileRun(GROUP, run_id, is_cancelled=lambda: cancelled)):
            raise KeyboardInterrupt

    for stop in range(1 if cancelled else 5):  # more stops than failures are allowed
        with pytest.raises(KeyboardInterrupt):
            stopped(f"run-{stop}")
        with database.session() as session:
            group = session.get_one(IngestGroup, GROUP)
            assert group.state == state
            assert str(group.error).startswith(error)
            assert group.failures == int(cancelled)


def leased_by(database: Database, run_id: str, since: datetime) -> str:
    """Lease the observation for a run; return the run key."""
    with database.session() as session:
        accept_files(session, observation(), since)
        close_ready_observations(session, since, settings())
        (lease,) = ledger.lease_pending(session, "sensor", 1, since, lease_s=6000)
        ledger.attach_run(session, GROUP, lease.attempt, run_id, since, lease_s=6000)
    return lease.run_key


def look_for_dead_runs(instance: dg.DagsterInstance, config: PipelineConfig) -> None:
    resource = PlatformResource.with_config(config)
    sensors.dead_runs(dg.build_sensor_context(instance=instance, resources={"platform": resource}))


@pytest.mark.parametrize(("stopped_after_s", "error_type", "failures"), [(30, "StoppedError", 0), (-30, "ChildFailedError", 1)])
def test_pitfall_30_a_run_that_was_killed_by_an_orderly_stop_counts_as_no_failure_and_an_earlier_stop_excuses_nothing(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance, stopped_after_s: int, error_type: str, failures: int
) -> None:
    run, since = create_run(instance, dg.DagsterRunStatus.FAILURE), now() - timedelta(seconds=60)
    leased_by(database, run.run_id, since)
    services.record_stop(registry_config)
    stopped_at = (since + timedelta(seconds=stopped_after_s)).timestamp()
    os.utime(registry_config.state_dir / "stopped", (stopped_at, stopped_at))
    look_for_dead_runs(instance, registry_config)
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        assert (group.state, group.error_type, group.failures) == (GroupState.PENDING, error_type, failures)


@pytest.mark.parametrize("given_up", [False, True])
@pytest.mark.parametrize(("stopped", "error_type", "failures"), [(True, "StoppedError", 0), (False, "ChildFailedError", 1)])
def test_pitfall_30_a_run_that_was_killed_while_its_worker_stopped_counts_as_no_failure(
    database: Database,
    registry_config: PipelineConfig,
    instance: dg.DagsterInstance,
    stopped: bool,
    given_up: bool,
    error_type: str,
    failures: int,
) -> None:
    """As when Slurm kills what has not ended in time; ``given_up``: the worker too, so that it says nothing more."""
    run = create_run(instance, dg.DagsterRunStatus.FAILURE)
    leased_by(database, run.run_id, now())
    with database.session() as session:
        session.add(RunWorker(run_id=run.run_id, queue="q", version="v", priority=0, host="host7", exit_code=-9, claimed_at=now()))
    with database.session() as session:
        if stopped:
            workers.record_stop(session, run.run_id)
        if given_up:
            workers.give_up(session, [run.run_id], "host7 gave no sign of life for 61 s")
    look_for_dead_runs(instance, registry_config)
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        assert (group.state, group.error_type, group.failures) == (GroupState.PENDING, error_type, failures)


def test_pitfall_30_a_second_signal_does_not_keep_a_stopped_run_from_returning_its_observation(
    database: Database, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scancel` tells the run, and the worker, which is told too, then tells the run once more."""
    with database.session() as session:
        accept_files(session, observation(), now())
        close_ready_observations(session, now(), settings())
    fail = ledger.fail

    def told_again(*args: Any, **options: Any) -> GroupState:
        os.kill(os.getpid(), signal.SIGINT)
        return fail(*args, **options)

    monkeypatch.setattr(ledger, "fail", told_again)
    with pytest.raises(KeyboardInterrupt, match="the first"), attempt(Platform.open(registry_config), TileRun(GROUP, "run-1")):
        raise KeyboardInterrupt("the first")
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        assert (group.state, group.error_type, group.failures) == (GroupState.PENDING, "StoppedError", 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_pitfall_30_a_deleted_run_is_a_dead_run_with_an_alert_until_its_observation_is_made(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance
) -> None:
    run = create_run(instance, dg.DagsterRunStatus.STARTED)
    leased_by(database, run.run_id, now())
    instance.delete_run(run.run_id)
    look_for_dead_runs(instance, registry_config)
    platform = Platform.open(registry_config.model_copy(update={"min_free_gib": 0.0}))
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        assert (group.state, group.error_type, group.run_id) == (GroupState.PENDING, "RunDeletedError", None)
        assert f"run {run.run_id} was deleted" in str(group.error)
    assert [one.key for one in alerts.conditions(platform, now())] == [f"run-deleted/{GROUP}/1"]
    with database.session() as session:
        (lease,) = ledger.lease_pending(session, "sensor", 1, now() + timedelta(seconds=60), lease_s=60)
        ledger.complete(session, GROUP, lease.attempt, now())
    assert alerts.conditions(platform, now()) == []


def test_pitfall_30_a_command_that_works_on_an_observation_is_no_deleted_run(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance
) -> None:
    leased_by(database, "by-hand-0123456789ab", now())
    look_for_dead_runs(instance, registry_config)
    with database.session() as session:
        assert session.get_one(IngestGroup, GROUP).state == GroupState.IN_PROGRESS


def test_pitfall_30_the_slots_of_a_deleted_run_become_free_and_those_of_a_living_one_stay(
    database: Database, registry_config: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the platform's own storage, as others have no pools."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(registry_config.state_dir))
    shutil.copy(project_file("dagster.yaml"), tmp_path / "dagster.yaml")
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots("cpu", 2)
        deleted, alive, next_run = (create_run(instance, dg.DagsterRunStatus.STARTED).run_id for _ in range(3))
        instance.delete_run(deleted)
        for run_id in (deleted, alive):  # the worker of the deleted run lives, and begins its next step
            assert storage.claim_concurrency_slot("cpu", run_id, "step").is_claimed
        assert not storage.claim_concurrency_slot("cpu", next_run, "step").is_claimed
        look_for_dead_runs(instance, registry_config)
        assert storage.claim_concurrency_slot("cpu", next_run, "step").is_claimed
        assert storage.check_concurrency_claim("cpu", alive, "step").is_claimed
        assert storage.get_concurrency_run_ids() == {alive, next_run}


def test_pitfall_30_a_completed_observation_does_not_name_a_run_that_was_deleted(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance
) -> None:
    run = create_run(instance, dg.DagsterRunStatus.SUCCESS)
    leased_by(database, run.run_id, now())
    with database.session() as session:
        ledger.complete(session, GROUP, 1, now())
    look_for_dead_runs(instance, registry_config)
    with database.session() as session:
        assert session.get_one(IngestGroup, GROUP).run_id == run.run_id
    instance.delete_run(run.run_id)
    look_for_dead_runs(instance, registry_config)
    with database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        assert (group.state, group.run_id) == (GroupState.COMPLETED, None)
