"""Marks of people: a tile or a calibration solution is bad, or good although refused; and what that makes stale.

Mosaics and photometry leave out a tile that is marked bad, and take a refused one that is marked good
(`stages.products.gates`). The choice of calibration tables does the same with solutions (`queries.calibration`). A mark
starts nothing by itself: what it changes becomes stale, and a backfill makes exactly that again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import products
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.provenance import current_version, reference
from dsa110_assets.registry.queries import antenna_marks, marks
from dsa110_assets.registry.queries.calibration import lock_caltables, observations_with_other_tables
from dsa110_assets.registry.queries.images import image_of, mosaic_tiles
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.queries.storage import retired
from dsa110_assets.registry.queries.timeline import mosaics_of
from dsa110_assets.registry.schema import CaltableRow, ImageRow, MarkDecision, MarkKind, MosaicKind, MosaicRow
from dsa110_assets.stages.hours import hours_near
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.gates import good_tiles
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.table import (
    CALIBRATED_MS,
    CUSTOM_MOSAIC,
    FORCED_PHOTOMETRY,
    HOURLY_MOSAIC,
    INJECTION_RECOVERY,
    MEASUREMENT_SET,
    NIGHTLY_MOSAIC,
)
from dsa110_assets.strips import in_strip
from dsa110_assets.times import mjd_to_datetime

_LONGEST_REASON = 1000
"""Longest reason, in characters."""


@dataclass(frozen=True)
class Consequences:
    """What a mark changes.

    ``products``: (product, key) that come out differently, without what is made from them. ``without_tiles``: hourly
    mosaics that lose their last good tile; they cannot be made again, so their epochs are to be excluded.
    ``without_files``: observations whose Measurement Set retention has removed; they stay as they are unless they are
    made again from their raw files.
    """

    products: tuple[tuple[str, str], ...]
    without_tiles: tuple[str, ...] = ()
    without_files: tuple[str, ...] = ()


def mark(platform: Platform, kind: MarkKind, group_id: str, decision: MarkDecision, *, reason: str, person: str) -> Consequences:
    """Mark a tile or a solution, and tell what is to be made again. Observations that wait for tables get a good one.

    Raises:
        InvalidRequestError: without a reason or a name.
        NotFoundError: the observation has no image, or no solution.
        UnknownGroupError: there is no such observation.
    """
    reason, person = checked("reason", reason), checked("name", person)
    with platform.database.session() as session:
        observation(session, group_id)
        tables = _subject(session, kind, group_id)
        marks.put(session, kind, group_id, decision, reason=reason, person=person)
        if tables is not None and decision is MarkDecision.GOOD:
            _release(session, platform.config, tables)
        return consequences(session, platform.config, kind, group_id)


def checked(name: str, text: str, longest: int = _LONGEST_REASON) -> str:
    """Text of a field, without spaces around it.

    Raises:
        InvalidRequestError: it is empty, too long, or not printable.
    """
    text = text.strip()
    if not text or len(text) > longest or not text.isprintable():
        raise InvalidRequestError(name, f"needs 1 to {longest} printable characters", f"give a {name}")
    return text


def unmark(platform: Platform, kind: MarkKind, group_id: str, *, person: str) -> Consequences:
    """Take a mark away, so that the verdict of the checks counts again; tell what is to be made again.

    Raises:
        NotFoundError: there is no valid mark.
    """
    with platform.database.session() as session:
        if kind is MarkKind.SOLUTION:
            lock_caltables(session, exclusive=True)
        if not marks.take_away(session, kind, group_id, person=person):
            raise no_mark(kind, group_id)
        session.flush()
        return consequences(session, platform.config, kind, group_id)


def no_mark(kind: MarkKind, group_id: str) -> NotFoundError:
    """The error of who removes a mark that does not exist."""
    return NotFoundError(f"mark on the {kind} of {group_id}", "there is none", "list them: `dsa110 mark list`")


def consequences(session: Session, config: PipelineConfig, kind: MarkKind, group_id: str) -> Consequences:
    """What comes out differently because a mark on an observation was made or removed, and was not made again since."""
    if kind is MarkKind.SOLUTION:
        others = _recalibrated(session, config, group_id)
        return Consequences(tuple((CALIBRATED_MS.name, one) for one in others))
    changed_at = marks.changed(session, MarkKind.TILE, [group_id]).get(group_id)
    tile = image_of(session, group_id)
    return Consequences(()) if changed_at is None or tile is None else _of_tile(session, config, tile, changed_at)


def products_against_marks(session: Session, config: PipelineConfig) -> list[tuple[str, str]]:
    """Products that would come out differently today because of marks on tiles and antennas.

    They were made before a mark on one of their tiles, or are Measurement Sets flagged for other antennas. Sets that
    retention has removed are left out, with what was made from them: only the raw files could change them.
    """
    sets = [(MEASUREMENT_SET.name, one) for one in antenna_marks.flagged_otherwise(session)]
    gone = retired(session, sets)
    found = dict.fromkeys(one for one in sets if one not in gone)
    for group_id, changed_at in marks.changed(session, MarkKind.TILE).items():
        tile = image_of(session, group_id)
        if tile is not None:
            found |= dict.fromkeys(_of_tile(session, config, tile, changed_at).products)
    return list(found)


def recalibrated_by_marks(session: Session, config: PipelineConfig) -> list[str]:
    """Observations near a marked solution that would get other tables today."""
    found: set[str] = set()
    for group_id in marks.changed(session, MarkKind.SOLUTION):
        found.update(_recalibrated(session, config, group_id))
    return sorted(found)


def _recalibrated(session: Session, config: PipelineConfig, group_id: str) -> list[str]:
    middle = session.scalars(select(CaltableRow.mid_mjd).where(CaltableRow.group_id == group_id).limit(1)).one_or_none()
    if middle is None:
        return []
    reach = config.cal_borrow_days + 1
    return observations_with_other_tables(
        session,
        borrow_days=config.cal_borrow_days,
        tolerance_deg=config.cal_declination_tolerance_deg,
        near=(middle - reach, middle + reach),
    )


def _subject(session: Session, kind: MarkKind, group_id: str) -> CaltableRow | None:
    """Check that there is something to mark; return the tables of a solution, with all tables locked."""
    if kind is MarkKind.TILE:
        if image_of(session, group_id) is None:
            raise NotFoundError(f"tile of {group_id}", "the observation has no image", f"look at it: `dsa110 ingest status {group_id}`")
        return None
    lock_caltables(session, exclusive=True)
    tables = session.scalars(select(CaltableRow).where(CaltableRow.group_id == group_id).limit(1)).one_or_none()
    if tables is None:
        raise NotFoundError(f"solution of {group_id}", "no tables were solved on it", "list solutions: /api/calibrations")
    return tables


def _release(session: Session, config: PipelineConfig, tables: CaltableRow) -> None:
    """Let observations go on that wait for tables."""
    ledger.release_awaiting(
        session,
        from_mjd=tables.valid_from_mjd,
        to_mjd=tables.valid_to_mjd,
        dec_deg=tables.pointing_dec_deg,
        tolerance_deg=config.cal_declination_tolerance_deg,
        now=now(),
    )


def _of_tile(session: Session, config: PipelineConfig, tile: ImageRow, changed_at: datetime) -> Consequences:
    """Mosaics that have the tile and should not, or the other way round; photometry and injections beside them."""
    is_good = bool(good_tiles(session, [tile.group_id]))
    found: list[tuple[str, str]] = []
    without: list[str] = []
    for product, key, name in _mosaics(session, config, tile, is_good=is_good):
        if not _made_before(session, product, key, changed_at):
            continue
        others = [one for one in mosaic_tiles(session, name) if one.group_id != tile.group_id]
        strip = [one for one in others if in_strip(one.pointing_dec_deg, tile.pointing_dec_deg, config.mosaic_declination_tolerance_deg)]
        has_it = tile.group_id in {one.group_id for one in mosaic_tiles(session, name)}
        if is_good and not has_it and strip:
            found.append((product, key))
        elif has_it and not is_good:
            own = [one.group_id for one in others if product != HOURLY_MOSAIC.name or one.group_id.startswith(key)]
            if good_tiles(session, own):
                found.append((product, key))
            else:
                without.append(name)
    if found or without:
        found += _beside(session, config, tile, changed_at, is_good=is_good)
    return Consequences(tuple(dict.fromkeys(found)), tuple(without))


def _mosaics(session: Session, config: PipelineConfig, tile: ImageRow, *, is_good: bool) -> Iterator[tuple[str, str, str]]:
    """Mosaics in whose time range a tile lies: product, key, name. Of those on demand only the ones that have it."""
    for key in hours_near(tile.mid_mjd, config.mosaic_overlap_minutes):
        yield HOURLY_MOSAIC.name, key, products.hourly_mosaic_name(key[:10], key[11:])
    night = mjd_to_datetime(tile.mid_mjd).date().isoformat()
    yield NIGHTLY_MOSAIC.name, night, products.nightly_mosaic_name(night)
    if not is_good:
        for name in mosaics_of(session, tile.group_id):
            row = session.get(MosaicRow, name)
            if row is not None and row.kind == MosaicKind.CUSTOM:
                yield CUSTOM_MOSAIC.name, name, name


def _beside(session: Session, config: PipelineConfig, tile: ImageRow, changed_at: datetime, *, is_good: bool) -> Iterator[tuple[str, str]]:
    """Photometry of hours whose positions a tile may take over or give up, and injections into the tile."""
    from dsa110_assets.photometry.positions import REACH_IN_OVERLAPS

    for key in hours_near(tile.mid_mjd, config.mosaic_overlap_minutes * REACH_IN_OVERLAPS):
        if _made_before(session, FORCED_PHOTOMETRY.name, key, changed_at):
            yield FORCED_PHOTOMETRY.name, key
    night = mjd_to_datetime(tile.mid_mjd).date().isoformat()
    injections, data = current_version(session, INJECTION_RECOVERY.name, night), current_version(session, CALIBRATED_MS.name, tile.group_id)
    if is_good or injections is None or data is None or injections.created_at >= changed_at:
        return
    if reference(CALIBRATED_MS.name, tile.group_id, data.path) in injections.inputs:
        yield INJECTION_RECOVERY.name, night


def _made_before(session: Session, product: str, key: str, when: datetime) -> bool:
    """Whether a product's stage began before a time; it chose its tiles then."""
    version = current_version(session, product, key)
    return version is not None and version.created_at - timedelta(seconds=version.duration_s or 0.0) < when
