"""Positions to measure (`sources`) and detections of the blind source finder (`detections`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, or_, select, text, update
from sqlalchemy.orm import Session

from dsa110_assets.errors import PositionsError
from dsa110_assets.registry.bulk import copy_rows, read_frame_bulk
from dsa110_assets.registry.schema import Detection, MosaicKind, MosaicRow, PositionAddition, Source

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

_DETECTION_COLUMNS = (
    "mosaic_name", "number", "ra_deg", "dec_deg", "ra_err_arcsec", "dec_err_arcsec", "peak_jy_per_beam", "flux_jy", "flux_err_jy",
    "calibration_err_jy", "snr", "reliable", "matched_name", "separation_arcsec",
)  # fmt: skip

SAME_POSITION_ARCSEC = 5.0
"""Distance within which a name stays the same source. NVSS positions are accurate to 1 arcsec; its beam is 45."""
_MOVED = text(
    "SELECT i.name, i.ra_deg, i.dec_deg, s.ra_deg AS known_ra, s.dec_deg AS known_dec FROM incoming_sources i JOIN sources s USING (name) "
    "WHERE abs(i.dec_deg - s.dec_deg) > :limit_deg OR degrees(2 * asin(least(1, sqrt(sind((i.dec_deg - s.dec_deg) / 2) ^ 2 "
    "+ cosd(i.dec_deg) * cosd(s.dec_deg) * sind((i.ra_deg - s.ra_deg) / 2) ^ 2)))) > :limit_deg ORDER BY i.name LIMIT 1"
)


def upsert_sources(session: Session, sources: pd.DataFrame, *, origin: str) -> np.ndarray:
    """Add positions to measure. A known name becomes active again, and may move by `SAME_POSITION_ARCSEC`.

    The identity of a source is its position: a light curve never continues at another one.

    Args:
        session: open transaction.
        sources: columns name, ra_deg, dec_deg (ICRS) and optionally reference_flux_jy (1.4 GHz); names are unique.
        origin: ``nvss``, ``calibrator``, ``monitored`` or ``blind``. A known source keeps its origin.

    Returns:
        Their ``source_id``, int64 of shape (Nsources,), in the order of ``sources``.

    Raises:
        PositionsError: a name occurs twice, a position is impossible, or a known name has moved.
    """
    import numpy as np

    names = sources["name"].to_numpy()
    if (repeated := sources["name"].duplicated().to_numpy()).any():
        raise PositionsError(f"source {names[repeated][0]}", "occurs twice in one list", "give each position one name")
    ra, dec = (sources[column].to_numpy(float) for column in ("ra_deg", "dec_deg"))
    possible = (ra >= 0.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0)
    if not possible.all():
        raise PositionsError(
            f"source {names[~possible][0]}", "has an impossible position", "give RA 0 to 360 and Dec -90 to 90 degrees for each"
        )
    frame = sources[["name", "ra_deg", "dec_deg"]].copy()
    frame["reference_flux_jy"] = sources["reference_flux_jy"] if "reference_flux_jy" in sources.columns else np.nan
    frame["position"] = np.arange(len(frame))
    session.execute(
        text(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_sources (name text, ra_deg float8, dec_deg float8, reference_flux_jy float8, "
            "position int8) ON COMMIT DROP"
        )
    )
    session.execute(text("TRUNCATE incoming_sources"))
    copy_rows(session, "incoming_sources", frame, ["name", "ra_deg", "dec_deg", "reference_flux_jy", "position"])
    moved = session.execute(_MOVED, {"limit_deg": SAME_POSITION_ARCSEC / 3600.0}).first()
    if moved is not None:
        raise PositionsError(
            f"source {moved.name}",
            f"is known at RA {moved.known_ra:.5f}, Dec {moved.known_dec:+.5f}, and is listed at {moved.ra_deg:.5f}, {moved.dec_deg:+.5f}",
            f"give the other position another name; a name stays within {SAME_POSITION_ARCSEC:g} arcsec",
        )
    session.execute(
        text(
            "INSERT INTO sources (name, ra_deg, dec_deg, reference_flux_jy, origin, active, listed_at) "
            "SELECT name, ra_deg, dec_deg, reference_flux_jy, :origin, true, now() FROM incoming_sources "
            "ORDER BY name "  # one order: no deadlock
            "ON CONFLICT (name) DO UPDATE SET ra_deg = excluded.ra_deg, dec_deg = excluded.dec_deg, active = true, "
            "listed_at = CASE WHEN (sources.ra_deg, sources.dec_deg, sources.active) IS DISTINCT FROM (excluded.ra_deg, excluded.dec_deg, true) "
            "THEN now() ELSE sources.listed_at END, "
            "reference_flux_jy = coalesce(excluded.reference_flux_jy, sources.reference_flux_jy) "
            "WHERE (sources.ra_deg, sources.dec_deg, sources.active) IS DISTINCT FROM (excluded.ra_deg, excluded.dec_deg, true) "
            "OR sources.reference_flux_jy IS DISTINCT FROM coalesce(excluded.reference_flux_jy, sources.reference_flux_jy)"
        ),
        {"origin": origin},
    )
    ids = session.scalars(text("SELECT s.source_id FROM incoming_sources i JOIN sources s USING (name) ORDER BY i.position")).all()
    return np.asarray(ids, dtype=np.int64)


def retire_sources(session: Session, *, origin: str, keep: Sequence[str]) -> int:
    """Stop measuring the sources of an origin that are not in ``keep`` (names); history stays. Return how many."""
    retired = session.execute(
        update(Source)
        .where(Source.origin == origin, Source.active, Source.name.not_in(list(keep)))
        .values(active=False)
        .returning(Source.source_id)
    )
    return len(retired.all())


def record_addition(session: Session) -> int:
    """Record that this transaction listed positions that past mosaics have not measured. Return their number.

    New are positions of an unknown name, of a known name elsewhere, and of a name that was retired. Nothing is recorded
    if there is no hourly mosaic yet.
    """
    added = session.execute(
        text(
            "INSERT INTO position_additions (listed_at, positions, before_mjd) SELECT now(), count(*), 'Infinity' FROM sources WHERE listed_at = now() AND active "
            "HAVING count(*) > 0 AND EXISTS (SELECT FROM mosaics WHERE kind = :kind) ON CONFLICT DO NOTHING RETURNING positions"
        ),
        {"kind": MosaicKind.HOURLY.value},
    ).scalar()
    return int(added or 0)


def open_addition(session: Session) -> PositionAddition | None:
    """The oldest addition whose positions are not yet measured in all past mosaics; None if there is none."""
    query = select(PositionAddition).where(PositionAddition.finished_at.is_(None)).order_by(PositionAddition.listed_at)
    return session.scalars(query.limit(1)).one_or_none()


def past_mosaics(session: Session, before_mjd: float, limit: int) -> list[MosaicRow]:
    """The last hourly mosaics with a middle before a time (UTC MJD), newest first."""
    query = select(MosaicRow).where(MosaicRow.kind == MosaicKind.HOURLY, MosaicRow.mid_mjd < before_mjd)
    return list(session.scalars(query.order_by(MosaicRow.mid_mjd.desc()).limit(limit)))


def source_table(
    session: Session,
    *,
    active_only: bool = True,
    origin: str | None = None,
    dec_min_deg: float = -90.0,
    dec_max_deg: float = 90.0,
    also: Sequence[int] = (),
    listed_at: datetime | None = None,
) -> pd.DataFrame:
    """Sources between two declinations; ``also``: no longer active ones too; ``listed_at``: only those listed then.

    Columns: source_id, name, ra_deg, dec_deg, reference_flux_jy (NaN: none), origin, active.
    """
    statement = select(
        Source.source_id, Source.name, Source.ra_deg, Source.dec_deg, Source.reference_flux_jy, Source.origin, Source.active
    ).where(Source.dec_deg >= dec_min_deg, Source.dec_deg <= dec_max_deg)
    if active_only:
        statement = statement.where(or_(Source.active, Source.source_id.in_(list(also))) if also else Source.active)
    if listed_at is not None:
        statement = statement.where(Source.listed_at == listed_at)
    if origin is not None:
        statement = statement.where(Source.origin == origin)
    return read_frame_bulk(session, statement.order_by(Source.source_id))


def replace_detections(session: Session, mosaic_name: str, found: pd.DataFrame) -> int:
    """Replace the detections in a mosaic.

    Columns as in `Detection`; ``number``, the match and ``calibration_err_jy`` are optional.
    """
    import numpy as np

    frame = found.copy()
    frame["mosaic_name"] = mosaic_name
    if "number" not in frame.columns:
        frame["number"] = np.arange(1, len(frame) + 1)
    for name in ("calibration_err_jy", "matched_name", "separation_arcsec"):
        if name not in frame.columns:
            frame[name] = None
    session.execute(delete(Detection).where(Detection.mosaic_name == mosaic_name))
    return copy_rows(session, "detections", frame, _DETECTION_COLUMNS)


def detections(session: Session, mosaic_name: str) -> pd.DataFrame:
    """Detections of a mosaic, in the order in which the blind finder numbered them."""
    columns = [getattr(Detection, name) for name in _DETECTION_COLUMNS]
    return read_frame_bulk(session, select(*columns).where(Detection.mosaic_name == mosaic_name).order_by(Detection.number))
