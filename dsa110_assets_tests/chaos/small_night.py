"""The smallest night that takes every path of a real one: calibrator, tiles before and after it, an hour, a ranking.

It has 17 antennas within half a kilometer, sixteen subbands of one channel, six integrations in a tile, and images of
720 pixels of 18 arcsec. In smaller images a bright source of the fifth tile is outside, and its gate refuses the tile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.simulation.array import ArrayLayout
from dsa110_assets.simulation.band import BandPlan
from dsa110_assets.simulation.night import DemoPlan, demo_plan
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.tile import SECONDS_PER_DAY, TILE_S, simulate_tile

N_INTEGRATIONS = 6
CALIBRATOR_TILE = 1
ARRAY = ArrayLayout(tuple(station - 1 for station in (33, 37, 38, 46, 48, 50, 51, 103, 1, 5, 8, 13, 68, 83, 88, 93, 97)))
"""Core of the demonstration's array, with the first reference antenna."""
SETTINGS = {
    "PIPELINE_IMAGE_SIZE": "720",
    "PIPELINE_CELL_ARCSEC": "18",
    "PIPELINE_CLEAN_NITER": "2000",
    "PIPELINE_SCAN_INTERVAL_S": "10",
    "PIPELINE_GROUP_DEADLINE_S": "60",
    "PIPELINE_HOUR_SETTLE_S": "5",
    "PIPELINE_MAX_ATTEMPTS": "20",  # each kill counts as a failure, and there are many
}
"""Settings in addition to the demonstration's."""


@dataclass(frozen=True)
class SmallNight:
    """A plan of ``n_tiles`` contiguous observations. The calibrator transits in the middle of the second one."""

    plan: DemoPlan
    n_tiles: int

    @classmethod
    def of(cls, n_tiles: int) -> SmallNight:
        """Plan with the demonstration's sky."""
        return cls(demo_plan(n_tiles=12, min_jy=0.5), n_tiles)

    def start_mjd(self, tile: int) -> float:
        """Center of a tile's first integration, UTC MJD."""
        return self.plan.nights[0].start_mjd + (tile * TILE_S + 25.0) / SECONDS_PER_DAY

    def write(self, directory: Path, tile: int, subbands: Sequence[int] | None = None) -> list[Path]:
        """Write the raw files of one tile."""
        return simulate_tile(
            directory,
            start_mjd=self.start_mjd(tile),
            declination_deg=self.plan.declination_deg,
            sky=self.plan.sky,
            array=ARRAY,
            band=BandPlan(1),
            seed=self.plan.seed,
            n_integrations=N_INTEGRATIONS,
            receivers=Receivers(seed=5, drift_amplitude=0.003, drift_phase_deg=0.3),
            subbands=subbands,
        )


def prepare(root: Path, night: SmallNight, port: int) -> tuple[DemoPlaces, dict[str, str]]:
    """Make directories and catalogs under an empty ``root``. Return the places and the platform's settings."""
    places = DemoPlaces(root)
    for folder in (places.incoming, places.reference):
        folder.mkdir(parents=True)
    night.plan.write_references(places.reference)
    return places, places.settings(port) | SETTINGS


def digests(directory: Path) -> dict[str, tuple[str, int, int]]:
    """Content, inode and time of modification of each file, by name. Those of raw files must not change."""
    found: dict[str, tuple[str, int, int]] = {}
    for path in sorted(directory.iterdir()):
        facts = path.stat()
        found[path.name] = (hashlib.sha256(path.read_bytes()).hexdigest(), facts.st_ino, facts.st_mtime_ns)
    return found
