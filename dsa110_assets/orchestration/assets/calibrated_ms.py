"""The observation in Jy: nearest valid solutions applied, frequency-averaged within the smearing budget.

The nearest accepted tables in observation time and of the same declination strip are used: the same night, then
neighbouring nights. Which ones, and how far away, is recorded. Without any, the observation waits, and is
taken up when a calibrator's tables are registered.
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
        deps=["measurement_set", "calibration_tables"],
        output_required=False,
        group_name="tile",
        kinds={"casacore", "numba"},
        owners=["team:dsa110"],
        pool="disk",
        metadata={"expected runtime (s), full size": 12},
    )
    def calibrated_ms(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import tile

        yield from run_tile_stage(context, platform.open(), tile.calibrate)

    return calibrated_ms
