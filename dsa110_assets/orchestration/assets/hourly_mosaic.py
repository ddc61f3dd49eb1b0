"""Mosaic of an hour: the tiles that overlap it, weighted by pb^2 / rms^2 with the drift-averaged beam.

Tiles are chosen by observation time and declination strip; those up to ten minutes outside take part, so that sources at the
hour's edges keep their sensitivity. Noise, weight and coverage maps come with it.
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions, dimensions_of
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import RETRY, run_stage


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        partitions_def=partitions.hour,
        deps=[dg.AssetDep("tile_image", partition_mapping=partitions.tile_to_hour)],
        output_required=False,
        group_name="hour",
        kinds={"reproject"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 60},
    )
    def hourly_mosaic(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import hour

        dimensions = dimensions_of(context)
        yield from run_stage(context, lambda: hour.make_mosaic(platform.open(), dimensions["date"], dimensions["hour"], context.run.run_id))

    return hourly_mosaic
