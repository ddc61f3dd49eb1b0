"""From the input directory to work for runs: one look at new files, one turn of the queue.

The sensor calls `tick` every few seconds, `dsa110 ingest scan` by hand. What does not belong here: judging files and
grouping them (`ingest`), asking for runs (`orchestration.sensors`).
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.errors import ChildFailedError, LeaseLostError, PipelineError
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.scan import ScanReport, scan_directory
from dsa110_assets.ingest.sweep import Confirmed, Sweep
from dsa110_assets.ingest.watch import Watcher
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.operations import disk
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.queue import planning
from dsa110_assets.stages.queue.attempts import cancelled, now
from dsa110_assets.stages.queue.work import TileWork
from dsa110_assets.stages.table import TABLE

REQUEST_LEASE_S = 600.0
"""A leased observation whose run has not started after this long is leased anew; while Dagster has the run in its queue, the lease is renewed."""

NOT_LAUNCHED_DELAY_S = 30.0
"""Pause before a run is requested again that was requested and never launched."""

DIED_DELAY_S = 5.0
"""A killed run says little about its observation, which is tried again soon."""

LATELY = timedelta(hours=1)
"""So long after its completion it is looked whether Dagster also knows that an observation is done."""

WAITING_RUNS_PER_WORKER = 2
"""Runs asked for ahead of the workers. What waits in the queue stays there, where the newest observation goes first."""


@dataclass(frozen=True)
class TickReport:
    """What one turn did; ``summary`` is a line for people."""

    works: tuple[TileWork, ...]
    summary: str


LOOK_LIMIT_S = 0.6
"""Time, seconds, after which a look at the directory leaves the rest to the next tick."""


CONFIRMED_FOR_S = 3600.0
"""So long a sweep believes what an earlier one has read from the ledger; then it reads all of it again."""


class _Eyes:
    """Watcher and sweep of this process. Lost with the process, which only costs one sweep."""

    def __init__(self, platform: Platform) -> None:
        self.watcher = Watcher(platform.config.input_dir)
        self.sweep: Sweep | None = None
        self.sweep_due_at = -float("inf")
        self.look_again: set[Path] = set()
        self.confirmed: Confirmed = {}
        self.forget_at = -float("inf")


_eyes: dict[Path, _Eyes] = {}


def look(platform: Platform) -> ScanReport:
    """Bring the queue up to date with the input directory: what the watcher saw, and everything in each scan interval.

    A sweep over a large directory takes several calls of about `LOOK_LIMIT_S`, newest files first. So a file of which the
    watcher has said nothing is found at the latest after the interval and two sweeps (100 000 files: figures in docs/developers/reliability.md).
    """
    began = time.monotonic()
    config = platform.config
    eyes = _eyes.setdefault(config.input_dir, _Eyes(platform))
    eyes.watcher.start()
    seen = eyes.watcher.drain()
    if seen is None:
        eyes.sweep_due_at = -float("inf")
    if eyes.sweep is None and began >= eyes.sweep_due_at:
        if began >= eyes.forget_at:
            eyes.confirmed, eyes.forget_at = {}, began + CONFIRMED_FOR_S
        eyes.sweep, eyes.sweep_due_at = Sweep(config.input_dir, eyes.confirmed), began + config.scan_interval_s
    hints = eyes.look_again = (seen or set()) | eyes.look_again  # kept when the database does not answer
    left_s = max(0.0, LOOK_LIMIT_S - (time.monotonic() - began))
    report = scan_directory(platform.database, config.input_dir, config, now(), hints, sweep=eyes.sweep, time_limit_s=left_s)
    eyes.look_again = set(report.not_yet)
    if eyes.sweep is None:
        if report.n_unread:
            eyes.sweep_due_at = -float("inf")
    elif eyes.sweep.is_done and not eyes.sweep.unread:
        eyes.sweep = None
    return report


def sweep_is_done(platform: Platform) -> bool:
    """Whether the last look has come to the end of the directory."""
    return _eyes[platform.config.input_dir].sweep is None


def tick(platform: Platform, *, most: int) -> TickReport:
    """One turn: look at files, give up expired leases, lease what waits (newest live observation first).

    Args:
        platform: the platform.
        most: bound of the observations that are leased.
    """
    report = look(platform)
    first_night, today = platform.config.partition_start, now().date()
    with platform.database.session() as session:
        ledger.release_expired(session, now(), max_attempts=platform.config.max_attempts)
        ledger.refuse_before(session, first_night, now())
        missing = planning.references_missing(session)
        if missing:
            return TickReport((), f"waiting for reference catalogues ({', '.join(missing)}); set their sources or run the job `references`")
        if (why := disk.shortage(platform.config)) is not None:
            return TickReport((), why)
        room = WAITING_RUNS_PER_WORKER * platform.config.max_workers - ledger.n_in_progress(session)
        leases = ledger.lease_pending(
            session, "sensor raw_files", max(0, min(most, room)), now(), lease_s=REQUEST_LEASE_S, nights=(first_night, today)
        )
        n_early = ledger.n_pending_after(session, today)
    works = tuple(_work(platform, lease) for lease in leases)
    counted = f"{len(report.accepted)} files accepted, {len(report.rejected)} rejected, {report.n_being_written} being written"
    summary = counted if report.n_opened or report.rejected else "no new files, nothing waiting"
    return TickReport(works, f"{summary}; {n_early} of tomorrow's date wait for 0 h UTC" if n_early else summary)


def _work(platform: Platform, lease: ledger.Lease) -> TileWork:
    made = 1 if lease.has_measurement_set else 0
    return TileWork(
        group_id=lease.group_id,
        attempt=lease.attempt,
        run_key=lease.run_key,
        night=lease.night.isoformat(),
        slot=lease.slot,
        stages=TABLE.made(Level.TILE)[made:],
        n_subbands=lease.n_subbands,
        missing_subbands=lease.missing_subbands,
        dec_deg=lease.dec_deg,
        start_mjd=lease.start_mjd,
        priority=lease.priority,
        directory=str(platform.config.input_dir.absolute()),
        is_new=not made,
    )


@dataclass(frozen=True)
class HeldObservation:
    """An observation that somebody works on, or should: ``run_id`` is None until the run that was asked for has begun."""

    group_id: str
    attempt: int
    run_id: str | None
    run_key: str
    leased_s: float


def held(platform: Platform) -> list[HeldObservation]:
    """All observations in progress; ``leased_s``: since when, seconds."""
    with platform.database.session() as session:
        groups = session.scalars(select(IngestGroup).where(IngestGroup.state == GroupState.IN_PROGRESS)).all()
    return [
        HeldObservation(g.group_id, g.attempt, g.run_id, f"{g.group_id}/{g.attempt}", (now() - (g.started_at or now())).total_seconds())
        for g in groups
    ]


def run_lives(platform: Platform, observation: HeldObservation) -> None:
    """Keep an observation for a run that still waits in the queue of runs, or works, however slow its disk is."""
    lease_s = REQUEST_LEASE_S if observation.run_id is None else platform.config.lease_s
    with platform.database.session() as session, suppress(LeaseLostError):
        ledger.renew_lease(session, observation.group_id, observation.attempt, now(), lease_s=lease_s)


def never_launched(platform: Platform, observation: HeldObservation) -> bool:
    """Give an observation back to the queue, without counting a failure, whose run was requested and never launched; whether it was."""
    with platform.database.session() as session:
        group = _still_held(session, observation)
        if group is None:
            return False
        error = ChildFailedError(
            group.group_id, "its run was never launched", "it is requested again by itself; look at the ticks of the sensor `raw_files`"
        )
        ledger.give_back(session, group.group_id, group.attempt, error, now(), delay_s=NOT_LAUNCHED_DELAY_S)
        return True


def run_died(platform: Platform, observation: HeldObservation, what: str, *, by_a_person: bool = False) -> bool:
    """Give an observation back to the queue when its run has ended without saying so; whether it was.

    ``by_a_person``: the run was cancelled before it could say anything, and the observation is not tried again by itself. A run that has said how it ended, or another attempt that has taken over meanwhile, is not disturbed.
    """
    with platform.database.session() as session:
        group = _still_held(session, observation)
        if group is None:
            return False
        error: PipelineError = ChildFailedError(
            group.group_id,
            f"{what} in stage {group.stage}",
            "it is tried again by itself; look at the run's log if it fails again",
        )
        if by_a_person:
            error = cancelled(group.group_id)
        ledger.fail(session, group.group_id, group.attempt, error, now(), max_attempts=platform.config.max_attempts, delay_s=DIED_DELAY_S)
        return True


def _still_held(session: Session, observation: HeldObservation) -> IngestGroup | None:
    """The row of an observation, locked; None when another attempt has taken over or this one has ended meanwhile."""
    group = session.get(IngestGroup, observation.group_id, with_for_update=True)
    if group is None or group.state != GroupState.IN_PROGRESS or (group.attempt, group.run_id) != (observation.attempt, observation.run_id):
        return None
    return group


def completed_lately(session: Session) -> dict[str, str]:
    """Observations that were completed in the last hour, by the run that did it."""
    query = select(IngestGroup.run_id, IngestGroup.group_id).where(
        IngestGroup.state == GroupState.COMPLETED, IngestGroup.completed_at > now() - LATELY, IngestGroup.run_id.is_not(None)
    )
    return {str(run_id): group_id for run_id, group_id in session.execute(query).tuples()}


def died_after_the_last_word(platform: Platform, group_id: str, run_id: str) -> bool:
    """Make an observation again whose run was killed when all was registered but not yet told to Dagster; whether it was."""
    with platform.database.session() as session:
        group = session.get(IngestGroup, group_id, with_for_update=True)
        if group is None or group.run_id != run_id:
            return False
        return bool(ledger.recalibrate(session, [group_id], now()))


def labels_of(platform: Platform, group_id: str) -> dict[str, str]:
    """What people filter runs by, as tags."""
    with platform.database.session() as session:
        group = session.get(IngestGroup, group_id)
    if group is None:
        return {}
    labels = {"dsa110/night": group.night.isoformat(), "dsa110/declination": f"{group.dec_deg:.1f}"}
    return labels | ({"dsa110/calibrator": group.calibrator} if group.calibrator else {})


def observations_between(platform: Platform, start: datetime, end: datetime) -> list[str]:
    """Observations that start in a window and whose collecting has ended, in order of time."""
    with platform.database.session() as session:
        query = select(IngestGroup.group_id).where(
            IngestGroup.group_id >= start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            IngestGroup.group_id < end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            IngestGroup.state != GroupState.COLLECTING,
        )
        return list(session.scalars(query.order_by(IngestGroup.group_id)))
