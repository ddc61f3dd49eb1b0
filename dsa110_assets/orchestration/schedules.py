"""Schedules after a night: its mosaic at 03:00 UTC, injection and recovery of artificial sources at 04:00 UTC."""

from datetime import UTC, datetime, timedelta

import dagster as dg

from dsa110_assets.orchestration.partitions import Partitions
from dsa110_assets.orchestration.resources import PlatformResource


def night_before(partitions: Partitions, when: datetime) -> str | None:
    """The newest night that had ended at a time; None before the first night."""
    yesterday = (when.astimezone(UTC) - timedelta(days=1)).date()
    return yesterday.isoformat() if yesterday >= partitions.night.start.date() else None


def build(partitions: Partitions) -> list[dg.ScheduleDefinition]:
    """Return the schedules; each makes the newest complete night, and skips a night without images."""
    return [
        _after_the_night(
            partitions,
            "nightly_mosaic_at_0300_utc",
            "mosaic_of_the_night",
            "0 3 * * *",
            "Mosaic of the night before, at 03:00 UTC; skipped if the night has no images.",
        ),
        _after_the_night(
            partitions,
            "injection_recovery_at_0400_utc",
            "injections",
            "0 4 * * *",
            "Injects artificial sources into the data of the night before, at 04:00 UTC; skipped if the night has no images.",
        ),
    ]


def _after_the_night(partitions: Partitions, name: str, job: str, cron_schedule: str, description: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=name,
        job_name=job,
        cron_schedule=cron_schedule,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description=description,
    )
    def after_the_night(context: dg.ScheduleEvaluationContext, platform: PlatformResource) -> dg.RunRequest | dg.SkipReason:
        from dsa110_assets.stages.queue import planning

        night = night_before(partitions, context.scheduled_execution_time)
        if night is None or not planning.has_images(platform.open(), night):
            return dg.SkipReason(f"night {night} has no images")
        return dg.RunRequest(run_key=night, partition_key=night)

    return after_the_night
