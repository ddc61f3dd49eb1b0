"""A position on demand: its fluxes in mosaics that cover it, and its next transit."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import erfa
import numpy as np
import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.common.instrument import BEAM_CUTOFF, cutoff_radius_rad
from dsa110_assets.common.interferometry import SIDEREAL_DAY_DAYS
from dsa110_assets.errors import NotFoundError, PipelineError
from dsa110_assets.registry.queries.coverage import Extent, covering_images
from dsa110_assets.registry.queries.images import mosaics_with
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.queries.positions import replace_fluxes_at
from dsa110_assets.registry.schema import ImageRow, MosaicKind, MosaicRow
from dsa110_assets.stages.platform import Platform
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd, mjd_to_datetime

_REFERENCE_HZ = 1.4e9
_IMAGES_OF_A_MOSAIC = 12
"""A position is in about so many tiles of each hour."""
_COLUMNS = ("mosaic_name", "time_mjd", "flux_jy", "flux_err_jy", "snr", "upper_limit_jy", "is_limit", "flags")


@dataclass(frozen=True)
class Measured:
    """Fluxes at a position. ``rows``: one for each mosaic, newest first. ``left_out``: mosaics without one, and why."""

    rows: list[dict[str, Any]]
    left_out: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class NextTransit:
    """The next transit of a position. ``in_beam``: the telescope's present pointing sees it, if it stays there."""

    at: datetime
    pointing_dec_deg: float
    in_beam: bool


def extent_of(platform: Platform) -> Extent:
    """How far the tile images reach from their centers."""
    config = platform.config
    return Extent(config.image_size * config.cell_arcsec / 7200.0, float(np.degrees(cutoff_radius_rad(_REFERENCE_HZ, BEAM_CUTOFF))))


def measure_at(platform: Platform, ra_deg: float, dec_deg: float, run_id: str, *, most: int = 30, before: str | None = None) -> Measured:
    """Measure a position in the newest hourly mosaics that cover it, and keep the fluxes for `/ui/search`.

    ``before``: an observation; only mosaics with a tile before it, to go on with older ones.

    The position is measured alone: blends with neighbors are not separated. A mosaic whose image was removed is named.

    Raises:
        NotFoundError: no mosaic covers the position.
        UnknownGroupError: there is no such observation.
    """
    from dsa110_assets.photometry import measure_mosaic

    with platform.database.session() as session:
        if before is not None:
            observation(session, before)
        found = _hourly_mosaics(session, ra_deg, dec_deg, extent_of(platform), most, before)
    if not found:
        raise NotFoundError(
            f"mosaics at RA {ra_deg:.5f}, Dec {dec_deg:+.5f}",
            "none covers the position",
            "look at the strips that were observed: /ui/mosaics" if before is None else "all older ones are measured",
        )
    position = pd.DataFrame({"name": ["position"], "ra_deg": [ra_deg], "dec_deg": [dec_deg]})
    rows: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name, directory in found.items():
        try:
            table = measure_mosaic(directory, name, position)
        except PipelineError as error:
            left_out[name] = error.cause
            continue
        measured = [_row(one) for one in table.to_dict("records") if np.isfinite(one["flux_jy"])]
        rows += measured
        if not measured:
            left_out[name] = "the position is at or beyond its edge"
    with platform.database.session() as session:
        replace_fluxes_at(session, ra_deg, dec_deg, rows, run_id)
    return Measured(rows, left_out)


def _hourly_mosaics(session: Session, ra_deg: float, dec_deg: float, extent: Extent, most: int, before: str | None) -> dict[str, Path]:
    """Name and directory of the newest hourly mosaics that cover a position."""
    names: dict[str, None] = {}
    for _ in range(most):
        page = covering_images(session, ra_deg, dec_deg, extent, before=before, limit=most * _IMAGES_OF_A_MOSAIC)
        mosaics = mosaics_with(session, [row["group_id"] for row in page.rows])
        names |= {str(one["name"]): None for rows in mosaics.values() for one in rows if one["kind"] == MosaicKind.HOURLY}
        if page.next_key is None or len(names) >= most:
            break
        before = str(page.next_key[0])
    chosen = list(names)[:most]
    directories = session.execute(select(MosaicRow.name, MosaicRow.directory).where(MosaicRow.name.in_(chosen))).tuples()
    known = dict(list(directories))
    return {name: Path(known[name]) for name in chosen if name in known}


def _row(one: dict[Any, Any]) -> dict[str, Any]:
    row = {name: one[name] for name in _COLUMNS}
    row["upper_limit_jy"] = float(row["upper_limit_jy"]) if np.isfinite(row["upper_limit_jy"]) else None
    for name in ("time_mjd", "flux_jy", "flux_err_jy", "snr"):
        row[name] = float(row[name])
    return row | {"is_limit": bool(row["is_limit"]), "flags": str(row["flags"] or "")}


def next_transit(session: Session, ra_deg: float, dec_deg: float, *, now: datetime | None = None) -> NextTransit | None:
    """The next transit of a position, to some seconds; None before the first image.

    The newest image has the right ascension of the meridian at its middle; whole sidereal days lead from there to now.
    """
    newest = session.scalars(select(ImageRow).order_by(ImageRow.mid_mjd.desc()).limit(1)).one_or_none()
    if newest is None:
        return None
    start = datetime_to_mjd(now or datetime.now(UTC))
    east = _ra_of_date_deg(ra_deg, dec_deg, start) - _ra_of_date_deg(newest.ra_deg, newest.dec_deg, start)
    first = newest.mid_mjd + (east % 360.0) / 360.0 * SIDEREAL_DAY_DAYS
    transit = first + np.ceil((start - first) / SIDEREAL_DAY_DAYS) * SIDEREAL_DAY_DAYS
    reach = float(np.degrees(cutoff_radius_rad(_REFERENCE_HZ, BEAM_CUTOFF)))
    return NextTransit(mjd_to_datetime(float(transit)), newest.pointing_dec_deg, abs(dec_deg - newest.dec_deg) <= reach)


def _ra_of_date_deg(ra_deg: float, dec_deg: float, mjd: float) -> float:
    """Right ascension at the equator and equinox of a date: transits follow these, not those of J2000."""
    matrix = erfa.pnm06a(JD_MINUS_MJD, mjd)
    longitude, _ = erfa.c2s(matrix @ erfa.s2c(np.radians(ra_deg), np.radians(dec_deg)))
    return float(np.degrees(longitude))
