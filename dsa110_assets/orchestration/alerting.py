"""Alerts: a sensor that tells log and webhook what needs a person, once when it appears and once when it has passed.

Disk and registry are asked by `stages.operations.alerts`; here are added what only Dagster knows: products that are not fresh, failed runs.
What does not belong here: what a person does about it (`docs/operators/playbook.md`).
"""

from __future__ import annotations

import json
from datetime import timedelta

import dagster as dg

from dsa110_assets.orchestration.panel import watched
from dsa110_assets.orchestration.private import FreshnessState, freshness_states
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.stages.operations.alerts import Alert

RUNS_REMEMBERED = timedelta(days=1)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the log and PIPELINE_ALERT_WEBHOOK_URL what needs a person. What is open is in the last tick's message.",
)
def alerts(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Look, compare with the last time, tell."""
    from dsa110_assets.stages.operations import alerts as messages
    from dsa110_assets.stages.queue.attempts import now

    if (why := platform.unconfigured()) is not None:
        return dg.SensorResult(skip_reason=why, cursor=context.cursor)
    opened = platform.open()
    before: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
    present = [*messages.conditions(opened, now()), *not_fresh(context.instance), *failed_runs(context.instance)]
    new, passed = messages.changes(before, present)
    messages.deliver(opened.config, new, passed)  # when it fails the cursor stays, and the next tick tells again
    summary = "; ".join(alert.line() for alert in present) or "nothing needs attention"
    return dg.SensorResult(skip_reason=summary[:2000], cursor=json.dumps({alert.key: alert.title for alert in present}))


def not_fresh(instance: dg.DagsterInstance) -> list[Alert]:
    """Assets that have not been made for longer than their policy allows, as the freshness daemon judged them."""
    found: list[Alert] = []
    for name, state in freshness_states(instance, watched()).items():
        if state in (FreshnessState.FAIL, FreshnessState.WARN):
            level = "error" if state == FreshnessState.FAIL else "warning"
            title = f"{name} has not been made for longer than its freshness policy allows ({state.value.lower()})"
            found.append(Alert(f"not-fresh/{name}/{level}", level, title, f"look at the asset {name} and what is upstream of it"))
    return found


def failed_runs(instance: dg.DagsterInstance) -> list[Alert]:
    """Runs that have failed for good in the last day and have not been made up for; those of one observation are told from the ingest queue."""
    from dsa110_assets.stages.queue.attempts import now

    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now() - RUNS_REMEMBERED)
    found: list[Alert] = []
    for record in instance.get_run_records(filters, limit=50):
        run = record.dagster_run
        if GROUP_TAG in run.tags or run.tags.get("dagster/did_retry") == "true" or _made_up_for(instance, record):
            continue
        partition = run.tags.get("dagster/partition", "")
        what = f"{run.job_name} {partition}".strip() if not run.job_name.startswith("__") else f"backfill run {partition}".strip()
        title = f"{what} failed: {cause_of(instance, run.run_id)}"
        found.append(
            Alert(f"run-failed/{run.run_id}", "error", title, f"open run {run.run_id[:8]} in the UI; re-execute it when the cause is gone")
        )
    return found


def _made_up_for(instance: dg.DagsterInstance, failed: dg.RunRecord) -> bool:
    """Whether a later run of the same partition has made what this one should have made, or the same job has succeeded since."""
    run = failed.dagster_run
    partition = run.tags.get("dagster/partition")
    later = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.SUCCESS],
        created_after=failed.create_timestamp,
        job_name=None if partition else run.job_name,
        tags={"dagster/partition": partition} if partition else None,
    )
    wanted = run.asset_selection or frozenset()
    return any(one.job_name == run.job_name or (one.asset_selection or frozenset()) >= wanted for one in instance.get_runs(later, limit=20))


def cause_of(instance: dg.DagsterInstance, run_id: str) -> str:
    """What the first failed step of a run said; a run that was killed says nothing."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure = entry.dagster_event.step_failure_data if entry.dagster_event is not None else None
        if failure is not None and failure.user_failure_data is not None and failure.user_failure_data.description:
            return " ".join(failure.user_failure_data.description.split())[:300]
        if failure is not None and failure.error is not None:
            return " ".join(failure.error.message.split())[:300]
    return "its process died"
