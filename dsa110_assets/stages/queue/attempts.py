"""An attempt at an observation, as its run holds it: lease taken, renewed before each stage, ended well or badly.

What does not belong here: the rules of the queue (`ingest.ledger`), what a stage does (`tile`).
"""

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
    """Wall-clock time of bookkeeping, UTC."""
    return datetime.now(UTC)


@contextmanager
def attempt(platform: Platform, run: TileRun) -> Iterator[int]:
    """Hold the observation during one stage; yields the attempt's number.

    An exception is recorded in the queue (and passed on): the observation goes back to ``pending`` when its type says
    that another attempt may succeed, else to ``failed``. One that is interrupted because the platform stops goes back too;
    one that a person has cancelled has failed, and is not tried again by itself.

    Raises:
        LeaseLostError: another attempt has taken over; nothing was done.
        GroupBusyError: a person asked for an observation that another run is working on.
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
    """Why an observation whose run was cancelled is left alone."""
    return NonRetriableError(
        group_id, "its run was cancelled by a person", f"to make it after all, re-execute the run, or `dsa110 ingest retry {group_id}`"
    )


def end_stage(session: Session, run: TileRun, number: int, stage: TileStage, *, calibrator: str | None = None) -> None:
    """Record the stage; in the same transaction as its product. Completes the attempt when it was the run's last."""
    ledger.mark_stage(session, run.group_id, number, stage, now(), calibrator=calibrator)
    if run.final:
        ledger.complete(session, run.group_id, number, now(), stage=stage)


def _take(session: Session, platform: Platform, run: TileRun) -> int:
    lease_s = platform.config.lease_s
    group = session.get(IngestGroup, run.group_id, with_for_update=True)
    if group is None:
        raise UnknownGroupError(run.group_id, "no such observation", "list them with `dsa110 ingest status`")
    held = group.state == GroupState.IN_PROGRESS
    if held and group.run_id == run.run_id:
        ledger.renew_lease(session, run.group_id, group.attempt, now(), lease_s=lease_s)
        return group.attempt
    number = run.attempt
    if number is None:
        number = ledger.lease_observation(session, run.group_id, f"run {run.run_id[:8]}", now(), lease_s=lease_s).attempt
    ledger.attach_run(session, run.group_id, number, run.run_id, now(), lease_s=lease_s)
    return number
