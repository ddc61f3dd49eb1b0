"""One Measurement Set for each observation: one spectral window, one ICRS phase centre, flagged.

The sixteen subbands become one spectral window of ascending channels, re-phased from the 24 meridian centres to the
meridian point at mid-tile. Invalid values, dead antennas and interference are flagged on the way. Missing subbands are
present and flagged. The field carries the calibrator's name when one transits.
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
        deps=["raw_subbands", "calibrator_catalog"],
        output_required=False,
        group_name="tile",
        kinds={"casacore", "aoflagger"},
        owners=["team:dsa110"],
        pool="disk",
        metadata={"expected runtime (s), full size": 40},
    )
    def measurement_set(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import tile

        yield from run_tile_stage(context, platform.open(), tile.make_measurement_set)

    return measurement_set
