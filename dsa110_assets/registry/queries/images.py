"""Tile images and mosaics (`images`, `mosaics`, `mosaic_tiles`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Numeric, Select, delete, func, insert, select, text
from sqlalchemy.orm import Session

from dsa110_assets.registry.bulk import upsert
from dsa110_assets.registry.schema import Detection, EpochFactor, ImageRow, MosaicKind, MosaicRow, MosaicTile, Source
from dsa110_assets.strips import TOLERANCE_DEG, in_strip


def upsert_image(
    session: Session,
    *,
    directory: str,
    group_id: str,
    mid_mjd: float,
    ra_deg: float,
    dec_deg: float,
    pointing_dec_deg: float,
    noise_jy_per_beam: float,
    thermal_jy_per_beam: float | None,
    peak_jy_per_beam: float,
    bmaj_arcsec: float,
    bmin_arcsec: float,
    bpa_deg: float,
) -> None:
    """Register the images of one observation. They replace its earlier images, also in another directory."""
    session.execute(delete(ImageRow).where(ImageRow.group_id == group_id, ImageRow.directory != str(directory)))
    upsert(
        session,
        ImageRow,
        {
            "directory": str(directory), "group_id": group_id, "mid_mjd": mid_mjd, "ra_deg": ra_deg, "dec_deg": dec_deg,
            "pointing_dec_deg": pointing_dec_deg, "noise_jy_per_beam": noise_jy_per_beam, "thermal_jy_per_beam": thermal_jy_per_beam,
            "peak_jy_per_beam": peak_jy_per_beam, "bmaj_arcsec": bmaj_arcsec, "bmin_arcsec": bmin_arcsec, "bpa_deg": bpa_deg,
        },
        refresh=["created_at"],
    )  # fmt: skip


def image_of(session: Session, group_id: str) -> ImageRow | None:
    """Images of an observation; None if it has not been imaged."""
    return session.scalars(select(ImageRow).where(ImageRow.group_id == group_id)).one_or_none()


def tiles_in_window(
    session: Session, start_mjd: float, end_mjd: float, *, pointing_dec_deg: float | None = None, tolerance_deg: float = TOLERANCE_DEG
) -> list[ImageRow]:
    """Tiles **observed** (mid-time) in [start, end) UTC MJD, in order of time; of one strip if given (pitfall 15)."""
    statement = select(ImageRow).where(ImageRow.mid_mjd >= start_mjd, ImageRow.mid_mjd < end_mjd)
    if pointing_dec_deg is not None:
        statement = statement.where(in_strip(ImageRow.pointing_dec_deg, pointing_dec_deg, tolerance_deg))
    return list(session.scalars(statement.order_by(ImageRow.mid_mjd)))


def newest_tile_on_meridian(
    session: Session, ra_deg: float, dec_deg: float, *, half_width_deg: float, dec_distance_deg: float, start_mjd: float, end_mjd: float
) -> ImageRow | None:
    """The newest tile in [start, end) UTC MJD whose meridian point lies near a position, degrees; None without any."""
    east = func.mod((ImageRow.ra_deg - ra_deg + 540.0).cast(Numeric), 360) - 180
    statement = (
        select(ImageRow)
        .where(ImageRow.mid_mjd >= start_mjd, ImageRow.mid_mjd < end_mjd)
        .where(func.abs(east) <= half_width_deg, func.abs(ImageRow.pointing_dec_deg - dec_deg) <= dec_distance_deg)
        .order_by(ImageRow.mid_mjd.desc())
        .limit(1)
    )
    return session.scalars(statement).first()


MONTH_DAYS = 30.0
MOST_SAMPLED = 400
"""Images whose figures make a month's distribution, evenly spread over it: a busy month has 8000."""
_MOST_OF_A_MONTH = 20_000


def images_of_month(session: Session, until_mjd: float) -> list[str]:
    """Observations with an image in the 30 days up to a time, in order of time: all, or evenly chosen ones."""
    month = ImageRow.mid_mjd > until_mjd - MONTH_DAYS, ImageRow.mid_mjd <= until_mjd
    return _evenly(session, select(ImageRow.group_id.label("name"), ImageRow.mid_mjd).where(*month))


def mosaics_of_month(session: Session, kind: MosaicKind, until_mjd: float) -> list[str]:
    """Names of mosaics of a kind in the 30 days up to a time, in order of time: all, or evenly chosen ones."""
    month = MosaicRow.kind == kind, MosaicRow.mid_mjd > until_mjd - MONTH_DAYS, MosaicRow.mid_mjd <= until_mjd
    return _evenly(session, select(MosaicRow.name.label("name"), MosaicRow.mid_mjd).where(*month))


def _evenly(session: Session, month: Select[tuple[str, float]]) -> list[str]:
    """At most `MOST_SAMPLED` of the rows (name, mid_mjd), each as far from the next in their order of time."""
    rows = month.order_by(text("mid_mjd")).limit(_MOST_OF_A_MONTH).subquery()
    place = (func.row_number().over(order_by=rows.c.mid_mjd) - 1).label("place")
    counted = select(rows.c.name, place, func.count().over().label("total")).subquery()
    chosen = counted.c.place * MOST_SAMPLED % counted.c.total < MOST_SAMPLED
    return list(session.scalars(select(counted.c.name).where(chosen).order_by(counted.c.place)))


def mosaics_with(session: Session, group_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Mosaics that each observation's tile is in: rows with ``name, kind, mid_mjd``; observations without any too."""
    found: dict[str, list[dict[str, Any]]] = {group_id: [] for group_id in group_ids}
    statement = (
        select(MosaicTile.group_id, MosaicRow.name, MosaicRow.kind, MosaicRow.mid_mjd)
        .join(MosaicRow, MosaicRow.name == MosaicTile.mosaic_name)
        .where(MosaicTile.group_id.in_(list(group_ids)))
        .order_by(MosaicRow.kind, MosaicRow.mid_mjd)
    )
    for row in session.execute(statement).mappings():
        found[row["group_id"]].append(dict(row))
    return found


def sources_in_mosaic(session: Session, name: str) -> dict[str, int | None]:
    """Numbers of reliable ``detections`` of the blind finder, and of ``measured`` positions; None if never measured."""
    reliable = select(func.count()).select_from(Detection).where(Detection.mosaic_name == name, Detection.reliable)
    return {
        "detections": session.scalar(reliable) or 0,
        "measured": session.scalar(select(EpochFactor.n_measured).where(EpochFactor.mosaic_name == name)),
    }


def measured_in_mosaics(session: Session, names: Sequence[str]) -> dict[str, int]:
    """Numbers of measured positions by mosaic; those never measured are left out."""
    rows = session.execute(select(EpochFactor.mosaic_name, EpochFactor.n_measured).where(EpochFactor.mosaic_name.in_(names)))
    return dict(rows.tuples().all())


def listed_sources_within(session: Session, ra_deg: float, dec_deg: float, radius_deg: float) -> int:
    """Number of positions that are measured now, within a radius of a position."""
    from dsa110_assets.registry.queries.pages import within

    near = within(Source.ra_deg, Source.dec_deg, ra_deg, dec_deg, radius_deg)
    return session.scalar(select(func.count()).select_from(Source).where(Source.active, near)) or 0


def upsert_mosaic(
    session: Session,
    *,
    name: str,
    kind: str,
    directory: str,
    start_mjd: float,
    mid_mjd: float,
    end_mjd: float,
    ra_deg: float,
    dec_deg: float,
    noise_jy_per_beam: float,
    group_ids: Sequence[str],
) -> None:
    """Register a mosaic and its tiles. ``kind``: ``hourly``, ``nightly`` or ``custom``."""
    upsert(
        session,
        MosaicRow,
        {
            "name": name, "kind": kind, "directory": str(directory), "start_mjd": start_mjd, "mid_mjd": mid_mjd, "end_mjd": end_mjd,
            "ra_deg": ra_deg, "dec_deg": dec_deg, "n_tiles": len(group_ids), "noise_jy_per_beam": noise_jy_per_beam,
        },
        refresh=["created_at"],
    )  # fmt: skip
    session.execute(delete(MosaicTile).where(MosaicTile.mosaic_name == name))
    if group_ids:
        session.execute(insert(MosaicTile), [{"mosaic_name": name, "group_id": group_id} for group_id in group_ids])


def mosaic_tiles(session: Session, name: str) -> list[ImageRow]:
    """Images of a mosaic's tiles, in order of time."""
    return list(
        session.scalars(
            select(ImageRow)
            .join(MosaicTile, MosaicTile.group_id == ImageRow.group_id)
            .where(MosaicTile.mosaic_name == name)
            .order_by(ImageRow.mid_mjd)
        )
    )
