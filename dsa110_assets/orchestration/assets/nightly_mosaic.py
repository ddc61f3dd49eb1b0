"""Mosaic of all tiles of a night, one declination strip.

Made at 03:00 UTC for the night before.
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import RETRY, run_stage


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        partitions_def=partitions.night,
        deps=["tile_image"],
        output_required=False,
        group_name="night",
        kinds={"reproject"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 600},
    )
    def nightly_mosaic(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import night

        yield from run_stage(context, lambda: night.make_mosaic(platform.open(), context.partition_key, context.run.run_id))

    return nightly_mosaic
