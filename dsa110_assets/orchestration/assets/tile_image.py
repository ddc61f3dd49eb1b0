"""Image of one observation: dirty, PSF, model, residual, restored, beam-corrected, primary beam and weight.

The primary beam is the mean over the tile's integrations, because the sky drifts by 1.29 deg through it. The beam-corrected
image ends at the 20 % level. Look at the preview, then at the noise against the thermal prediction.
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
        check_specs=[
            dg.AssetCheckSpec("noise_over_thermal", asset="tile_image", description="Noise of the residual over the thermal prediction"),
            dg.AssetCheckSpec("flux_ratio_to_catalog", asset="tile_image", description="Median flux over catalogue flux"),
            dg.AssetCheckSpec("position_offset_arcsec", asset="tile_image", description="Median distance to the catalogue positions"),
            dg.AssetCheckSpec("dynamic_range", asset="tile_image", description="Brightest peak over the noise"),
        ],
    )
    def tile_image(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages import tile

        yield from run_tile_stage(context, platform.open(), tile.make_image)

    return tile_image
