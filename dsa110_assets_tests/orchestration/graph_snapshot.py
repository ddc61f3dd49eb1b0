"""The asset graph as text, so that a change of it shows in review.

`make snapshot` accepts the present graph: ``python -m dsa110_assets_tests.orchestration.graph_snapshot --write``.
"""

from __future__ import annotations

import sys
from pathlib import Path

SNAPSHOT = Path(__file__).with_name("graph_snapshot.txt")


def describe() -> str:
    """Assets with group, partitions, inputs, pool and checks; jobs, sensors and schedules with what they target."""
    from dsa110_assets.config import PipelineConfig
    from dsa110_assets.definitions import build_defs

    definitions = build_defs(PipelineConfig(_env_file=None))
    lines: list[str] = []
    graph = definitions.resolve_asset_graph()
    for key in sorted(graph.get_all_asset_keys()):
        node = graph.get(key)
        partitions = type(node.partitions_def).__name__ if node.partitions_def else "none"
        if dimensions := getattr(node.partitions_def, "partitions_defs", None):
            partitions = " x ".join(dimension.name for dimension in dimensions)
        lines.append(f"asset {key.to_user_string()}")
        lines.append(f"  group {node.group_name}; partitions {partitions}; kinds {', '.join(sorted(node.kinds)) or 'none'}")
        lines.append(f"  from {', '.join(sorted(parent.to_user_string() for parent in node.parent_keys)) or 'nothing'}")
        checks = sorted(check.name for check in node.check_keys)
        if checks:
            lines.append(f"  checks {', '.join(checks)}")
    lines.extend(f"job {job.name}" for job in sorted(definitions.jobs or (), key=lambda job: job.name))
    lines.extend(
        f"sensor {sensor.name}: {sensor.default_status.value}, every {sensor.minimum_interval_seconds} s"
        for sensor in sorted(definitions.sensors or (), key=lambda sensor: sensor.name)
    )
    lines.extend(f"schedule {schedule.name}: {schedule.cron_schedule} UTC" for schedule in definitions.schedules or ())
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    if "--write" in sys.argv:
        SNAPSHOT.write_text(describe())
    else:
        sys.stdout.write(describe())
