"""Only one module uses Dagster's private API, and the API behaves as that module expects."""

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


def imported_modules(file: Path) -> set[str]:
    named: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return named


def is_private(name: str) -> bool:
    return name.startswith("dagster") and any(part.startswith("_") for part in name.split("."))


def test_no_other_module_imports_private_modules_of_dagster() -> None:
    users = {file for file in PACKAGE.rglob("*.py") if any(is_private(name) for name in imported_modules(file))}
    assert users == {HOME}


def test_a_backfill_targets_exactly_the_requested_partitions(instance: dg.DagsterInstance) -> None:
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
    assert list(private.partitions_in_backfills(instance)) == [], "a backfill that has ended has no partitions in progress"


def test_an_asset_that_the_daemon_has_not_checked_has_no_freshness_state(instance: dg.DagsterInstance) -> None:
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
def test_private_functions_have_the_parameters_that_are_used(function: Any, parameters: set[str]) -> None:
    assert parameters <= set(inspect.signature(function).parameters)
