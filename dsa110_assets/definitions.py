"""The code location: `build_defs` assembles everything, and a test can replace any part.

The code server and every run worker load it, so it imports nothing heavy (a test limits it to 3 s).
"""

from __future__ import annotations

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration import (
    alerting,
    assets,
    backfills,
    housekeeping,
    jobs,
    mosaics_on_demand,
    on_request,
    panel,
    positions_on_demand,
    schedules,
    sensors,
    stale_products,
    tile_quality,
)
from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource


def build_defs(config: PipelineConfig | None = None) -> dg.Definitions:
    """Return all definitions, bound to ``config``. Without one, each process reads its environment."""
    settings = config or PipelineConfig.from_env(validate_paths=False)
    partitions = Partitions.starting(settings.partition_start)
    platform = PlatformResource() if config is None else PlatformResource.with_config(config)
    asset_jobs = jobs.build()
    return dg.Definitions(
        assets=[
            panel.with_panel_metadata(asset, settings)
            for asset in (*assets.build(partitions), stale_products.build(), tile_quality.build())
        ],
        jobs=[
            *asset_jobs.values(),
            *backfills.JOBS,
            housekeeping.housekeeping_job,
            tile_quality.judge_again_job,
            mosaics_on_demand.mosaic_build_job,
            *on_request.JOBS,
            positions_on_demand.measure_position_job,
        ],
        sensors=[*sensors.build(asset_jobs), alerting.alerts],
        schedules=[*schedules.build(partitions), *housekeeping.SCHEDULES],
        resources={"platform": platform},
        executor=dg.in_process_executor,
    )


defs = build_defs()
