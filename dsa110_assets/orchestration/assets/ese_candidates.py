"""Candidates for extreme scattering events, ranked.

The score is a significance from measurement errors, each epoch against a robust baseline that leaves it out, corrected
for the number of trials.
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
        deps=["light_curves", "variability_metrics"],
        output_required=False,
        group_name="night",
        kinds={"numpy"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 10},
    )
    def ese_candidates(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import night

        yield from run_stage(context, lambda: night.rank_candidates(platform.open(), context.partition_key, context.run.run_id))

    return ese_candidates
