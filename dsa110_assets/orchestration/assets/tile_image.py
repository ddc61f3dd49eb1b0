"""Image of one observation: dirty, PSF, model, residual, restored, beam-corrected, primary beam and weight.

The primary beam is the mean over the tile's integrations, because the sky drifts by 1.29 deg through it. The beam-corrected
image ends at the 20 % level. Look at the preview and the verdict: it says whether mosaics take the tile, and if not, why.
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import run_tile_stage


def build(partitions: Partitions) -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        partitions_def=partitions.tile,
        deps=["calibrated_ms", "nvss_catalog"],
        output_required=False,
        group_name="tile",
        kinds={"ducc0", "radler"},
        owners=["team:dsa110"],
        pool="cpu",
        metadata={"expected runtime (s), full size": 90},
    )
    def tile_image(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import tile

        yield from run_tile_stage(context, platform.open(), tile.make_image)

    return tile_image
