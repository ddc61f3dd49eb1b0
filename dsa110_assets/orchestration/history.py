"""Retention of Dagster's history: old runs go with their events, what people look back at stays.

Kept for good: the last materialization of each partition of each asset, with its metadata, and the last result of each
check. Everything else of a run is deleted when the run is old enough: `PIPELINE_KEEP_RUNS_DAYS` after a success,
`PIPELINE_KEEP_FAILED_RUNS_DAYS` after a failure or cancellation. Runs in progress, and runs of a backfill in progress,
are never touched. A backfill goes when it has ended, is as old as a failed run, and has no run any more.

Dagster stores the metadata of a materialization a second time, in the event `STEP_OUTPUT` of its step. This copy goes
after `OUTPUTS_KEPT`.

Dagster (1.13) has no such retention: its public `DagsterInstance.delete_run` also deletes the last materialization. So
this module works on Dagster's tables, in batches, each in its own transaction and each found by an index. A test
compares the tables with what is used here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection, TextClause, create_engine, inspect, text

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.server import dagster_url

RUNS_PER_BATCH = 200
EVENTS_PER_BATCH = 5000
LONGEST_S = 1800.0
"""One call stops after this long. What is left is deleted at the next call."""

TABLES = {
    "runs": {"run_id", "status", "update_timestamp", "backfill_id"},
    "run_tags": {"run_id"},
    "bulk_actions": {"key", "status", "timestamp"},
    "backfill_tags": {"backfill_id"},
    "event_logs": {"id", "run_id", "dagster_event_type", "timestamp", "step_key", "asset_key", "partition"},
    "asset_event_tags": {"event_id"},
    "asset_check_executions": {"id", "asset_key", "check_name", "partition", "run_id"},
    "job_ticks": {"timestamp"},
}
"""Tables and columns of Dagster that this module uses."""

_INDEXES = ("CREATE INDEX IF NOT EXISTS dsa110_job_ticks_by_time ON job_ticks (timestamp)",)
"""Indexes that Dagster lacks.

For the newest ticks of a sensor, which the daemon reads at each evaluation and the pages on automation several times,
Dagster asks ``selector_id = ... OR selector_id IS NULL AND job_origin_id = ... ORDER BY timestamp DESC LIMIT ...``. Its
own indexes cannot serve the OR in this order, so PostgreSQL sorts all ticks of the sensor, 17 000 a day.
"""

_OLD_RUNS = text("""
SELECT run_id FROM runs
WHERE status = :status AND update_timestamp < :before AND NOT EXISTS (
    SELECT FROM bulk_actions WHERE key = runs.backfill_id AND bulk_actions.status IN ('REQUESTED', 'CANCELING', 'FAILING')
)
ORDER BY update_timestamp LIMIT :most FOR UPDATE SKIP LOCKED
""")

_SUPERSEDED_BEFORE = text("""
WITH mine AS MATERIALIZED (
    SELECT asset_key, partition, max(id) AS id FROM event_logs
    WHERE run_id = ANY(:runs) AND dagster_event_type = 'ASSET_MATERIALIZATION' AND asset_key IS NOT NULL GROUP BY asset_key, partition
), older AS MATERIALIZED (
    SELECT e.id, e.run_id FROM mine JOIN event_logs e ON e.asset_key = mine.asset_key AND e.partition = mine.partition
        AND e.dagster_event_type = 'ASSET_MATERIALIZATION' AND e.id < mine.id
    UNION ALL
    SELECT e.id, e.run_id FROM mine JOIN event_logs e ON mine.partition IS NULL AND e.asset_key = mine.asset_key AND e.partition IS NULL
        AND e.dagster_event_type = 'ASSET_MATERIALIZATION' AND e.id < mine.id
), gone AS (
    DELETE FROM event_logs USING older
    WHERE event_logs.id = older.id AND NOT EXISTS (SELECT FROM runs WHERE runs.run_id = older.run_id)
    RETURNING event_logs.id
), tags AS (
    DELETE FROM asset_event_tags USING gone WHERE event_id = gone.id
)
SELECT count(*) FROM gone
""")
"""Materializations of runs that are already deleted, kept as the last ones of their partitions, and replaced since."""

_EVENTS = text("""
WITH gone AS (
    DELETE FROM event_logs e
    WHERE run_id = ANY(:runs) AND NOT (
        dagster_event_type IS NOT DISTINCT FROM 'ASSET_MATERIALIZATION' AND asset_key IS NOT NULL AND NOT EXISTS (
            SELECT FROM event_logs newer
            WHERE newer.asset_key = e.asset_key AND newer.dagster_event_type = 'ASSET_MATERIALIZATION'
                AND newer.partition = e.partition AND newer.id > e.id
        ) AND NOT (partition IS NULL AND EXISTS (
            SELECT FROM event_logs newer
            WHERE newer.asset_key = e.asset_key AND newer.dagster_event_type = 'ASSET_MATERIALIZATION'
                AND newer.partition IS NULL AND newer.id > e.id
        ))
    )
    RETURNING id
), tags AS (
    DELETE FROM asset_event_tags USING gone WHERE event_id = gone.id
)
SELECT count(*) FROM gone
""")

_CHECKS = text("""
DELETE FROM asset_check_executions c
WHERE run_id = ANY(:runs) AND EXISTS (
    SELECT FROM asset_check_executions newer
    WHERE newer.asset_key = c.asset_key AND newer.check_name = c.check_name
        AND newer.partition IS NOT DISTINCT FROM c.partition AND newer.id > c.id
)
""")

_RUNLESS = text("""
WITH old AS MATERIALIZED (
    SELECT id, asset_key FROM event_logs
    WHERE dagster_event_type = :kind AND id > :after AND timestamp < :before AND run_id = '' ORDER BY id LIMIT :most
), gone AS (
    DELETE FROM event_logs USING old
    WHERE event_logs.id = old.id AND (old.asset_key IS NULL OR EXISTS (
        SELECT FROM event_logs newer
        WHERE newer.asset_key = old.asset_key AND newer.dagster_event_type = :kind AND newer.id > old.id
    ))
    RETURNING event_logs.id
), tags AS (
    DELETE FROM asset_event_tags USING gone WHERE event_id = gone.id
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM old), (SELECT max(id) FROM old)
""")
"""Events without a run, such as a failure that is shown on its asset. The last one of each asset stays."""

_REPLACED = text("""
WITH recent AS MATERIALIZED (
    SELECT coalesce(max(id), 0) AS floor FROM event_logs WHERE run_id = '' AND timestamp < :long_before
), old AS MATERIALIZED (
    SELECT id, asset_key, partition FROM event_logs WHERE run_id = '' AND id > (SELECT floor FROM recent)
        AND dagster_event_type = 'ASSET_MATERIALIZATION' AND timestamp < :before AND partition IS NOT NULL
), gone AS (
    DELETE FROM event_logs USING old
    WHERE event_logs.id = old.id AND EXISTS (
        SELECT FROM event_logs newer
        WHERE newer.asset_key = old.asset_key AND newer.dagster_event_type = 'ASSET_MATERIALIZATION'
            AND newer.partition = old.partition AND newer.id > old.id
    )
    RETURNING event_logs.id
), tags AS (
    DELETE FROM asset_event_tags USING gone WHERE event_id = gone.id
)
SELECT count(*) FROM gone
""")
"""Replaced materializations without a run (`raw_subbands`). Only those that have become old lately are read."""

_SECOND_COPIES = text("""
WITH old AS MATERIALIZED (
    SELECT id, run_id, step_key FROM event_logs
    WHERE dagster_event_type = 'STEP_OUTPUT' AND id > :after AND timestamp < :before ORDER BY id LIMIT :most
), gone AS (
    DELETE FROM event_logs USING old
    WHERE event_logs.id = old.id AND EXISTS (
        SELECT FROM runs WHERE runs.run_id = old.run_id AND runs.status = 'SUCCESS' AND NOT EXISTS (
            SELECT FROM bulk_actions WHERE key = runs.backfill_id AND bulk_actions.status IN ('REQUESTED', 'CANCELING', 'FAILING')
        )
    )
        AND EXISTS (
            SELECT FROM event_logs made
            WHERE made.run_id = old.run_id AND made.step_key = old.step_key AND made.dagster_event_type = 'ASSET_MATERIALIZATION'
        )
    RETURNING event_logs.id
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM old), (SELECT max(id) FROM old)
""")
"""Outputs whose metadata the step's materialization has too; those of ops are the only place of theirs, and stay."""

_ENDED_BACKFILLS = text("""
WITH old AS MATERIALIZED (
    SELECT key FROM bulk_actions WHERE status = ANY(:ended) AND timestamp < :before
        AND NOT EXISTS (SELECT FROM runs WHERE runs.backfill_id = bulk_actions.key) LIMIT :most FOR UPDATE SKIP LOCKED
), tags AS (
    DELETE FROM backfill_tags USING old WHERE backfill_id = old.key
), gone AS (
    DELETE FROM bulk_actions USING old WHERE bulk_actions.key = old.key RETURNING bulk_actions.key
)
SELECT count(*) FROM gone
""")

OUTPUTS_KEPT = timedelta(days=1)
"""Age of a step after which the second copy of its metadata goes."""
LATELY = timedelta(days=30)
"""How long housekeeping may be off until a replaced materialization without a run stays for good."""
ENDED_BACKFILLS = ("COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED")
RUNLESS_KINDS = ("ASSET_OBSERVATION", "FRESHNESS_STATE_CHANGE", "FRESHNESS_STATE_EVALUATION")
ENDED_BADLY = ("FAILURE", "CANCELED")


@dataclass(frozen=True)
class Forgotten:
    """What was deleted. ``finished``: nothing is left that is old enough."""

    runs: int
    events: int
    finished: bool


def count_old_runs(config: PipelineConfig, now: datetime) -> int:
    """Return the number of runs that are old enough; see `forget`."""
    with _database(config) as connection:
        if connection is None:
            return 0
        count = text("SELECT count(*) FROM runs WHERE status = :status AND update_timestamp < :before")
        return sum(connection.execute(count, rule).scalar_one() for rule in _rules(config, now))


def forget(config: PipelineConfig, now: datetime, *, longest_s: float = LONGEST_S) -> Forgotten:
    """Delete old runs with their events, tags, check results and captured output; add the missing indexes.

    It may be killed at any point, and run at the same time as anything else: a run disappears with all that belongs to
    it in one transaction.

    Args:
        config: which database, and how long runs are kept.
        now: time, with a zone.
        longest_s: stop after this long.
    """
    runs = events = 0
    limit = time.monotonic() + longest_s
    with _database(config) as connection:
        if connection is None:
            return Forgotten(0, 0, finished=True)
        with connection.begin():
            for index in _INDEXES:
                connection.execute(text(index))
        for rule in _rules(config, now):
            while time.monotonic() < limit:
                with connection.begin():
                    chosen = list(connection.execute(_OLD_RUNS, {**rule, "most": RUNS_PER_BATCH}).scalars())
                    events += _delete(connection, chosen) if chosen else 0
                runs += len(chosen)
                for run_id in chosen:
                    _remove_output(config.run_output_dir, run_id)
                if len(chosen) < RUNS_PER_BATCH:
                    break
        before = _naive(now - timedelta(days=config.keep_failed_runs_days))
        for kind in RUNLESS_KINDS:
            events += _forget_in_parts(connection, _RUNLESS, {"kind": kind, "before": before}, limit)
        events += _forget_in_parts(connection, _SECOND_COPIES, {"before": _naive(now - OUTPUTS_KEPT)}, limit)
        with connection.begin():
            replaced = _naive(now - timedelta(days=config.keep_runs_days))
            events += connection.execute(_REPLACED, {"before": replaced, "long_before": replaced - LATELY}).scalar_one()
        with connection.begin():
            connection.execute(_ENDED_BACKFILLS, {"ended": list(ENDED_BACKFILLS), "before": before, "most": EVENTS_PER_BATCH})
        if events:
            refresh_statistics(connection)
    return Forgotten(runs, events, finished=time.monotonic() < limit)


def refresh_statistics(connection: Connection) -> None:
    """Update the planner's statistics of Dagster's tables, from samples whose size does not grow with the tables."""
    with connection.begin():
        connection.execute(text(f"ANALYZE {', '.join(TABLES)}"))


def _rules(config: PipelineConfig, now: datetime) -> list[dict[str, object]]:
    """Limits of age by final state. Dagster's times are UTC without a zone."""
    good, bad = (_naive(now - timedelta(days=days)) for days in (config.keep_runs_days, config.keep_failed_runs_days))
    return [{"status": "SUCCESS", "before": good}, *({"status": status, "before": bad} for status in ENDED_BADLY)]


def _naive(when: datetime) -> datetime:
    offset = when.utcoffset()
    return when.replace(tzinfo=None) - (offset or timedelta())


def _delete(connection: Connection, runs: list[str]) -> int:
    events = connection.execute(_SUPERSEDED_BEFORE, {"runs": runs}).scalar_one()
    events += connection.execute(_EVENTS, {"runs": runs}).scalar_one()
    connection.execute(_CHECKS, {"runs": runs})
    connection.execute(text("DELETE FROM run_tags WHERE run_id = ANY(:runs)"), {"runs": runs})
    connection.execute(text("DELETE FROM runs WHERE run_id = ANY(:runs)"), {"runs": runs})
    return int(events)


def _forget_in_parts(connection: Connection, statement: TextClause, values: dict[str, object], limit: float) -> int:
    """Delete events in the order of their numbers; each part is a transaction."""
    events, after = 0, 0
    while time.monotonic() < limit:
        with connection.begin():
            gone, found, last = connection.execute(statement, {**values, "after": after, "most": EVENTS_PER_BATCH}).one()
        events += gone
        if found < EVENTS_PER_BATCH:
            break
        after = last
    return events


def _remove_output(outputs: Path, run_id: str) -> None:
    """Remove the captured output of a run that is deleted; what cannot be removed now, `dsa110 clean` removes later."""
    shutil.rmtree(outputs / run_id, ignore_errors=True)


@contextmanager
def _database(config: PipelineConfig) -> Iterator[Connection | None]:
    """A connection to Dagster's database; None if Dagster has not made its tables yet."""
    engine = create_engine(dagster_url(config))
    try:
        with engine.connect() as connection:
            with connection.begin():
                known = set(inspect(connection).get_table_names())
            yield connection if set(TABLES) <= known else None
    finally:
        engine.dispose()
