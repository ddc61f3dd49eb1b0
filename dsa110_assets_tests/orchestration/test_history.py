"""Dagster's history is bounded: old runs go with their events, and the asset pages still show what was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import ModuleTarget
from dagster_graphql.test.utils import execute_dagster_graphql
from sqlalchemy import Engine, create_engine, inspect, text

from dsa110_assets.cli.services import LOCATION, project_file
from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.errors import MosaicError
from dsa110_assets.orchestration import history
from dsa110_assets.orchestration.partitions import hour_key
from dsa110_assets.registry.server import dagster_url
from dsa110_assets.stages.products import hour
from dsa110_assets.stages.provenance.recording import StageResult

NIGHT = "2026-03-12"
ASSET = dg.AssetKey("hourly_mosaic")
PAGE = """
query Page($key: AssetKeyInput!) {
  assetNodeOrError(assetKey: $key) {
    ... on AssetNode {
      partitionStats { numMaterialized numFailed numMaterializing numPartitions }
      assetPartitionStatuses { ... on MultiPartitionStatuses { ranges { primaryDimStartKey primaryDimEndKey
        secondaryDim { ... on DefaultPartitionStatuses { materializedPartitions failedPartitions } } } } }
      assetMaterializations(limit: 100) {
        partition timestamp runId
        runOrError { __typename }
        metadataEntries { label ... on IntMetadataEntry { intValue } ... on FloatMetadataEntry { floatValue } }
      }
      latestMaterializationByPartition(partitions: ["2026-03-12|01", "2026-03-12|02", "2026-03-12|03"]) { partition runId }
    }
  }
}
"""


@pytest.fixture
def config(registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> PipelineConfig:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    assert registry_config.database_url is not None
    monkeypatch.setenv("PIPELINE_DATABASE_URL", registry_config.database_url.get_secret_value())
    return registry_config


@pytest.fixture
def instance(config: PipelineConfig, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as one:
        one.wipe()
        yield one
        one.wipe()


@pytest.fixture
def engine(config: PipelineConfig, instance: dg.DagsterInstance) -> Iterator[Engine]:
    one = create_engine(dagster_url(config))
    yield one
    one.dispose()


class Hours:
    """Makes hours through their real job. ``noise``: shown in the metadata; None makes the stage fail."""

    def __init__(self, config: PipelineConfig, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
        self._job = build_defs(config).resolve_job_def("hour")
        self._instance = instance
        self._patch = monkeypatch

    def make(self, number: str, noise: int | None) -> str:
        def stage(*_: object) -> StageResult:
            if noise is None:
                raise MosaicError("hour", "no tile is good", "look at the tiles")
            return StageResult("hourly_mosaic", f"{NIGHT}T{number}", figures={"noise": noise})

        self._patch.setattr(hour, "make_mosaic", stage)
        result = self._job.execute_in_process(
            instance=self._instance, partition_key=hour_key(NIGHT, number), asset_selection=[ASSET], raise_on_error=False
        )
        assert result.success == (noise is not None)
        return result.run_id


@pytest.fixture
def hours(config: PipelineConfig, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Hours:
    return Hours(config, instance, monkeypatch)


@pytest.fixture
def page(instance: dg.DagsterInstance) -> Iterator[Callable[[], dict[str, Any]]]:
    """What the UI asks about the asset, from Dagster's own GraphQL over the platform's code location."""
    target = ModuleTarget("dsa110_assets.definitions", attribute=None, working_directory=None, location_name=LOCATION)
    with WorkspaceProcessContext(instance, target) as context:

        def read() -> dict[str, Any]:
            answer = execute_dagster_graphql(context.create_request_context(), PAGE, {"key": {"path": ASSET.path}})
            return answer.data["assetNodeOrError"]

        yield read


def _days_later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _noise(instance: dg.DagsterInstance) -> dict[str | None, list[Any]]:
    """Noise of all recorded materializations of each partition, newest first."""
    found: dict[str | None, list[Any]] = {}
    for record in instance.fetch_materializations(ASSET, limit=100).records:
        assert record.asset_materialization is not None
        found.setdefault(record.partition_key, []).append(record.asset_materialization.metadata["noise"].value)
    return found


def test_old_runs_go_and_the_last_materialization_of_each_partition_stays(
    config: PipelineConfig, instance: dg.DagsterInstance, hours: Hours
) -> None:
    first, again, other = hours.make("01", 1), hours.make("01", 2), hours.make("02", 3)
    failed = hours.make("03", None)
    output = config.run_output_dir / first / "compute_logs"
    assert output.is_dir(), "the captured output of the run"
    assert history.count_old_runs(config, _days_later(29)) == 0
    assert history.forget(config, _days_later(29)).runs == 0, "younger than 30 days"

    assert history.count_old_runs(config, _days_later(31)) == 3
    gone = history.forget(config, _days_later(31))
    assert (gone.runs, gone.finished) == (3, True)
    assert [instance.get_run_by_id(run_id) for run_id in (first, again, other)] == [None] * 3
    assert _noise(instance) == {f"{NIGHT}|01": [2], f"{NIGHT}|02": [3]}
    assert list(instance.all_logs(first)) == []
    assert [entry.dagster_event_type for entry in instance.all_logs(again)] == [dg.DagsterEventType.ASSET_MATERIALIZATION]
    assert not output.parent.exists()

    assert instance.get_run_by_id(failed) is not None, "failures are kept for longer"
    assert instance.all_logs(failed, of_type=dg.DagsterEventType.STEP_FAILURE)
    assert len(instance.fetch_observations(ASSET, limit=5).records) == 1
    assert history.forget(config, _days_later(91)).runs == 1
    assert instance.get_run_by_id(failed) is None
    assert _noise(instance) == {f"{NIGHT}|01": [2], f"{NIGHT}|02": [3]}


def test_a_kept_materialization_goes_when_its_partition_is_made_again(
    config: PipelineConfig, instance: dg.DagsterInstance, hours: Hours, engine: Engine
) -> None:
    hours.make("01", 1)
    history.forget(config, _days_later(31))
    hours.make("01", 2)
    assert _noise(instance) == {f"{NIGHT}|01": [2, 1]}
    history.forget(config, _days_later(31))
    assert _noise(instance) == {f"{NIGHT}|01": [2]}
    with engine.connect() as connection:
        orphans = connection.execute(text("SELECT count(*) FROM asset_event_tags WHERE event_id NOT IN (SELECT id FROM event_logs)"))
        assert orphans.scalar_one() == 0


def test_runs_in_progress_and_runs_of_a_backfill_in_progress_stay(
    config: PipelineConfig, instance: dg.DagsterInstance, hours: Hours, engine: Engine
) -> None:
    running, of_backfill = hours.make("01", 1), hours.make("02", 2)
    with engine.begin() as connection:
        connection.execute(text("UPDATE runs SET status = 'STARTED' WHERE run_id = :run"), {"run": running})
        connection.execute(text("UPDATE runs SET backfill_id = 'one' WHERE run_id = :run"), {"run": of_backfill})
    backfill = PartitionBackfill("one", BulkActionStatus.REQUESTED, False, {}, datetime.now(UTC).timestamp(), asset_selection=[ASSET])
    instance.add_backfill(backfill)
    logs = len(instance.all_logs(running)), len(instance.all_logs(of_backfill))
    assert history.forget(config, _days_later(400)).runs == 0
    assert (len(instance.all_logs(running)), len(instance.all_logs(of_backfill))) == logs
    instance.update_backfill(backfill.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert history.forget(config, _days_later(89)).runs == 1
    assert [one.backfill_id for one in instance.get_backfills()] == ["one"]
    history.forget(config, _days_later(91))
    assert instance.get_backfills() == []


def test_replaced_materializations_without_a_run_go_and_the_last_of_each_partition_stays(
    config: PipelineConfig, instance: dg.DagsterInstance, engine: Engine
) -> None:
    raw = dg.AssetKey("raw_subbands")

    def report(partition: str, attempt: int) -> None:
        instance.report_runless_asset_event(dg.AssetMaterialization(raw, partition=partition, metadata={"attempt": attempt}))

    def known() -> set[tuple[str | None, object]]:
        records = instance.fetch_materializations(raw, limit=100).records
        return {(one.partition_key, one.asset_materialization.metadata["attempt"].value) for one in records if one.asset_materialization}

    for partition, attempt in (("2026-03-12|05:10", 1), ("2026-03-12|05:10", 2), ("2026-03-12|05:20", 1)):
        report(partition, attempt)
    history.forget(config, _days_later(29))
    assert len(known()) == 3
    assert history.forget(config, _days_later(31)).events == 1
    assert known() == {("2026-03-12|05:10", 2), ("2026-03-12|05:20", 1)}
    report("2026-03-12|05:20", 2)
    history.forget(config, _days_later(31))
    assert known() == {("2026-03-12|05:10", 2), ("2026-03-12|05:20", 2)}


def test_the_second_copy_of_the_metadata_goes_after_a_day(
    config: PipelineConfig, instance: dg.DagsterInstance, hours: Hours, page: Callable[[], dict[str, Any]]
) -> None:
    outputs = dg.DagsterEventType.STEP_OUTPUT
    made, failed = hours.make("01", 1), hours.make("02", None)
    housekeeping = build_defs(config).resolve_job_def("housekeeping").execute_in_process(instance=instance, run_config={"dry_run": True})
    before = page()
    assert history.forget(config, _days_later(0.9)).events == 0
    assert history.forget(config, _days_later(1.1)).events == len(
        instance.all_logs(made, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    )
    assert not instance.all_logs(made, of_type=outputs)
    assert page() == before, "the asset's pages do not use it"
    assert len(instance.all_logs(housekeeping.run_id, of_type=outputs)) == 2, "an op has its figures nowhere else"
    assert instance.all_logs(failed)


def test_an_asset_without_partitions_keeps_its_last_materialization_and_each_check_its_last_result(
    config: PipelineConfig, instance: dg.DagsterInstance, engine: Engine
) -> None:
    job = build_defs(config).resolve_job_def("look_at_tiles")
    for _ in range(3):
        assert job.execute_in_process(instance=instance).success
    key = dg.AssetKey("tile_quality")
    checks = len(build_defs(config).resolve_asset_graph().get(key).check_keys)
    assert history.forget(config, _days_later(31)).runs == 3
    assert len(instance.fetch_materializations(key, limit=10).records) == 1
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*), count(DISTINCT check_name) FROM asset_check_executions")).one() == (checks, checks)


def test_asset_pages_show_the_same_partitions_and_metadata_after_the_retention(
    config: PipelineConfig, hours: Hours, engine: Engine, page: Callable[[], dict[str, Any]]
) -> None:
    hours.make("01", 1)
    hours.make("02", 3)
    hours.make("03", None)
    before = page()
    assert (before["partitionStats"]["numMaterialized"], before["partitionStats"]["numFailed"]) == (2, 1)
    assert history.forget(config, _days_later(31)).runs == 2
    after = page()
    with engine.begin() as connection:
        connection.execute(text("UPDATE asset_keys SET cached_status_data = NULL"))
    rebuilt = page()
    for answer in (before, after, rebuilt):
        runs = {made["partition"]: made.pop("runOrError")["__typename"] for made in answer["assetMaterializations"]}
        assert set(runs.values()) == ({"Run"} if answer is before else {"RunNotFoundError"})
    assert before == after == rebuilt


def test_dagsters_tables_have_the_columns_that_the_retention_uses(engine: Engine) -> None:
    for table, columns in history.TABLES.items():
        assert columns <= {column["name"] for column in inspect(engine).get_columns(table)}, table


def test_the_newest_tick_of_a_sensor_is_found_without_reading_all_of_its_ticks(config: PipelineConfig, engine: Engine) -> None:
    """The statement is Dagster's own, from `SqlScheduleStorage.get_ticks`."""
    query = """
    EXPLAIN (ANALYZE, FORMAT JSON) SELECT id, tick_body FROM job_ticks
    WHERE selector_id = 's1' OR selector_id IS NULL AND job_origin_id = 'o1' ORDER BY timestamp DESC LIMIT 1"""
    with engine.begin() as connection:
        connection.execute(
            text("""
            INSERT INTO job_ticks (job_origin_id, selector_id, status, type, timestamp, tick_body)
            SELECT 'o' || n % 4, 's' || n % 4, 'SKIPPED', 'SENSOR', now() - n * interval '1 s', '{}' FROM generate_series(1, 20000) n""")
        )

    def rows_read() -> float:
        with engine.begin() as connection:
            connection.execute(text("ANALYZE job_ticks"))
            plan = connection.execute(text(query)).scalar_one()[0]["Plan"]
        nodes, read = [plan], 0.0
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", [])
            read = max(read, (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        return read

    with engine.begin() as connection:
        connection.execute(text("DROP INDEX IF EXISTS dsa110_job_ticks_by_time"))
    assert rows_read() > 1000, "Dagster's own indexes"
    history.forget(config, datetime.now(UTC))
    assert rows_read() < 100


def test_housekeeping_forgets_runs_and_a_dry_run_only_counts(
    config: PipelineConfig, instance: dg.DagsterInstance, engine: Engine, hours: Hours
) -> None:
    run_id = hours.make("01", 1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE runs SET update_timestamp = update_timestamp - interval '31 days'"))
    job = build_defs(config).resolve_job_def("housekeeping")

    def metadata(dry_run: bool) -> dict[str, Any]:
        result = job.execute_in_process(instance=instance, run_config={"dry_run": dry_run})
        output = next(e for e in result.events_for_node("forget_runs") if e.is_successful_output)
        return {name: value.value for name, value in output.event_specific_data.metadata.items()}

    assert metadata(True)["runs"] == 1
    assert instance.get_run_by_id(run_id) is not None
    assert metadata(False)["runs"] == 1
    assert instance.get_run_by_id(run_id) is None
