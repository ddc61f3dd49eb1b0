"""An attempt of a run at an observation: lease it, renew the lease before each stage, record how the attempt ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from dsa110_assets.errors import LeaseLostError, NonRetriableError, UnknownGroupError
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue.work import TileRun


def now() -> datetime:
    """Current UTC time of the bookkeeping."""
    return datetime.now(UTC)


@contextmanager
def attempt(platform: Platform, run: TileRun) -> Iterator[int]:
    """Hold an observation during one stage; yield the number of the attempt.

    An exception is recorded in the queue and raised again. The observation returns to ``pending`` if the error's type
    says that another attempt may succeed, or if the platform stopped; else it becomes ``failed``. It also fails if a
    person canceled the run, and is then not tried again automatically.

    Raises:
        LeaseLostError: another attempt has taken over; nothing was done.
        GroupBusyError: another run is working on the observation.
    """
    with platform.database.session() as session:
        number = _take(session, platform, run)
    try:
        yield number
    except LeaseLostError:
        raise
    except BaseException as error:
        reason: BaseException | str = error
        if not isinstance(error, Exception):
            reason = cancelled(run.group_id) if run.is_cancelled() else f"interrupted ({type(error).__name__})"
        again = True if isinstance(reason, str) else None
        with platform.database.session() as session:
            ledger.fail(session, run.group_id, number, reason, now(), max_attempts=platform.config.max_attempts, retriable=again)
        raise


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
