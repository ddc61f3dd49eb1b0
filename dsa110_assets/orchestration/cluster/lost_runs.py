"""Runs that lost their worker, or that Dagster does not expect any more. The sensor `dead_runs` asks for them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import dagster as dg

from dsa110_assets.registry.queries import workers

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

EXIT_LIMIT_S = 60.0
"""The process of a run ends within this time after the run."""


def end_lost(instance: dg.DagsterInstance, platform: Platform) -> list[str]:
    """Give up runs that Dagster has deleted or ended; fail runs whose worker died before they began. Return these.

    Run monitoring checks only runs that have begun.
    """
    with platform.database.session() as session:
        workers.give_up_silent(session, platform.config.worker_lost_s)
        asked = workers.open_runs(session)
    known = {one.dagster_run.run_id: one for one in instance.get_run_records(dg.RunsFilter(run_ids=asked))} if asked else {}
    over = [run_id for run_id in asked if run_id not in known or _ended_long_ago(known[run_id])]
    if over:
        with platform.database.session() as session:
            workers.give_up(session, over, "Dagster has ended or deleted it")
    failed: list[str] = []
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING])):
        with platform.database.session() as session:
            row = workers.state_of(session, run.run_id)
        if row is not None and (row.lost_at is not None or row.ended_at is not None):
            instance.report_run_failed(run, f"its worker on {row.host} died before the run began")
            failed.append(run.run_id)
    return failed


def _ended_long_ago(record: dg.RunRecord) -> bool:
    return record.dagster_run.is_finished and time.time() - (record.end_time or 0.0) > EXIT_LIMIT_S
