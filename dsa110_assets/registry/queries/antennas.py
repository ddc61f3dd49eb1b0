"""Antennas in the solutions of nights (`caltables.quality`, key `ANTENNAS`)."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import CaltableRow

ANTENNAS = "antennas"
"""Key of the numbers of each antenna among the quality of tables."""


def solutions(session: Session, *, limit: int) -> list[dict[str, Any]]:
    """The newest solutions, in order of time, with the numbers of each antenna; None for tables of earlier releases."""
    statement = (
        select(
            CaltableRow.night,
            CaltableRow.group_id,
            CaltableRow.calibrator,
            CaltableRow.refant,
            CaltableRow.accepted,
            CaltableRow.quality[ANTENNAS].label(ANTENNAS),
        )
        .order_by(CaltableRow.night.desc(), CaltableRow.mid_mjd.desc())
        .limit(limit)
    )
    return [dict(row) for row in reversed(session.execute(statement).mappings().all())]
