"""Pitfall 44: one request for a date without a partition makes all other requests of the same tick fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time

from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, RefreshableCatalog
from dsa110_assets.stages.queue import intake, planning
from dsa110_assets.stages.queue.work import FollowUp
from dsa110_assets_tests.ingest.bookkeeping import observation, settings

EVENING = datetime(2026, 11, 26, 23, 40, tzinfo=UTC)
EARLY = datetime(2026, 11, 27, 0, 0, 20, tzinfo=UTC)
CLOCK = datetime(2026, 11, 26, 23, 55, tzinfo=UTC)
Tick = Callable[[str, datetime], Any]


@pytest.fixture
def tick(database: Database, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tick]:
    """Evaluate a sensor at a given time, as the daemon does, and check its requests against the partitions."""
    with database.session() as session:
        session.add_all(RefreshableCatalog(name=name, path=name, origin=name, n_rows=1) for name in ("calibrator_catalog", "nvss_catalog"))
    with dg.DagsterInstance.ephemeral() as instance:

        def evaluate(sensor: str, clock: datetime, config: PipelineConfig = registry_config) -> Any:
            repository = build_defs(config).get_repository_def()
            resources = {"platform": PlatformResource.with_config(config)}
            monkeypatch.setattr(intake, "now", lambda: clock)
            with freeze_time(clock):
                context = dg.build_sensor_context(instance=instance, resources=resources, repository_def=repository)
                return repository.get_sensor_def(sensor).evaluate_tick(context)

        yield evaluate


def arrive(database: Database, *starts: datetime) -> None:
    with database.session() as session:
        accept_files(session, [one for start in starts for one in observation(start=start)], CLOCK)
        close_ready_observations(session, CLOCK, settings())


def state_of(database: Database, start: datetime) -> IngestGroup:
    with database.session() as session:
        return session.get_one(IngestGroup, f"{start:%Y-%m-%dT%H:%M:%S}")


def test_case_03_an_observation_of_tomorrows_date_waits_and_others_go_on(database: Database, tick: Tick) -> None:
    arrive(database, EVENING, EARLY)
    answer = tick("raw_files", CLOCK)
    assert [request.partition_key for request in answer.run_requests] == ["2026-11-26|23:40"]
    early = state_of(database, EARLY)
    assert (early.state, early.attempt, early.failures, early.error) == (GroupState.PENDING, 0, 0, None)
    assert "1 of tomorrow's date wait for 0 h UTC" in tick("raw_files", CLOCK + timedelta(seconds=5)).skip_message
    answer = tick("raw_files", EARLY)
    assert [request.partition_key for request in answer.run_requests] == ["2026-11-27|00:00"]
    assert state_of(database, EARLY).attempt == 1


def test_pitfall_44_what_lies_before_the_first_partition_is_refused_once_with_a_next_step(
    database: Database, registry_config: PipelineConfig, tick: Any
) -> None:
    """The setting was moved past a night that still has a pending observation."""
    arrive(database, EVENING, EARLY)
    moved = registry_config.model_copy(update={"partition_start": date(2026, 11, 27)})
    answer = tick("raw_files", EARLY, moved)
    assert [request.partition_key for request in answer.run_requests] == ["2026-11-27|00:00"]
    refused = state_of(database, EVENING)
    assert (refused.state, refused.attempt, refused.failures) == (GroupState.FAILED, 0, 0)
    assert "lies before PIPELINE_PARTITION_START (2026-11-27)" in str(refused.error)
    assert "dsa110 ingest retry 2026-11-26T23:40:00" in str(refused.error)
    tick("raw_files", EARLY + timedelta(seconds=5), moved)
    assert state_of(database, EVENING).updated_at == refused.updated_at, "it is not refused again in each tick"


def test_pitfall_44_a_run_that_was_never_launched_counts_as_no_failure(
    database: Database, registry_config: PipelineConfig, tick: Tick
) -> None:
    """More often than an observation may fail: the daemon dies between lease and launch."""
    arrive(database, EVENING)
    clock = CLOCK
    for attempt in range(1, registry_config.max_attempts + 2):
        assert [request.run_key for request in tick("raw_files", clock).run_requests] == [f"2026-11-26T23:40:00/{attempt}"]
        clock += timedelta(seconds=40)
        tick("dead_runs", clock)
        group = state_of(database, EVENING)
        assert (group.state, group.failures) == (GroupState.PENDING, 0)
        assert "its run was never launched" in str(group.error)
        assert tick("raw_files", clock).run_requests in (None, []), "it is given a pause"
        clock += timedelta(seconds=intake.NOT_LAUNCHED_DELAY_S)


def test_pitfall_44_a_lease_that_expires_before_a_run_began_counts_as_no_failure(
    database: Database, registry_config: PipelineConfig, tick: Tick
) -> None:
    """More often than an observation may fail: the platform was stopped after the request."""
    arrive(database, EVENING)
    clock = CLOCK
    for attempt in range(1, registry_config.max_attempts + 2):
        assert [request.run_key for request in tick("raw_files", clock).run_requests] == [f"2026-11-26T23:40:00/{attempt}"]
        assert state_of(database, EVENING).failures == 0
        clock += timedelta(seconds=intake.REQUEST_LEASE_S)


@pytest.mark.parametrize("job", ["hour", "night", "calibration", "mosaic_of_the_night"])
def test_pitfall_44_what_follows_is_requested_exactly_where_a_partition_exists(registry_config: PipelineConfig, job: str) -> None:
    config = registry_config.model_copy(update={"partition_start": date(2026, 11, 25)})
    partitions = Partitions.starting(config.partition_start)
    definition = partitions.night if job == "mosaic_of_the_night" else partitions.night_live
    nights = [date(2026, 11, 23) + timedelta(days=k) for k in range(7)]
    with freeze_time(CLOCK):
        for night in nights:
            work = FollowUp(job, "key", "reason", night=night.isoformat())
            assert planning.has_partition(work, config, CLOCK.date()) == definition.has_partition_key(night.isoformat()), night
