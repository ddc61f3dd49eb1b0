"""Sensors: new raw files become runs; finished tiles, calibrators and hours pull what follows; dead runs are noticed.

Exactly-once is the registry's business (leases, versions in the run keys), not Dagster's memory. What does not belong
here: deciding what is ready (`stages.intake`, `stages.planning`).
"""

from collections.abc import Iterator

import dagster as dg

from dsa110_assets.orchestration import jobs
from dsa110_assets.orchestration.backfills import nights_in_backfills
from dsa110_assets.orchestration.partitions import hour_key, tile_key
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import ATTEMPT_TAG, GROUP_TAG
from dsa110_assets.stages.work import FollowUp, TileWork

MOST_REQUESTS_PER_TICK = 20
"""A run request costs 0.15-0.35 s of the sensor's time."""

FOLLOW_UP_PRIORITY = "20"
"""Before any tile (live 10, backfill 0): tables release observations, and a finished hour is what people wait for."""


def _raw_subbands(work: TileWork) -> dg.AssetMaterialization:
    return dg.AssetMaterialization(
        "raw_subbands",
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
        job_name=jobs.tile_job.name,
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
    target=jobs.tile_job,
    minimum_interval_seconds=3,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Watches the input directory, groups subbands into observations, and asks for one run for each. Switch it off to stop ingest.",
)
def raw_files(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult | dg.SkipReason:
    """New files to runs."""
    from dsa110_assets.stages import intake

    report = intake.tick(platform.open(), most=MOST_REQUESTS_PER_TICK)
    if not report.works:
        return dg.SkipReason(report.summary)
    return dg.SensorResult(
        run_requests=[_tile_request(work) for work in report.works],
        asset_events=[_raw_subbands(work) for work in report.works if work.is_new],
        cursor=context.cursor,
    )


def _follow_up_request(work: FollowUp) -> dg.RunRequest:
    partition = hour_key(work.night, work.hour) if work.night is not None and work.hour is not None else work.night
    return dg.RunRequest(
        run_key=work.run_key,
        job_name=work.job,
        partition_key=partition,
        tags={
            "dagster/priority": FOLLOW_UP_PRIORITY,
            "dsa110/because": work.reason[:250],
            **({"dsa110/night": work.night} if work.night else {}),
        },
    )


@dg.sensor(
    name="follow_up",
    jobs=[jobs.calibration_job, jobs.hour_job, jobs.night_job, jobs.nightly_mosaic_job, jobs.references_job],
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Asks for what has become possible: solutions when a calibrator has passed, an hour when its tiles are all there, light curves when an hour was measured.",
)
def follow_up(context: dg.SensorEvaluationContext, platform: PlatformResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
    """What has become possible."""
    from dsa110_assets.stages import disk, planning

    opened = platform.open()
    if (why := disk.shortage(opened.config)) is not None:
        yield dg.SkipReason(why)
        return
    busy = nights_in_backfills(context.instance)
    works = planning.follow_ups(opened, busy)[:MOST_REQUESTS_PER_TICK]
    if not works:
        yield dg.SkipReason("nothing new has become possible" + (f"; backfills work on {', '.join(sorted(busy))}" if busy else ""))
    for work in works:
        yield _follow_up_request(work)


@dg.run_status_sensor(
    name="dead_runs",
    run_status=dg.DagsterRunStatus.FAILURE,
    monitored_jobs=[jobs.tile_job],
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Gives an observation back to the queue when its run died without saying why (killed, out of memory).",
)
def dead_runs(context: dg.RunStatusSensorContext, platform: PlatformResource) -> None:
    """Runs that ended without their stage having recorded a failure."""
    from dsa110_assets.stages import intake

    group_id = context.dagster_run.tags.get(GROUP_TAG)
    if group_id is not None:
        intake.run_died(platform.open(), group_id, context.dagster_run.run_id)


SENSORS = (raw_files, follow_up, dead_runs)
