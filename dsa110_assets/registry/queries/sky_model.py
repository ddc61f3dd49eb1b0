"""The platform's own sky model (`sky_model`): bright sources that images found and no catalog has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.pages import Page, read_page, within
from dsa110_assets.registry.schema import SkyModelSource

SAME_SOURCE_DEG = 20.0 / 3600
OUTSIDE = "outside an image"
PREFIX = "own "
"""Of the names that these sources have in a sky."""
SOURCE = (
    SkyModelSource.source_id, SkyModelSource.ra_deg, SkyModelSource.dec_deg, SkyModelSource.flux_jy, SkyModelSource.flux_err_jy,
    SkyModelSource.primary_beam, SkyModelSource.origin, SkyModelSource.group_id, SkyModelSource.first_mjd, SkyModelSource.last_mjd,
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A source that an image found: ICRS position, flux at 1.4 GHz with its thermal error, effective beam there."""

    ra_deg: float
    dec_deg: float
    flux_jy: float
    flux_err_jy: float
    primary_beam: float


def around(session: Session, dec_deg: float, radius_deg: float) -> pd.DataFrame:
    """Sources of a declination strip, as rows of a sky (``name, ra_deg, dec_deg, flux_jy, spectral_index``)."""
    rows = session.execute(
        select(SkyModelSource.source_id, SkyModelSource.ra_deg, SkyModelSource.dec_deg, SkyModelSource.flux_jy)
        .where(SkyModelSource.dec_deg.between(dec_deg - radius_deg, dec_deg + radius_deg))
        .order_by(SkyModelSource.source_id)
    ).all()
    columns = ["name", "ra_deg", "dec_deg", "flux_jy"]
    made = pd.DataFrame([(f"{PREFIX}{row[0]}", *row[1:]) for row in rows], columns=columns)
    return made.astype(dict.fromkeys(columns[1:], "float64")).assign(spectral_index=np.nan)


def record(session: Session, group_id: str, mid_mjd: float, found: Sequence[Found]) -> int:
    """Add what an image found, or bring known sources up to date; return the number of new ones.

    The values are those of the observation that saw a source with the smallest error. One image records at a time: two
    that find the same new source at once would each add it.
    """
    session.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(SkyModelSource.__tablename__, 0))))
    new = 0
    for one in found:
        there = _same(session, one)
        values = {
            "ra_deg": one.ra_deg, "dec_deg": one.dec_deg, "flux_jy": one.flux_jy, "flux_err_jy": one.flux_err_jy,
            "primary_beam": one.primary_beam, "group_id": group_id,
        }  # fmt: skip
        if there is None:
            session.add(SkyModelSource(**values, origin=OUTSIDE, first_mjd=mid_mjd, last_mjd=mid_mjd))
            session.flush()
            new += 1
            continue
        if one.flux_err_jy <= there.flux_err_jy or there.group_id == group_id:
            for name, value in values.items():
                setattr(there, name, value)
        there.first_mjd, there.last_mjd = min(there.first_mjd, mid_mjd), max(there.last_mjd, mid_mjd)
    return new


def _same(session: Session, one: Found) -> SkyModelSource | None:
    """The known source at a position."""
    near = session.scalars(
        select(SkyModelSource)
        .where(SkyModelSource.dec_deg.between(one.dec_deg - SAME_SOURCE_DEG, one.dec_deg + SAME_SOURCE_DEG))
        .order_by(SkyModelSource.source_id)
    ).all()

    def distance(row: SkyModelSource) -> float:
        east = (row.ra_deg - one.ra_deg + 180) % 360 - 180
        return float(np.hypot(east * np.cos(np.radians(one.dec_deg)), row.dec_deg - one.dec_deg))

    return next((row for row in near if distance(row) < SAME_SOURCE_DEG), None)


def newest(session: Session, *, near: tuple[float, float, float] | None = None, after: Sequence[Any] | None = None, limit: int) -> Page:
    """The sources, those that were found last first. ``near``: RA, Dec, radius in degrees."""
    statement = select(*SOURCE)
    if near is not None:
        statement = statement.where(within(SkyModelSource.ra_deg, SkyModelSource.dec_deg, *near))
    return read_page(session, statement, (SkyModelSource.source_id,), after=after, limit=limit)
