"""From files in the input directory to runs: scan for new files, lease what waits, follow the runs.

The sensor `raw_files` calls `tick` every few seconds.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from dsa110_assets.errors import ChildFailedError, LeaseLostError, PipelineError, RunDeletedError
from dsa110_assets.files import why_not_listable
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.scan import ScanReport, scan_directory
from dsa110_assets.ingest.sweep import Confirmed, Sweep
from dsa110_assets.ingest.timeline import SkippedSlot, Span, skipped_slots
from dsa110_assets.ingest.watch import Watcher
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.timeline import with_the_one_before
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.operations import disk, services
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.queue import planning, transits
from dsa110_assets.stages.queue.attempts import cancelled, now, stopped
from dsa110_assets.stages.queue.work import TileWork
from dsa110_assets.stages.table import TABLE

REQUEST_LEASE_S = 600.0
"""Lease of an observation whose run has not started. It is renewed while the run is in Dagster's queue."""

CALIBRATOR_PRIORITY = 1
"""Added to the priority of a calibrator's run, so that it overtakes tiles in Dagster's queue."""

NOT_LAUNCHED_DELAY_S = 30.0
"""Delay before a run that was never launched is requested again."""

DIED_DELAY_S = 5.0
"""Delay before the next attempt after a run was killed; the cause is rarely the observation itself."""

RECENTLY = timedelta(hours=1)
"""How long after its completion an observation is compared with Dagster's record of the run."""

WAITING_RUNS_PER_WORKER = 2
"""Runs requested ahead of the workers. The rest stays in the ingest queue, where the newest observation is first."""


@dataclass(frozen=True)
class TickReport:
    """Result of `tick`: work to request runs for, and a line for people."""

    works: tuple[TileWork, ...]
    summary: str


SCAN_LIMIT_S = 0.6
"""Time after which a scan of the directory leaves the rest to the next tick."""

CONFIRMED_FOR_S = 3600.0
"""How long a sweep trusts what an earlier one read from the ledger; then it reads the ledger again."""


class _Scanner:
    """Watcher and sweep of this process. If the process dies, one more sweep is needed and nothing is lost."""

    def __init__(self, platform: Platform) -> None:
        self.watcher = Watcher(platform.config.input_dir)
        self.sweep: Sweep | None = None
        self.sweep_due_at = -float("inf")
        self.unfinished: set[Path] = set()
        self.confirmed: Confirmed = {}
        self.examined: set[str] = set()
        self.forget_at = -float("inf")


_scanners: dict[Path, _Scanner] = {}


def scan_input(platform: Platform) -> ScanReport:
    """Update the queue from the input directory: the files that the watcher reports, and all files once per interval.

    A sweep over a large directory takes several calls of about `SCAN_LIMIT_S`, newest files first. So a file that the
    watcher misses is found at the latest after the interval and two sweeps (docs/developers/reliability.md has the
    figures for 100 000 files).
    """
    began = time.monotonic()
    config = platform.config
    scanner = _scanners.setdefault(config.input_dir, _Scanner(platform))
    scanner.watcher.start()
    seen = scanner.watcher.drain()
    if seen is None:
        scanner.sweep_due_at = -float("inf")
    if scanner.sweep is None and began >= scanner.sweep_due_at:
        if began >= scanner.forget_at:
            scanner.confirmed, scanner.forget_at = {}, began + CONFIRMED_FOR_S
        scanner.sweep, scanner.sweep_due_at = Sweep(config.input_dir, scanner.confirmed), began + config.scan_interval_s
    hints = scanner.unfinished = (seen or set()) | scanner.unfinished  # kept if the database does not answer
    left_s = max(0.0, SCAN_LIMIT_S - (time.monotonic() - began))
    report = scan_directory(platform.database, config.input_dir, config, now(), hints, sweep=scanner.sweep, time_limit_s=left_s)
    scanner.unfinished = set(report.not_yet)
    if scanner.sweep is None:
        if report.n_unread:
            scanner.sweep_due_at = -float("inf")
    elif scanner.sweep.is_done and not scanner.sweep.unread:
        scanner.sweep = None
    return report


def sweep_is_done(platform: Platform) -> bool:
    """Whether the last scan reached the end of the directory."""
    return _scanners[platform.config.input_dir].sweep is None


def tick(platform: Platform, *, most: int) -> TickReport:
    """Scan for files, release expired leases, and lease what waits (newest live observation first).

    Args:
        platform: the platform.
        most: largest number of observations to lease.
    """
    if (why := why_not_listable(platform.config.input_dir)) is not None:
        with platform.database.session() as session:
            ledger.release_expired(session, now(), max_attempts=platform.config.max_attempts)
        return TickReport((), f"paused: the input directory {platform.config.input_dir} {why}; work resumes automatically")
    report = scan_input(platform)
    first_night, today = platform.config.partition_start, now().date()
    with platform.database.session() as session:
        ledger.release_expired(session, now(), max_attempts=platform.config.max_attempts)
        ledger.refuse_before(session, first_night, now())
        missing = planning.references_missing(session)
        if missing:
            return TickReport((), f"waiting for reference catalogs ({', '.join(missing)}); set their sources or run the job `references`")
    if (why := disk.shortage(platform.config)) is not None:
        return TickReport((), why)
    transits.name_calibrators(platform, _scanners[platform.config.input_dir].examined)
    with platform.database.session() as session:
        room = WAITING_RUNS_PER_WORKER * platform.config.runs_at_once - ledger.n_in_progress(session)
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
    files: dict[int, Path] = {}
    skipped: list[SkippedSlot] = []
    if not made:
        with platform.database.session() as session:
            files = ledger.raw_files(session, lease.group_id)
            if lease.attempt == 1:
                spans = [Span(*row) for row in with_the_one_before(session, lease.group_id)]
                found = skipped_slots(*spans) if len(spans) == 2 else []
                skipped = [one for one in found if one.night >= platform.config.partition_start.isoformat()]
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
        priority=lease.priority + (CALIBRATOR_PRIORITY if lease.calibrator else 0),
        directory=str(platform.config.input_dir.absolute()),
        is_new=not made,
        files=tuple((subband, path.name) for subband, path in files.items()),
        skipped=tuple(skipped),
    )


@dataclass(frozen=True)
class LeasedObservation:
    """An observation in progress. ``run_id``: None until its run has started. ``leased_s``: age of the lease."""

    group_id: str
    attempt: int
    run_id: str | None
    run_key: str
    leased_s: float


def in_progress(platform: Platform) -> list[LeasedObservation]:
    """All observations in progress."""
    with platform.database.session() as session:
        groups = session.scalars(select(IngestGroup).where(IngestGroup.state == GroupState.IN_PROGRESS)).all()
    return [
        LeasedObservation(g.group_id, g.attempt, g.run_id, f"{g.group_id}/{g.attempt}", (now() - (g.started_at or now())).total_seconds())
        for g in groups
    ]


def renew_lease(platform: Platform, observation: LeasedObservation) -> None:
    """Keep an observation for its run, which is in Dagster's queue or at work."""
    lease_s = REQUEST_LEASE_S if observation.run_id is None else platform.config.lease_s
    with platform.database.session() as session, suppress(LeaseLostError):
        ledger.renew_lease(session, observation.group_id, observation.attempt, now(), lease_s=lease_s)


def return_unlaunched(platform: Platform, observation: LeasedObservation) -> bool:
    """Return an observation to the queue whose run was never launched, without counting a failure; whether it was."""
    with platform.database.session() as session:
        group = _still_leased(session, observation)
        if group is None:
            return False
        error = ChildFailedError(
            group.group_id,
            "its run was never launched, or was deleted before it began",
            "it is requested again automatically; look at the ticks of the sensor `raw_files`",
        )
        ledger.give_back(session, group.group_id, group.attempt, error, now(), delay_s=NOT_LAUNCHED_DELAY_S)
        return True


class RunEnd(StrEnum):
    """How a run ended without recording it."""

    DIED = "died"
    CANCELED = "canceled"
    DELETED = "deleted"


def return_after_death(platform: Platform, observation: LeasedObservation, run: str, end: RunEnd) -> bool:
    """Return an observation to the queue whose run ended without recording it; whether it was done.

    If a person canceled the run, the observation fails instead. A run that died with the platform's last orderly stop,
    or with that of its worker, counts as no failure. Nothing changes if the run recorded its end, or if another attempt
    has taken over.
    """
    stopped_at = services.last_stop(platform.config)
    with platform.database.session() as session:
        group = _still_leased(session, observation)
        if group is None:
            return False
        again = "it is tried again automatically; look at the run's log if it fails again"
        error: PipelineError = ChildFailedError(group.group_id, f"run {run} died in stage {group.stage}", again)
        if end is RunEnd.CANCELED:
            error = cancelled(group.group_id)
        elif end is RunEnd.DELETED:
            error = RunDeletedError(group.group_id, f"run {run} was deleted in stage {group.stage}", "another run makes it")
            group.run_id = None
        elif stopped_at is not None and group.started_at is not None and group.started_at < stopped_at:
            error = stopped(group.group_id, f"run {run} was killed")
        elif workers.was_stopped(session, run):
            error = stopped(group.group_id, f"run {run} ended with its worker")
        ledger.fail(session, group.group_id, group.attempt, error, now(), max_attempts=platform.config.max_attempts, delay_s=DIED_DELAY_S)
        return True


def _still_leased(session: Session, observation: LeasedObservation) -> IngestGroup | None:
    """The row of an observation, locked; None if its attempt has ended or another one has taken over."""
    group = session.get(IngestGroup, observation.group_id, with_for_update=True)
    if group is None or group.state != GroupState.IN_PROGRESS or (group.attempt, group.run_id) != (observation.attempt, observation.run_id):
        return None
    return group


def completed_recently(session: Session) -> dict[str, str]:
    """Observations that were completed in the last hour, by the run that completed them."""
    query = select(IngestGroup.run_id, IngestGroup.group_id).where(
        IngestGroup.state == GroupState.COMPLETED, IngestGroup.completed_at > now() - RECENTLY, IngestGroup.run_id.is_not(None)
    )
    return {str(run_id): group_id for run_id, group_id in session.execute(query).tuples()}


def repeat_unreported(platform: Platform, group_id: str, run_id: str) -> bool:
    """Queue a completed observation again whose run died before Dagster recorded its products; whether it was done."""
    with platform.database.session() as session:
        group = session.get(IngestGroup, group_id, with_for_update=True)
        if group is None or group.run_id != run_id:
            return False
        return bool(ledger.recalibrate(session, [group_id], now()))


def forget_runs(session: Session, deleted: Collection[str]) -> None:
    """Let no observation that has ended name a run that Dagster does not have any more."""
    ended = IngestGroup.state.not_in((GroupState.PENDING, GroupState.IN_PROGRESS))
    session.execute(update(IngestGroup).where(IngestGroup.run_id.in_(list(deleted)), ended).values(run_id=None))


def runs_named(session: Session) -> list[str]:
    """Runs that observations name."""
    return [str(one) for one in session.scalars(select(IngestGroup.run_id).where(IngestGroup.run_id.is_not(None)))]


def labels_of(platform: Platform, group_id: str) -> dict[str, str]:
    """Tags of an observation's runs, by which people filter them."""
    with platform.database.session() as session:
        group = session.get(IngestGroup, group_id)
    if group is None:
        return {}
    labels = {"dsa110/night": group.night.isoformat(), "dsa110/declination": f"{group.dec_deg:.1f}"}
    return labels | ({"dsa110/calibrator": group.calibrator} if group.calibrator else {})


def observations_between(platform: Platform, start: datetime, end: datetime) -> list[str]:
    """Observations that start in a window and are no longer collecting, in order of time."""
    with platform.database.session() as session:
        query = select(IngestGroup.group_id).where(
            IngestGroup.group_id >= start.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            IngestGroup.group_id < end.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            IngestGroup.state != GroupState.COLLECTING,
        )
        return list(session.scalars(query.order_by(IngestGroup.group_id)))
