"""Bandpass and gains of the night, solved on its calibrator transits.

The sky model holds every catalogue source that matters, predicted for each integration and channel through the drifting
beam. Tables below the quality limits are refused before they are registered, with reasons.
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
        deps=["measurement_set", "nvss_catalog", "calibrator_catalog"],
        output_required=False,
        group_name="calibration",
        kinds={"casa"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
        pool="casa",
        metadata={"expected runtime (s), full size": 60},
    )
    def calibration_tables(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import calibrator

        yield from run_stage(context, lambda: calibrator.solve_night(platform.open(), context.partition_key, context.run.run_id))

    return calibration_tables
