"""Normalised light curves of all sources up to this night.

Each epoch is divided by the ensemble's factor: the robust mean of the reference sources over their long-term fluxes,
variable ones rejected. The factor's error is part of each point's error.
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
        partitions_def=partitions.night_live,
        deps=[dg.AssetDep("forced_photometry")],
        output_required=False,
        group_name="night",
        kinds={"postgres"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 20},
    )
    def light_curves(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import night

        yield from run_stage(context, lambda: night.update_light_curves(platform.open(), context.partition_key, context.run.run_id))

    return light_curves
