"""The code location: `build_defs` assembles everything, and a test can swap any piece.

Loaded by the code server, by every run worker and by tests, so it imports nothing heavy (a test holds it to 3 s).
"""

from __future__ import annotations

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration import alerting, backfills, checks, housekeeping, jobs, panel, schedules, sensors
from dsa110_assets.orchestration.assets import (
    calibrated_ms,
    calibration_tables,
    calibrator_catalog,
    ese_candidates,
    forced_photometry,
    hourly_mosaic,
    injection_recovery,
    light_curves,
    measurement_set,
    monitored_sources,
    nightly_mosaic,
    nvss_catalog,
    raw_subbands,
    source_catalog,
    stale_products,
    tile_image,
    variability_metrics,
)
from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource

PARTITIONED = (
    raw_subbands,
    measurement_set,
    calibration_tables,
    calibrated_ms,
    tile_image,
    hourly_mosaic,
    source_catalog,
    forced_photometry,
    nightly_mosaic,
    light_curves,
    variability_metrics,
    ese_candidates,
    injection_recovery,
)
REFERENCES = (calibrator_catalog, nvss_catalog, monitored_sources)
OPERATIONS = (stale_products,)


def build_defs(config: PipelineConfig | None = None) -> dg.Definitions:
    """All definitions. With ``config`` everything is bound to it; without, each process reads its environment."""
    settings = config or PipelineConfig.from_env(validate_paths=False)
    partitions = Partitions.starting(settings.partition_start)
    platform = PlatformResource() if config is None else PlatformResource.with_config(config)
    assets = [*(module.build(partitions) for module in PARTITIONED), *(module.build() for module in (*REFERENCES, *OPERATIONS))]
    return dg.Definitions(
        assets=[panel.dressed(asset, settings) for asset in assets],
        asset_checks=[checks.build(partitions)],
        jobs=[*jobs.JOBS, *backfills.JOBS, housekeeping.housekeeping_job, housekeeping.stale_job],
        sensors=[*sensors.SENSORS, alerting.alerts],
        schedules=[*schedules.build(partitions), *housekeeping.SCHEDULES],
        resources={"platform": platform},
        executor=dg.in_process_executor,
    )


defs = build_defs()
