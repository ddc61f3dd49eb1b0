"""What slots cost as one list that ends now, and as dates times slots of a day, as the platform has them.

Dagster's UI loads all keys of each dimension of an asset whenever one of its pages is opened. CPU milliseconds.

    python -m benchmarks.partitions YEARS
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import dagster as dg
from dagster._core.definitions.partitions.context import partition_loading_context

from dsa110_assets.orchestration.partitions import Partitions

_EMPTY_EVERY = 33
"""Of the slots of five minutes, so many hold an observation of 309 s before one does not."""


def measure(ask: Callable[[], Any]) -> tuple[float, Any]:
    """CPU time of a question in ms, and its answer."""
    began = time.process_time()
    answer = ask()
    return 1e3 * (time.process_time() - began), answer


def main(years: float) -> None:
    """Print the costs of both forms."""
    now = datetime.now(UTC)
    start = (now - timedelta(days=365 * years)).date()
    two = Partitions.starting(start).tile
    one = dg.TimeWindowPartitionsDefinition(start=f"{start}|00:00", cron_schedule="*/5 * * * *", fmt="%Y-%m-%d|%H:%M", end_offset=1)
    print(f"{'form':<14}{'keys':>9}{'keys in UI':>12}{'their bytes':>13}{'list, ms':>10}{'status, bytes':>15}  last key")
    with partition_loading_context(now, None):
        for name, definition in (("date x slot", two), ("one list", one)):
            took, shown = measure(partial(_shown, definition))
            keys = list(definition.get_partition_keys())
            made = definition.subset_with_partition_keys([key for n, key in enumerate(keys) if n % _EMPTY_EVERY])
            size, status = sum(len(key) + 3 for key in shown), len(made.serialize())
            print(f"{name:<14}{len(keys):>9}{len(shown):>12}{size:>13}{took:>10.1f}{status:>15}  {keys[-1]}")


def _shown(definition: dg.PartitionsDefinition[Any]) -> list[str]:
    """Keys that the UI loads: those of each dimension."""
    if isinstance(definition, dg.MultiPartitionsDefinition):
        return [key for one in definition.partitions_defs for key in one.partitions_def.get_partition_keys()]
    return list(definition.get_partition_keys())


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 1.0)
