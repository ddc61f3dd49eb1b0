"""The ingest queue: which observation waits, who works on it, how it ended.

    collecting -> pending -> in_progress -> completed
                     ^            |-------> failed          (a late subband reopens both: `arrivals`)
                     '------------'  lease expired, retriable error

`in_progress` is a lease with an owner and an expiry (pitfall 27). Every lease is a new attempt with its own run key, so that
nobody's memory of old keys can swallow a legitimate run, and every report of an attempt names its number: one that has
lost its lease gets `LeaseLostError` and changes nothing. Each function is one transaction, which the caller's session
commits; rows are locked, and `SKIP LOCKED` lets workers pass one another. Times are passed in, aware, UTC.
What does not belong here: files (`arrivals`), runs (`orchestration`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import (
    ConfigurationError,
    GroupBusyError,
    IncompleteGroupError,
    LeaseLostError,
    RetriableError,
    UnknownGroupError,
)
from dsa110_assets.ingest.transitions import accepted_subbands, release, reopen, set_failed, set_pending
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets.strips import in_strip

FIRST_RETRY_DELAY_S = 30.0
"""A retriable error keeps its group back for this long, twice as long after each further one."""

MOST_RETRY_DELAY_S = 120.0
"""No group is kept back for longer: what lasts longer than some minutes is a matter for a person, who should see it soon."""


@dataclass(frozen=True)
class Lease:
    """One attempt at one observation. ``run_key`` is unique for ever; ``priority``: live 10, backfill 0."""

    group_id: str
    attempt: int
    owner: str
    expires_at: datetime
    night: date
    slot: str
    n_subbands: int
    missing_subbands: tuple[int, ...]
    priority: int
    start_mjd: float
    dec_deg: float
    has_measurement_set: bool

    @property
    def run_key(self) -> str:
        """``<group>/<attempt>``; a legitimate second run has another one."""
        return f"{self.group_id}/{self.attempt}"

    @property
    def partition(self) -> str:
        """Key of the tile partition, ``<date>|<slot>``."""
        return f"{self.night.isoformat()}|{self.slot}"


@dataclass(frozen=True)
class Released:
    """Groups whose lease was taken back: ``pending`` will be tried again, ``failed`` not by itself."""

    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


# --- leases ---------------------------------------------------------------------------------------------------------
def lease_pending(
    session: Session, owner: str, limit: int, now: datetime, *, lease_s: float, nights: tuple[date, date] | None = None
) -> list[Lease]:
    """Take at most ``limit`` pending groups: live before backfill, newest observation first. No two callers share one.

    Only those of ``nights`` (first and last UTC date) where given: a run cannot be requested for a date that has no partition.
    """
    query = (
        select(IngestGroup)
        .where(
            IngestGroup.state == GroupState.PENDING,
            IngestGroup.stage != TileStage.AWAITING_CALIBRATION,
            func.coalesce(IngestGroup.pending_at, now) <= now,
        )
        .order_by(IngestGroup.priority.desc(), IngestGroup.start_mjd.desc())
        .limit(limit)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if nights is not None:
        query = query.where(IngestGroup.night.between(*nights))
    leases = [_lease(group, owner, now, lease_s) for group in session.scalars(query).all()]
    session.flush()
    return leases


def refuse_before(session: Session, first_night: date, now: datetime) -> list[str]:
    """Fail pending groups of nights before the first one that has partitions; returns them."""
    query = (
        select(IngestGroup)
        .where(
            IngestGroup.state == GroupState.PENDING, IngestGroup.stage != TileStage.AWAITING_CALIBRATION, IngestGroup.night < first_night
        )
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    groups = session.scalars(query).all()
    for group in groups:
        error = ConfigurationError(
            group.group_id,
            f"lies before PIPELINE_PARTITION_START ({first_night})",
            f"set PIPELINE_PARTITION_START to {group.night} or earlier, restart, then `dsa110 ingest retry {group.group_id}`",
        )
        set_failed(group, now, error)
    session.flush()
    return [group.group_id for group in groups]


def give_back(session: Session, group_id: str, attempt: int, error: BaseException, now: datetime, *, delay_s: float) -> GroupState:
    """End an attempt that never began, because no run was launched for it: no failure is counted.

    Args:
        session: database session; the caller commits.
        group_id, attempt: what was leased.
        error: shown to people until the group is done.
        now: time of the decision.
        delay_s: how long the group is kept back.

    Returns:
        The state after it: ``pending``, or ``collecting`` if its raw files have changed meanwhile.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: it is another attempt's by now.
    """
    group = _held(session, group_id, attempt)
    _give_back(session, group, error, now, delay_s=delay_s)
    session.flush()
    return GroupState(group.state)


def lease_group(session: Session, group_id: str, owner: str, now: datetime, *, lease_s: float) -> Lease:
    """Take one group by name, whatever its state, as a person or a backfill does; its products will be made again.

    Raises:
        UnknownGroupError: no such group.
        GroupBusyError: it is in progress and its lease has not expired.
    """
    group = _locked(session, group_id)
    if group.state == GroupState.IN_PROGRESS and group.lease_expires_at is not None and group.lease_expires_at > now:
        raise GroupBusyError(
            group_id,
            f"in progress by {group.lease_owner} until {group.lease_expires_at:%Y-%m-%d %H:%M:%S %Z}",
            "wait for that run, or cancel it",
        )
    lease = _lease(group, owner, now, lease_s)
    session.flush()
    return lease


def renew_lease(session: Session, group_id: str, attempt: int, now: datetime, *, lease_s: float) -> datetime:
    """Prolong the lease of a running attempt; returns the new expiry.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: it is another attempt's by now; stop working on it.
    """
    group = _held(session, group_id, attempt)
    expires_at = now + timedelta(seconds=lease_s)
    group.lease_expires_at = expires_at
    group.updated_at = now
    session.flush()
    return expires_at


def attach_run(session: Session, group_id: str, attempt: int, run_id: str, now: datetime, *, lease_s: float) -> None:
    """Record the run that works on an attempt, and give it a full lease. A retry of the run attaches itself anew.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: the attempt was given up, for instance because the run waited longer than its lease.
    """
    group = _held(session, group_id, attempt)
    group.run_id = run_id
    group.started_at = now
    group.lease_expires_at = now + timedelta(seconds=lease_s)
    group.updated_at = now
    session.flush()


def mark_stage(session: Session, group_id: str, attempt: int, stage: TileStage, now: datetime, *, calibrator: str | None = None) -> None:
    """Record how far an attempt has come, and the calibrator that transits in it if one does.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: it is another attempt's by now; stop working on it.
    """
    group = _held(session, group_id, attempt)
    group.stage = stage.value
    group.calibrator = calibrator or group.calibrator
    group.updated_at = now
    session.flush()


def complete(session: Session, group_id: str, attempt: int, now: datetime, *, stage: TileStage | None = None) -> GroupState:
    """End an attempt that succeeded; saying so twice does no harm.

    Returns:
        The state after it: ``completed``, or ``collecting`` if a subband came meanwhile.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: it is another attempt's by now.
    """
    group = _locked(session, group_id)
    if group.state == GroupState.COMPLETED and group.attempt == attempt:
        return GroupState.COMPLETED
    _check_held(group, attempt)
    if stage is not None:
        group.stage = stage.value
    release(group, now)
    group.state = GroupState.COMPLETED.value
    group.completed_at = now
    group.failures = 0
    group.error = group.error_type = None
    if group.reopen:
        reopen(group, len(accepted_subbands(session, [group_id]).get(group_id, ())))
    session.flush()
    return GroupState(group.state)


def fail(
    session: Session,
    group_id: str,
    attempt: int,
    error: BaseException | str,
    now: datetime,
    *,
    max_attempts: int,
    retriable: bool | None = None,
    delay_s: float = FIRST_RETRY_DELAY_S,
) -> GroupState:
    """End an attempt that failed; saying so twice does no harm.

    Args:
        session: database session; the caller commits.
        group_id, attempt: what was leased.
        error: shown to people; its type is kept too.
        now: time of the failure.
        max_attempts: failures after which a retriable error is final (``PipelineConfig.max_attempts``).
        retriable: whether the same attempt may succeed later; from the error's type when None.
        delay_s: how long the group is kept back after the first failure, doubled with each further one up to `MOST_RETRY_DELAY_S`.

    Returns:
        The state after it: ``pending`` if it will be tried again, ``collecting`` if a subband came meanwhile, else ``failed``.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: it is another attempt's by now.
    """
    group = _locked(session, group_id)
    if group.state == GroupState.FAILED and group.attempt == attempt:
        return GroupState.FAILED
    _check_held(group, attempt)
    again = isinstance(error, RetriableError) if retriable is None else retriable
    _end_failed(session, group, error, now, again=again, max_attempts=max_attempts, delay_s=delay_s)
    session.flush()
    return GroupState(group.state)


def await_calibration(session: Session, group_id: str, attempt: int, now: datetime) -> GroupState:
    """End an attempt that has a Measurement Set and no valid solutions yet: ``pending``, not leased until `release_awaiting`.

    Returns:
        The state after it: ``pending``, or ``collecting`` if a subband came meanwhile.

    Raises:
        UnknownGroupError: no such group.
        LeaseLostError: it is another attempt's by now.
    """
    group = _held(session, group_id, attempt)
    release(group, now)
    set_pending(group, now)
    group.stage = TileStage.AWAITING_CALIBRATION.value
    if group.reopen:
        reopen(group, len(accepted_subbands(session, [group_id]).get(group_id, ())))
    session.flush()
    return GroupState(group.state)


def release_awaiting(session: Session, *, from_mjd: float, to_mjd: float, dec_deg: float, tolerance_deg: float, now: datetime) -> list[str]:
    """Let observations that wait for solutions go on from their Measurement Sets; called with new tables in one transaction.

    Args:
        session: database session; the caller commits.
        from_mjd, to_mjd: validity of the new tables.
        dec_deg, tolerance_deg: their declination strip.
        now: time of the release.

    Returns:
        The observations released.
    """
    query = select(IngestGroup).where(
        IngestGroup.state == GroupState.PENDING,
        IngestGroup.stage == TileStage.AWAITING_CALIBRATION,
        IngestGroup.mid_mjd.between(from_mjd, to_mjd),
        in_strip(IngestGroup.dec_deg, dec_deg, tolerance_deg),
    )
    groups = session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()
    for group in groups:
        group.stage = TileStage.MEASUREMENT_SET.value
        group.pending_at = group.updated_at = now
    session.flush()
    return [group.group_id for group in groups]


def recalibrate(session: Session, group_ids: Collection[str], now: datetime) -> list[str]:
    """Send completed observations back to ``pending`` from their Measurement Sets, because nearer solutions exist now.

    Observations in any other state are left alone: those in progress look for nearer solutions themselves when they end.

    Returns:
        The observations that were sent back.
    """
    query = select(IngestGroup).where(IngestGroup.group_id.in_(list(group_ids)), IngestGroup.state == GroupState.COMPLETED)
    groups = session.scalars(query.order_by(IngestGroup.group_id).with_for_update().execution_options(populate_existing=True)).all()
    for group in groups:
        set_pending(group, now)
        group.stage = TileStage.MEASUREMENT_SET.value
        group.failures = 0
        group.updated_at = now
    session.flush()
    return [group.group_id for group in groups]


def release_expired(session: Session, now: datetime, *, max_attempts: int) -> Released:
    """Take groups back from owners that have not renewed their leases; after ``max_attempts`` such failures they are failed.

    A lease whose run never began counts as no failure.
    """
    query = (
        select(IngestGroup)
        .where(IngestGroup.state == GroupState.IN_PROGRESS, IngestGroup.lease_expires_at <= now)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    pending: list[str] = []
    failed: list[str] = []
    for group in session.scalars(query).all():
        error = LeaseLostError(
            group.group_id,
            f"{group.lease_owner} (run {group.run_id or 'never started'}) has not renewed its lease since {group.lease_expires_at:%Y-%m-%d %H:%M:%S %Z}",
            f"look at the run's log; `dsa110 ingest retry {group.group_id}` tries again",
        )
        if group.run_id is None:
            _give_back(session, group, error, now, delay_s=0.0)
        else:
            _end_failed(session, group, error, now, again=True, max_attempts=max_attempts, delay_s=0.0)
        (failed if group.state == GroupState.FAILED else pending).append(group.group_id)
    session.flush()
    return Released(tuple(pending), tuple(failed))


def retry(
    session: Session, group_id: str, now: datetime, config: PipelineConfig, *, priority: int | None = None, force: bool = False
) -> None:
    """Send a group to ``pending`` by hand, also a completed or incomplete one, with a clean count of failures.

    Args:
        session: database session; the caller commits.
        group_id: the observation.
        now: time of the request.
        config: for the number of subbands.
        priority: of the new attempt; unchanged when None.
        force: take the group away from a run that still has its lease; that run's reports are then ignored.

    Raises:
        UnknownGroupError: no such group.
        GroupBusyError: it is in progress, its lease has not expired, and ``force`` was not given.
        IncompleteGroupError: none of its raw files is there any more.
    """
    group = _locked(session, group_id)
    busy = group.state == GroupState.IN_PROGRESS and group.lease_expires_at is not None and group.lease_expires_at > now
    if busy and not force:
        raise GroupBusyError(
            group_id, f"in progress by {group.lease_owner}", "wait for that run or cancel it; --force takes the group away from it"
        )
    have = accepted_subbands(session, [group_id]).get(group_id, set())
    if not have:
        raise IncompleteGroupError(group_id, "no valid raw file of it is left", "put its raw files back into the input directory")
    release(group, now)
    group.n_subbands = len(have)
    group.missing_subbands = sorted(set(range(config.expected_subbands)) - have)
    group.failures = 0
    group.reopen = False
    group.stage = TileStage.RAW.value
    group.error = group.error_type = None
    if priority is not None:
        group.priority = priority
    set_pending(group, now)
    session.flush()


# --- queries --------------------------------------------------------------------------------------------------------
def counts(session: Session) -> dict[GroupState, int]:
    """Number of groups in each state; every state is present."""
    found = session.execute(select(IngestGroup.state, func.count()).group_by(IngestGroup.state)).tuples()
    return dict.fromkeys(GroupState, 0) | {GroupState(state): number for state, number in found}


def n_in_progress(session: Session) -> int:
    """Number of groups that are leased; does not read the completed ones, as `counts` does."""
    return session.scalar(select(func.count()).select_from(IngestGroup).where(IngestGroup.state == GroupState.IN_PROGRESS)) or 0


def n_pending_after(session: Session, night: date) -> int:
    """Number of pending groups of later UTC dates."""
    query = select(func.count()).select_from(IngestGroup).where(IngestGroup.state == GroupState.PENDING, IngestGroup.night > night)
    return session.scalar(query) or 0


def group_files(session: Session, group_id: str) -> dict[int, Path]:
    """Raw file of each subband of a group that was accepted and is on disk."""
    query = select(SubbandFile.subband, SubbandFile.path).where(SubbandFile.group_id == group_id, SubbandFile.state == FileState.ACCEPTED)
    return {subband: Path(path) for subband, path in session.execute(query.order_by(SubbandFile.subband)).tuples() if subband is not None}


# --- rows -----------------------------------------------------------------------------------------------------------
def _locked(session: Session, group_id: str) -> IngestGroup:
    group = session.get(IngestGroup, group_id, with_for_update=True, populate_existing=True)
    if group is None:
        raise UnknownGroupError(group_id, "no such observation in the ingest queue", "list them with `dsa110 ingest status`")
    return group


def _held(session: Session, group_id: str, attempt: int) -> IngestGroup:
    group = _locked(session, group_id)
    _check_held(group, attempt)
    return group


def _check_held(group: IngestGroup, attempt: int) -> None:
    if group.state != GroupState.IN_PROGRESS or group.attempt != attempt:
        raise LeaseLostError(
            group.group_id,
            f"attempt {attempt} reports, but the observation is {group.state} at attempt {group.attempt}",
            "let this run end; the other attempt makes the products",
        )


def _lease(group: IngestGroup, owner: str, now: datetime, lease_s: float) -> Lease:
    resumes = group.state == GroupState.PENDING and group.stage == TileStage.MEASUREMENT_SET
    group.state = GroupState.IN_PROGRESS.value
    group.stage = (TileStage.MEASUREMENT_SET if resumes else TileStage.RAW).value
    group.attempt += 1
    group.reopen = False
    group.lease_owner = owner
    expires_at = now + timedelta(seconds=lease_s)
    group.lease_expires_at = expires_at
    group.run_id = None
    group.started_at = now
    group.updated_at = now
    return Lease(
        group_id=group.group_id,
        attempt=group.attempt,
        owner=owner,
        expires_at=expires_at,
        night=group.night,
        slot=group.slot,
        n_subbands=group.n_subbands,
        missing_subbands=tuple(group.missing_subbands),
        priority=group.priority,
        start_mjd=group.start_mjd,
        dec_deg=group.dec_deg,
        has_measurement_set=resumes,
    )


def _end_failed(
    session: Session, group: IngestGroup, error: BaseException | str, now: datetime, *, again: bool, max_attempts: int, delay_s: float
) -> None:
    has_measurement_set = group.stage != TileStage.RAW
    release(group, now)
    group.failures += 1
    group.stage = TileStage.RAW.value
    set_failed(group, now, error)
    n_accepted = len(accepted_subbands(session, [group.group_id]).get(group.group_id, ()))
    again = again and group.failures < max_attempts
    raw_files_lost = n_accepted < group.n_subbands
    if group.reopen:
        reopen(group, n_accepted)
    elif again and raw_files_lost and not has_measurement_set:  # are there still enough?
        group.state = GroupState.COLLECTING.value
        group.n_subbands = n_accepted
    elif again:
        set_pending(group, now + timedelta(seconds=min(delay_s * 2 ** (group.failures - 1), MOST_RETRY_DELAY_S)))
        if raw_files_lost:
            group.stage = TileStage.MEASUREMENT_SET.value


def _give_back(session: Session, group: IngestGroup, error: BaseException, now: datetime, *, delay_s: float) -> None:
    release(group, now)
    set_failed(group, now, error)
    n_accepted = len(accepted_subbands(session, [group.group_id]).get(group.group_id, ()))
    if group.reopen:
        reopen(group, n_accepted)
    elif group.stage == TileStage.RAW and n_accepted < group.n_subbands:
        group.state = GroupState.COLLECTING.value
        group.n_subbands = n_accepted
    else:
        set_pending(group, now + timedelta(seconds=delay_s))
