"""The sensor `alerts`: report a condition that needs a person to log and webhook, when it appears and when it passes.

`stages.operations.alerts` checks disk and registry. This module adds conditions that only Dagster knows: products that
are not fresh, failed runs.
"""

from __future__ import annotations

import json
from datetime import timedelta

import dagster as dg

from dsa110_assets.orchestration.panel import assets_with_freshness
from dsa110_assets.orchestration.private import FreshnessState, freshness_states
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.stages.operations.alert_table import NOT_FRESH, RUN_FAILED, Alert
from dsa110_assets.stages.pages import page_of
from dsa110_assets.stages.table import RAW_SUBBANDS

RUNS_REMEMBERED = timedelta(days=1)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports to the log and PIPELINE_ALERT_WEBHOOK_URL what needs a person. The last tick's message lists the open alerts.",
)
def alerts(context: dg.SensorEvaluationContext, platform: PlatformResource) -> dg.SensorResult:
    """Find the present conditions and deliver what has changed since the last tick."""
    from dsa110_assets.stages.operations import alerts as messages
    from dsa110_assets.stages.operations import attention
    from dsa110_assets.stages.queue.attempts import now

    if (why := platform.unconfigured()) is not None:
        return dg.SensorResult(skip_reason=why, cursor=context.cursor)
    opened = platform.open(validate_paths=False)
    before: dict[str, str] = json.loads(context.cursor) if context.cursor else {}
    present = [*messages.conditions(opened, now()), *not_fresh(context.instance), *failed_runs(context.instance)]
    with opened.database.session() as session:
        quiet = attention.record(session, present, now())
    loud = [alert for alert in present if alert.key not in quiet]  # what becomes loud again is new again
    new, passed = messages.changes({key: title for key, title in before.items() if key not in quiet}, loud)
    messages.deliver(opened.config, new, passed)  # if it fails, the cursor stays and the next tick delivers again
    lines = [alert.line() for alert in loud] + [f"acknowledged: {alert.title}" for alert in present if alert.key in quiet]
    summary = "; ".join(lines) or "nothing needs attention"
    return dg.SensorResult(skip_reason=summary[:2000], cursor=json.dumps({alert.key: alert.title for alert in loud}))


def not_fresh(instance: dg.DagsterInstance) -> list[Alert]:
    """Alerts for assets that are older than their freshness policy allows, according to the freshness daemon.

    Raw files are left out: `no-data` is about them.
    """
    found: list[Alert] = []
    names = [name for name in assets_with_freshness() if name != RAW_SUBBANDS.name]
    for name, state in freshness_states(instance, names).items():
        if state in (FreshnessState.FAIL, FreshnessState.WARN):
            level = "error" if state == FreshnessState.FAIL else "warning"
            found.append(
                NOT_FRESH.alert(f"{name}/{level}", level=level, page=f"/ui/{page_of(name)}", asset=name, state=state.value.lower())
            )
    return found


def failed_runs(instance: dg.DagsterInstance) -> list[Alert]:
    """Alerts for runs that failed in the last day, without those of observations and those made again since.

    Of runs that did the same, the newest counts.
    """
    from dsa110_assets.stages.queue.attempts import now

    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=now() - RUNS_REMEMBERED)
    found: list[Alert] = []
    known: set[tuple[str, str, frozenset[dg.AssetKey]]] = set()
    for record in instance.get_run_records(filters, limit=50):  # the newest first
        run = record.dagster_run
        partition = run.tags.get("dagster/partition", "")
        work = (run.job_name, partition, frozenset(run.asset_selection or ()))
        if work in known or GROUP_TAG in run.tags or run.tags.get("dagster/did_retry") == "true" or _has_succeeded_since(instance, record):
            continue
        known.add(work)
        what = f"{run.job_name} {partition}".strip() if not run.job_name.startswith("__") else f"backfill run {partition}".strip()
        found.append(
            RUN_FAILED.alert(
                run.run_id,
                page=f"/ui/control-panel/runs/{run.run_id}/log",
                what=what,
                cause=cause_of(instance, run.run_id),
                run=run.run_id[:8],
            )
        )
    return found


def _has_succeeded_since(instance: dg.DagsterInstance, failed: dg.RunRecord) -> bool:
    """Whether a later run has made the same assets of the partition, or the same job has succeeded."""
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
    """Return the error of the first failed step of a run; a run that was killed has none."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        failure = entry.dagster_event.step_failure_data if entry.dagster_event is not None else None
        if failure is not None and failure.user_failure_data is not None and failure.user_failure_data.description:
            return " ".join(failure.user_failure_data.description.split())[:300]
        if failure is not None and failure.error is not None:
            return " ".join(failure.error.message.split())[:300]
    return "its process died"
