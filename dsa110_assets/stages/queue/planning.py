"""Work that is due: calibrators to solve, hours to mosaic, nights to update.

A product is due if an input in the registry is newer than the product. The version of the input is part of the run key,
so that a run is requested once, and again when an input is made again.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Collection, Mapping
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import func, literal_column, select, text
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.status import greatest
from dsa110_assets.registry.queries.sources import open_addition
from dsa110_assets.registry.schema import (
    CaltableRow,
    GroupState,
    ImageRow,
    IngestGroup,
    MeasurementSetKind,
    MeasurementSetRow,
    ProductVersion,
    RefreshableCatalog,
    TileStage,
)
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.products.gates import good_tiles
from dsa110_assets.stages.products.references import source_of
from dsa110_assets.stages.queue.work import LONGEST_WAIT, FollowUp
from dsa110_assets.stages.table import ESE_CANDIDATES, FORCED_PHOTOMETRY, MEASUREMENT_SET, NIGHTLY_MOSAIC, TABLE, TILE_IMAGE
from dsa110_assets.times import datetime_to_mjd, hour_window

_UNFINISHED = (GroupState.COLLECTING.value, GroupState.PENDING.value, GroupState.IN_PROGRESS.value)
_LOOK_BACK = timedelta(days=7)
"""Follow-ups of older products were made long ago; this keeps the queries cheap after years."""

_HOURS_AT_ONCE = 24
"""Hours whose verdicts are read together. If so many are due, older hours wait for a later tick."""

_LATEST = text(
    "SELECT asked.key, newest.version_id FROM unnest(CAST(:keys AS text[])) AS asked(key) CROSS JOIN LATERAL ("
    "SELECT version_id FROM product_versions WHERE product = :product AND key = asked.key ORDER BY version_id DESC LIMIT 1) AS newest"
)
"""One look into the index for each key. For a list of keys the planner may read all keys of the product instead."""


def follow_ups(platform: Platform, busy_nights: Collection[str] = (), settled: Collection[str] = ()) -> list[FollowUp]:
    """Return the work that is due, in the order of the requests; of many hours the newest.

    Work of ``busy_nights``, where a backfill is running, of ``settled`` run keys, and of dates without a partition is
    left out.
    """
    now = datetime.now(UTC)
    with platform.database.session() as session:
        hours = hours_due(session, platform.config, now, busy_nights, settled)
        due = [
            *references_due(session, platform.config),
            *additions_due(session),
            *calibrations_due(session),
            *hours,
            *nights_due(session, now, {work.night for work in hours}),
            *nightly_mosaics_due(session),
        ]
    today = now.date()
    return [
        one
        for one in due
        if one.run_key not in settled
        and (one.night is None or (one.night not in busy_nights and has_partition(one, platform.config, today)))
    ]


def has_partition(work: FollowUp, config: PipelineConfig, today: date) -> bool:
    """Whether the partition exists on a UTC date; a request for a missing one fails all requests of its tick."""
    if work.night is None:
        return True
    last = today - timedelta(days=1) if work.job == NIGHTLY_MOSAIC.job else today
    return config.partition_start <= date.fromisoformat(work.night) <= last


def references_due(session: Session, config: PipelineConfig) -> list[FollowUp]:
    """Reference catalogs whose configured source is new or has changed."""
    stamps: list[str] = []
    due: list[str] = []
    known = {row.name: row for row in session.scalars(select(RefreshableCatalog))}
    for product in TABLE:
        name, source = product.name, source_of(product, config)
        if source is None or not source.is_file():
            continue
        modified = datetime.fromtimestamp(source.stat().st_mtime, UTC)
        stamps.append(f"{name}:{source}:{modified.isoformat()}")
        row = known.get(name)
        if row is None or row.origin != str(source) or row.refreshed_at < modified:
            due.append(name)
    if not due:
        return []
    digest = hashlib.sha256("|".join(stamps).encode()).hexdigest()[:12]
    return [FollowUp("references", f"references/{digest}", f"new sources of {', '.join(due)}")]


def additions_due(session: Session) -> list[FollowUp]:
    """The next past mosaics in which new positions are to be measured."""
    addition = open_addition(session)
    if addition is None:
        return []
    because = f"{addition.positions} new positions, {addition.mosaics} past mosaics measured"
    return [FollowUp("new_positions", f"new_positions/{addition.listed_at:%FT%T.%f}/{addition.before_mjd}", because)]


def references_missing(session: Session) -> list[str]:
    """Reference catalogs that are missing and that the processing of observations needs."""
    known = set(session.scalars(select(RefreshableCatalog.name)))
    needed = {one for product in TABLE if product.level is Level.TILE for one in product.inputs if one.level is Level.WHOLE}
    return [product.name for product in TABLE if product in needed and product.name not in known]


def calibrations_due(session: Session) -> list[FollowUp]:
    """Nights with a calibrator transit whose Measurement Set is newer than its tables."""
    solved_at = select(func.max(CaltableRow.created_at)).where(CaltableRow.group_id == MeasurementSetRow.group_id).scalar_subquery()
    query = (
        select(MeasurementSetRow.group_id, MeasurementSetRow.calibrator, func.max(ProductVersion.version_id))
        .join(ProductVersion, (ProductVersion.product == MEASUREMENT_SET.name) & (ProductVersion.key == MeasurementSetRow.group_id))
        .where(
            MeasurementSetRow.kind == literal_column(f"'{MeasurementSetKind.RAW}'"),  # with a parameter, the partial index is not used
            MeasurementSetRow.calibrator.is_not(None),
            MeasurementSetRow.created_at > datetime.now(UTC) - _LOOK_BACK,
            func.coalesce(solved_at, literal_column("'-infinity'::timestamptz")) <= MeasurementSetRow.created_at,
        )
        .group_by(MeasurementSetRow.group_id, MeasurementSetRow.calibrator)
        .order_by(MeasurementSetRow.group_id)
    )
    return [
        FollowUp("calibration", f"calibration/{group_id}/{version}", f"{calibrator} transits in {group_id}", night=group_id[:10])
        for group_id, calibrator, version in session.execute(query)
    ]


def hours_due(
    session: Session, config: PipelineConfig, now: datetime, busy_nights: Collection[str] = (), settled: Collection[str] = ()
) -> list[FollowUp]:
    """Complete hours with a good tile newer than their photometry, newest first, about a day of them.

    An hour is complete if no observation in it, or within the mosaics' overlap of it, is unfinished, and a later
    observation exists or no file has arrived for ``hour_settle_s``. Unfinished ones count no more when one of its tiles
    has waited for `LONGEST_WAIT`. Hours of ``busy_nights`` and ``settled`` run keys are left out.
    """
    overlap = timedelta(minutes=config.mosaic_overlap_minutes)
    images = _recent_versions(session, TILE_IMAGE.name, now)
    tiles = sorted(images)
    measured = _latest_versions(session, FORCED_PHOTOMETRY.name, sorted({group_id[:13] for group_id in tiles}))
    open_hours: dict[str, tuple[float, float, list[str]]] = {}
    for key in sorted({group_id[:13] for group_id in tiles}):
        start, end = hour_window(key[:10], key[11:])
        start, end = start - overlap, end + overlap
        taking_part = tiles[bisect_left(tiles, _identifier(start)) : bisect_left(tiles, _identifier(end))]
        if measured.get(key, 0) <= max(images[group_id] for group_id in taking_part):
            open_hours[key] = datetime_to_mjd(start), datetime_to_mjd(end), taking_part
    if not open_hours:
        return []
    unfinished = sorted(session.scalars(select(IngestGroup.start_mjd).where(IngestGroup.state.in_(_UNFINISHED))))
    last_start, last_arrival = (session.scalar(greatest(one)) for one in (IngestGroup.start_mjd, IngestGroup.last_file_at))
    quiet = last_arrival is None or (now - last_arrival).total_seconds() > config.hour_settle_s
    held = {key for key, (low, high, _) in open_hours.items() if bisect_left(unfinished, low) != bisect_left(unfinished, high)}
    new = {images[tile]: key for key in held for tile in open_hours[key][2] if tile.startswith(key) and images[tile] > measured.get(key, 0)}
    held -= {new[version] for version in _made_before(session, new, now - LONGEST_WAIT)}
    ended = {
        key: taking_part
        for key, (_, high, taking_part) in open_hours.items()
        if key[:10] not in busy_nights and key not in held and (quiet or (last_start or 0.0) >= high)
    }
    due: list[FollowUp] = []
    newest_first = sorted(ended, reverse=True)
    for first in range(0, len(newest_first), _HOURS_AT_ONCE):
        keys = newest_first[first : first + _HOURS_AT_ONCE]
        good = set(good_tiles(session, {group_id for key in keys for group_id in ended[key]}))
        for key in keys:
            usable = good.intersection(ended[key])  # an hour without a good tile is not due
            newest = max((images[group_id] for group_id in usable), default=0)
            if measured.get(key, 0) <= newest and any(group_id.startswith(key) for group_id in usable):
                night, hour = key[:10], key[11:]
                work = FollowUp("hour", f"hour/{key}/{newest}", f"the tiles of {night} {hour}h have ended", night=night, hour=hour)
                due += [] if work.run_key in settled else [work]
        if len(due) >= _HOURS_AT_ONCE:
            break
    return due


def nights_due(session: Session, now: datetime, nights_of_hours: Collection[str | None] = ()) -> list[FollowUp]:
    """Nights that have ended, with photometry newer than their candidates.

    A night ends at 24 h UTC, when none of its observations is unfinished (those that wait for calibration do not count)
    and none of its hours is due (``nights_of_hours``). These hold it until `LONGEST_WAIT` after that, or after the
    first photometry that waits for it. If an older night was made again, the newest is due too.
    """
    photometry = _recent_versions(session, FORCED_PHOTOMETRY.name, now)
    measured = _newest_of_nights(photometry)
    if not measured:
        return []
    last_ranked = session.scalar(select(func.max(ProductVersion.key)).where(ProductVersion.product == ESE_CANDIDATES.name))
    newest = max(*measured, last_ranked or "")
    wanted = {**measured, newest: max(measured.values())}
    ranked = _latest_versions(session, ESE_CANDIDATES.name, list(wanted))
    due = {night: version for night, version in sorted(wanted.items()) if ranked.get(night, 0) < version and night < now.date().isoformat()}
    if not due:
        return []
    unfinished = select(IngestGroup.night).where(IngestGroup.state.in_(_UNFINISHED), IngestGroup.stage != TileStage.AWAITING_CALIBRATION)
    going_on = {night.isoformat() for night in session.scalars(unfinished.distinct())} | {*nights_of_hours}
    ended_long_ago = (now - LONGEST_WAIT).date().isoformat()
    held = {night for night in due if night in going_on and night < ended_long_ago}
    new = {version: key[:10] for key, version in photometry.items() if key[:10] in held and version > ranked.get(key[:10], 0)}
    going_on -= {new[version] for version in _made_before(session, new, now - LONGEST_WAIT)}
    return [
        FollowUp("night", f"night/{night}/{version}", f"{night} has ended", night=night)
        for night, version in due.items()
        if night not in going_on
    ]


def nightly_mosaics_due(session: Session) -> list[FollowUp]:
    """Nights whose mosaic is older than one of their images; the schedule requests the first mosaic of a night."""
    newest = _newest_of_nights(_recent_versions(session, TILE_IMAGE.name, datetime.now(UTC)))
    made = _latest_versions(session, NIGHTLY_MOSAIC.name, list(newest))
    outdated = {night: version for night, version in sorted(newest.items()) if 0 < made.get(night, 0) < version}
    if not outdated:
        return []
    unfinished = {
        night.isoformat() for night in session.scalars(select(IngestGroup.night).where(IngestGroup.state.in_(_UNFINISHED)).distinct())
    }
    return [
        FollowUp("mosaic_of_the_night", f"mosaic_of_the_night/{night}/{version}", f"images of {night} were made again", night=night)
        for night, version in outdated.items()
        if night not in unfinished
    ]


def has_images(platform: Platform, night: str) -> bool:
    """Whether a night has a tile image."""
    with platform.database.session() as session:
        query = select(ImageRow.group_id).join(IngestGroup, IngestGroup.group_id == ImageRow.group_id)
        return session.scalar(query.where(IngestGroup.night == date.fromisoformat(night)).limit(1)) is not None


def _recent_versions(session: Session, product: str, now: datetime) -> dict[str, int]:
    """Newest version of each key that was made within `_LOOK_BACK`."""
    query = (
        select(ProductVersion.key, func.max(ProductVersion.version_id))
        .where(ProductVersion.product == product, ProductVersion.created_at > now - _LOOK_BACK)
        .group_by(ProductVersion.key)
    )
    return dict(session.execute(query).tuples().all())


def _made_before(session: Session, versions: Collection[int], before: datetime) -> list[int]:
    """Those of these versions that were made before a time."""
    if not versions:
        return []
    query = select(ProductVersion.version_id).where(ProductVersion.version_id.in_(list(versions)), ProductVersion.created_at < before)
    return list(session.scalars(query))


def _latest_versions(session: Session, product: str, keys: Collection[str]) -> dict[str, int]:
    """Newest version of each of these keys; keys without a version are left out."""
    return dict(session.execute(_LATEST, {"product": product, "keys": list(keys)}).tuples().all())


def _newest_of_nights(versions: Mapping[str, int]) -> dict[str, int]:
    """Newest version among each night's keys (observations or hours)."""
    newest: dict[str, int] = {}
    for key, version in versions.items():
        newest[key[:10]] = max(version, newest.get(key[:10], 0))
    return newest


def _identifier(when: datetime) -> str:
    """A time as text that sorts among the names of observations."""
    return when.replace(tzinfo=None).isoformat()
