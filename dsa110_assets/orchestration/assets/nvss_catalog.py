"""Reference sky at 1.4 GHz (NVSS): sky models, clean masks, positions to measure.

Refresh it after changing `PIPELINE_NVSS_FILE`.
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
        kinds={"parquet"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
    )
    def nvss_catalog(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import references

        yield from run_stage(context, lambda: references.refresh_nvss(platform.open(), context.run.run_id))

    return nvss_catalog
