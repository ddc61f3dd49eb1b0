"""What a person can do in the Dagster UI: see why a run failed, retry it, backfill, find stale products, get alerts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.execution.backfill import BulkActionStatus

from dsa110_assets.definitions import build_defs
from dsa110_assets.errors import CalibrationQualityError, MosaicError, NoCalibrationError, RegistryError
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.timeline import SkippedSlot, SlotState
from dsa110_assets.orchestration import alerting, assets, backfills, jobs, running, sensors
from dsa110_assets.orchestration.metadata import metadata_of
from dsa110_assets.orchestration.partitions import Partitions, hour_key, tile_key
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.alerts import open_records
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets.stages.operations import alerts as messages
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import hour, tile
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.queue.attempts import attempt, end_stage, now
from dsa110_assets.stages.queue.work import FollowUp, TileRun, TileWork
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-12T05:03:21"
NIGHT, SLOT = "2026-03-12", "05:00"


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as one:
        yield one


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config.model_copy(update={"min_free_gib": 0.0}))


def _resource(platform: Platform) -> PlatformResource:
    return PlatformResource.with_config(platform.config)


class Calibration:
    """Replaces `calibrate`: raises the given error or records the stage, with the real bookkeeping of attempts."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.runs: list[TileRun] = []

    def __call__(self, platform: Platform, run: TileRun) -> StageResult:
        self.runs.append(run)
        with attempt(platform, run) as number:
            if self.error is not None:
                raise self.error
            with platform.database.session() as session:
                end_stage(session, run, number, TileStage.CALIBRATED)
        return StageResult("calibrated_ms", run.group_id, figures={"hours_away": 1.0})


@pytest.fixture
def calibration(monkeypatch: pytest.MonkeyPatch) -> Calibration:
    one = Calibration()
    monkeypatch.setattr(tile, "calibrate", one)
    return one


def _run_tile(platform: Platform, instance: dg.DagsterInstance, *, parent: dg.DagsterRun | None = None, **tags: str) -> dg.DagsterRun:
    """Run `calibrated_ms` like the daemon; with ``parent``, as a re-execution with its parent's tags."""
    job = build_defs(platform.config).resolve_job_def("tile")
    subset = job.get_subset(asset_selection={dg.AssetKey("calibrated_ms")})
    key = tile_key(NIGHT, SLOT)
    names = {f"dagster/partition/{name}": value for name, value in key.keys_by_dimension.items()}
    run = instance.create_run_for_job(
        subset,
        tags={**tags, "dagster/partition": str(key), **names} if parent is None else dict(parent.tags),
        parent_run_id=parent.run_id if parent else None,
        root_run_id=parent.run_id if parent else None,
        asset_selection=frozenset([dg.AssetKey("calibrated_ms")]),
    )
    execute_run(InMemoryJob(subset), run, instance)
    return instance.get_run_by_id(run.run_id)


def _group(platform: Platform) -> IngestGroup:
    with platform.database.session() as session:
        return session.get_one(IngestGroup, GROUP)


def _leased(platform: Platform) -> dict[str, str]:
    """Lease an observation like the sensor; return the tags of the requested run."""
    with platform.database.session() as session:
        add_observation(session, GROUP, state=GroupState.PENDING, stage=TileStage.MEASUREMENT_SET, dec_deg=54.6)
        session.get_one(IngestGroup, GROUP).calibrator = "0834+555"
        (lease,) = ledger.lease_pending(session, "sensor", 5, now(), lease_s=600)
    return {running.GROUP_TAG: GROUP, running.ATTEMPT_TAG: str(lease.attempt)}


def test_a_failed_tile_shows_the_cause_on_its_run_and_asset_and_can_be_re_executed(platform, instance, calibration) -> None:
    tags = _leased(platform)
    calibration.error = CalibrationQualityError(GROUP, "all visibilities are flagged", "look at the flags of measurement_set")
    failed = _run_tile(platform, instance, **tags)
    assert failed.status == dg.DagsterRunStatus.FAILURE
    assert "look at the flags of measurement_set" in alerting.cause_of(instance, failed.run_id)
    (observation,) = instance.fetch_observations(dg.AssetKey("calibrated_ms"), limit=5).records
    shown = observation.asset_observation.metadata
    assert shown["cause"].value == "all visibilities are flagged"
    assert shown["next step"].value == "look at the flags of measurement_set"
    assert observation.partition_key == f"{NIGHT}|{SLOT}"
    assert _group(platform).state == GroupState.FAILED

    calibration.error = None
    again = _run_tile(platform, instance, parent=failed)
    assert again.status == dg.DagsterRunStatus.SUCCESS
    assert (_group(platform).state, _group(platform).attempt) == (GroupState.COMPLETED, 2)
    assert [run.attempt for run in calibration.runs] == [1, None], "the parent's attempt has ended; a new one was leased"


def test_a_re_execution_does_not_take_an_observation_from_another_run(platform, instance, calibration) -> None:
    calibration.error = RegistryError("registry", "cannot be reached", "it is tried again")
    failed = _run_tile(platform, instance, **_leased(platform))
    with platform.database.session() as session:  # meanwhile the queue has leased another attempt
        ledger.lease_observation(session, GROUP, "sensor", now(), lease_s=600)
    calibration.error = None
    refused = _run_tile(platform, instance, parent=failed)
    assert refused.status == dg.DagsterRunStatus.FAILURE
    assert "in progress by sensor" in alerting.cause_of(instance, refused.run_id)
    assert (_group(platform).state, _group(platform).attempt) == (GroupState.IN_PROGRESS, 2)


def test_runs_can_be_filtered_by_night_declination_and_calibrator(platform, instance, calibration) -> None:
    run = _run_tile(platform, instance, **_leased(platform))
    for name, value in (("night", NIGHT), ("declination", "54.6"), ("calibrator", "0834+555")):
        assert [one.run_id for one in instance.get_runs(dg.RunsFilter(tags={f"dsa110/{name}": value}))] == [run.run_id]


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (RegistryError("registry", "cannot be reached", "wait"), 3),
        (NoCalibrationError("x", "none yet", "wait"), 3),
        (MosaicError("x", "no tile", "look"), 1),
    ],
)
def test_only_retriable_errors_are_retried(platform, instance, monkeypatch, error, calls) -> None:
    made: list[int] = []

    def fail(*_arguments: object) -> None:
        made.append(1)
        raise error

    assert running.RETRY.max_retries == 2
    monkeypatch.setattr(assets, "RETRY", dg.RetryPolicy(max_retries=running.RETRY.max_retries))
    monkeypatch.setattr(hour, "make_mosaic", fail)
    job = build_defs(platform.config).resolve_job_def("hour")
    result = job.execute_in_process(
        instance=instance, partition_key=hour_key(NIGHT, "05"), asset_selection=[dg.AssetKey("hourly_mosaic")], raise_on_error=False
    )
    assert not result.success
    assert len(made) == calls


def _versions(platform: Platform, recipe: Recipe) -> None:
    with platform.database.session() as session:
        add_observation(session, GROUP)
        record_version(session, "tile_image", GROUP, recipe=recipe)
        record_version(session, "hourly_mosaic", f"{NIGHT}T05", recipe=recipe)


def test_one_click_backfills_exactly_what_is_stale(platform, instance) -> None:
    _versions(platform, Recipe("old", "old"))
    job = build_defs(platform.config).resolve_job_def("backfill_stale")
    assert job.execute_in_process(instance=instance).success
    (asked,) = instance.get_backfills()
    assert asked.status == BulkActionStatus.REQUESTED
    target = asked.asset_backfill_data.target_subset.partitions_subsets_by_asset_key
    assert {key.to_user_string(): [str(k) for k in subset.get_partition_keys()] for key, subset in target.items()} == {
        "tile_image": [f"{NIGHT}|{SLOT}"],
        "hourly_mosaic": [f"{NIGHT}|05"],
    }
    assert asked.tags["dagster/max_retries"] == "0"


def test_a_dry_run_of_a_backfill_starts_nothing(platform, instance) -> None:
    _versions(platform, Recipe("old", "old"))
    config = dg.RunConfig(ops={"request_nights": backfills.NightsRequest(first_night=NIGHT, dry_run=True)})
    assert build_defs(platform.config).resolve_job_def("backfill").execute_in_process(instance=instance, run_config=config).success
    assert list(instance.get_backfills()) == []


def test_a_backfill_without_a_night_is_refused_before_anything_runs(platform, instance) -> None:
    job = build_defs(platform.config).resolve_job_def("backfill")
    with pytest.raises(dg.DagsterInvalidConfigError, match="first_night"):
        job.execute_in_process(instance=instance, run_config={"ops": {"request_nights": {"config": {}}}})
    assert list(instance.get_runs()) == []


def test_a_success_that_made_nothing_says_so_on_the_run_and_on_the_partition(platform, instance, monkeypatch) -> None:
    definitions = build_defs(platform.config)
    run = definitions.resolve_job_def("tile").execute_in_process(
        instance=instance, partition_key=tile_key(NIGHT, "07:00"), asset_selection=[dg.AssetKey("measurement_set")]
    )
    monkeypatch.setattr(hour, "make_mosaic", lambda *_: None)
    hourly = definitions.resolve_job_def("hour").execute_in_process(
        instance=instance, partition_key=hour_key(NIGHT, "07"), asset_selection=[dg.AssetKey("hourly_mosaic")]
    )
    expected = ((run, "measurement_set", "no observation starts in this slot"), (hourly, "hourly_mosaic", "nothing to make it from"))
    for done, asset, why in expected:
        assert done.success
        recorded = instance.get_run_by_id(done.run_id)
        assert recorded is not None
        assert why in recorded.tags[running.NOTHING_TAG]
        (event,) = instance.fetch_observations(dg.AssetKey(asset), limit=1).records
        assert event.asset_observation is not None
        assert why in event.asset_observation.metadata["nothing was made"].value


def test_raw_files_are_reported_with_their_names_their_runs_and_our_page(registry_config) -> None:
    work = TileWork(
        GROUP, 1, "key", NIGHT, SLOT, ("measurement_set",), 2, (3,), 16.0, 61111.21, 10, "/in", is_new=True,
        files=((0, f"{GROUP}_sb00.hdf5"), (1, f"{GROUP}_sb01.hdf5")),
    )  # fmt: skip
    metadata = sensors._raw_subbands(work, registry_config).metadata
    assert [record.data["file"] for record in metadata["files"].records] == [f"{GROUP}_sb00.hdf5", f"{GROUP}_sb01.hdf5"]
    assert metadata["page"].value == f"http://127.0.0.1:8000/ui/observations/{GROUP.replace(':', '%3A')}"
    assert "tag%3Adsa110%2Fobservation%3D" in metadata["runs"].value
    assert {"missing_subbands", "declination_deg", "start_mjd"} <= set(metadata), "the names that other assets use"


def test_a_slot_without_an_observation_says_whether_one_runs_through_it_or_time_was_lost(registry_config) -> None:
    lost = sensors._skipped(SkippedSlot(NIGHT, SLOT, SlotState.MISSING, 120.0), registry_config)
    empty = sensors._skipped(SkippedSlot(NIGHT, SLOT, SlotState.EMPTY, 0.0), registry_config)
    assert (lost.partition, lost.asset_key) == (f"{NIGHT}|{SLOT}", dg.AssetKey("raw_subbands"))
    assert "for 120 s" in str(lost.description)
    assert "Nothing is missing" in str(empty.description)
    assert empty.metadata["page"].value == f"http://127.0.0.1:8000/ui/observations?day={NIGHT}"


def test_times_in_metadata_are_exact_to_a_second() -> None:
    result = StageResult("light_curves", NIGHT, figures={"mid_mjd": 61111.20836, "rms": 0.123456789}, tables={"t": [{"mid_mjd": 61111.25}]})
    metadata = metadata_of([result])
    assert metadata["mid_mjd"].value == 61111.20836
    assert metadata["rms"].value == 0.123457
    assert metadata["t"].records[0].data["mid_mjd"] == 61111.25


def test_a_night_that_is_not_a_date_is_explained_in_the_ui(platform, instance) -> None:
    config = dg.RunConfig(ops={"request_nights": backfills.NightsRequest(first_night="2026-03-12''")})
    with pytest.raises(dg.Failure, match=r"is not a date.*write it as 2025-12-01"):
        build_defs(platform.config).resolve_job_def("backfill").execute_in_process(instance=instance, run_config=config)
    assert list(instance.get_backfills()) == []


def test_follow_ups_wait_until_a_backfill_of_their_night_has_ended(platform, instance, monkeypatch) -> None:
    from dsa110_assets.stages.operations.backfill import Backfill
    from dsa110_assets.stages.queue import planning

    due = [FollowUp("hour", "hour/a", "tiles have ended", night=NIGHT, hour="05"), FollowUp("night", "night/b", "new", night="2026-03-13")]
    monkeypatch.setattr(planning, "hours_due", lambda *_: due)
    for name in ("references_due", "calibrations_due", "nights_due", "nightly_mosaics_due"):
        monkeypatch.setattr(planning, name, lambda *_: [])
    backfill_id = backfills.launch(
        instance, Partitions.starting(platform.config.partition_start), Backfill({"tile_image": (f"{NIGHT}|{SLOT}",)}), "x"
    )
    assert backfills.nights_in_backfills(instance) == {NIGHT}
    assert [request.partition_key for request in _asked(platform, instance)] == ["2026-03-13"]
    instance.update_backfill(instance.get_backfill(backfill_id).with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert len(_asked(platform, instance)) == 2


def _asked(platform: Platform, instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    context = dg.build_sensor_context(instance=instance, resources={"platform": _resource(platform)})
    answers: Any = sensors.follow_up(context)
    return [answer for answer in answers if isinstance(answer, dg.RunRequest)]


def test_the_table_of_stale_products_is_on_their_asset(platform, instance) -> None:
    _versions(platform, Recipe("old", "old"))
    job = build_defs(platform.config).resolve_job_def("look_for_stale")
    assert job.execute_in_process(instance=instance).success
    metadata = instance.get_latest_materialization_event(dg.AssetKey("stale_products")).asset_materialization.metadata
    assert metadata["stale"].value == 2
    rows = [record.data for record in metadata["partitions"].value.records] if hasattr(metadata["partitions"].value, "records") else None
    rows = rows or [record.data for record in metadata["partitions"].records]
    assert [(row["asset"], row["partition"]) for row in rows] == [("tile_image", f"{NIGHT}|{SLOT}"), ("hourly_mosaic", f"{NIGHT}|05")]


def _tick(platform: Platform, instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    context = dg.build_sensor_context(instance=instance, resources={"platform": _resource(platform)}, cursor=cursor)
    answer: Any = alerting.alerts(context)
    return answer


def test_assets_that_are_not_fresh_and_failed_runs_are_reported_once(platform, instance, monkeypatch) -> None:
    delivered: list[tuple[list[str], list[str]]] = []
    monkeypatch.setattr(
        messages, "deliver", lambda _config, new, passed: delivered.append(([alert.key.partition("/")[0] for alert in new], list(passed)))
    )
    instance._report_runless_asset_event(
        FreshnessStateChange(
            key=dg.AssetKey("tile_image"),
            new_state=FreshnessState.FAIL,
            previous_state=FreshnessState.PASS,
            state_change_timestamp=now().timestamp(),
        )
    )
    monkeypatch.setattr(hour, "make_mosaic", _raise(MosaicError("hour", "no good tile", "look at the tiles")))
    for _ in range(2):  # runs that did the same are one alert
        _run_hour(platform, instance)
    first = _tick(platform, instance, None)
    assert sorted(delivered.pop()[0]) == ["not-fresh", "run-failed"]
    assert "no good tile" in first.skip_reason.skip_message
    with platform.database.session() as session:
        pages = {one.key.partition("/")[0]: one.page for one in open_records(session)}
    assert pages["not-fresh"] == "/ui/images"
    assert pages["run-failed"].endswith("/log"), "the alert leads to the end of the run's output"
    again = _tick(platform, instance, first.cursor)
    assert delivered.pop() == ([], [])
    assert json.loads(again.cursor) == json.loads(first.cursor)

    monkeypatch.setattr(hour, "make_mosaic", lambda *_: StageResult("hourly_mosaic", f"{NIGHT}T05"))
    _run_hour(platform, instance)
    last = _tick(platform, instance, again.cursor)
    assert delivered.pop()[1] == [title for key, title in json.loads(first.cursor).items() if key.startswith("run-failed")]
    assert [key.partition("/")[0] for key in json.loads(last.cursor)] == ["not-fresh"]


def _run_hour(platform: Platform, instance: dg.DagsterInstance) -> None:
    build_defs(platform.config).resolve_job_def("hour").execute_in_process(
        instance=instance, partition_key=hour_key(NIGHT, "05"), asset_selection=[dg.AssetKey("hourly_mosaic")], raise_on_error=False
    )


def test_an_alert_that_was_not_delivered_is_sent_again(platform, instance) -> None:
    from pydantic import SecretStr

    from dsa110_assets.errors import AlertNotDeliveredError

    unreachable = Platform(
        platform.config.model_copy(update={"min_free_gib": 1e9, "alert_webhook_url": SecretStr("http://127.0.0.1:9/none")}),
        platform.paths,
        platform.database,
    )
    with pytest.raises(AlertNotDeliveredError):  # the tick fails, so its cursor stays
        _tick(unreachable, instance, None)


def _raise(error: Exception) -> Callable[..., None]:
    def fail(*_arguments: object) -> None:
        raise error

    return fail


def test_every_asset_has_a_description_owners_documentation_and_a_code_version() -> None:
    for node in build_defs().resolve_asset_graph().asset_nodes:
        name = node.key.to_user_string()
        assert node.description, name
        assert node.group_name, name
        assert node.kinds, name
        assert node.owners, name
        assert "documentation" in node.metadata, name
        links = [str(node.metadata[label].value) for label in ("documentation", "page", "what is wrong now")]
        assert all(":8000/" in link and ":8001" not in link for link in links), name
        assert node.tags["dsa110/level"], name
        assert (node.code_version is None) == (name in ("raw_subbands", "stale_products", "tile_quality", "added_photometry")), name
        if name == "raw_subbands":  # Dagster's own list of automations has only what makes an asset
            assert str(node.metadata["reported by"].value).endswith("/locations/__repository__@dsa110_assets/sensors/raw_files")
            assert "raw_files" in {one.name for one in sensors.build(jobs.build())}
        on_demand = node.tags["dsa110/level"] == "reference" or name == "added_photometry"  # made when a list changes
        assert (node.freshness_policy is None) == on_demand, name


def test_each_request_to_dagster_fits_its_schema() -> None:
    from dagster_graphql.schema import create_schema
    from graphql import parse, validate

    from dsa110_assets.api.dagster import DOCUMENTS

    schema = create_schema().graphql_schema
    assert {name: found for name, document in DOCUMENTS.items() if (found := validate(schema, parse(document)))} == {}
