"""Flux density at every catalogued and monitored position of the hour, with errors and upper limits.

Matched filter with the restoring beam at fixed positions, blends fitted together. A position is measured in the hour of
the tile that saw it nearest to the meridian, so that one transit gives one measurement.
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
        deps=["hourly_mosaic", "nvss_catalog", "monitored_sources"],
        output_required=False,
        group_name="hour",
        kinds={"numba"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="cpu",
        metadata={"expected runtime (s), full size": 5},
    )
    def forced_photometry(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import hour

        dimensions = dimensions_of(context)
        yield from run_stage(context, lambda: hour.measure(platform.open(), dimensions["date"], dimensions["hour"], context.run.run_id))

    return forced_photometry
