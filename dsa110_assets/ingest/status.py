"""Read-only views of the ingest queue with a bounded number of rows, for `dsa110 ingest status` and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_assets.ingest import ledger
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage

LAST_DAY = timedelta(days=1)
"""Completed observations that are counted; all of them are as many as the archive has."""


@dataclass(frozen=True)
class Backlog:
    """State of the whole queue.

    ``counts``: observations in each state, of the completed ones those of `LAST_DAY`. ``n_live``, ``n_backfill``:
    pending observations by priority. ``oldest_pending_s``: longest wait of a pending live observation; None when none
    waits. ``newest_start_mjd``: start of the newest observation. ``last_file_at``: when the newest file was recorded.
    ``n_rejected``: rejected files. ``n_expired``: expired leases that were not taken back yet.
    """

    counts: dict[GroupState, int]
    n_live: int
    n_backfill: int
    oldest_pending_s: float | None
    newest_start_mjd: float | None
    last_file_at: datetime | None
    n_rejected: int
    n_expired: int


@dataclass(frozen=True)
class ObservationRow:
    """One observation. Fields as in `IngestGroup`."""

    group_id: str
    state: GroupState
    stage: TileStage
    n_subbands: int
    missing_subbands: tuple[int, ...]
    attempt: int
    failures: int
    priority: int
    dec_deg: float
    start_mjd: float
    calibrator: str | None
    lease_owner: str | None
    lease_expires_at: datetime | None
    run_id: str | None
    error: str | None
    error_type: str | None
    first_seen_at: datetime
    pending_at: datetime | None
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime

    @classmethod
    def of(cls, row: IngestGroup) -> ObservationRow:
        """Copy of a database row that outlives its session."""
        return cls(
            group_id=row.group_id,
            state=GroupState(row.state),
            stage=TileStage(row.stage),
            n_subbands=row.n_subbands,
            missing_subbands=tuple(row.missing_subbands),
            attempt=row.attempt,
            failures=row.failures,
            priority=row.priority,
            dec_deg=row.dec_deg,
            start_mjd=row.start_mjd,
            calibrator=row.calibrator,
            lease_owner=row.lease_owner,
            lease_expires_at=row.lease_expires_at,
            run_id=row.run_id,
            error=row.error,
            error_type=row.error_type,
            first_seen_at=row.first_seen_at,
            pending_at=row.pending_at,
            started_at=row.started_at,
            completed_at=row.completed_at,
            updated_at=row.updated_at,
        )


@dataclass(frozen=True)
class FileRow:
    """One raw file. Fields as in `SubbandFile`."""

    path: str
    group_id: str | None
    subband: int | None
    state: str
    reason: str | None
    size_bytes: int
    n_times: int | None
    first_seen_at: datetime
    judged_at: datetime

    @classmethod
    def of(cls, row: SubbandFile) -> FileRow:
        """Copy of a database row that outlives its session."""
        return cls(
            path=row.path,
            group_id=row.group_id,
            subband=row.subband,
            state=row.state,
            reason=row.reason,
            size_bytes=row.size_bytes,
            n_times=row.n_times,
            first_seen_at=row.first_seen_at,
            judged_at=row.judged_at,
        )


@dataclass(frozen=True)
class ObservationDetails:
    """An observation with all files ever assigned to it, by subband. ``missing``: subbands without an accepted file."""

    group: ObservationRow
    files: tuple[FileRow, ...]
    missing: tuple[int, ...]


def backlog(session: Session, now: datetime) -> Backlog:
    """State of the whole queue at the time ``now``."""
    pending = select(func.count()).select_from(IngestGroup).where(IngestGroup.state == GroupState.PENDING)
    live = IngestGroup.priority > 0
    oldest = session.scalar(select(func.min(IngestGroup.pending_at)).where(IngestGroup.state == GroupState.PENDING, live))
    return Backlog(
        counts=ledger.counts(session, completed_after=now - LAST_DAY),
        n_live=session.scalar(pending.where(live)) or 0,
        n_backfill=session.scalar(pending.where(~live)) or 0,
        oldest_pending_s=None if oldest is None else max((now - oldest) / timedelta(seconds=1), 0.0),
        newest_start_mjd=session.scalar(greatest(IngestGroup.start_mjd)),
        last_file_at=session.scalar(greatest(IngestGroup.last_file_at)),
        n_rejected=session.scalar(select(func.count()).select_from(SubbandFile).where(SubbandFile.state == FileState.REJECTED)) or 0,
        n_expired=session.scalar(
            select(func.count())
            .select_from(IngestGroup)
            .where(IngestGroup.state == GroupState.IN_PROGRESS, IngestGroup.lease_expires_at <= now)
        )
        or 0,
    )


def greatest(column: InstrumentedAttribute[Any]) -> Select[tuple[Any]]:
    """The last entry of the column's index. Two ``max`` in one statement may become a scan of the table."""
    return select(column).order_by(column.desc()).limit(1)


def observations(
    session: Session, *, state: GroupState | None = None, group_ids: Sequence[str] | None = None, limit: int = 100
) -> list[ObservationRow]:
    """Observations, newest first. Filters are combined."""
    query: Select[tuple[IngestGroup]] = select(IngestGroup).order_by(IngestGroup.start_mjd.desc()).limit(limit)
    if state is not None:
        query = query.where(IngestGroup.state == state)
    if group_ids is not None:
        query = query.where(IngestGroup.group_id.in_(group_ids))
    return [ObservationRow.of(row) for row in session.scalars(query.execution_options(populate_existing=True))]


def rejected_files(session: Session, *, limit: int = 100) -> list[FileRow]:
    """Rejected files with their reasons, newest decision first."""
    query = select(SubbandFile).where(SubbandFile.state == FileState.REJECTED).order_by(SubbandFile.judged_at.desc(), SubbandFile.path)
    return [FileRow.of(row) for row in session.scalars(query.limit(limit).execution_options(populate_existing=True))]


def rejected_by_kind(session: Session) -> dict[str, int]:
    """Number of rejected files of each kind (`grouping.Reason`)."""
    kind = func.split_part(SubbandFile.reason, ":", 1)
    found = session.execute(
        select(kind, func.count()).where(SubbandFile.state == FileState.REJECTED).group_by(kind).order_by(kind)
    ).tuples()
    return {str(name): number for name, number in found}


def observation_details(session: Session, group_id: str, *, expected_subbands: int = 16) -> ObservationDetails | None:
    """An observation and its files; None when it is not in the queue."""
    observation = session.get(IngestGroup, group_id, populate_existing=True)
    if observation is None:
        return None
    query = select(SubbandFile).where(SubbandFile.group_id == group_id).order_by(SubbandFile.subband, SubbandFile.state, SubbandFile.path)
    files = tuple(FileRow.of(row) for row in session.scalars(query.execution_options(populate_existing=True)))
    have = {file.subband for file in files if file.state == FileState.ACCEPTED}
    return ObservationDetails(ObservationRow.of(observation), files, tuple(sorted(set(range(expected_subbands)) - have)))
