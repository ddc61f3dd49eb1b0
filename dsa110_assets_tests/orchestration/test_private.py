"""What is private to Dagster sits in one module, and behaves as it is used."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster import AssetKey
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionStatus, PartitionBackfill
from dagster._core.launcher.base import CheckRunHealthResult

import dsa110_assets
from dsa110_assets.orchestration import private
from dsa110_assets.orchestration.launcher import WatchedRunLauncher
from dsa110_assets.orchestration.partitions import Partitions

PACKAGE = Path(dsa110_assets.__file__).parent
HOME = PACKAGE / "orchestration" / "private.py"


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
        yield made


def modules_named_by(file: Path) -> set[str]:
    named: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return named


def is_private(name: str) -> bool:
    return name.startswith("dagster") and any(part.startswith("_") for part in name.split("."))


def test_no_other_module_imports_what_is_private_to_dagster() -> None:
    users = {file for file in PACKAGE.rglob("*.py") if any(is_private(name) for name in modules_named_by(file))}
    assert users == {HOME}


def test_a_backfill_targets_exactly_the_partitions_that_were_asked_for(instance: dg.DagsterInstance) -> None:
    partitions = Partitions.starting(date(2026, 3, 1))
    tiles = partitions.tile.subset_with_partition_keys(["2026-03-02|05:10", "2026-03-02|05:20"])
    nights = partitions.night_live.subset_with_partition_keys(["2026-03-03"])
    identifier = private.add_backfill(
        instance, {"catalog": None, "image": tiles, "curves": nights}, title="a title", tags={"dsa110/because": "a test"}
    )
    made = instance.get_backfill(identifier)
    assert made is not None
    assert made.status == BulkActionStatus.REQUESTED
    assert (made.title, made.tags["dsa110/because"]) == ("a title", "a test")
    assert made.asset_selection == [AssetKey("catalog"), AssetKey("image"), AssetKey("curves")]
    assert made.asset_backfill_data is not None
    assert made.asset_backfill_data.target_subset.non_partitioned_asset_keys == {AssetKey("catalog")}
    assert sorted(private.partitions_in_backfills(instance)) == ["2026-03-02|05:10", "2026-03-02|05:20", "2026-03-03"]
    instance.update_backfill(made.with_status(BulkActionStatus.COMPLETED_SUCCESS))
    assert list(private.partitions_in_backfills(instance)) == [], "a backfill that has ended holds nothing"


def test_freshness_of_an_asset_that_was_never_judged_is_left_out(instance: dg.DagsterInstance) -> None:
    assert private.freshness_states(instance, ["image"]) == {}
    assert {state.value for state in private.FreshnessState} >= {"PASS", "WARN", "FAIL"}


def test_a_launcher_knows_its_instance(instance: dg.DagsterInstance) -> None:
    launcher = WatchedRunLauncher()
    launcher.register_instance(instance)
    assert private.instance_of(launcher) is instance


@pytest.mark.parametrize(("function", "parameters"), [
    (PartitionBackfill, {"backfill_id", "status", "from_failure", "tags", "backfill_timestamp", "asset_selection", "asset_backfill_data", "title"}),
    (AssetBackfillData.empty, {"target_subset", "backfill_start_timestamp", "dynamic_partitions_store"}),
    (CheckRunHealthResult, {"status", "msg", "run_worker_id"}),
])  # fmt: skip
def test_signatures_take_what_is_given_to_them(function: Any, parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(function).parameters)
