"""Workers and their runs: what waits, who takes it, who lives, what was given up.

PostgreSQL is the queue; the broker only wakes workers. Each function is a part of the caller's transaction. Times are
the server's, so the clocks of the hosts do not matter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_assets.errors import LeaseLostError
from dsa110_assets.registry.schema import ProductVersion, RunWorker, WorkerRow

BEAT_S = 5.0
"""Interval of the beats of a worker, for itself and its runs."""
WORKERS_KEPT_DAYS = 7
"""Workers without a beat for so long, and those that ended in order, are forgotten after this many days."""
STOPPED = "its worker was stopped"
"""``lost_why`` of a run whose worker ends in order: it may not be able to say more."""
_OPEN = (RunWorker.ended_at.is_(None), RunWorker.lost_at.is_(None))
_SILENT_S = "extract(epoch FROM now() - greatest(beat_at, pg_postmaster_start_time()))"
"""Seconds without a beat. While the database was down, nobody could give one."""
_CLAIM = text("""
UPDATE run_workers SET worker = :worker, host = :host, boot_id = :boot_id, claimed_at = now(), beat_at = now()
WHERE run_id = (
    SELECT run_id FROM run_workers
    WHERE queue = :queue AND version = :version AND claimed_at IS NULL AND ended_at IS NULL AND lost_at IS NULL
    ORDER BY priority DESC, coalesce(preferred_host = :host, false) DESC, requested_at
    LIMIT 1 FOR UPDATE SKIP LOCKED
)
RETURNING run_id
""")
_BEAT = text("""
UPDATE run_workers SET beat_at = now() WHERE worker = :worker AND run_id = ANY(:run_ids) AND ended_at IS NULL AND lost_at IS NULL
""")
_GIVE_UP_SILENT = text(f"""
UPDATE run_workers
SET lost_at = now(), lost_why = coalesce(lost_why, 'host ' || host || ' gave no sign of life for ' || round({_SILENT_S}) || ' s')
WHERE claimed_at IS NOT NULL AND ended_at IS NULL AND lost_at IS NULL AND {_SILENT_S} > :lost_s
RETURNING run_id
""")  # noqa: S608 - a constant of this module


@dataclass(frozen=True)
class Host:
    """Where a process runs. ``boot_id`` differs between two starts of a machine, and between two containers on one."""

    name: str
    boot_id: str


@dataclass(frozen=True)
class Order:
    """What a worker has to do about one of its runs: cancel it, or end it because it was given up (``lost_why``)."""

    run_id: str
    cancel: bool
    lost_why: str | None


@dataclass(frozen=True)
class WorkerState:
    """A worker that has not ended in order. ``silent_s``: since its last beat. ``n_runs``: at work."""

    worker: str
    host: str
    queue: str
    slots: int
    version: str
    refusal: str | None
    silent_s: float
    n_runs: int


@dataclass(frozen=True)
class Waiting:
    """Runs that wait for a worker. ``oldest_s``: the longest wait. ``versions``: of their code and settings."""

    number: int
    oldest_s: float
    versions: frozenset[str]


# --- runs ----------------------------------------------------------------------------------------------------------
def request(session: Session, run_id: str, *, queue: str, version: str, priority: int, group_id: str | None) -> None:
    """Let a run wait for a worker. The host that made the Measurement Set of ``group_id`` is preferred."""
    preferred = None
    if group_id is not None:
        made_by = select(ProductVersion.run_id).where(ProductVersion.product == "measurement_set", ProductVersion.key == group_id)
        newest = made_by.order_by(ProductVersion.version_id.desc()).limit(1).scalar_subquery()
        preferred = session.scalar(select(RunWorker.host).where(RunWorker.run_id == newest))
    row = insert(RunWorker).values(run_id=run_id, queue=queue, version=version, priority=priority, preferred_host=preferred)
    session.execute(row.on_conflict_do_nothing())


def claim(session: Session, *, worker: str, host: Host, queue: str, version: str) -> str | None:
    """Take the first run that waits for this code and settings; None if none waits.

    The highest priority is first, then runs that prefer this host, then the one that has waited longest.
    """
    given = {"worker": worker, "host": host.name, "boot_id": host.boot_id, "queue": queue, "version": version}
    return session.scalar(_CLAIM, given)


def record_process(session: Session, run_id: str, pid: int) -> None:
    """Record the process of a claimed run."""
    session.execute(update(RunWorker).where(RunWorker.run_id == run_id).values(pid=pid))


def record_end(session: Session, run_id: str, exit_code: int) -> None:
    """Record that the process of a run has ended."""
    session.execute(update(RunWorker).where(RunWorker.run_id == run_id).values(ended_at=func.now(), exit_code=exit_code))


def record_stop(session: Session, run_id: str) -> None:
    """Record that the worker of a run ends in order: however the run ends now, that is no failure of its work."""
    session.execute(update(RunWorker).where(RunWorker.run_id == run_id, RunWorker.lost_at.is_(None)).values(lost_why=STOPPED))


def was_stopped(session: Session, run_id: str) -> bool:
    """Whether a run ended while its worker ended in order."""
    return session.scalar(select(RunWorker.lost_why).where(RunWorker.run_id == run_id)) == STOPPED


def request_cancel(session: Session, run_id: str) -> bool:
    """Ask the worker of a run to end it; whether a worker has it. A run that waits is withdrawn.

    The row is locked, so no worker takes it meanwhile.
    """
    row = session.get(RunWorker, run_id, with_for_update=True, populate_existing=True)
    if row is None or row.ended_at is not None or row.lost_at is not None:
        return False
    if row.claimed_at is None:
        row.ended_at = func.now()
        return False
    row.cancel_at = func.now()
    return True


def give_up_silent(session: Session, lost_s: float) -> list[str]:
    """Give up the runs without a beat for longer than ``lost_s``; return them."""
    return list(session.scalars(_GIVE_UP_SILENT, {"lost_s": lost_s}))


def give_up(session: Session, run_ids: Collection[str], why: str) -> None:
    """Give up runs that Dagster does not expect any more: deleted ones, or those that it has ended."""
    session.execute(
        update(RunWorker)
        .where(RunWorker.run_id.in_(list(run_ids)), *_OPEN)
        .values(lost_at=func.now(), lost_why=func.coalesce(RunWorker.lost_why, why))
    )


def open_runs(session: Session) -> list[str]:
    """Runs that wait or work."""
    return list(session.scalars(select(RunWorker.run_id).where(*_OPEN)))


def state_of(session: Session, run_id: str) -> RunWorker | None:
    """The record of a run; None if no worker was ever asked for it."""
    return session.get(RunWorker, run_id, populate_existing=True)


def hold(session: Session, run_id: str) -> None:
    """Keep a run from being given up until the transaction ends.

    Raises:
        LeaseLostError: it has been given up; another run makes its products.
    """
    row = session.execute(
        select(RunWorker.lost_at, RunWorker.lost_why).where(RunWorker.run_id == run_id).with_for_update(read=True)
    ).one_or_none()
    if row is not None and row.lost_at is not None:
        raise LeaseLostError(
            f"run {run_id}", f"was given up at {row.lost_at:%H:%M:%S} ({row.lost_why})", "let this run end; another one makes the product"
        )


def waiting(session: Session, queue: str) -> Waiting:
    """The runs of a queue that wait for a worker."""
    row = session.execute(
        select(
            func.count(),
            func.coalesce(func.extract("epoch", func.now() - func.min(RunWorker.requested_at)), 0.0),
            func.array_agg(RunWorker.version.distinct()),
        ).where(RunWorker.queue == queue, RunWorker.claimed_at.is_(None), *_OPEN)
    ).one()
    return Waiting(int(row[0]), float(row[1]), frozenset(row[2] or ()))


# --- workers -------------------------------------------------------------------------------------------------------
def join(session: Session, worker: str, host: Host, *, pid: int, queue: str, slots: int, version: str) -> None:
    """Record a worker that begins, and forget workers that ended long ago."""
    gone = text(f"beat_at < now() - interval '{WORKERS_KEPT_DAYS} days'")
    session.execute(delete(WorkerRow).where(gone))
    row = {"host": host.name, "boot_id": host.boot_id, "pid": pid, "queue": queue, "slots": slots, "version": version}
    fresh = row | {"refusal": None, "started_at": func.now(), "beat_at": func.now(), "stopped_at": None}
    session.execute(insert(WorkerRow).values(worker=worker, **fresh).on_conflict_do_update(index_elements=["worker"], set_=fresh))


def of_host(session: Session, host: str) -> list[WorkerRow]:
    """Workers of a host that have not ended in order."""
    return list(session.scalars(select(WorkerRow).where(WorkerRow.host == host, WorkerRow.stopped_at.is_(None))))


def beat(session: Session, worker: str, run_ids: Sequence[str], refusal: str | None) -> list[Order]:
    """Give a sign of life of a worker and of its runs; return what it has to do about these."""
    session.execute(update(WorkerRow).where(WorkerRow.worker == worker).values(beat_at=func.now(), refusal=refusal, stopped_at=None))
    if not run_ids:
        return []
    session.execute(_BEAT, {"worker": worker, "run_ids": list(run_ids)})
    rows = session.execute(
        select(RunWorker.run_id, RunWorker.cancel_at, RunWorker.lost_why).where(
            RunWorker.run_id.in_(list(run_ids)), (RunWorker.cancel_at.is_not(None)) | (RunWorker.lost_at.is_not(None))
        )
    )
    return [Order(run_id, cancel_at is not None, lost_why) for run_id, cancel_at, lost_why in rows.tuples()]


def leave(session: Session, worker: str) -> None:
    """Record the orderly end of a worker."""
    session.execute(update(WorkerRow).where(WorkerRow.worker == worker).values(stopped_at=func.now()))


def newest_version(session: Session, queue: str) -> str | None:
    """Version of the platform, as its last request says; None without any."""
    query = select(RunWorker.version).where(RunWorker.queue == queue).order_by(RunWorker.requested_at.desc()).limit(1)
    return session.scalar(query)


def states(session: Session) -> list[WorkerState]:
    """Workers that have not ended in order, by name."""
    at_work = select(func.count()).where(RunWorker.worker == WorkerRow.worker, RunWorker.claimed_at.is_not(None), *_OPEN).scalar_subquery()
    silent = func.extract("epoch", func.now() - WorkerRow.beat_at)
    rows = session.execute(select(WorkerRow, silent, at_work).where(WorkerRow.stopped_at.is_(None)).order_by(WorkerRow.worker)).tuples()
    return [
        WorkerState(row.worker, row.host, row.queue, row.slots, row.version, row.refusal, max(0.0, float(silent_s)), n_runs)
        for row, silent_s, n_runs in rows
    ]


def last_seen(session: Session) -> datetime | None:
    """When any worker gave its last beat."""
    return session.scalar(select(func.max(WorkerRow.beat_at)))
