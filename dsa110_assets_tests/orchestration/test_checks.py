"""Checks of tile images in Dagster: blocking, for each partition, with numbers; never a pass by default."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.orchestration.checks import check_result
from dsa110_assets.orchestration.partitions import tile_key
from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.quality import qa_metrics, upsert_qa_metric
from dsa110_assets.stages.products import gates
from dsa110_assets_tests.registry_fixture import add_group
from dsa110_assets_tests.stages.test_gates import add_image

GROUP = "2026-03-01T05:00:00"
KEY = tile_key("2026-03-01", "05:00")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def run_checks(config: PipelineConfig, instance: dg.DagsterInstance) -> dg.ExecuteInProcessResult:
    """What the UI does when a person runs the checks of one partition."""
    definitions = build_defs(config)
    job = dg.define_asset_job("again", selection=dg.AssetSelection.checks_for_assets("tile_image"))
    definitions = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    tags = {"dagster/partition": str(KEY), "dagster/partition/date": "2026-03-01", "dagster/partition/tile": "05:00"}
    return definitions.resolve_job_def("again").execute_in_process(instance=instance, tags=tags, raise_on_error=False)


@pytest.mark.parametrize(("name", "passed", "severity"), [
    ("flux_ratio_to_catalog", False, "ERROR"), ("flux_ratio_to_catalog", None, "WARN"), ("noise_over_thermal", None, "ERROR"),
])  # fmt: skip
def test_bad_blocks_and_unknown_warns_unless_every_image_has_it(name: str, passed: bool | None, severity: str):
    verdict = Verdict(name, passed, None if passed is None else 0.5, 0.9, 1.1, "because")
    result = check_result(name, {GROUP: [verdict]})
    assert not result.passed
    assert result.severity.value == severity
    assert "because" in str(result.description)
    assert ("value" in result.metadata) == (passed is not None)


def test_a_slot_with_two_observations_shows_the_worse():
    good, bad = Verdict("completeness", True, 1.0, 0.9, None, "all"), Verdict("completeness", False, 0.2, 0.9, None, "few")
    result = check_result("completeness", {GROUP: [bad], "2026-03-01T05:04:00": [good]})
    assert not result.passed
    assert result.metadata["value"].value == 0.2
    assert result.metadata["observation"].value == GROUP


def test_an_image_without_a_verdict_does_not_pass():
    assert not check_result("completeness", {GROUP: []}).passed
    assert not check_result("completeness", {}).passed


def test_every_check_is_blocking_and_knows_the_tile_partitions():
    graph = build_defs(PipelineConfig(_env_file=None)).resolve_asset_graph()
    checks = [graph.get(key) for key in graph.asset_check_keys if key.asset_key == dg.AssetKey("tile_image")]
    assert {check.key.name for check in checks} == set(gate.TILE_CHECKS)
    assert all(check.blocking for check in checks)
    assert all(isinstance(check.partitions_def, dg.MultiPartitionsDefinition) for check in checks)


def test_checks_run_again_measure_the_image_and_record_the_new_verdict(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A tile that was good is found bad, and the other way round; the registry follows, and with it the mosaics."""
    add_image(database, GROUP, tmp_path / "image")

    def measured(ratio: float):
        def judge(_platform: object, group_id: str) -> list[Verdict]:
            verdicts = [Verdict.judge(name, ratio, 0.9, 1.1, "measured") for name in gate.TILE_CHECKS]
            with database.session() as session:
                for v in verdicts:
                    upsert_qa_metric(session, "tile_image", group_id, v.name, v.value, passed=v.passed, reason=v.reason)
            return verdicts

        return judge

    for ratio, good in ((0.06, False), (1.0, True)):
        monkeypatch.setattr(gates, "judge_again", measured(ratio))
        result = run_checks(registry_config, instance)
        evaluations = result.get_asset_check_evaluations()
        assert len(evaluations) == len(gate.TILE_CHECKS)
        assert {e.passed for e in evaluations} == {good}
        assert {e.severity.value for e in evaluations} == ({"WARN"} if good else {"ERROR"})
        assert result.success is good  # a failed blocking check ends the run: what depends on the tile does not start
        assert all(np.isclose(e.metadata["value"].value, ratio) for e in evaluations)
        with database.session() as session:
            assert bool(gates.good_tiles(session, [GROUP])) is good
            assert qa_metrics(session, "tile_image", GROUP)["completeness"].value == ratio


def test_checks_of_an_observation_without_image_fail_and_say_so(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance
):
    with database.session() as session:
        add_group(session, GROUP)
    result = run_checks(registry_config, instance)
    assert not result.success
    failures = [event for event in result.all_events if event.is_step_failure]
    assert "no image to judge" in str(failures[0].event_specific_data)


def test_nothing_after_a_bad_tile_starts_in_the_same_run(
    database: Database, registry_config: PipelineConfig, instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from dsa110_assets.orchestration.partitions import Partitions
    from dsa110_assets.stages.products import tile
    from dsa110_assets.stages.provenance.recording import StageResult

    add_image(database, GROUP, tmp_path / "image", bad="flux_ratio_to_catalog")
    monkeypatch.setattr(tile, "make_image", lambda _platform, run: StageResult("tile_image", run.group_id))
    partitions = Partitions.starting(registry_config.partition_start)

    @dg.asset(partitions_def=partitions.tile, deps=["tile_image"])
    def after_the_tile() -> None:
        """What a later asset of the same partition would be."""

    definitions = dg.Definitions.merge(build_defs(registry_config), dg.Definitions(assets=[after_the_tile]))
    job = dg.define_asset_job("both", selection=dg.AssetSelection.assets("tile_image", "after_the_tile"))
    definitions = dg.Definitions.merge(definitions, dg.Definitions(jobs=[job]))
    result = definitions.resolve_job_def("both").execute_in_process(instance=instance, partition_key=KEY, raise_on_error=False)
    assert not result.success
    made = {event.asset_key.to_user_string() for event in result.get_asset_materialization_events() if event.asset_key}
    assert made == {"tile_image"}
