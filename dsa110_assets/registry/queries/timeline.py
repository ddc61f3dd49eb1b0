"""Observations along time, for the timeline: counts of nights, observations of a day, neighbors, mosaics of a tile.

Every query reads a range of an index whose length the caller bounds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from sqlalchemy import Float, Integer, Row, cast, func, select
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import CalibrationApplied, GroupState, ImageRow, IngestGroup, MosaicRow, MosaicTile
from dsa110_assets.times import datetime_to_mjd

Observed = Row[tuple[str, str, str, float, float, str | None]]
_OBSERVED = (
    IngestGroup.group_id, IngestGroup.state, IngestGroup.stage, IngestGroup.start_mjd, IngestGroup.end_mjd, IngestGroup.calibrator,
)  # fmt: skip


@dataclass(frozen=True)
class NightCounts:
    """Observations of one UTC day. ``observed_s``: sum of their lengths. ``first_mjd``: start of the first.

    ``calibrators``: that transited.
    """

    night: date
    observations: int
    completed: int
    failed: int
    observed_s: float
    first_mjd: float
    calibrators: tuple[str, ...]


def counts_of_nights(session: Session, first: date, last: date) -> list[NightCounts]:
    """Counts of the days with observations between two UTC dates, both included."""
    length = func.sum(IngestGroup.end_mjd - IngestGroup.start_mjd) * 86400.0
    statement = (
        select(
            IngestGroup.night,
            func.count(),
            func.count().filter(IngestGroup.state == GroupState.COMPLETED),
            func.count().filter(IngestGroup.state == GroupState.FAILED),
            length,
            func.min(IngestGroup.start_mjd),
            func.array_agg(IngestGroup.calibrator.distinct()).filter(IngestGroup.calibrator.is_not(None)),
        )
        .where(IngestGroup.night.between(first, last))
        .group_by(IngestGroup.night)
        .order_by(IngestGroup.night)
    )
    return [
        NightCounts(night, number, completed, failed, float(seconds), first_mjd, tuple(names or ()))
        for night, number, completed, failed, seconds, first_mjd, names in session.execute(statement)
    ]


def noise_of_nights(session: Session, first: date, last: date) -> dict[date, float]:
    """Median of noise over thermal noise of the images of each UTC day between two dates, both included."""
    day = cast(func.floor(ImageRow.mid_mjd), Integer)
    ratio = ImageRow.noise_jy_per_beam / func.nullif(ImageRow.thermal_jy_per_beam, 0.0)
    statement = (
        select(day, cast(func.percentile_cont(0.5).within_group(ratio), Float))
        .where(ImageRow.mid_mjd >= _mjd(first), ImageRow.mid_mjd < _mjd(last) + 1)
        .group_by(day)
    )
    begin = _mjd(first)
    return {date.fromordinal(first.toordinal() + number - int(begin)): value for number, value in session.execute(statement) if value}


def first_and_last_night(session: Session) -> tuple[date, date] | None:
    """First and last UTC day with an observation; None without any."""
    first = session.scalar(select(IngestGroup.night).order_by(IngestGroup.night).limit(1))
    last = session.scalar(select(IngestGroup.night).order_by(IngestGroup.night.desc()).limit(1))
    return None if first is None or last is None else (first, last)


def around_day(session: Session, night: date) -> list[Observed]:
    """Observations of a UTC day in order of time, with the one before and the one after it, if there are any."""
    begin, end = _identifier(night), _identifier(date.fromordinal(night.toordinal() + 1))
    key = IngestGroup.group_id
    before = session.execute(select(*_OBSERVED).where(key < begin).order_by(key.desc()).limit(1)).all()
    of_day = session.execute(select(*_OBSERVED).where(key >= begin, key < end).order_by(key)).all()
    after = session.execute(select(*_OBSERVED).where(key >= end).order_by(key).limit(1)).all()
    return [*before, *of_day, *after]


def rungs_of(session: Session, group_ids: Iterable[str]) -> dict[str, str]:
    """How far away the tables were that observations were calibrated with; uncalibrated ones are left out."""
    applied = CalibrationApplied
    statement = select(applied.group_id, applied.rung).where(applied.group_id.in_(list(group_ids)))
    return dict(session.execute(statement).tuples().all())


def neighbors(session: Session, group_id: str) -> tuple[str | None, str | None]:
    """The observations before and after one."""
    key = IngestGroup.group_id
    before = session.scalar(select(key).where(key < group_id).order_by(key.desc()).limit(1))
    after = session.scalar(select(key).where(key > group_id).order_by(key).limit(1))
    return before, after


def with_the_one_before(session: Session, group_id: str) -> list[tuple[str, float, float]]:
    """Identifier, start and end (MJD) of the observation before one, if there is one, and of itself."""
    key = IngestGroup.group_id
    query = select(key, IngestGroup.start_mjd, IngestGroup.end_mjd).where(key <= group_id).order_by(key.desc()).limit(2)
    return list(reversed(session.execute(query).tuples().all()))


def mosaics_of(session: Session, group_id: str, *, limit: int = 50) -> list[str]:
    """Mosaics that contain the tile of an observation, the newest first."""
    statement = (
        select(MosaicRow.name)
        .join(MosaicTile, MosaicTile.mosaic_name == MosaicRow.name)
        .where(MosaicTile.group_id == group_id)
        .order_by(MosaicRow.created_at.desc())
        .limit(limit)
    )
    return list(session.scalars(statement))


def _identifier(night: date) -> str:
    return f"{night.isoformat()}T00:00:00"


def _mjd(night: date) -> float:
    return datetime_to_mjd(datetime.combine(night, time(), UTC))
