"""All uses of Dagster's private modules.

Dagster's version is pinned (``dagster==1.13.*``). No other module imports ``dagster._...``. A test checks what is used
here, so that an upgrade shows in one place what has changed.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import dagster as dg
from dagster._core.definitions.assets.graph.asset_graph_subset import AssetGraphSubset
from dagster._core.definitions.freshness import FreshnessState
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.execution.asset_backfill import AssetBackfillData
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus, PartitionBackfill
from dagster._core.launcher.base import CheckRunHealthResult, LaunchRunContext, RunLauncher, WorkerStatus
from dagster._core.storage.local_compute_log_manager import LocalComputeLogManager
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.utils import is_valid_run_id, make_new_backfill_id
from dagster._serdes import ConfigurableClass, ConfigurableClassData, serialize_value

__all__ = [
    "GRPC_INFO_TAG",
    "AssetJob",
    "CheckRunHealthResult",
    "ConfigurableClass",
    "ConfigurableClassData",
    "FreshnessState",
    "LaunchRunContext",
    "LocalComputeLogManager",
    "RunLauncher",
    "WorkerStatus",
    "add_backfill",
    "deleted_runs",
    "execute_run",
    "free_slots_without_run",
    "freshness_states",
    "instance_of",
    "is_run_of_dagster",
    "partitions_in_backfills",
    "serve_code",
]

AssetJob = UnresolvedAssetJobDefinition
"""Type of the result of `dagster.define_asset_job`."""
_RUNS_AT_ONCE = 1000
_ACTIVE = [BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]


def add_backfill(
    instance: dg.DagsterInstance, subsets: Mapping[str, dg.PartitionsSubset | None], *, title: str, tags: Mapping[str, str]
) -> str:
    """Request a backfill of these partitions from the daemon; return its identifier.

    Args:
        instance: Dagster's instance.
        subsets: partitions by asset, upstream first; None for an asset without partitions.
        title: shown in the UI.
        tags: of the backfill and its runs.
    """
    target = AssetGraphSubset(
        partitions_subsets_by_asset_key={dg.AssetKey(name): subset for name, subset in subsets.items() if subset is not None},
        non_partitioned_asset_keys={dg.AssetKey(name) for name, subset in subsets.items() if subset is None},
    )
    backfill_id, now = make_new_backfill_id(), time.time()
    instance.add_backfill(
        PartitionBackfill(
            backfill_id=backfill_id,
            status=BulkActionStatus.REQUESTED,
            from_failure=False,
            tags=dict(tags),
            backfill_timestamp=now,
            asset_selection=[dg.AssetKey(name) for name in subsets],
            asset_backfill_data=AssetBackfillData.empty(target, now, instance),
            title=title,
        )
    )
    return backfill_id


def partitions_in_backfills(instance: dg.DagsterInstance) -> Iterator[str]:
    """Partition keys of running backfills, over all their assets."""
    for backfill in instance.get_backfills(filters=BulkActionsFilter(statuses=_ACTIVE)):
        data = backfill.asset_backfill_data
        subsets: Mapping[dg.AssetKey, Any] = data.target_subset.partitions_subsets_by_asset_key if data is not None else {}
        for subset in subsets.values():
            yield from (str(key) for key in subset.get_partition_keys())


def freshness_states(instance: dg.DagsterInstance, assets: Iterable[str]) -> dict[str, FreshnessState]:
    """Latest state of assets from the freshness daemon, by name; assets that it has not checked are left out."""
    records = instance.get_freshness_state_records([dg.AssetKey(name) for name in assets])
    found = {key.to_user_string(): record.freshness_state for key, record in records.items()}
    return dict(sorted(found.items()))


def is_run_of_dagster(run_id: str) -> bool:
    """Whether an identifier is one of Dagster's runs: those of commands have other forms."""
    return is_valid_run_id(run_id)


def deleted_runs(instance: dg.DagsterInstance, run_ids: Iterable[str]) -> list[str]:
    """Runs of Dagster among these that it does not have any more."""
    asked = [one for one in run_ids if is_run_of_dagster(one)]
    found: set[str] = set()
    for first in range(0, len(asked), _RUNS_AT_ONCE):
        found.update(instance.get_run_ids(dg.RunsFilter(run_ids=asked[first : first + _RUNS_AT_ONCE])))
    return sorted(set(asked) - found)


def free_slots_without_run(instance: dg.DagsterInstance) -> list[str]:
    """Free the pool slots of deleted runs; return these runs. Dagster frees only those of runs that it has."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return []
    deleted = deleted_runs(instance, storage.get_concurrency_run_ids())
    for run_id in deleted:
        storage.free_concurrency_slots_for_run(run_id)
    return deleted


def instance_of(launcher: RunLauncher[Any]) -> dg.DagsterInstance:
    """The instance of a run launcher."""
    return launcher._instance  # pyright: ignore[reportPrivateUsage]


def execute_run(run_id: str) -> None:
    """Execute a run in this process, as the code server's child does.

    Raises:
        dg.DagsterInvariantViolationError: Dagster does not have the run, or it names no code.
    """
    from dagster._cli.api import execute_run_command
    from dagster._grpc.types import ExecuteRunArgs

    with dg.DagsterInstance.get() as instance:
        run = instance.get_run_by_id(run_id)
    if run is None or run.job_code_origin is None:
        raise dg.DagsterInvariantViolationError(f"run {run_id} is unknown to Dagster, or names no code")
    arguments = serialize_value(ExecuteRunArgs(run.job_code_origin, run_id, None))
    execute_run_command([arguments], standalone_mode=False)


def serve_code(arguments: list[str], *, template: str) -> None:
    """Run Dagster's command line as a code server whose runs are forks of a process that has imported ``template``.

    Dagster names the way in which it starts processes ("spawn") in the constructor of its server.
    """
    from multiprocessing import forkserver

    from dagster._cli import ENV_PREFIX, cli
    from dagster._grpc.server import DagsterApiServer

    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload([template])
    constructor = DagsterApiServer.__init__

    def construct(server: DagsterApiServer, *args: Any, **options: Any) -> None:
        constructor(server, *args, **options)
        server._mp_ctx = forks  # pyright: ignore[reportPrivateUsage]
        forkserver.ensure_running()  # it imports while the server does

    DagsterApiServer.__init__ = construct
    cli(arguments, prog_name="dagster", auto_envvar_prefix=ENV_PREFIX)
