"""All sources at once, in bins, for plots of the population. No plot needs each source; single ones stand apart."""

from __future__ import annotations

from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.orm import Session

STEP_DEX = 0.05
"""Width of a bin of eta and of V, in the logarithm to base 10."""
RA_STEP_DEG, DEC_STEP_DEG = 2.0, 0.5
"""Width of a bin on the sky."""
MOST_OUTLIERS = 5000
CROWD = 3
"""Sources in a bin with more than so many are no outliers."""
_LOWEST, _HIGHEST = 1e-6, 1e6
_PLACED = (
    "placed AS (SELECT source_id, eta, v, mean_flux_jy, ese_score, floor(log(greatest(least(eta, :highest), :lowest)) / :step)::int AS i, "
    "floor(log(greatest(least(v, :highest), :lowest)) / :step)::int AS j FROM variability WHERE night = :night AND eta > 0 AND v > 0), "
    "cells AS (SELECT i, j, count(*) AS n FROM placed GROUP BY i, j) "
)


def eta_v_cells(session: Session, night: date) -> list[tuple[int, int, int]]:
    """Numbers of sources in bins of eta and V as of a night: ``i, j, n``, of 10**(i * `STEP_DEX`) and so on."""
    rows = session.execute(text(f"WITH {_PLACED} SELECT i, j, n FROM cells ORDER BY i, j"), _values(night))  # noqa: S608 - constants
    return [(row.i, row.j, row.n) for row in rows]


def outliers(session: Session, night: date, *, min_score: float) -> list[dict[str, Any]]:
    """Sources in sparse bins, and those with a score from ``min_score`` on; the best first, at most `MOST_OUTLIERS`."""
    rows = session.execute(
        text(
            f"WITH {_PLACED} SELECT p.source_id, s.name, s.ra_deg, s.dec_deg, p.eta, p.v, p.mean_flux_jy, p.ese_score "  # noqa: S608
            "FROM placed p JOIN cells c USING (i, j) JOIN sources s USING (source_id) WHERE c.n <= :crowd OR p.ese_score >= :score "
            "ORDER BY p.ese_score DESC NULLS LAST, p.eta DESC, p.source_id LIMIT :most"
        ),
        _values(night) | {"crowd": CROWD, "score": min_score, "most": MOST_OUTLIERS},
    )
    return [dict(row) for row in rows.mappings()]


def sky_cells(session: Session) -> list[tuple[int, int, int]]:
    """Numbers of active sources in bins of right ascension and declination: ``i, j, n``."""
    rows = session.execute(
        text(
            "SELECT floor(ra_deg / :ra)::int AS i, floor(dec_deg / :dec)::int AS j, count(*) AS n FROM sources WHERE active "
            "GROUP BY 1, 2 ORDER BY 1, 2"
        ),
        {"ra": RA_STEP_DEG, "dec": DEC_STEP_DEG},
    )
    return [(row.i, row.j, row.n) for row in rows]


def _values(night: date) -> dict[str, Any]:
    return {"night": night, "step": STEP_DEX, "lowest": _LOWEST, "highest": _HIGHEST}
