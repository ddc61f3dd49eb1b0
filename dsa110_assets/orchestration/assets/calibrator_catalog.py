"""Calibrators of the VLA calibrator manual, those without a flux at 20 cm marked as unusable.

Refresh it after changing `PIPELINE_VLA_CALIBRATORS_FILE`.
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import RETRY, run_stage


def build() -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        output_required=False,
        group_name="reference",
        kinds={"sqlite"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
    )
    def calibrator_catalog(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import references

        yield from run_stage(context, lambda: references.refresh_calibrators(platform.open(), context.run.run_id))

    return calibrator_catalog
