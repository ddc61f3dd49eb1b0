"""Artificial sources through the night's own data: completeness, flux bias and position bias against S/N.

Sources are added to the calibrated visibilities of a few tiles, which are then imaged, searched and measured like the
night itself. Made after the night or on demand; nothing waits for it.
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import run_stage


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        partitions_def=partitions.night_live,
        deps=["calibrated_ms", "tile_image", "nvss_catalog"],
        output_required=False,
        group_name="night",
        kinds={"aegean"},
        owners=["team:dsa110"],
        pool="cpu",
        metadata={"expected runtime (s), full size": 180},
    )
    def injection_recovery(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import injection

        yield from run_stage(context, lambda: injection.recover_injections(platform.open(), context.partition_key, context.run.run_id))

    return injection_recovery
