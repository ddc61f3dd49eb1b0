"""The nightly mosaic at 03:00 UTC."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dsa110_assets.orchestration.jobs import nightly_mosaic_job
from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource


def night_before(partitions: Partitions, when: datetime) -> str | None:
    """The newest night that had ended at a time; None before the first."""
    yesterday = (when.astimezone(UTC) - timedelta(days=1)).date()
    return yesterday.isoformat() if yesterday >= partitions.night.start.date() else None


def build(partitions: Partitions) -> dg.ScheduleDefinition:
    """The schedule; it targets the newest complete night, and skips nights without images."""

    @dg.schedule(
        name="nightly_mosaic_at_0300_utc",
        job=nightly_mosaic_job,
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Mosaic of the night before, at 03:00 UTC; skipped when the night has no images.",
    )
    def nightly_mosaic_at_0300_utc(context: dg.ScheduleEvaluationContext, platform: PlatformResource) -> dg.RunRequest | dg.SkipReason:
        from dsa110_assets.stages import planning

        night = night_before(partitions, context.scheduled_execution_time)
        if night is None or not planning.has_images(platform.open(), night):
            return dg.SkipReason(f"night {night} has no images")
        return dg.RunRequest(run_key=night, partition_key=night)

    return nightly_mosaic_at_0300_utc
