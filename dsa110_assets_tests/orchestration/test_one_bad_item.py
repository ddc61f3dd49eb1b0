"""Every sensor with one bad item among ten: the other nine go on."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.test_utils import freeze_time
from sqlalchemy import delete

from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.registry import queries
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.schema import GroupState, IngestGroup, RefreshableCatalog, SubbandFile
from dsa110_assets.stages.queue import attempts, intake
from dsa110_assets_tests.ingest.bookkeeping import observation, settings
from dsa110_assets_tests.registry_fixture import add_observation

CLOCK = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
STARTS = [CLOCK - timedelta(hours=2) + number * timedelta(seconds=309) for number in range(10)]
BAD = 4


class Platform:
    """Sensors over the test's registry and an instance without runs."""

    def __init__(self, database: Database, config: PipelineConfig, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self.database, self._config, self._instance, self._monkeypatch = database, config, instance, monkeypatch

    def tick(self, sensor: str, clock: datetime, **changed: object) -> Any:
        """Evaluate a sensor as the daemon does; its requests are checked against the partitions."""
        config = self._config.model_copy(update=changed)
        repository = build_defs(config).get_repository_def()
        resources = {"platform": PlatformResource.with_config(config)}
        for module in (intake, attempts):
            self._monkeypatch.setattr(module, "now", lambda: clock)
        with freeze_time(clock):
            context = dg.build_sensor_context(instance=self._instance, resources=resources, repository_def=repository)
            return repository.get_sensor_def(sensor).evaluate_tick(context)

    def arrive(self) -> list[str]:
        with self.database.session() as session:
            accept_files(session, [one for start in STARTS for one in observation(start=start)], CLOCK)
            close_ready_observations(session, CLOCK, settings())
        return [f"{start:%Y-%m-%dT%H:%M:%S}" for start in STARTS]


@pytest.fixture
def platform(database: Database, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    with database.session() as session:
        session.add_all(RefreshableCatalog(name=name, path=name, origin=name, n_rows=1) for name in ("calibrator_catalog", "nvss_catalog"))
    with dg.DagsterInstance.ephemeral() as instance:
        yield Platform(database, registry_config.model_copy(update={"max_workers": 32}), instance, monkeypatch)


def _requested(answers: list[Any]) -> set[str]:
    return {request.tags["dsa110/observation"] for answer in answers for request in answer.run_requests or []}


def test_raw_files_requests_nine_observations_when_the_rows_of_one_files_are_gone(platform: Platform) -> None:
    names = platform.arrive()
    with platform.database.session() as session:
        session.execute(delete(SubbandFile).where(SubbandFile.group_id == names[BAD]))
    answers = [platform.tick("raw_files", CLOCK + timedelta(seconds=number)) for number in range(4)]
    assert _requested(answers) >= set(names) - {names[BAD]}


def test_raw_files_requests_nine_observations_when_one_lies_before_the_first_partition(platform: Platform) -> None:
    names = platform.arrive()
    old = datetime(2026, 11, 1, 5, 0, tzinfo=UTC)
    with platform.database.session() as session:
        accept_files(session, observation(start=old), CLOCK)
        close_ready_observations(session, CLOCK, settings())
    answers = [platform.tick("raw_files", CLOCK + timedelta(seconds=number), partition_start=date(2026, 11, 26)) for number in range(4)]
    assert _requested(answers) == set(names)


def test_dead_runs_returns_nine_observations_when_one_was_removed_meanwhile(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    names = platform.arrive()
    for number in range(4):
        platform.tick("raw_files", CLOCK + timedelta(seconds=number))
    read = intake.in_progress

    def read_and_remove_one(opened: Any) -> list[intake.LeasedObservation]:
        found = read(opened)
        with platform.database.session() as session:
            session.execute(delete(SubbandFile).where(SubbandFile.group_id == names[BAD]))
            session.execute(delete(IngestGroup).where(IngestGroup.group_id == names[BAD]))
        return found

    monkeypatch.setattr(intake, "in_progress", read_and_remove_one)
    answer = platform.tick("dead_runs", CLOCK + timedelta(seconds=60))
    assert all(name in answer.skip_message for name in names if name != names[BAD])
    with platform.database.session() as session:
        states = {one.group_id: one.state for one in session.query(IngestGroup)}
    assert states == dict.fromkeys(set(names) - {names[BAD]}, GroupState.PENDING)


def test_follow_up_requests_nine_nights_when_one_has_no_partition(platform: Platform) -> None:
    nights = [date(2026, 11, 10) + timedelta(days=number) for number in range(10)]
    with platform.database.session() as session:
        for night in nights:
            row = add_observation(session, f"{night}T05:00:09")
            queries.upsert_measurement_set(
                session, path=f"/ms/{night}.ms", group_id=row.group_id, kind="raw", status="flagged", start_mjd=row.start_mjd,
                mid_mjd=row.mid_mjd, end_mjd=row.end_mjd, ra_deg=120.0, dec_deg=16.0, pointing_dec_deg=16.0, n_channels=768,
                flagged_fraction=0.1, size_bytes=1000, calibrator="0834+555",
            )  # fmt: skip
            record_version(session, "measurement_set", row.group_id, inputs={}, recipe=Recipe("code", "settings"))
    answers = [platform.tick("follow_up", CLOCK + timedelta(seconds=number), partition_start=nights[1]) for number in range(4)]
    requested = {request.partition_key for answer in answers for request in answer.run_requests or [] if request.job_name == "calibration"}
    assert requested == {night.isoformat() for night in nights[1:]}


def test_alerts_reports_nine_conditions_when_one_has_no_reason_and_strange_text(platform: Platform) -> None:
    with platform.database.session() as session:
        for number, start in enumerate(STARTS):
            row = add_observation(session, f"{start:%Y-%m-%dT%H:%M:%S}", state=GroupState.FAILED)
            row.updated_at = CLOCK
            row.error, row.error_type = (
                (None, None)
                if number == BAD
                else ("\ud83d\ude00 <b>'%s".encode("utf-16", "surrogatepass").decode("utf-16"), "ImagingError")
            )
    answer = platform.tick("alerts", CLOCK + timedelta(seconds=60))
    assert all(f"observation-failed/{start:%Y-%m-%dT%H:%M:%S}" in str(answer.cursor) for start in STARTS)
