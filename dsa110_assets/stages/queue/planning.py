"""What has become possible: calibrators to solve, hours to mosaic, nights to bring up to date.

Answers come from the registry's versions: something is due when a newer version of an input exists than the one that
made it. The version is part of the run key, so that a request is made once, and again when an input is re-made. What does
not belong here: making anything (the other stages), asking for runs (`orchestration.sensors`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.schema import (
    CaltableRow,
    GroupState,
    ImageRow,
    IngestGroup,
    MeasurementSetKind,
    MeasurementSetRow,
    ProductVersion,
    RefreshableCatalog,
)
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.products.gates import good_tiles
from dsa110_assets.stages.products.references import source_of
from dsa110_assets.stages.queue.work import FollowUp
from dsa110_assets.stages.table import ESE_CANDIDATES, FORCED_PHOTOMETRY, MEASUREMENT_SET, NIGHTLY_MOSAIC, TABLE, TILE_IMAGE
from dsa110_assets.times import datetime_to_mjd, group_time, hour_partition, hour_window

_UNFINISHED = (GroupState.COLLECTING.value, GroupState.PENDING.value, GroupState.IN_PROGRESS.value)
_LOOK_BACK = timedelta(days=7)
"""Products made longer ago have had their follow-ups; keeps the questions cheap with years of history."""


def follow_ups(platform: Platform, busy_nights: Collection[str] = ()) -> list[FollowUp]:
    """All that is due, in the order in which it should be asked for.

    Of ``busy_nights`` nothing: a backfill is still making what would be mosaicked.
    """
    with platform.database.session() as session:
        due = [
            *references_due(session, platform.config),
            *calibrations_due(session),
            *hours_due(session, platform.config, datetime.now(UTC)),
            *nights_due(session),
            *nightly_mosaics_due(session),
        ]
    return [one for one in due if one.night is None or one.night not in busy_nights]


def references_due(session: Session, config: PipelineConfig) -> list[FollowUp]:
    """Reference catalogues whose configured source is new or has changed."""
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


def references_missing(session: Session) -> list[str]:
    """Reference catalogues that must exist before observations are processed, and do not."""
    known = set(session.scalars(select(RefreshableCatalog.name)))
    needed = {one for product in TABLE if product.level is Level.TILE for one in product.inputs if one.level is Level.WHOLE}
    return [product.name for product in TABLE if product in needed and product.name not in known]


def calibrations_due(session: Session) -> list[FollowUp]:
    """Nights with a calibrator transit whose Measurement Set is newer than its solutions."""
    query = (
        select(IngestGroup.group_id, IngestGroup.calibrator, func.max(ProductVersion.version_id))
        .join(MeasurementSetRow, (MeasurementSetRow.group_id == IngestGroup.group_id) & (MeasurementSetRow.kind == MeasurementSetKind.RAW))
        .join(ProductVersion, (ProductVersion.product == MEASUREMENT_SET.name) & (ProductVersion.key == IngestGroup.group_id))
        .outerjoin(CaltableRow, (CaltableRow.group_id == IngestGroup.group_id) & (CaltableRow.created_at > MeasurementSetRow.created_at))
        .where(
            IngestGroup.calibrator.is_not(None),
            CaltableRow.directory.is_(None),
            MeasurementSetRow.created_at > datetime.now(UTC) - _LOOK_BACK,
        )
        .group_by(IngestGroup.group_id, IngestGroup.calibrator)
        .order_by(IngestGroup.group_id)
    )
    return [
        FollowUp("calibration", f"calibration/{group_id}/{version}", f"{calibrator} transits in {group_id}", night=group_id[:10])
        for group_id, calibrator, version in session.execute(query)
    ]


def hours_due(session: Session, config: PipelineConfig, now: datetime) -> list[FollowUp]:
    """Hours whose tiles have all ended, with a good image newer than the hour's photometry.

    An hour is complete when no observation in it, or within the mosaics' overlap of it, is unfinished, and either a later
    observation exists or nothing has arrived for ``hour_settle_s``.
    """
    overlap = timedelta(minutes=config.mosaic_overlap_minutes)
    images = _recent_versions(session, TILE_IMAGE.name, now)
    if not images:
        return []
    measured = _latest_versions(session, FORCED_PHOTOMETRY.name)
    last_start, last_arrival = session.execute(select(func.max(IngestGroup.start_mjd), func.max(IngestGroup.last_file_at))).one()
    quiet = last_arrival is None or (now - last_arrival).total_seconds() > config.hour_settle_s
    due: list[FollowUp] = []
    for night, hour in sorted({hour_partition(group_id) for group_id in images}):
        start, end = hour_window(night, hour)
        taking_part = {g: v for g, v in images.items() if start - overlap <= group_time(g) < end + overlap}
        done = measured.get(f"{night}T{hour}", 0)
        if done > max(taking_part.values()):
            continue
        good = good_tiles(session, taking_part)  # bad ones take no part, and an hour of bad ones is not asked for
        newest = max((taking_part[g] for g in good), default=0)
        if done > newest or not any(hour_partition(g) == (night, hour) for g in good):
            continue
        low, high = datetime_to_mjd(start - overlap), datetime_to_mjd(end + overlap)
        waiting = session.scalar(
            select(func.count()).where(IngestGroup.state.in_(_UNFINISHED), IngestGroup.start_mjd >= low, IngestGroup.start_mjd < high)
        )
        if not waiting and (quiet or last_start >= high):
            due.append(
                FollowUp("hour", f"hour/{night}T{hour}/{newest}", f"the tiles of {night} {hour}h have ended", night=night, hour=hour)
            )
    return due


def nights_due(session: Session) -> list[FollowUp]:
    """Nights with photometry newer than their candidates; a re-made older night also brings the newest one up to date."""
    measured: dict[str, int] = {}
    for key, version in _recent_versions(session, FORCED_PHOTOMETRY.name, datetime.now(UTC)).items():
        measured[key[:10]] = max(version, measured.get(key[:10], 0))
    if not measured:
        return []
    ranked = _latest_versions(session, ESE_CANDIDATES.name)
    newest = max([*measured, *ranked])
    wanted = {**measured, newest: max(measured.values())}
    return [
        FollowUp("night", f"night/{night}/{version}", f"new photometry of {night}", night=night)
        for night, version in sorted(wanted.items())
        if ranked.get(night, 0) < version
    ]


def nightly_mosaics_due(session: Session) -> list[FollowUp]:
    """Nights whose mosaic is older than one of their images, which was made again or came late; first mosaics are the schedule's."""
    made = _latest_versions(session, NIGHTLY_MOSAIC.name)
    newest: dict[str, int] = {}
    for group_id, version in _recent_versions(session, TILE_IMAGE.name, datetime.now(UTC)).items():
        newest[group_id[:10]] = max(version, newest.get(group_id[:10], 0))
    unfinished = {
        night.isoformat() for night in session.scalars(select(IngestGroup.night).where(IngestGroup.state.in_(_UNFINISHED)).distinct())
    }
    return [
        FollowUp("mosaic_of_the_night", f"mosaic_of_the_night/{night}/{version}", f"images of {night} were made again", night=night)
        for night, version in sorted(newest.items())
        if 0 < made.get(night, 0) < version and night not in unfinished
    ]


def has_images(platform: Platform, night: str) -> bool:
    """Whether a night has a tile image."""
    with platform.database.session() as session:
        query = select(ImageRow.group_id).join(IngestGroup, IngestGroup.group_id == ImageRow.group_id)
        return session.scalar(query.where(IngestGroup.night == date.fromisoformat(night)).limit(1)) is not None


def _recent_versions(session: Session, product: str, now: datetime) -> dict[str, int]:
    query = (
        select(ProductVersion.key, func.max(ProductVersion.version_id))
        .where(ProductVersion.product == product, ProductVersion.created_at > now - _LOOK_BACK)
        .group_by(ProductVersion.key)
    )
    return dict(session.execute(query).tuples().all())


def _latest_versions(session: Session, product: str) -> dict[str, int]:
    query = (
        select(ProductVersion.key, func.max(ProductVersion.version_id))
        .where(ProductVersion.product == product)
        .group_by(ProductVersion.key)
    )
    return dict(session.execute(query).tuples().all())
