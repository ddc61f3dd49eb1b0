"""Jobs: which assets run together. A tile's stages share one run and one process; hours, nights and references follow."""

from __future__ import annotations

import dagster as dg

from dsa110_assets.stages.queue.work import TILE_STAGES

tile_job = dg.define_asset_job(
    "tile",
    selection=dg.AssetSelection.assets(*TILE_STAGES),
    description="One observation from raw subbands to its image.",
    tags={"dagster/max_retries": "0"},  # the ingest queue repeats a failed observation, with its own count of failures
)
calibration_job = dg.define_asset_job(
    "calibration",
    selection=dg.AssetSelection.assets("calibration_tables"),
    description="Solve the night's calibrator transits that have no tables yet.",
)
hour_job = dg.define_asset_job(
    "hour",
    selection=dg.AssetSelection.assets("hourly_mosaic", "source_catalog", "forced_photometry"),
    description="Mosaic, source catalogue and photometry of an hour whose tiles are all there.",
)
night_job = dg.define_asset_job(
    "night",
    selection=dg.AssetSelection.assets("light_curves", "variability_metrics", "ese_candidates"),
    description="Light curves, variability and candidates, brought up to a night.",
    tags={"dsa110/exclusive": "variability"},
)
nightly_mosaic_job = dg.define_asset_job(
    "mosaic_of_the_night", selection=dg.AssetSelection.assets("nightly_mosaic"), description="Mosaic of a whole night."
)
injection_job = dg.define_asset_job(
    "injections",
    selection=dg.AssetSelection.assets("injection_recovery"),
    description="Artificial sources through the data of a night.",
    tags={"dagster/priority": "-5"},  # whatever else waits goes first
)
references_job = dg.define_asset_job(
    "references",
    selection=dg.AssetSelection.assets("calibrator_catalog", "nvss_catalog", "monitored_sources"),
    description="Refresh the reference catalogues.",
)
JOBS = (tile_job, calibration_job, hour_job, night_job, nightly_mosaic_job, injection_job, references_job)
