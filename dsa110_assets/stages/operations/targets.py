"""Targets: positions that people add to the list, measured in past and future mosaics as those of the file are.

`refresh_monitored` joins them with the observer's file, so they stay on the list. `added_photometry` measures a new one
in past mosaics, some dozens in a run.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from dsa110_assets.common.position_lists import checked_positions
from dsa110_assets.registry.queries import positions
from dsa110_assets.registry.queries.sources import record_addition, retire_sources, source_table, upsert_sources
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.versions import amend_content
from dsa110_assets.stages.table import MONITORED_SOURCES

ORIGIN = "monitored"


@dataclass(frozen=True)
class Added:
    """A new target: its source, and whether past mosaics are measured for it."""

    name: str
    source_id: int
    past_mosaics: bool


def add_target(platform: Platform, name: str, ra_deg: float, dec_deg: float, *, person: str, reason: str = "") -> Added:
    """Add a position to the list of monitored positions, and have it measured in past mosaics.

    Args:
        platform: the platform.
        name: of the source; new.
        ra_deg, dec_deg: ICRS.
        person: who adds it.
        reason: why.

    Raises:
        PositionsError: the name or the position is taken or impossible.
    """
    row = checked_positions(pd.DataFrame({"name": [name], "ra_deg": [ra_deg], "dec_deg": [dec_deg]}), f"target {name}")
    with platform.database.session() as session:
        known_as, ra, dec = str(row["name"].iloc[0]), float(row["ra_deg"].iloc[0]), float(row["dec_deg"].iloc[0])
        positions.add_target(session, name=known_as, ra_deg=ra, dec_deg=dec, person=person, reason=reason)
        source_id = int(upsert_sources(session, row, origin=ORIGIN)[0])
        new = record_addition(session)
        amend_content(session, MONITORED_SOURCES.name, "all")
        return Added(known_as, source_id, new > 0)


def remove_target(platform: Platform, name: str) -> None:
    """Take a target off the list. Its past measurements stay, and it gets no new ones.

    Raises:
        NotFoundError: there is no target of this name.
    """
    with platform.database.session() as session:
        positions.remove_target(session, name)
        listed = source_table(session, origin=ORIGIN)
        retire_sources(session, origin=ORIGIN, keep=[one for one in listed["name"] if one != name])
        amend_content(session, MONITORED_SOURCES.name, "all")
