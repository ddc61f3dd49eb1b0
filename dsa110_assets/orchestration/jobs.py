"""The jobs. The table of products assigns assets to jobs; descriptions and run tags of the jobs are here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg

from dsa110_assets.orchestration.private import AssetJob
from dsa110_assets.stages.table import TABLE


@dataclass(frozen=True)
class Job:
    """Description of a job, and the tags of its runs."""

    description: str
    tags: Mapping[str, str] = field(default_factory=dict[str, str])


TILE = "tile"
JOBS = {
    TILE: Job(
        "One observation from raw subbands to its image.",
        {"dagster/max_retries": "0"},  # the ingest queue repeats a failed observation, with its own count of failures
    ),
    "calibration": Job("Solves the calibrator transits of a night that have no tables yet."),
    "hour": Job("Mosaic, source catalog, photometry and new events of an hour whose tiles are complete."),
    "new_positions": Job(
        "Measures positions that are new on the list in past mosaics, some dozens in a run.",
        {"dagster/priority": "-5", "dsa110/exclusive": "new_positions"},
    ),
    "night": Job("Light curves, variability and candidates up to a night.", {"dsa110/exclusive": "variability"}),
    "mosaic_of_the_night": Job("Mosaic of a whole night."),
    "injections": Job(
        "Injects artificial sources into the data of a night and recovers them.", {"dagster/priority": "-5"}
    ),  # everything else goes first
    "references": Job("Refreshes the reference catalogs."),
    "look_for_stale": Job("Updates the table of stale products."),
    "look_at_tiles": Job("Updates the checks of the tiles of the last day."),
}
"""A job of the table that is missing here has no tags, and a description with the names of its assets."""


def build() -> dict[str, AssetJob]:
    """Return the jobs of the table by name."""
    found: dict[str, AssetJob] = {}
    for name, assets in TABLE.jobs().items():
        job = JOBS.get(name) or Job(f"Makes {', '.join(assets)}.")
        selection = dg.AssetSelection.assets(*assets)
        found[name] = dg.define_asset_job(name, selection=selection, description=job.description, tags=job.tags)
    return found
