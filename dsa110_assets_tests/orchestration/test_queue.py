"""Live data go before backfills, in the sensor's requests and in the daemon's queue with the project's dagster.yaml."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from dsa110_assets.cli.services import project_file
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.orchestration import sensors
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import RefreshableCatalog
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.queue.work import FollowUp
from dsa110_assets_tests.ingest.bookkeeping import observation, settings

TODAY = now().replace(microsecond=0) - timedelta(hours=1)
LAST_WEEK = TODAY - timedelta(days=7)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """An instance with the queue of the project's ``dagster.yaml``, one run at a time."""
    written: dict[str, Any] = yaml.safe_load(project_file("dagster.yaml").read_text())
    queue = {name: written[name] for name in ("concurrency", "run_queue")}
    queue["concurrency"]["runs"]["max_concurrent_runs"] = 1
    with dg.DagsterInstance.local_temp(str(tmp_path), overrides=queue) as one:
        yield one


def enqueue(instance: dg.DagsterInstance, name: str, **tags: str) -> None:
    """Put a run into the queue, like the daemon."""

    @dg.job(name=name)
    def one() -> None:
        """Replaces the job, which is not executed here."""

    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("dsa110_assets"), "__repository__"), name)
    instance.create_run_for_job(one, tags=tags, status=dg.DagsterRunStatus.QUEUED, remote_job_origin=origin)


def launched_in_order(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Take the next run from the daemon's queue and end it, until the queue is empty."""
    order: list[dg.DagsterRun] = []
    with QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon:
        while chosen := daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None):
            (run,) = chosen
            order.append(run)
            instance.report_run_failed(run)  # however it ends, its place becomes free
    return order


def observe(database: Database, start: datetime) -> None:
    with database.session() as session:
        accept_files(session, observation(start=start), now())
        close_ready_observations(session, now(), settings())


def test_new_observations_overtake_old_ones_and_backfills_newest_first(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance
) -> None:
    """All other runs wait already when live observations arrive; only follow-ups of finished hours go before these."""
    config = registry_config.model_copy(update={"max_workers": 4})
    resource = PlatformResource.with_config(config)
    with database.session() as session:
        session.add_all(RefreshableCatalog(name=name, path=name, origin=name, n_rows=1) for name in ("calibrator_catalog", "nvss_catalog"))

    def enqueue_requests() -> None:
        answer: Any = sensors.raw_files(dg.build_sensor_context(instance=instance, resources={"platform": resource}))
        for request in answer.run_requests:
            enqueue(instance, str(request.job_name), **request.tags)

    for k in range(3):
        enqueue(instance, f"backfill_{k}", **{"dagster/backfill": "b"})
    old = [LAST_WEEK + timedelta(seconds=310 * k) for k in range(2)]
    for start in old:
        observe(database, start)
    enqueue_requests()
    new = [TODAY + timedelta(seconds=310 * k) for k in range(3)]
    for start in new:
        observe(database, start)
    enqueue_requests()
    follow_up = sensors._follow_up_request(FollowUp("hour", "hour/2026-03-01T05/7", "its tiles have ended", "2026-03-01", "05"), 0)
    enqueue(instance, "hour", **follow_up.tags)

    order = launched_in_order(instance)
    names = [run.tags.get(GROUP_TAG, run.job_name) for run in order]
    assert names[0] == "hour"
    assert names[1:4] == [f"{start:%Y-%m-%dT%H:%M:%S}" for start in reversed(new)]
    assert sorted(names[4:]) == sorted([*(f"{start:%Y-%m-%dT%H:%M:%S}" for start in old), "backfill_0", "backfill_1", "backfill_2"])


def test_a_backfill_takes_one_place_and_leaves_the_others_for_live_data(tmp_path: Path) -> None:
    written: dict[str, Any] = yaml.safe_load(project_file("dagster.yaml").read_text())
    queue = {name: written[name] for name in ("concurrency", "run_queue")}
    queue["concurrency"]["runs"]["max_concurrent_runs"] = 3
    with (
        dg.DagsterInstance.local_temp(str(tmp_path), overrides=queue) as instance,
        QueuedRunCoordinatorDaemon(interval_seconds=1) as daemon,
    ):
        for k in range(5):
            enqueue(instance, f"backfill_{k}", **{"dagster/backfill": "b"})
        chosen = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
        assert [run.job_name for run in chosen] == ["backfill_0"], "two places stay free for live data"
        for k in range(4):
            enqueue(instance, f"live_{k}", **{"dagster/priority": "10"})
        chosen = daemon._get_runs_to_dequeue(instance, instance.get_concurrency_config(), None)
        assert [run.job_name for run in chosen] == ["live_0", "live_1", "live_2"]
