"""Jobs: which assets run together. The table of products says which job makes an asset; here is what else is true of a job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg

from dsa110_assets.orchestration.private import AssetJob
from dsa110_assets.stages.table import TABLE


@dataclass(frozen=True)
class Job:
    """A job's description, and its runs' tags."""

    description: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


TILE = "tile"
JOBS = {
    TILE: Job(
        "One observation from raw subbands to its image.",
        {"dagster/max_retries": "0"},  # the ingest queue repeats a failed observation, with its own count of failures
    ),
    "calibration": Job("Solve the night's calibrator transits that have no tables yet."),
    "hour": Job("Mosaic, source catalogue and photometry of an hour whose tiles are all there."),
    "night": Job("Light curves, variability and candidates, brought up to a night.", {"dsa110/exclusive": "variability"}),
    "mosaic_of_the_night": Job("Mosaic of a whole night."),
    "injections": Job("Artificial sources through the data of a night.", {"dagster/priority": "-5"}),  # whatever else waits goes first
    "references": Job("Refresh the reference catalogues."),
    "look_for_stale": Job("Look for stale products."),
    "look_at_tiles": Job("Look at the verdicts on the tiles of the last day."),
}
"""A job of the table that is not here has no tags, and a description made of its assets' names."""


def build() -> dict[str, AssetJob]:
    """The jobs of the table, by name."""
    found: dict[str, AssetJob] = {}
    for name, assets in TABLE.jobs().items():
        job = JOBS.get(name) or Job(f"Makes {', '.join(assets)}.")
        selection = dg.AssetSelection.assets(*assets)
        found[name] = dg.define_asset_job(name, selection=selection, description=job.description, tags=job.tags)
    return found
