"""An attempt of a run at an observation: lease it, renew the lease before each stage, record how the attempt ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from dsa110_assets.common.interrupts import uninterrupted
from dsa110_assets.errors import (
    DiskFullError,
    IncompleteGroupError,
    InputUnreadableError,
    InvalidRawFileError,
    LeaseLostError,
    NonRetriableError,
    PipelineError,
    StoppedError,
    StorageError,
    UnknownGroupError,
)
from dsa110_assets.files import tells_of_full_disk, why_not_listable
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue import fence
from dsa110_assets.stages.queue.work import TileRun

_OF_THE_INPUT = (InvalidRawFileError, IncompleteGroupError, StorageError)
"""Errors of a conversion whose raw files cannot be read."""


def now() -> datetime:
    """Current UTC time of the bookkeeping."""
    return datetime.now(UTC)


@contextmanager
def attempt(platform: Platform, run: TileRun) -> Iterator[int]:
    """Hold an observation during one stage; yield the number of the attempt.

    An exception is recorded in the queue and raised again. The observation returns to ``pending`` if the error's type
    says that another attempt may succeed; else it becomes ``failed``. It also fails if a person canceled the run, and
    is then not tried again automatically. A platform that stops, a full disk and raw files that cannot be read count as
    no failure.

    Raises:
        LeaseLostError: another attempt has taken over; nothing was done.
        GroupBusyError: another run is working on the observation.
        DiskFullError: the block failed because a disk is full, whatever error it raised.
        InputUnreadableError: it failed because the directory of the raw files cannot be read.
    """
    with platform.database.session() as session:
        number = _take(session, platform, run)
    try:
        with fence.attempt_counts(platform, run.group_id, number):
            yield number
    except LeaseLostError:
        raise
    except BaseException as error:
        with uninterrupted():
            reason = _reason(error, platform, run)
            with platform.database.session() as session:
                ledger.fail(session, run.group_id, number, reason, now(), max_attempts=platform.config.max_attempts)
        if reason is not error and isinstance(error, Exception):
            raise reason from error
        raise


def _reason(error: BaseException, platform: Platform, run: TileRun) -> BaseException:
    """The error that explains why an attempt ended: the disk, the input directory, a person, or what was raised."""
    if not isinstance(error, Exception):
        return cancelled(run.group_id) if run.is_cancelled() else stopped(run.group_id, type(error).__name__)
    if isinstance(error, PipelineError) and not error.is_failure:
        return error
    if tells_of_full_disk(error):
        return DiskFullError(run.group_id, f"the disk is full ({error})", "free space; the work then goes on by itself")
    if isinstance(error, (OSError, *_OF_THE_INPUT)) and (why := why_not_listable(platform.config.input_dir)) is not None:
        return InputUnreadableError(
            platform.config.input_dir, f"{why} ({error})", "mount it or mend its permissions; the observation waits for it"
        )
    return error


def stopped(group_id: str, how: str) -> StoppedError:
    """Return the error of an observation whose run ended with the platform."""
    return StoppedError(group_id, f"its run ended because the platform was stopped ({how})", "it is made after the next start")


def cancelled(group_id: str) -> NonRetriableError:
    """Return the error of an observation whose run was canceled."""
    return NonRetriableError(
        group_id, "its run was canceled by a person", f"to make it anyway, re-execute the run, or `dsa110 ingest retry {group_id}`"
    )


def end_stage(session: Session, run: TileRun, number: int, stage: TileStage, *, calibrator: str | None = None) -> None:
    """Record the stage in the transaction of its product; complete the attempt if it was the run's last stage."""
    ledger.mark_stage(session, run.group_id, number, stage, now(), calibrator=calibrator)
    if run.final:
        ledger.complete(session, run.group_id, number, now(), stage=stage)


def _take(session: Session, platform: Platform, run: TileRun) -> int:
    lease_s = platform.config.lease_s
    group = session.get(IngestGroup, run.group_id, with_for_update=True)
    if group is None:
        raise UnknownGroupError(run.group_id, "no such observation", "list them with `dsa110 ingest status`")
    if group.state == GroupState.IN_PROGRESS and group.run_id == run.run_id:
        ledger.renew_lease(session, run.group_id, group.attempt, now(), lease_s=lease_s)
        return group.attempt
    number = run.attempt
    if number is None:
        number = ledger.lease_observation(session, run.group_id, f"run {run.run_id[:8]}", now(), lease_s=lease_s).attempt
    ledger.attach_run(session, run.group_id, number, run.run_id, now(), lease_s=lease_s)
    return number
