"""A refused tile is not a failed run; Dagster shows the verdict and keeps no row of checks for each tile."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dsa110_assets.catalogs import sky
from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.orchestration.partitions import Partitions, tile_key
from dsa110_assets.orchestration.running import VERDICT_TAG
from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates, tile
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets_tests.stages.test_gates import add_image, borrow_tables

GROUP, SECOND = "2026-03-01T05:00:00", "2026-03-01T05:05:10"
SLOTS = {GROUP: "05:00", SECOND: "05:05"}
TILES = dg.AssetKey("tile_image")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "dagster"


@pytest.fixture
def instance(directory: Path) -> Iterator[dg.DagsterInstance]:
    directory.mkdir()
    with dg.DagsterInstance.local_temp(str(directory)) as made:
        yield made


@pytest.fixture
def platform(registry_config: PipelineConfig) -> Platform:
    return Platform.open(registry_config)


@pytest.fixture
def imaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace imaging with a stage that returns the verdict in the registry."""

    def make_image(platform: Platform, run: Any) -> StageResult:
        with platform.database.session() as session:
            return StageResult("tile_image", run.group_id, verdict=gates.verdicts(session, [run.group_id])[run.group_id])

    monkeypatch.setattr(tile, "make_image", make_image)


def run_tile(config: PipelineConfig, instance: dg.DagsterInstance, group_id: str = GROUP, job: str = "tile") -> dg.DagsterRun:
    """Run `tile_image` for one slot, like the sensor or (``__ASSET_JOB``) like a backfill."""
    definitions = build_defs(config)
    chosen = definitions.resolve_job_def("tile") if job == "tile" else definitions.resolve_implicit_global_asset_job_def()
    result = chosen.execute_in_process(
        instance=instance, partition_key=tile_key("2026-03-01", SLOTS[group_id]), asset_selection=[TILES], raise_on_error=False
    )
    assert result.dagster_run.job_name == job
    run = instance.get_run_by_id(result.run_id)
    assert run is not None
    return run


def check_rows(directory: Path) -> int:
    (database,) = directory.rglob("index.db")
    with sqlite3.connect(database) as connection:
        return int(connection.execute("SELECT count(*) FROM asset_check_executions").fetchone()[0])


def run_look_at_tiles(config: PipelineConfig, instance: dg.DagsterInstance) -> tuple[dict[str, Any], dict[str, dg.AssetCheckEvaluation]]:
    result = build_defs(config).resolve_job_def("look_at_tiles").execute_in_process(instance=instance)
    assert result.success, "it succeeds for good and bad tiles"
    (event,) = result.get_asset_materialization_events()
    return dict(event.materialization.metadata), {one.check_name: one for one in result.get_asset_check_evaluations()}


def complete(database: Database, *group_ids: str) -> None:
    with database.session() as session:
        for group_id in group_ids:
            row = session.get_one(IngestGroup, group_id)
            row.state, row.completed_at = GroupState.COMPLETED, now() - timedelta(minutes=5)


@pytest.mark.usefixtures("imaged")
@pytest.mark.parametrize("job", ["tile", "__ASSET_JOB"])
def test_the_run_of_a_refused_tile_succeeds_with_reason_and_next_step(job: str, database, registry_config, instance, tmp_path):
    add_image(database, GROUP, tmp_path / "image", bad="noise_over_thermal")
    run = run_tile(registry_config, instance, job=job)
    assert run.status == dg.DagsterRunStatus.SUCCESS
    assert run.tags[VERDICT_TAG] == "refused"
    event = instance.get_latest_materialization_event(TILES)
    assert event is not None
    metadata = event.asset_materialization.metadata
    assert next(iter(metadata)) == "verdict", "the verdict is shown first"
    with database.session() as session:
        assert metadata["verdict"].value == gates.verdicts(session, [GROUP])[GROUP].line()
    assert "refused: noise" in metadata["verdict"].value
    assert gate.TILE_CHECKS["noise_over_thermal"].next_step in metadata["verdict"].value


@pytest.mark.usefixtures("imaged")
def test_people_can_filter_runs_by_verdict(database, registry_config, instance, tmp_path):
    add_image(database, GROUP, tmp_path / "good")
    add_image(database, SECOND, tmp_path / "unjudged", judged=False)
    runs = {group_id: run_tile(registry_config, instance, group_id).run_id for group_id in (GROUP, SECOND)}
    for group_id, word in ((GROUP, "good"), (SECOND, "not measured")):
        assert [one.run_id for one in instance.get_runs(dg.RunsFilter(tags={VERDICT_TAG: word}))] == [runs[group_id]]


@pytest.mark.usefixtures("imaged")
def test_a_provisional_refusal_is_marked_and_fails_no_check(database, registry_config, instance, tmp_path):
    add_image(database, GROUP, tmp_path / "image", bad="flux_ratio_to_catalog")
    borrow_tables(database, GROUP)
    run = run_tile(registry_config, instance)
    assert (run.status, run.tags[VERDICT_TAG]) == (dg.DagsterRunStatus.SUCCESS, "refused")
    event = instance.get_latest_materialization_event(TILES)
    assert event is not None
    assert "will be made again when the night's calibrator is solved" in event.asset_materialization.metadata["verdict"].value
    complete(database, GROUP)
    metadata, checks = run_look_at_tiles(registry_config, instance)
    assert (metadata["refused"].value, metadata["provisional"].value) == (0, 1)
    assert all(one.severity == dg.AssetCheckSeverity.WARN for one in checks.values())


@pytest.mark.usefixtures("imaged")
def test_rows_of_checks_do_not_grow_with_partitions(database, registry_config, instance, directory, tmp_path):
    """Dagster reads all rows for a page. The hourly job writes eight, and the run of a tile writes none."""
    for number, group_id in enumerate(SLOTS):
        add_image(database, group_id, tmp_path / str(number), bad="completeness")
        for job in ("tile", "__ASSET_JOB"):
            run_tile(registry_config, instance, group_id, job=job)
    assert check_rows(directory) == 0
    run_look_at_tiles(registry_config, instance)
    assert check_rows(directory) == len(gate.TILE_CHECKS)


def test_no_check_has_partitions_or_belongs_to_a_partitioned_asset():
    graph = build_defs(PipelineConfig(_env_file=None)).resolve_asset_graph()
    assert {key.name for key in graph.asset_check_keys} == {*gate.TILE_CHECKS, "nothing_is_stale"}
    for key in graph.asset_check_keys:
        assert graph.get(key).partitions_def is None, key
        assert not graph.get(key).blocking, key
        assert graph.get(key.asset_key).partitions_def is None, key


def test_the_checks_report_refused_tiles_with_value_and_next_step(database, registry_config, instance, tmp_path):
    add_image(database, GROUP, tmp_path / "a", bad="completeness")
    add_image(database, SECOND, tmp_path / "b")
    complete(database, GROUP, SECOND)
    metadata, checks = run_look_at_tiles(registry_config, instance)
    assert (metadata["tiles"].value, metadata["refused"].value) == (2, 1)
    assert metadata["causes"].value == "completeness (1)"
    (record,) = metadata["not used in mosaics"].records
    with database.session() as session:
        verdict = gates.verdicts(session, [GROUP])[GROUP]
    assert record.data == {
        "observation": GROUP, "verdict": "refused", "reason": verdict.reason, "next step": verdict.next_step,
    }  # fmt: skip
    assert {name for name, one in checks.items() if not one.passed} == {"completeness"}
    bad = checks["completeness"]
    assert bad.severity == dg.AssetCheckSeverity.ERROR
    assert str(bad.description).startswith(f"bad: 1 of 2 tiles; {GROUP}: ")
    assert bad.metadata["value"].value == 1.0
    assert gate.TILE_CHECKS["completeness"].next_step in str(bad.description)


def test_a_check_without_a_value_does_not_pass(database, registry_config, instance, tmp_path):
    """It is a warning, or an error if every image must have the value."""
    _, checks = run_look_at_tiles(registry_config, instance)
    assert not any(one.passed for one in checks.values()), "no tile was made"
    add_image(database, GROUP, tmp_path / "image")
    complete(database, GROUP)
    with database.session() as session:
        for name in ("completeness", "noise_over_thermal"):
            upsert_qa_metric(session, "tile_image", GROUP, name, None, passed=None, reason="nothing there")
    _, checks = run_look_at_tiles(registry_config, instance)
    severities = {name: one.severity.value for name, one in checks.items() if not one.passed}
    assert severities == {"completeness": "WARN", "noise_over_thermal": "ERROR"}
    assert {checks[name].metadata["verdict"].value for name in severities} == {"not measured", "bad"}
    assert "could not be measured (nothing there)" in str(checks["noise_over_thermal"].description)


def test_the_job_judge_again_records_verdicts_by_the_current_limits(
    database, registry_config, instance, tmp_path, monkeypatch: pytest.MonkeyPatch
):
    """It judges one observation or all of a night, and mosaics then use the new verdicts."""
    from dsa110_assets.quality import image

    for number, group_id in enumerate(SLOTS):
        add_image(database, group_id, tmp_path / str(number))
    outcome = {"value": 9.0}
    monkeypatch.setattr(sky, "load_reference", lambda _path: None)
    monkeypatch.setattr(sky, "cone", lambda *_arguments: None)
    monkeypatch.setattr(image, "read_tile", lambda *_arguments: None)
    monkeypatch.setattr(
        image, "judge_tile", lambda *_arguments: [Verdict.judge(name, outcome["value"], 0.8, 2.0, "") for name in gate.TILE_CHECKS]
    )

    def judge(**request: str) -> dict[str, Any]:
        job = build_defs(registry_config).resolve_job_def("judge_again")
        result = job.execute_in_process(instance=instance, run_config={"ops": {"judge_images": {"config": request}}})
        (event,) = [one for one in result.all_events if one.is_successful_output]
        return dict(event.step_output_data.metadata)

    def good() -> list[str]:
        with database.session() as session:
            return gates.good_tiles(session, SLOTS)

    assert judge(observation=GROUP)["changed"].value == 1
    assert good() == [SECOND]
    metadata = judge(first_night="2026-03-01")
    assert (metadata["judged"].value, metadata["changed"].value, good()) == (2, 1, [])
    outcome["value"] = 1.0
    judge(first_night="2026-03-01", last_night="2026-03-02")
    assert good() == [GROUP, SECOND]


def test_judging_an_observation_without_an_image_fails_with_a_next_step(database, registry_config, instance):
    job = build_defs(registry_config).resolve_job_def("judge_again")
    request = {"ops": {"judge_images": {"config": {"observation": GROUP}}}}
    result = job.execute_in_process(instance=instance, run_config=request, raise_on_error=False)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "no image to judge" in str(failure.event_specific_data)


@pytest.mark.usefixtures("imaged")
def test_an_asset_downstream_of_a_refused_tile_runs_without_the_tile(database, registry_config, instance, tmp_path):
    """The registry decides, not Dagster: a downstream stage queries it for good tiles."""
    add_image(database, GROUP, tmp_path / "image", bad="flux_ratio_to_catalog")
    partitions = Partitions.starting(registry_config.partition_start)
    used: list[list[str]] = []

    @dg.asset(partitions_def=partitions.tile, deps=["tile_image"])
    def after_the_tile() -> None:
        """An asset downstream of the tile, in the same partition."""
        with database.session() as session:
            used.append(gates.good_tiles(session, [GROUP]))

    definitions = dg.Definitions.merge(build_defs(registry_config), dg.Definitions(assets=[after_the_tile]))
    job = dg.define_asset_job("both", selection=dg.AssetSelection.assets("tile_image", "after_the_tile"))
    definitions = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("both").execute_in_process(instance=instance, partition_key=tile_key("2026-03-01", "05:00"))
    assert result.success
    assert used == [[]]
