"""Figures and tables about the ingest queue for people: `dsa110 ingest status`, the API, the pages.

Read-only queries with a bounded number of rows. What does not belong here: changing anything (`ledger`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from dsa110_assets.ingest import ledger
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage


@dataclass(frozen=True)
class Backlog:
    """How far behind the pipeline is.

    ``counts``: groups in each state. ``n_live``, ``n_backfill``: pending groups by priority. ``oldest_pending_s``: the longest that
    a pending live group has waited; None when none waits. ``newest_start_mjd``: start of the newest observation that was seen.
    ``last_file_at``: when the newest file was recorded. ``n_rejected``: files that are listed as rejected. ``n_expired``: leases that
    have run out and were not taken back yet.
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
class GroupRow:
    """One observation in a table; fields as in `IngestGroup`."""

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
    def of(cls, group: IngestGroup) -> GroupRow:
        """Copy of a database row that outlives its session."""
        return cls(
            group_id=group.group_id,
            state=GroupState(group.state),
            stage=TileStage(group.stage),
            n_subbands=group.n_subbands,
            missing_subbands=tuple(group.missing_subbands),
            attempt=group.attempt,
            failures=group.failures,
            priority=group.priority,
            dec_deg=group.dec_deg,
            start_mjd=group.start_mjd,
            calibrator=group.calibrator,
            lease_owner=group.lease_owner,
            lease_expires_at=group.lease_expires_at,
            run_id=group.run_id,
            error=group.error,
            error_type=group.error_type,
            first_seen_at=group.first_seen_at,
            pending_at=group.pending_at,
            started_at=group.started_at,
            completed_at=group.completed_at,
            updated_at=group.updated_at,
        )


@dataclass(frozen=True)
class FileRow:
    """One raw file in a table; fields as in `SubbandFile`. ``kind``: first word of a rejection's reason (`grouping.Reason`)."""

    path: str
    group_id: str | None
    subband: int | None
    state: str
    reason: str | None
    size_bytes: int
    n_times: int | None
    first_seen_at: datetime
    judged_at: datetime

    @property
    def kind(self) -> str | None:
        """Kind of a rejection, None for other files."""
        return self.reason.partition(":")[0] if self.state == FileState.REJECTED and self.reason else None

    @classmethod
    def of(cls, row: SubbandFile) -> FileRow:
        """Copy of a database row that outlives its session."""
        return cls(
            row.path, row.group_id, row.subband, row.state, row.reason, row.size_bytes, row.n_times, row.first_seen_at, row.judged_at
        )


@dataclass(frozen=True)
class GroupDetails:
    """An observation with all files that were ever assigned to it, in the order of subbands; ``missing``: subbands without an accepted file."""

    group: GroupRow
    files: tuple[FileRow, ...]
    missing: tuple[int, ...]


def backlog(session: Session, now: datetime) -> Backlog:
    """State of the whole queue at a time."""
    pending = select(func.count()).select_from(IngestGroup).where(IngestGroup.state == GroupState.PENDING)
    live = IngestGroup.priority > 0
    oldest = session.scalar(select(func.min(IngestGroup.pending_at)).where(IngestGroup.state == GroupState.PENDING, live))
    newest, last_file_at = session.execute(select(func.max(IngestGroup.start_mjd), func.max(IngestGroup.last_file_at))).tuples().one()
    return Backlog(
        counts=ledger.counts(session),
        n_live=session.scalar(pending.where(live)) or 0,
        n_backfill=session.scalar(pending.where(~live)) or 0,
        oldest_pending_s=None if oldest is None else max((now - oldest) / timedelta(seconds=1), 0.0),
        newest_start_mjd=newest,
        last_file_at=last_file_at,
        n_rejected=session.scalar(select(func.count()).select_from(SubbandFile).where(SubbandFile.state == FileState.REJECTED)) or 0,
        n_expired=session.scalar(
            select(func.count())
            .select_from(IngestGroup)
            .where(IngestGroup.state == GroupState.IN_PROGRESS, IngestGroup.lease_expires_at <= now)
        )
        or 0,
    )


def groups(
    session: Session,
    *,
    state: GroupState | None = None,
    group_ids: Sequence[str] | None = None,
    night: date | None = None,
    from_mjd: float | None = None,
    to_mjd: float | None = None,
    limit: int = 100,
    offset: int = 0,
) -> list[GroupRow]:
    """Observations, newest first; filters are combined. ``from_mjd <= start_mjd < to_mjd``."""
    query: Select[tuple[IngestGroup]] = select(IngestGroup).order_by(IngestGroup.start_mjd.desc()).limit(limit).offset(offset)
    if state is not None:
        query = query.where(IngestGroup.state == state)
    if group_ids is not None:
        query = query.where(IngestGroup.group_id.in_(group_ids))
    if night is not None:
        query = query.where(IngestGroup.night == night)
    if from_mjd is not None:
        query = query.where(IngestGroup.start_mjd >= from_mjd)
    if to_mjd is not None:
        query = query.where(IngestGroup.start_mjd < to_mjd)
    return [GroupRow.of(group) for group in session.scalars(query.execution_options(populate_existing=True))]


def rejected_files(session: Session, *, limit: int = 100, offset: int = 0) -> list[FileRow]:
    """Rejected files with their reasons, last judged first."""
    query = select(SubbandFile).where(SubbandFile.state == FileState.REJECTED).order_by(SubbandFile.judged_at.desc(), SubbandFile.path)
    return [FileRow.of(row) for row in session.scalars(query.limit(limit).offset(offset).execution_options(populate_existing=True))]


def rejected_by_kind(session: Session) -> dict[str, int]:
    """Number of rejected files of each kind (`grouping.Reason`)."""
    kind = func.split_part(SubbandFile.reason, ":", 1)
    found = session.execute(
        select(kind, func.count()).where(SubbandFile.state == FileState.REJECTED).group_by(kind).order_by(kind)
    ).tuples()
    return {str(name): number for name, number in found}


def group_details(session: Session, group_id: str, *, expected_subbands: int = 16) -> GroupDetails | None:
    """An observation and its files; None when the queue does not have it."""
    group = session.get(IngestGroup, group_id, populate_existing=True)
    if group is None:
        return None
    query = select(SubbandFile).where(SubbandFile.group_id == group_id).order_by(SubbandFile.subband, SubbandFile.state, SubbandFile.path)
    files = tuple(FileRow.of(row) for row in session.scalars(query.execution_options(populate_existing=True)))
    have = {file.subband for file in files if file.state == FileState.ACCEPTED}
    return GroupDetails(GroupRow.of(group), files, tuple(sorted(set(range(expected_subbands)) - have)))
