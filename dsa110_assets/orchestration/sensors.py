"""The sensors: request runs for new raw files and for what follows from finished products; detect dead runs.

`stages.queue.intake` and `stages.queue.planning` decide what is ready. The registry ensures that everything is made
once, with leases and with versions in the run keys; Dagster's memory is not needed for it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest.timeline import SkippedSlot, SlotState
from dsa110_assets.orchestration import jobs
from dsa110_assets.orchestration.backfills import nights_in_backfills
from dsa110_assets.orchestration.cluster import lost_runs
from dsa110_assets.orchestration.links import day_page, observation_page, runs_of
from dsa110_assets.orchestration.metadata import table
from dsa110_assets.orchestration.partitions import hour_key, tile_key
from dsa110_assets.orchestration.private import AssetJob, deleted_runs, free_slots_without_run, is_run_of_dagster
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import ATTEMPT_TAG, GROUP_TAG, IS_RETRIABLE, WORK_TAG
from dsa110_assets.stages.queue.work import FollowUp, TileWork
from dsa110_assets.stages.table import RAW_SUBBANDS

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform
    from dsa110_assets.stages.queue.intake import LeasedObservation

LAUNCH_LIMIT_S = 30.0
"""A requested run is in Dagster's queue well before this, unless the daemon or the code server died."""

MOST_REQUESTS_PER_TICK = 20
"""A run request costs 0.15-0.35 s of the sensor's time."""

MOST_FAILURES = 20
"""Failed runs of one piece of work that are counted."""

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 300.0
"""Pause before a second run is requested, doubled with each further one up to the longest."""

FOLLOW_UP_JOBS = ("calibration", "hour", "night", "mosaic_of_the_night", "references")
"""Jobs of the work that `stages.queue.planning` finds."""

FOLLOW_UP_PRIORITY = "20"
"""Before any tile (live 10, backfill 0): tables release observations, and people wait for finished hours."""


def _raw_subbands(work: TileWork, config: PipelineConfig) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        RAW_SUBBANDS.name,
        partition=tile_key(work.night, work.slot),
        description=f"Observation {work.group_id}, attempt {work.attempt}",
        metadata={
            "observation": work.group_id,
            "page": dg.MetadataValue.url(observation_page(config, work.group_id)),
            "runs": dg.MetadataValue.url(runs_of(config, work.group_id)),
            "subbands": work.n_subbands,
            "missing_subbands": ", ".join(f"sb{n:02d}" for n in work.missing_subbands) or "none",
            "declination_deg": work.dec_deg,
            "start_mjd": work.start_mjd,
            "directory": dg.MetadataValue.path(work.directory),
            "files": table([{"subband": f"sb{number:02d}", "file": file} for number, file in work.files] or [{"file": "none is left"}]),
        },
    )


def _tile_request(work: TileWork) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=work.run_key,
        job_name=jobs.TILE,
        partition_key=tile_key(work.night, work.slot),
        asset_selection=[dg.AssetKey(name) for name in work.stages],
        tags={
            GROUP_TAG: work.group_id,
            ATTEMPT_TAG: str(work.attempt),
            "dsa110/night": work.night,
            "dsa110/declination": f"{work.dec_deg:.1f}",
            "dagster/priority": str(work.priority),
        },
    )


def _skipped(slot: SkippedSlot, config: PipelineConfig) -> dg.AssetObservation:
    """Say on a slot without an observation whether one runs through it or time was lost; Dagster calls both missing."""
    what = {
        SlotState.EMPTY: "Empty: no observation begins in this slot; the one before runs through it. Nothing is missing.",
        SlotState.MISSING: f"Missing: for {slot.missing_s:.0f} s of this slot nothing was observed.",
    }[slot.state]
    return dg.AssetObservation(
        RAW_SUBBANDS.name,
        partition=tile_key(slot.night, slot.slot),
        description=what,
        metadata={"slot": slot.state.value, "missing_s": slot.missing_s, "page": dg.MetadataValue.url(day_page(config, slot.night))},
    )


@dg.sensor(
    name="raw_files",
    job_name=jobs.TILE,
    minimum_interval_seconds=3,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Watches the input directory, groups subbands into observations, and requests a run for each. Switch it off to stop ingest.",
)
def raw_files(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult | dg.SkipReason:
    """Request runs for new observations."""
    from dsa110_assets.stages.queue import intake

    if (why := platform.unconfigured()) is not None:
        return dg.SkipReason(why)
    opened = platform.open(validate_paths=False)
    report = intake.tick(opened, most=MOST_REQUESTS_PER_TICK)
    if not report.works:
        return dg.SkipReason(report.summary)
    return dg.SensorResult(
        run_requests=[_tile_request(work) for work in report.works],
        asset_events=[
            *(_raw_subbands(work, opened.config) for work in report.works if work.is_new),
            *(_skipped(slot, opened.config) for work in report.works for slot in work.skipped),
        ],
        cursor=context.cursor,
    )


def _follow_up_request(work: FollowUp, failed: int) -> dg.RunRequest:
    partition = hour_key(work.night, work.hour) if work.night is not None and work.hour is not None else work.night
    return dg.RunRequest(
        run_key=f"{work.run_key}/{failed}" if failed else work.run_key,  # a remembered key must not stop a second run (pitfall 27)
        job_name=work.job,
        partition_key=partition,
        tags={
            WORK_TAG: work.run_key,
            "dagster/max_retries": "0",  # this sensor requests again
            "dagster/priority": FOLLOW_UP_PRIORITY,
            "dsa110/because": work.reason[:250],
            **({"dsa110/night": work.night} if work.night else {}),
        },
    )


@dg.sensor(
    name="follow_up",
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Requests work that is due: tables after a calibrator's transit, an hour when its tiles are complete, light curves and candidates when a night has ended.",
)
def follow_up(context: dg.SensorEvaluationContext, platform: PlatformResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """Request runs for the work that is due."""
    from dsa110_assets.stages.operations import disk
    from dsa110_assets.stages.queue import planning

    if (why := platform.unconfigured()) is not None:
        yield dg.SkipReason(why)
        return
    opened = platform.open(validate_paths=False)
    if (why := disk.shortage(opened.config)) is not None:
        yield dg.SkipReason(why)
        return
    busy = nights_in_backfills(context.instance)
    waiting: list[str] = []
    requested = 0
    for work in work_to_request(context.instance, lambda settled: planning.follow_ups(opened, busy, settled)):
        failed, pause_s = temporary_failures(context.instance, work.run_key)
        if pause_s > 0:
            waiting.append(f"{work.run_key}: requested again in {pause_s:.0f} s, after {failed} temporary failures")
        elif requested < MOST_REQUESTS_PER_TICK:
            requested += 1
            yield _follow_up_request(work, failed)
    if not requested:
        held_back = [f"backfills work on {', '.join(sorted(busy))}"] if busy else []
        yield dg.SkipReason("; ".join(["no work is due", *held_back, *waiting]))


_settled: set[str] = set()
"""Run keys whose run has ended and is not repeated, as found in earlier ticks."""


def work_to_request(instance: dg.DagsterInstance, due: Callable[[Collection[str]], list[FollowUp]]) -> list[FollowUp]:
    """Work that is due and that a run may be requested for, in the order of ``due``.

    Work whose run succeeded, was canceled or failed permanently is due until an input changes. ``due`` is asked again
    without it, because planning returns a limited number, and such work must not hide older work.
    """
    while True:
        found = due(_settled)
        ended = {work.run_key for work in found if _is_settled(instance, work.run_key)}
        if not ended:
            return found
        _settled.update(ended)


def _is_settled(instance: dg.DagsterInstance, work_key: str) -> bool:
    run = next(iter(instance.get_runs(dg.RunsFilter(tags={WORK_TAG: work_key}), limit=1)), None)
    if run is None or not run.is_finished:
        return False
    return run.status != dg.DagsterRunStatus.FAILURE or _failed_permanently(instance, run.run_id)


def temporary_failures(instance: dg.DagsterInstance, work_key: str) -> tuple[int, float]:
    """Number of temporary failures of a piece of work, and seconds until the next run may be requested.

    A temporary failure is a killed run, a retriable error, or a failure of Dagster's own database. After a permanent
    error the work waits until an input changes.
    """
    filters = dg.RunsFilter(tags={WORK_TAG: work_key}, statuses=[dg.DagsterRunStatus.FAILURE])
    records = [r for r in instance.get_run_records(filters, limit=MOST_FAILURES) if not _failed_permanently(instance, r.dagster_run.run_id)]
    if not records:
        return 0, 0.0
    since = (datetime.now(UTC) - max(record.update_timestamp for record in records)).total_seconds()
    return len(records), min(FIRST_PAUSE_S * 2.0 ** (len(records) - 1), LONGEST_PAUSE_S) - since


def _failed_permanently(instance: dg.DagsterInstance, run_id: str) -> bool:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure = entry.dagster_event.step_failure_data if entry.dagster_event is not None else None
        explained = failure.user_failure_data if failure is not None else None
        if explained is not None and explained.metadata.get(IS_RETRIABLE) == dg.MetadataValue.bool(False):
            return True
    return False


@dg.sensor(
    name="dead_runs",
    job_name=jobs.TILE,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Returns an observation to the queue if its run died without an error (killed, out of memory), was deleted or was never launched. An observation whose run was canceled becomes failed. Frees pool slots of deleted runs.",
)
def dead_runs(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SkipReason:
    """Compare the observations in progress with Dagster's runs.

    The ledger is read first, so a run that ends meanwhile has already recorded it there. An observation is made again
    if its run completed it but died before Dagster recorded the end, so that both records agree.
    """
    from dsa110_assets.stages.queue import intake

    if (why := platform.unconfigured()) is not None:
        return dg.SkipReason(why)
    opened = platform.open(validate_paths=False)
    if opened.config.profile == "distributed":
        lost_runs.end_lost(context.instance, opened)
    ended: list[str] = []
    observations = intake.in_progress(opened)
    for one in observations:
        run = _run_of(context.instance, one.run_id, one.run_key)
        if run is not None and not run.is_finished:
            intake.renew_lease(opened, one)
        elif _return_to_queue(opened, one, run):
            ended.append(one.group_id)
    ended += _repeat_unreported(context.instance, opened)
    if freed := free_slots_without_run(context.instance):
        context.log.info("freed the pool slots of deleted runs: %s", ", ".join(freed))
    return dg.SkipReason(f"{len(observations)} observations in progress; without a run: {', '.join(ended) or 'none'}")


def _return_to_queue(opened: "Platform", one: "LeasedObservation", run: dg.DagsterRun | None) -> bool:
    """Return an observation whose run has ended or is not there; whether it was done."""
    from dsa110_assets.stages.queue import intake

    if run is not None:
        end = intake.RunEnd.CANCELED if run.status == dg.DagsterRunStatus.CANCELED else intake.RunEnd.DIED
        return intake.return_after_death(opened, one, run.run_id, end)
    if one.run_id is None:
        return one.leased_s > LAUNCH_LIMIT_S and intake.return_unlaunched(opened, one)
    return is_run_of_dagster(one.run_id) and intake.return_after_death(opened, one, one.run_id, intake.RunEnd.DELETED)


def _repeat_unreported(instance: dg.DagsterInstance, opened: "Platform") -> list[str]:
    """Make observations again that were completed by runs whose end Dagster did not record; return them.

    Observations whose run was deleted after it completed them do not name it any more.
    """
    from dsa110_assets.stages.queue import intake

    with opened.database.session() as session:
        completed = intake.completed_recently(session)
        if deleted := deleted_runs(instance, completed):
            intake.forget_runs(session, deleted)
    if not completed:
        return []
    failed = instance.get_runs(dg.RunsFilter(run_ids=list(completed), statuses=[dg.DagsterRunStatus.FAILURE]))
    killed = [run.run_id for run in failed if _was_killed(instance, run.run_id)]
    return [completed[run_id] for run_id in killed if intake.repeat_unreported(opened, completed[run_id], run_id)]


def _was_killed(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a failed run was killed, or lost Dagster's database; Dagster may then lack some of its products."""
    failures = [
        entry.dagster_event.step_failure_data
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        if entry.dagster_event is not None
    ]
    return not failures or any(one.error is not None and "OperationalError" in one.error.to_string() for one in failures)


def _run_of(instance: dg.DagsterInstance, run_id: str | None, run_key: str) -> dg.DagsterRun | None:
    if run_id is not None:
        return instance.get_run_by_id(run_id)
    return next(iter(instance.get_runs(dg.RunsFilter(tags={"dagster/run_key": run_key}), limit=1)), None)


def build(known: Mapping[str, AssetJob]) -> list[dg.SensorDefinition]:
    """Return the sensors; `follow_up` targets the jobs of the work that planning finds."""
    return [raw_files, follow_up.with_updated_jobs([known[name] for name in FOLLOW_UP_JOBS]), dead_runs]
