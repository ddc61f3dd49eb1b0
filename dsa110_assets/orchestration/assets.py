"""The assets: one for each row of the table of products that a stage makes."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions, dimensions_of
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import RETRY, explained_failures, failures_on_the_asset, run_stage, run_tile_stage
from dsa110_assets.stages.product import Level, Product
from dsa110_assets.stages.table import RAW_SUBBANDS, TABLE

OBSERVATION_PERIOD_S = 309.24
OWNERS = ["team:dsa110"]


def build(partitions: Partitions) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """Return the assets that stages make, and the raw files, which the sensor `raw_files` reports."""
    return [_raw_subbands(partitions), *(_asset(row, partitions) for row in TABLE if row.is_made)]


def _raw_subbands(partitions: Partitions) -> dg.AssetSpec:
    return dg.AssetSpec(
        RAW_SUBBANDS.name,
        description=RAW_SUBBANDS.description(),
        group_name=RAW_SUBBANDS.group,
        kinds=set(RAW_SUBBANDS.kinds),
        owners=OWNERS,
        partitions_def=partitions.of(RAW_SUBBANDS),
        metadata={"expected every (s)": OBSERVATION_PERIOD_S},
    )


def _asset(row: Product, partitions: Partitions) -> dg.AssetsDefinition:
    """The asset of a row; it runs the row's stage on the partition."""

    @dg.asset(
        name=row.name,
        description=row.description(),
        partitions_def=partitions.of(row),
        deps=[_dependency(row, upstream, partitions) for upstream in row.inputs],
        output_required=False,
        group_name=row.group,
        kinds=set(row.kinds),
        owners=OWNERS,
        retry_policy=RETRY if row.retried else None,
        pool=row.pool,
        metadata={} if row.runtime_s is None else {"expected runtime (s), full size": row.runtime_s},
    )
    def asset(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        with failures_on_the_asset(context), explained_failures():
            opened = platform.open(raw_files=RAW_SUBBANDS in row.inputs)
        if row.level is Level.TILE:
            yield from run_tile_stage(context, opened, row.function())
        else:
            yield from run_stage(context, lambda: row.function()(opened, *_partition(context, row), context.run.run_id))

    return asset


def _dependency(row: Product, upstream: Product, partitions: Partitions) -> dg.AssetDep:
    mapping = partitions.tile_to_hour if (upstream.level, row.level) == (Level.TILE, Level.HOUR) else None
    return dg.AssetDep(upstream.name, partition_mapping=mapping)


def _partition(context: dg.AssetExecutionContext, row: Product) -> tuple[Any, ...]:
    """Arguments of a stage for the partition: date and hour, date, or nothing."""
    if row.level is Level.HOUR:
        dimensions = dimensions_of(context)
        return dimensions["date"], dimensions["hour"]
    return (context.partition_key,) if row.level is Level.NIGHT else ()
