"""The housekeeping job, and schedules: daily housekeeping, hourly checks of stale products and of tiles."""

from typing import Any

import dagster as dg
from pydantic import Field

from dsa110_assets.orchestration.metadata import table
from dsa110_assets.orchestration.private import deleted_runs
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import explained_failures


class CleanRequest(dg.Config):
    """Options of the housekeeping."""

    dry_run: bool = Field(default=False, description="Show what would be removed; remove nothing.")


@dg.op(description="Removes what the retention rules allow; the same as `dsa110 clean`.")
def clean(context: dg.OpExecutionContext, config: CleanRequest, platform: PlatformResource) -> None:
    """Plan the removals, carry them out, list them."""
    from dsa110_assets.stages.operations import disk, housekeeping
    from dsa110_assets.stages.queue.attempts import now

    with explained_failures():
        opened, when = platform.open(), now()
        removals = housekeeping.plan(opened, when)
        if not config.dry_run:
            removals = housekeeping.carry_out(opened, removals, when)
        full = disk.forecast(opened, when)
    problems = [one for one in removals if one.problem]
    metadata: dict[str, Any] = {
        "removed_mb": sum(one.size_bytes for one in removals if not one.problem) / 1e6,
        "dry run": config.dry_run,
        "not removed": len(problems),
        "days until full": ", ".join(f"{place}: {days}" for place, days in full.items()) or "does not fill",
    }
    if removals:
        metadata["removals"] = table(
            [
                {"rule": one.rule, "what": one.what, "mb": one.size_bytes / 1e6, "why": one.problem or one.reason}
                for one in [*problems, *removals][:200]
            ]
        )
    context.add_output_metadata(metadata)


@dg.op(description="Deletes old runs of Dagster with their events and captured output; the last materialization of each partition stays.")
def forget_runs(context: dg.OpExecutionContext, config: CleanRequest, platform: PlatformResource) -> None:
    """Delete what the retention of Dagster's history allows, and count it."""
    from dsa110_assets.orchestration import history
    from dsa110_assets.stages.queue import intake
    from dsa110_assets.stages.queue.attempts import now

    with explained_failures():
        opened, when = platform.open(), now()
        metadata: dict[str, Any] = {"dry run": config.dry_run}
        if config.dry_run:
            metadata["runs"] = history.count_old_runs(opened.config, when)
        else:
            gone = history.forget(opened.config, when)
            with opened.database.session() as session:
                intake.forget_runs(session, deleted_runs(context.instance, intake.runs_named(session)))
            metadata |= {"runs": gone.runs, "events": gone.events, "finished": gone.finished}
    context.add_output_metadata(metadata)


@dg.config_mapping
def one_request(request: CleanRequest) -> dict[str, Any]:
    """The same options for both steps."""
    return {"ops": {op.name: {"config": {"dry_run": request.dry_run}} for op in (clean, forget_runs)}}


housekeeping_job = dg.GraphDefinition(
    name="cleaning", node_defs=[clean, forget_runs], description="Removes what the retention rules allow; a dry run lists it."
).to_job(name="housekeeping", config=one_request)
SCHEDULES = (
    dg.ScheduleDefinition(
        name="housekeeping_at_1500_utc",
        job=housekeeping_job,
        cron_schedule="0 15 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Once a day, in the early morning at the telescope.",
    ),
    dg.ScheduleDefinition(
        name="stale_products_hourly",
        job_name="look_for_stale",
        cron_schedule="40 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Updates the table of stale products every hour.",
    ),
    dg.ScheduleDefinition(
        name="tile_quality_hourly",
        job_name="look_at_tiles",
        cron_schedule="20 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Checks the tiles of the last day every hour.",
    ),
)
