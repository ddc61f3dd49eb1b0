"""The ingest queue: which observations wait, which run works on one, how its attempts ended.

    collecting -> pending -> in_progress -> completed
                     ^            |-------> failed          (a late subband reopens both: `arrivals`)
                     '------------'  lease expired, retriable error

`in_progress` is a lease with an owner and an expiry (pitfall 27). Every lease is a new attempt with its own run key, so
that Dagster, which remembers keys, never skips a legitimate run. Every report names its attempt: an attempt that has
lost its lease gets `LeaseLostError` and changes nothing. Each function is one transaction; the caller's session commits
it. Rows are locked, and workers skip locked rows. Times are arguments, aware, UTC.
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
    PipelineError,
    RetriableError,
    StoppedError,
    UnknownGroupError,
)
from dsa110_assets.ingest.transitions import accepted_subbands, release, reopen, set_failed, set_pending
from dsa110_assets.registry.schema import CaltableRow, FileState, GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets.strips import in_strip

FIRST_RETRY_DELAY_S = 30.0
"""An observation waits this long after a retriable error, and twice as long after each further error."""

MOST_RETRY_DELAY_S = 120.0
"""Longest wait. An error that lasts longer needs a person, who should see it soon."""


@dataclass(frozen=True)
class Lease:
    """One attempt at one observation. ``run_key`` is unique forever. ``priority``: live 10, backfill 0."""

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
    calibrator: str | None
    has_measurement_set: bool

    @property
    def run_key(self) -> str:
        """Dagster's run key ``<group_id>/<attempt>``. Each attempt has its own."""
        return f"{self.group_id}/{self.attempt}"

    @property
    def partition(self) -> str:
        """Key of the tile partition, ``<date>|<slot>``."""
        return f"{self.night.isoformat()}|{self.slot}"


@dataclass(frozen=True)
class Released:
    """Observations whose leases expired. ``pending`` will be tried again, ``failed`` will not."""

    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


# --- leases ---------------------------------------------------------------------------------------------------------
def lease_pending(
    session: Session, owner: str, limit: int, now: datetime, *, lease_s: float, nights: tuple[date, date] | None = None
) -> list[Lease]:
    """Lease at most ``limit`` pending observations: live before backfill, newest first. Callers never share one.

    In each night a calibrator's observation without tables goes first, because the others need its tables (pitfall 48).
    ``nights``: only observations from the first to the last of these UTC dates. No run can be requested for a date
    without a partition.
    """
    tables = select(func.max(CaltableRow.directory)).where(CaltableRow.group_id == IngestGroup.group_id).scalar_subquery()
    to_solve = IngestGroup.calibrator.is_not(None) & tables.is_(None)  # by the index, where EXISTS may read all tables
    query = (
        select(IngestGroup)
        .where(
            IngestGroup.state == GroupState.PENDING,
            IngestGroup.stage != TileStage.AWAITING_CALIBRATION,
            func.coalesce(IngestGroup.pending_at, now) <= now,
        )
        .order_by(IngestGroup.priority.desc(), IngestGroup.night.desc(), to_solve.desc(), IngestGroup.start_mjd.desc())
        .limit(limit)
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    if nights is not None:
        query = query.where(IngestGroup.night.between(*nights))
    leases = [_lease(observation, owner, now, lease_s) for observation in session.scalars(query).all()]
    session.flush()
    return leases


def refuse_before(session: Session, first_night: date, now: datetime) -> list[str]:
    """Fail pending observations of nights before the first one with partitions. Return their names."""
    query = (
        select(IngestGroup)
        .where(
            IngestGroup.state == GroupState.PENDING, IngestGroup.stage != TileStage.AWAITING_CALIBRATION, IngestGroup.night < first_night
        )
        .with_for_update(skip_locked=True)
        .execution_options(populate_existing=True)
    )
    observations = session.scalars(query).all()
    for observation in observations:
        error = ConfigurationError(
            observation.group_id,
            f"lies before PIPELINE_PARTITION_START ({first_night})",
            f"set PIPELINE_PARTITION_START to {observation.night} or earlier, restart, then `dsa110 ingest retry {observation.group_id}`",
        )
        set_failed(observation, now, error)
    session.flush()
    return [observation.group_id for observation in observations]


def give_back(session: Session, group_id: str, attempt: int, error: BaseException, now: datetime, *, delay_s: float) -> GroupState:
    """End an attempt that never began because no run was launched for it. It counts as no failure.

    Args:
        session: database session; the caller commits.
        group_id, attempt: the leased attempt.
        error: shown to people until the observation is done.
        now: time of the decision.
        delay_s: wait before the next attempt.

    Returns:
        The new state: ``pending``, or ``collecting`` if its raw files have changed meanwhile.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now.
    """
    observation = _leased(session, group_id, attempt)
    _give_back(session, observation, error, now, delay_s=delay_s)
    session.flush()
    return GroupState(observation.state)


def lease_observation(session: Session, group_id: str, owner: str, now: datetime, *, lease_s: float) -> Lease:
    """Lease one observation by name in any state, for a person or a backfill. Its products will be made again.

    Raises:
        UnknownGroupError: no such observation.
        GroupBusyError: it is in progress and its lease has not expired.
    """
    observation = _lock(session, group_id)
    if observation.state == GroupState.IN_PROGRESS and observation.lease_expires_at is not None and observation.lease_expires_at > now:
        raise GroupBusyError(
            group_id,
            f"in progress by {observation.lease_owner} until {observation.lease_expires_at:%Y-%m-%d %H:%M:%S %Z}",
            "wait for that run, or cancel it",
        )
    lease = _lease(observation, owner, now, lease_s)
    session.flush()
    return lease


def renew_lease(session: Session, group_id: str, attempt: int, now: datetime, *, lease_s: float) -> datetime:
    """Renew the lease of a running attempt. Return the new expiry.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now; stop working on it.
    """
    observation = _leased(session, group_id, attempt)
    expires_at = now + timedelta(seconds=lease_s)
    observation.lease_expires_at = expires_at
    observation.updated_at = now
    session.flush()
    return expires_at


def check_attempt(session: Session, group_id: str, attempt: int) -> None:
    """Keep an observation for its attempt until the transaction ends.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now; publish nothing.
    """
    _leased(session, group_id, attempt)


def attach_run(session: Session, group_id: str, attempt: int, run_id: str, now: datetime, *, lease_s: float) -> None:
    """Record the run that works on an attempt, and give it a full lease. A retry of the run attaches itself again.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: the attempt has ended, for instance because the run waited longer than its lease.
    """
    observation = _leased(session, group_id, attempt)
    observation.run_id = run_id
    observation.started_at = now
    observation.lease_expires_at = now + timedelta(seconds=lease_s)
    observation.updated_at = now
    session.flush()


def mark_stage(session: Session, group_id: str, attempt: int, stage: TileStage, now: datetime, *, calibrator: str | None = None) -> None:
    """Record the progress of an attempt, and the calibrator that transits in the observation, if any.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now; stop working on it.
    """
    observation = _leased(session, group_id, attempt)
    observation.stage = stage.value
    observation.calibrator = calibrator or observation.calibrator
    observation.updated_at = now
    session.flush()


def complete(session: Session, group_id: str, attempt: int, now: datetime, *, stage: TileStage | None = None) -> GroupState:
    """End a successful attempt. A second call does no harm.

    Returns:
        The new state: ``completed``, or ``collecting`` if a subband arrived meanwhile.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now.
    """
    observation = _lock(session, group_id)
    if observation.state == GroupState.COMPLETED and observation.attempt == attempt:
        return GroupState.COMPLETED
    _check_lease(observation, attempt)
    if stage is not None:
        observation.stage = stage.value
    release(observation, now)
    observation.state = GroupState.COMPLETED.value
    observation.completed_at = now
    observation.failures = 0
    observation.error = observation.error_type = None
    if observation.reopen:
        reopen(observation, len(accepted_subbands(session, [group_id]).get(group_id, ())))
    session.flush()
    return GroupState(observation.state)


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
    """End a failed attempt. A second call does no harm.

    An error that is no failure of the observation (`PipelineError.is_failure`) is not counted, and the observation
    waits.

    Args:
        session: database session; the caller commits.
        group_id, attempt: the leased attempt.
        error: shown to people; its type is recorded too.
        now: time of the failure.
        max_attempts: failures after which a retriable error is final (``PipelineConfig.max_attempts``).
        retriable: whether the same attempt may succeed later; from the error's type when None.
        delay_s: wait after the first failure, doubled with each further failure up to `MOST_RETRY_DELAY_S`.

    Returns:
        The new state: ``pending`` if it will be tried again, ``collecting`` if a subband arrived meanwhile, else
        ``failed``.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now.
    """
    observation = _lock(session, group_id)
    if observation.state == GroupState.FAILED and observation.attempt == attempt:
        return GroupState.FAILED
    _check_lease(observation, attempt)
    again = isinstance(error, RetriableError) if retriable is None else retriable
    _end_failed(session, observation, error, now, again=again, max_attempts=max_attempts, delay_s=delay_s)
    session.flush()
    return GroupState(observation.state)


def await_calibration(session: Session, group_id: str, attempt: int, now: datetime) -> GroupState:
    """End an attempt that has a Measurement Set but no valid tables yet. It is not leased until `release_awaiting`.

    Returns:
        The new state: ``pending``, or ``collecting`` if a subband arrived meanwhile.

    Raises:
        UnknownGroupError: no such observation.
        LeaseLostError: it belongs to another attempt now.
    """
    observation = _leased(session, group_id, attempt)
    release(observation, now)
    set_pending(observation, now)
    observation.stage = TileStage.AWAITING_CALIBRATION.value
    if observation.reopen:
        reopen(observation, len(accepted_subbands(session, [group_id]).get(group_id, ())))
    session.flush()
    return GroupState(observation.state)


def release_awaiting(session: Session, *, from_mjd: float, to_mjd: float, dec_deg: float, tolerance_deg: float, now: datetime) -> list[str]:
    """Let observations that wait for calibration continue from their Measurement Sets.

    Call it in the transaction that registers the new tables.

    Args:
        session: database session; the caller commits.
        from_mjd, to_mjd: validity of the new tables.
        dec_deg, tolerance_deg: their strip.
        now: time of the release.

    Returns:
        The released observations.
    """
    query = select(IngestGroup).where(
        IngestGroup.state == GroupState.PENDING,
        IngestGroup.stage == TileStage.AWAITING_CALIBRATION,
        IngestGroup.mid_mjd.between(from_mjd, to_mjd),
        in_strip(IngestGroup.dec_deg, dec_deg, tolerance_deg),
    )
    observations = session.scalars(query.with_for_update().execution_options(populate_existing=True)).all()
    for observation in observations:
        observation.stage = TileStage.MEASUREMENT_SET.value
        observation.pending_at = observation.updated_at = now
    session.flush()
    return [observation.group_id for observation in observations]


def recalibrate(session: Session, group_ids: Collection[str], now: datetime) -> list[str]:
    """Send completed observations back to ``pending``, to continue from their Measurement Sets with nearer tables.

    Observations in other states are left alone. Those in progress check for nearer tables when they end.

    Returns:
        The observations that were sent back.
    """
    query = select(IngestGroup).where(IngestGroup.group_id.in_(list(group_ids)), IngestGroup.state == GroupState.COMPLETED)
    observations = session.scalars(query.order_by(IngestGroup.group_id).with_for_update().execution_options(populate_existing=True)).all()
    for observation in observations:
        set_pending(observation, now)
        observation.stage = TileStage.MEASUREMENT_SET.value
        observation.failures = 0
        observation.updated_at = now
    session.flush()
    return [observation.group_id for observation in observations]


def release_expired(session: Session, now: datetime, *, max_attempts: int) -> Released:
    """Take observations back when their leases have expired. After ``max_attempts`` failures they are ``failed``.

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
    for observation in session.scalars(query).all():
        error = LeaseLostError(
            observation.group_id,
            f"{observation.lease_owner} (run {observation.run_id or 'never started'}) has not renewed its lease since {observation.lease_expires_at:%Y-%m-%d %H:%M:%S %Z}",
            f"read the run's log; `dsa110 ingest retry {observation.group_id}` tries again",
        )
        if observation.run_id is None:
            _give_back(session, observation, error, now, delay_s=0.0)
        else:
            _end_failed(session, observation, error, now, again=True, max_attempts=max_attempts, delay_s=0.0)
        (failed if observation.state == GroupState.FAILED else pending).append(observation.group_id)
    session.flush()
    return Released(tuple(pending), tuple(failed))


def retry(
    session: Session, group_id: str, now: datetime, config: PipelineConfig, *, priority: int | None = None, force: bool = False
) -> None:
    """Send an observation to ``pending`` by hand, also a completed or incomplete one. Reset its count of failures.

    Args:
        session: database session; the caller commits.
        group_id: the observation.
        now: time of the request.
        config: number of subbands.
        priority: of the new attempt; unchanged when None.
        force: take the observation away from a run that still has its lease. Reports of that run are then ignored.

    Raises:
        UnknownGroupError: no such observation.
        GroupBusyError: it is in progress, its lease has not expired, and ``force`` was not given.
        IncompleteGroupError: none of its raw files exists any more.
    """
    observation = _lock(session, group_id)
    busy = observation.state == GroupState.IN_PROGRESS and observation.lease_expires_at is not None and observation.lease_expires_at > now
    if busy and not force:
        raise GroupBusyError(
            group_id, f"in progress by {observation.lease_owner}", "wait for that run or cancel it; --force takes the observation from it"
        )
    have = accepted_subbands(session, [group_id]).get(group_id, set())
    if not have:
        raise IncompleteGroupError(group_id, "no valid raw file is left", "put its raw files back into the input directory")
    release(observation, now)
    observation.n_subbands = len(have)
    observation.missing_subbands = sorted(set(range(config.expected_subbands)) - have)
    observation.failures = 0
    observation.reopen = False
    observation.stage = TileStage.RAW.value
    observation.error = observation.error_type = None
    if priority is not None:
        observation.priority = priority
    set_pending(observation, now)
    session.flush()


# --- queries --------------------------------------------------------------------------------------------------------
def counts(session: Session, *, completed_after: datetime | None = None) -> dict[GroupState, int]:
    """Number of observations in each state, including zeros.

    ``completed_after``: count only those completed since; None reads all that were ever completed.
    """
    number = select(func.count()).select_from(IngestGroup)
    found = {
        state: session.scalar(number.where(IngestGroup.state == state)) or 0 for state in GroupState if state is not GroupState.COMPLETED
    }
    completed = number.where(IngestGroup.state == GroupState.COMPLETED)
    if completed_after is not None:
        completed = completed.where(IngestGroup.completed_at > completed_after)
    return {state: found[state] if state in found else session.scalar(completed) or 0 for state in GroupState}


def n_in_progress(session: Session) -> int:
    """Number of leased observations."""
    return session.scalar(select(func.count()).select_from(IngestGroup).where(IngestGroup.state == GroupState.IN_PROGRESS)) or 0


def n_pending_after(session: Session, night: date) -> int:
    """Number of pending observations of later UTC dates."""
    query = select(func.count()).select_from(IngestGroup).where(IngestGroup.state == GroupState.PENDING, IngestGroup.night > night)
    return session.scalar(query) or 0


def raw_files(session: Session, group_id: str) -> dict[int, Path]:
    """Accepted raw files of an observation on disk, by subband."""
    query = select(SubbandFile.subband, SubbandFile.path).where(SubbandFile.group_id == group_id, SubbandFile.state == FileState.ACCEPTED)
    return {subband: Path(path) for subband, path in session.execute(query.order_by(SubbandFile.subband)).tuples() if subband is not None}


# --- rows -----------------------------------------------------------------------------------------------------------
def _lock(session: Session, group_id: str) -> IngestGroup:
    observation = session.get(IngestGroup, group_id, with_for_update=True, populate_existing=True)
    if observation is None:
        raise UnknownGroupError(group_id, "no such observation in the ingest queue", "list them with `dsa110 ingest status`")
    return observation


def _leased(session: Session, group_id: str, attempt: int) -> IngestGroup:
    observation = _lock(session, group_id)
    _check_lease(observation, attempt)
    return observation


def _check_lease(observation: IngestGroup, attempt: int) -> None:
    if observation.state != GroupState.IN_PROGRESS or observation.attempt != attempt:
        raise LeaseLostError(
            observation.group_id,
            f"attempt {attempt} reports, but the observation is {observation.state} at attempt {observation.attempt}",
            "let this run end; the other attempt makes the products",
        )


def _lease(observation: IngestGroup, owner: str, now: datetime, lease_s: float) -> Lease:
    resumes = observation.state == GroupState.PENDING and observation.stage == TileStage.MEASUREMENT_SET
    observation.state = GroupState.IN_PROGRESS.value
    observation.stage = (TileStage.MEASUREMENT_SET if resumes else TileStage.RAW).value
    observation.attempt += 1
    observation.reopen = False
    observation.lease_owner = owner
    expires_at = now + timedelta(seconds=lease_s)
    observation.lease_expires_at = expires_at
    observation.run_id = None
    observation.started_at = now
    observation.updated_at = now
    return Lease(
        group_id=observation.group_id,
        attempt=observation.attempt,
        owner=owner,
        expires_at=expires_at,
        night=observation.night,
        slot=observation.slot,
        n_subbands=observation.n_subbands,
        missing_subbands=tuple(observation.missing_subbands),
        priority=observation.priority,
        start_mjd=observation.start_mjd,
        dec_deg=observation.dec_deg,
        calibrator=observation.calibrator,
        has_measurement_set=resumes,
    )


def _end_failed(
    session: Session, observation: IngestGroup, error: BaseException | str, now: datetime, *, again: bool, max_attempts: int, delay_s: float
) -> None:
    has_measurement_set = observation.stage != TileStage.RAW
    release(observation, now)
    is_failure = not isinstance(error, PipelineError) or error.is_failure
    observation.failures += int(is_failure)
    observation.stage = TileStage.RAW.value
    set_failed(observation, now, error)
    n_accepted = len(accepted_subbands(session, [observation.group_id]).get(observation.group_id, ()))
    if not is_failure:
        again, delay_s = True, 0.0 if isinstance(error, StoppedError) else MOST_RETRY_DELAY_S
    else:
        again = again and observation.failures < max_attempts
    raw_files_lost = n_accepted < observation.n_subbands
    if observation.reopen:
        reopen(observation, n_accepted)
    elif again and raw_files_lost and not has_measurement_set:  # there may be too few now
        observation.state = GroupState.COLLECTING.value
        observation.n_subbands = n_accepted
    elif again:
        set_pending(observation, now + timedelta(seconds=min(delay_s * 2 ** max(observation.failures - 1, 0), MOST_RETRY_DELAY_S)))
        if raw_files_lost:
            observation.stage = TileStage.MEASUREMENT_SET.value


def _give_back(session: Session, observation: IngestGroup, error: BaseException, now: datetime, *, delay_s: float) -> None:
    release(observation, now)
    set_failed(observation, now, error)
    n_accepted = len(accepted_subbands(session, [observation.group_id]).get(observation.group_id, ()))
    if observation.reopen:
        reopen(observation, n_accepted)
    elif observation.stage == TileStage.RAW and n_accepted < observation.n_subbands:
        observation.state = GroupState.COLLECTING.value
        observation.n_subbands = n_accepted
    else:
        set_pending(observation, now + timedelta(seconds=delay_s))
