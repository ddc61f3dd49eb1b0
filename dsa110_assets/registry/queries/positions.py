"""Positions of people: targets beside the observer's list (`targets`), and fluxes asked for (`position_fluxes`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, delete, insert, select
from sqlalchemy.orm import Session

from dsa110_assets.errors import NotFoundError, PositionsError
from dsa110_assets.registry.bulk import read_frame
from dsa110_assets.registry.queries.pages import within
from dsa110_assets.registry.queries.sources import SAME_POSITION_ARCSEC
from dsa110_assets.registry.schema import Photometry, PositionFlux, Source, Target

if TYPE_CHECKING:
    import pandas as pd

_FLUX = (
    PositionFlux.mosaic_name, PositionFlux.time_mjd, PositionFlux.flux_jy, PositionFlux.flux_err_jy, PositionFlux.snr,
    PositionFlux.upper_limit_jy, PositionFlux.is_limit, PositionFlux.flags, PositionFlux.run_id, PositionFlux.measured_at,
)  # fmt: skip
_OF_SOURCE = (
    Photometry.mosaic_name, Photometry.time_mjd, Photometry.flux_jy, Photometry.flux_err_jy, Photometry.snr, Photometry.upper_limit_jy,
    Photometry.is_limit, Photometry.flags,
)  # fmt: skip
SAME_REQUEST_ARCSEC = 1.0
"""Fluxes asked for at this distance belong to one position: much less than the beam."""
MOST_TARGETS = 5000
_MOST_FLUXES = 2000


def sources_at(session: Session, ra_deg: float, dec_deg: float, radius_deg: float, *, limit: int = 20) -> list[dict[str, Any]]:
    """Sources within a radius of a position, the nearest first, with ``separation_arcsec``."""
    columns = (Source.source_id, Source.name, Source.ra_deg, Source.dec_deg, Source.origin, Source.active, Source.reference_flux_jy)
    near = within(Source.ra_deg, Source.dec_deg, ra_deg, dec_deg, radius_deg)
    found = [dict(row) for row in session.execute(select(*columns).where(near).limit(1000)).mappings()]
    for row in found:
        row["separation_arcsec"] = _separation_arcsec(row["ra_deg"], row["dec_deg"], ra_deg, dec_deg)
    return sorted(found, key=lambda row: row["separation_arcsec"])[:limit]


def fluxes_of_source(session: Session, source_id: int, mosaics: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fluxes of a source in some mosaics (rows with ``name, mid_mjd``), by name of the mosaic."""
    if not mosaics:
        return {}
    times = [float(one["mid_mjd"]) for one in mosaics]
    statement = select(*_OF_SOURCE).where(
        Photometry.source_id == source_id,
        Photometry.time_mjd.between(min(times) - 1.0, max(times) + 1.0),  # only these months are read
        Photometry.mosaic_name.in_([str(one["name"]) for one in mosaics]),
    )
    return {row["mosaic_name"]: dict(row) for row in session.execute(statement).mappings()}


def fluxes_at(session: Session, ra_deg: float, dec_deg: float) -> list[dict[str, Any]]:
    """Fluxes that people asked for at a position, newest first."""
    statement = select(*_FLUX).where(_same(ra_deg, dec_deg)).order_by(PositionFlux.time_mjd.desc()).limit(_MOST_FLUXES)
    return [dict(row) for row in session.execute(statement).mappings()]


def replace_fluxes_at(session: Session, ra_deg: float, dec_deg: float, rows: Sequence[Mapping[str, Any]], run_id: str) -> int:
    """Replace the fluxes at a position in the mosaics of ``rows``; others stay. Return their number."""
    names = [str(row["mosaic_name"]) for row in rows]
    session.execute(delete(PositionFlux).where(_same(ra_deg, dec_deg), PositionFlux.mosaic_name.in_(names)))
    if rows:
        own = {"ra_deg": ra_deg, "dec_deg": dec_deg, "run_id": run_id}
        session.execute(insert(PositionFlux), [{**row, **own} for row in rows])
    return len(rows)


def targets(session: Session) -> list[dict[str, Any]]:
    """Targets that people added, newest first, with the number of their source."""
    columns = (Target.name, Target.ra_deg, Target.dec_deg, Target.person, Target.reason, Target.added_at, Source.source_id)
    statement = select(*columns).outerjoin(Source, Source.name == Target.name).order_by(Target.added_at.desc()).limit(MOST_TARGETS)
    return [dict(row) for row in session.execute(statement).mappings()]


def target_positions(session: Session) -> pd.DataFrame:
    """Name and position of all targets, for the list of positions to measure."""
    return read_frame(session, select(Target.name, Target.ra_deg, Target.dec_deg).order_by(Target.name).limit(MOST_TARGETS))


def add_target(session: Session, *, name: str, ra_deg: float, dec_deg: float, person: str, reason: str) -> None:
    """Add a target.

    Raises:
        PositionsError: the name or the position is taken, or there are too many.
    """
    taken = next(iter(sources_at(session, ra_deg, dec_deg, SAME_POSITION_ARCSEC / 3600.0)), None)
    if taken is not None and taken["active"]:
        raise PositionsError(
            f"target {name}",
            f"its position is already measured as {taken['name']}",
            f"look at source {taken['source_id']}: its light curve",
        )
    if session.get(Target, name) is not None:
        raise PositionsError(f"target {name}", "there is a target of this name", "choose another name")
    if len(session.scalars(select(Target.name).limit(MOST_TARGETS)).all()) >= MOST_TARGETS:
        raise PositionsError(f"target {name}", f"there are {MOST_TARGETS} targets", "put the others into the file of monitored positions")
    session.add(Target(name=name, ra_deg=ra_deg, dec_deg=dec_deg, person=person, reason=reason))
    session.flush()


def remove_target(session: Session, name: str) -> None:
    """Remove a target.

    Raises:
        NotFoundError: there is none of this name.
    """
    if not session.execute(delete(Target).where(Target.name == name).returning(Target.name)).all():
        raise NotFoundError(f"target {name}", "there is none of this name", "list them: `dsa110 targets list`")


def _separation_arcsec(ra_deg: float, dec_deg: float, other_ra_deg: float, other_dec_deg: float) -> float:
    north = math.sin(math.radians(dec_deg - other_dec_deg) / 2.0) ** 2
    east = math.sin(math.radians(ra_deg - other_ra_deg) / 2.0) ** 2
    haversine = north + math.cos(math.radians(dec_deg)) * math.cos(math.radians(other_dec_deg)) * east
    return 7200.0 * math.degrees(math.asin(min(1.0, math.sqrt(haversine))))


def _same(ra_deg: float, dec_deg: float) -> ColumnElement[bool]:
    return within(PositionFlux.ra_deg, PositionFlux.dec_deg, ra_deg, dec_deg, SAME_REQUEST_ARCSEC / 3600.0)
