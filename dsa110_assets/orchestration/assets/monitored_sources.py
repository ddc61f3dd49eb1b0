"""Positions measured in every mosaic: catalogue sources above a flux limit, and the observer's own list.

Refresh it after changing `PIPELINE_MONITORED_SOURCES_FILE`.
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import RETRY, run_stage


def build() -> dg.AssetsDefinition:
    """The asset."""

    @dg.asset(
        description=__doc__,
        deps=["nvss_catalog"],
        output_required=False,
        group_name="reference",
        kinds={"postgres"},
        owners=["team:dsa110"],
        retry_policy=RETRY,
    )
    def monitored_sources(context: dg.AssetExecutionContext, platform: PlatformResource) -> Iterator[dg.MaterializeResult]:
        from dsa110_assets.stages.products import references

        yield from run_stage(context, lambda: references.refresh_monitored(platform.open(), context.run.run_id))

    return monitored_sources
