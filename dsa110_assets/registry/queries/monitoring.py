"""What `/metrics` asks beside the questions of pages and alerts: durations, delays, and Dagster's own tables.

Each question reads a bounded number of rows. Dagster's tables are on the same server, in a database of their own, so a
web server that does not answer does not hide a dead daemon. A test compares the answers with Dagster's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import EpochFactor, GroupState, IngestGroup, MeasurementSetKind, MeasurementSetRow

QUANTILES = (0.5, 0.9)
"""Of durations and delays."""
LAST_VERSIONS = 100
"""Durations are those of a product's last versions."""
MOST_RUNS = 5000
DAEMONS = ("ASSET", "BACKFILL", "EVENT_LOG_CONSUMER", "FRESHNESS_DAEMON", "MONITORING", "QUEUED_RUN_COORDINATOR", "SCHEDULER", "SENSOR")
"""Threads of Dagster's daemon under the platform's `dagster.yaml`."""
ACTIVE = ("QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING")
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_MJD_OF_1970 = 40587.0
_DURATIONS = text("""
SELECT asked.product, found.quantiles
FROM unnest(CAST(:products AS text[])) AS asked(product)
CROSS JOIN LATERAL (
    SELECT percentile_cont(CAST(:quantiles AS float8[])) WITHIN GROUP (ORDER BY newest.duration_s) AS quantiles
    FROM (
        SELECT v.duration_s FROM product_versions v
        WHERE v.product = asked.product ORDER BY v.created_at DESC LIMIT :versions
    ) newest
) found
WHERE found.quantiles IS NOT NULL
""")
_HEARTBEATS = text("SELECT daemon_type, timestamp FROM daemon_heartbeats")
_ACTIVE_RUNS = text("SELECT pipeline_name, status, count(*) FROM runs WHERE status = ANY(:statuses) GROUP BY pipeline_name, status")
_ENDED_RUNS = text("""
SELECT run_id, pipeline_name, status FROM runs
WHERE status = ANY(:statuses) AND update_timestamp >= :since
LIMIT :most
""")


@dataclass(frozen=True)
class EndedRun:
    """A run of Dagster that has ended."""

    run_id: str
    job: str
    status: str


def durations(session: Session, products: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """Seconds that the last versions of each product took, at `QUANTILES`; products without any are left out."""
    rows = session.execute(_DURATIONS, {"products": list(products), "quantiles": list(QUANTILES), "versions": LAST_VERSIONS})
    return {row.product: tuple(row.quantiles) for row in rows}


def delays(session: Session, since: datetime) -> tuple[float, ...] | None:
    """Seconds from the end of an observation to its image, of those completed since a time, at `QUANTILES`."""
    completed_s = func.extract("epoch", IngestGroup.completed_at)
    ended_s = (IngestGroup.end_mjd - _MJD_OF_1970) * 86400.0
    found = session.scalar(
        select(func.percentile_cont(list(QUANTILES)).within_group(completed_s - ended_s)).where(
            IngestGroup.state == GroupState.COMPLETED, IngestGroup.completed_at > since
        )
    )
    return None if found is None else tuple(float(one) for one in found)


def epoch_factors(session: Session, since_mjd: float) -> tuple[float, float] | None:
    """Median of the usable factors of the epochs since a time, and number of epochs."""
    row = session.execute(
        select(func.percentile_cont(0.5).within_group(EpochFactor.factor), func.count()).where(
            EpochFactor.time_mjd > since_mjd, EpochFactor.usable
        )
    ).one()
    return None if row[0] is None else (float(row[0]), float(row[1]))


def flagged_fraction(session: Session, since_mjd: float) -> float | None:
    """Median flagged fraction of the raw Measurement Sets of observations since a time; None without any."""
    row = MeasurementSetRow
    median = func.percentile_cont(0.5).within_group(row.flagged_fraction)
    found = session.scalar(select(median).where(row.mid_mjd > since_mjd, row.kind == MeasurementSetKind.RAW))
    return None if found is None else float(found)


def heartbeats(session: Session) -> dict[str, datetime]:
    """Last heartbeat of each thread of Dagster's daemon that ever ran (Dagster's database)."""
    return {name: moment.replace(tzinfo=UTC) for name, moment in session.execute(_HEARTBEATS).tuples()}


def active_runs(session: Session) -> dict[tuple[str, str], int]:
    """Number of runs that have not ended, by job and status (Dagster's database)."""
    return {(job, status): number for job, status, number in session.execute(_ACTIVE_RUNS, {"statuses": list(ACTIVE)}).tuples()}


def ended_runs(session: Session, since: datetime) -> list[EndedRun]:
    """Runs that ended since a time (Dagster's database, whose times are UTC without a zone)."""
    given = {"statuses": list(ENDED), "since": since.astimezone(UTC).replace(tzinfo=None), "most": MOST_RUNS}
    return [EndedRun(*row) for row in session.execute(_ENDED_RUNS, given).tuples()]
