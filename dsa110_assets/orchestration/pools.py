"""Limits of Dagster's pools. `dsa110 prepare` runs this as a program of its own: importing Dagster costs memory."""

from __future__ import annotations

import sys

import dagster as dg

POOLS = ("disk", "cpu", "casa")
"""Pools of the assets (`orchestration.assets`). A run takes a slot in the pool of the asset that it makes."""


def set_limits(limit: int) -> None:
    """Set the limit of each pool before the first runs need it.

    Dagster creates missing limits at first use; if two runs do that at the same moment, one of them fails.
    """
    with dg.DagsterInstance.get() as instance:
        for pool in POOLS:
            instance.event_log_storage.set_concurrency_slots(pool, limit)


if __name__ == "__main__":
    set_limits(int(sys.argv[1]))
