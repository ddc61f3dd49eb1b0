"""Sources found blindly on the hour's mosaic, matched with the reference catalogue."""

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
        deps=["hourly_mosaic", "nvss_catalog"],
        output_required=False,
        group_name="hour",
        kinds={"aegean"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 30},
    )
    def source_catalog(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import hour

        dimensions = dimensions_of(context)
        yield from run_stage(
            context, lambda: hour.find_sources(platform.open(), dimensions["date"], dimensions["hour"], context.run.run_id)
        )

    return source_catalog
