"""Sensors: new raw files become runs; finished tiles, calibrators and hours pull what follows; dead runs are noticed.

Exactly-once is the registry's business (leases, versions in the run keys), not Dagster's memory. What does not belong
here: deciding what is ready (`stages.queue.intake`, `stages.queue.planning`).
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import dagster as dg

from dsa110_assets.orchestration import jobs
from dsa110_assets.orchestration.backfills import nights_in_backfills
from dsa110_assets.orchestration.partitions import hour_key, tile_key
from dsa110_assets.orchestration.private import AssetJob
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import ATTEMPT_TAG, GROUP_TAG, PASSES
from dsa110_assets.stages.queue.work import FollowUp, TileWork
from dsa110_assets.stages.table import RAW_SUBBANDS

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

LAUNCH_LIMIT_S = 30.0
"""A run that was asked for is in Dagster's queue well before this; if not, daemon or code server died in between."""

MOST_REQUESTS_PER_TICK = 20
"""A run request costs 0.15-0.35 s of the sensor's time."""

WORK_TAG = "dsa110/work"
MOST_ASKED = 20
"""Runs for one piece of work that may fail before nobody asks for another."""

ASK_AGAIN_S = 2.0
LONGEST_PAUSE_S = 300.0
"""Pause before a second run is asked for, doubled with each further one up to the longest."""

FOLLOWED = ("calibration", "hour", "night", "mosaic_of_the_night", "references")
"""Jobs that `stages.queue.planning` asks for."""

FOLLOW_UP_PRIORITY = "20"
"""Before any tile (live 10, backfill 0): tables release observations, and a finished hour is what people wait for."""


def _raw_subbands(work: TileWork) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        RAW_SUBBANDS.name,
        partition=tile_key(work.night, work.slot),
        description=f"Observation {work.group_id}, attempt {work.attempt}",
        metadata={
            "observation": work.group_id,
            "subbands": work.n_subbands,
            "missing subbands": ", ".join(f"sb{n:02d}" for n in work.missing_subbands) or "none",
            "declination (deg)": work.dec_deg,
            "start (UTC MJD)": work.start_mjd,
            "directory": dg.MetadataValue.path(work.directory),
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


@dg.sensor(
    name="raw_files",
    job_name=jobs.TILE,
    minimum_interval_seconds=3,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Watches the input directory, groups subbands into observations, and asks for one run for each. Switch it off to stop ingest.",
)
def raw_files(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult | dg.SkipReason:
    """New files to runs."""
    from dsa110_assets.stages.queue import intake

    if (why := platform.unconfigured()) is not None:
        return dg.SkipReason(why)
    report = intake.tick(platform.open(), most=MOST_REQUESTS_PER_TICK)
    if not report.works:
        return dg.SkipReason(report.summary)
    return dg.SensorResult(
        run_requests=[_tile_request(work) for work in report.works],
        asset_events=[_raw_subbands(work) for work in report.works if work.is_new],
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
            "dagster/max_retries": "0",  # this sensor asks again
            "dagster/priority": FOLLOW_UP_PRIORITY,
            "dsa110/because": work.reason[:250],
            **({"dsa110/night": work.night} if work.night else {}),
        },
    )


@dg.sensor(
    name="follow_up",
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for what has become possible: solutions when a calibrator has passed, an hour when its tiles are all there, light curves when an hour was measured.",
)
def follow_up(context: dg.SensorEvaluationContext, platform: PlatformResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """What has become possible."""
    from dsa110_assets.stages.operations import disk
    from dsa110_assets.stages.queue import planning

    if (why := platform.unconfigured()) is not None:
        yield dg.SkipReason(why)
        return
    opened = platform.open()
    if (why := disk.shortage(opened.config)) is not None:
        yield dg.SkipReason(why)
        return
    busy = nights_in_backfills(context.instance)
    waiting: list[str] = []
    asked = False
    for work in planning.follow_ups(opened, busy)[:MOST_REQUESTS_PER_TICK]:
        failed, pause_s = failures_that_pass(context.instance, work.run_key)
        if pause_s > 0:
            waiting.append(f"{work.run_key}: asked for again in {pause_s:.0f} s, after {failed} failures that may pass")
        else:
            asked = True
            yield _follow_up_request(work, failed)
    if not asked:
        held_back = [f"backfills work on {', '.join(sorted(busy))}"] if busy else []
        yield dg.SkipReason("; ".join(["nothing new has become possible", *held_back, *waiting]))


def failures_that_pass(instance: dg.DagsterInstance, work_key: str) -> tuple[int, float]:
    """Failed runs for a piece of work that say nothing about the next one, and seconds until another one may be asked for.

    Such runs were killed, or failed by something that may pass: a typed error that says so, or Dagster's own trouble with its
    database. A typed error that cannot pass stays as it is until an input changes.
    """
    filters = dg.RunsFilter(tags={WORK_TAG: work_key}, statuses=[dg.DagsterRunStatus.FAILURE])
    records = [r for r in instance.get_run_records(filters, limit=MOST_ASKED) if not _failed_for_good(instance, r.dagster_run.run_id)]
    if not records:
        return 0, 0.0
    since = (datetime.now(UTC) - max(record.update_timestamp for record in records)).total_seconds()
    return len(records), min(ASK_AGAIN_S * 2.0 ** (len(records) - 1), LONGEST_PAUSE_S) - since


def _failed_for_good(instance: dg.DagsterInstance, run_id: str) -> bool:
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure = entry.dagster_event.step_failure_data if entry.dagster_event is not None else None
        told = failure.user_failure_data if failure is not None else None
        if told is not None and told.metadata.get(PASSES) == dg.MetadataValue.bool(False):
            return True
    return False


@dg.sensor(
    name="dead_runs",
    job_name=jobs.TILE,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Gives an observation back to the queue when its run died without saying why (killed, out of memory) or was never launched; one whose run was cancelled has failed.",
)
def dead_runs(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SkipReason:
    """Compare who should work with who does. The ledger is read first: a run that ends meanwhile has said so in it.

    An observation that is completed by a run of which Dagster never heard the end is made again, so that both say the same.
    """
    from dsa110_assets.stages.queue import intake

    if (why := platform.unconfigured()) is not None:
        return dg.SkipReason(why)
    opened = platform.open()
    ended: list[str] = []
    observations = intake.held(opened)
    for one in observations:
        run = _run_of(context.instance, one.run_id, one.run_key)
        if run is None:
            if one.run_id is None and one.leased_s > LAUNCH_LIMIT_S and intake.never_launched(opened, one):
                ended.append(one.group_id)
        elif run.is_finished:
            if intake.run_died(opened, one, f"run {run.run_id} died", by_a_person=run.status == dg.DagsterRunStatus.CANCELED):
                ended.append(one.group_id)
        else:
            intake.run_lives(opened, one)
    ended += _untold(context.instance, opened)
    return dg.SkipReason(f"{len(observations)} observations in progress; without a run by now: {', '.join(ended) or 'none'}")


def _untold(instance: dg.DagsterInstance, opened: "Platform") -> list[str]:
    """Observations that were completed by runs of which Dagster has not heard the end; they are made again."""
    from dsa110_assets.stages.queue import intake

    with opened.database.session() as session:
        completed = intake.completed_lately(session)
    if not completed:
        return []
    failed = instance.get_runs(dg.RunsFilter(run_ids=list(completed), statuses=[dg.DagsterRunStatus.FAILURE]))
    silent = [run.run_id for run in failed if _says_nothing(instance, run.run_id)]
    return [completed[run_id] for run_id in silent if intake.died_after_the_last_word(opened, completed[run_id], run_id)]


def _says_nothing(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a failed run was killed, or lost Dagster's database: then Dagster may not know all that it has made."""
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
    """The sensors; `follow_up` targets the jobs that planning may ask for."""
    return [raw_files, follow_up.with_updated_jobs([known[name] for name in FOLLOWED]), dead_runs]
