"""eta, V, Vs, m and chi-squared of each light curve, by their published definitions."""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import RETRY, run_stage


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        partitions_def=partitions.night_live,
        deps=["light_curves"],
        output_required=False,
        group_name="night",
        kinds={"numpy"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 20},
    )
    def variability_metrics(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import night

        yield from run_stage(context, lambda: night.update_metrics(platform.open(), context.partition_key, context.run.run_id))

    return variability_metrics
