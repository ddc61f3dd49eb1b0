"""The asset graph as text, so that its changes show in review.

`make snapshot` accepts the current graph: ``python -m dsa110_assets_tests.orchestration.graph_snapshot --write``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg

SNAPSHOT = Path(__file__).with_name("graph_snapshot.txt")


def describe() -> str:
    """Describe assets (group, partitions, inputs, pool, freshness, retries, checks), jobs, sensors and schedules."""
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.definitions import build_defs

    definitions = build_defs(PipelineConfig(_env_file=None))
    graph = definitions.resolve_asset_graph()
    lines: list[str] = []
    for key in sorted(graph.get_all_asset_keys()):
        lines += _asset(graph, key)
    for job in sorted(definitions.jobs or (), key=lambda job: job.name):
        lines += _job(definitions.resolve_job_def(job.name))
    for sensor in sorted(definitions.sensors or (), key=lambda sensor: sensor.name):
        lines.append(f"sensor {sensor.name}: {sensor.default_status.value}, every {sensor.minimum_interval_seconds} s")
        lines.append(f"  targets {', '.join(sorted(target.job_name for target in sensor.targets)) or 'nothing'}")
    for schedule in definitions.schedules or ():
        lines.append(f"schedule {schedule.name}: {schedule.cron_schedule} {schedule.execution_timezone}, {schedule.default_status.value}")
        lines.append(f"  targets {schedule.job_name}")
    return "\n".join(lines) + "\n"


def _asset(graph: Any, key: dg.AssetKey) -> Iterator[str]:
    node = graph.get(key)
    partitions = type(node.partitions_def).__name__ if node.partitions_def else "none"
    if dimensions := getattr(node.partitions_def, "partitions_defs", None):
        partitions = " x ".join(dimension.name for dimension in dimensions)
    computed = node.assets_def.computation
    retry = computed.node_def.retry_policy if computed else None
    yield f"asset {key.to_user_string()}"
    yield f"  group {node.group_name}; partitions {partitions}; kinds {', '.join(sorted(node.kinds)) or 'none'}"
    yield f"  from {', '.join(sorted(parent.to_user_string() for parent in node.parent_keys)) or 'nothing'}"
    yield f"  pool {', '.join(sorted(node.pools or ())) or 'none'}; retries {retry.max_retries if retry else 'none of Dagster'}"
    yield f"  fresh {_freshness(node.freshness_policy)}"
    for check in sorted(node.check_keys, key=lambda one: one.name):
        yield f"  check {check.name}{' (blocking)' if graph.get(check).blocking else ''}"


def _freshness(policy: Any) -> str:
    if policy is None:
        return "always"
    if hasattr(policy, "deadline_cron"):
        return f"at {policy.deadline_cron}, made at most {policy.lower_bound_delta} before"
    return f"for {policy.warn_window.to_timedelta()}, at most {policy.fail_window.to_timedelta()}"


def _job(job: dg.JobDefinition) -> Iterator[str]:
    tags = ", ".join(f"{name}={value}" for name, value in sorted(job.tags.items()) if not name.startswith("."))
    assets = sorted(key.to_user_string() for key in job.asset_layer.selected_asset_keys)
    yield f"job {job.name}{': ' + tags if tags else ''}"
    yield f"  targets {', '.join(assets) or 'ops ' + ', '.join(sorted(node.name for node in job.nodes))}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        SNAPSHOT.write_text(describe())
    else:
        sys.stdout.write(describe())
