"""Rows of the registry that are removed when they are old, by index and in batches.

What the provenance of a product needs stays: observations, current versions with their inputs, photometry, light curves
and candidates are kept forever. `docs/operators/capacity.md` gives the size of each table per year.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database

BATCH = 5000
"""Rows of one transaction, so that none holds locks for long."""
MOST = 500_000
"""Rows that one cleaning removes from a table; the next continues."""


@dataclass(frozen=True)
class RowRule:
    """Old rows of a table. ``which``: query of their primary keys (as ``ctid``) made before ``:before``, by index."""

    name: str
    what: str
    setting: str
    table: str
    which: str

    def days(self, config: PipelineConfig) -> float:
        """Days for which the rows are kept; 0 means forever."""
        return float(getattr(config, self.setting))

    def count(self, session: Session, config: PipelineConfig, now: datetime) -> int:
        """Number of rows that a cleaning removes."""
        if not self.days(config):
            return 0
        query = text(f"SELECT count(*) FROM ({self.which} LIMIT :most) AS old")  # noqa: S608 - constants of this module
        return session.execute(query, {"before": self._before(config, now), "most": MOST}).scalar_one()

    def delete(self, database: Database, config: PipelineConfig, now: datetime) -> int:
        """Remove the rows, a batch in each transaction; return their number."""
        query = text(f"DELETE FROM {self.table} WHERE ctid = ANY(ARRAY({self.which} LIMIT :most))")  # noqa: S608
        total = 0
        while total < MOST:
            with database.session() as session:
                deleted = session.execute(query, {"before": self._before(config, now), "most": BATCH}).rowcount  # type: ignore[attr-defined]
            total += deleted
            if deleted < BATCH:
                break
        return total

    def _before(self, config: PipelineConfig, now: datetime) -> datetime:
        return now - timedelta(days=self.days(config))


RULES = (
    RowRule(
        "versions",
        "superseded versions that no version in the registry was made from",
        "keep_versions_days",
        "product_versions",
        "SELECT v.ctid FROM product_versions v WHERE v.superseded_at < :before AND NOT EXISTS (SELECT FROM product_versions u"
        " WHERE u.inputs @> jsonb_build_object(coalesce(v.path, v.product || '/' || v.key), v.version_id))",
    ),
    RowRule(
        "gone_files",
        "raw files that were deleted from the input directory",
        "keep_gone_files_days",
        "subband_files",
        "SELECT f.ctid FROM subband_files f WHERE f.state = 'gone' AND f.judged_at < :before",
    ),
    RowRule(
        "quality",
        "quality figures of products",
        "keep_quality_days",
        "qa_metrics",
        "SELECT q.ctid FROM qa_metrics q WHERE q.measured_at < :before",
    ),
    RowRule(
        "alerts",
        "alerts that have passed",
        "keep_alerts_days",
        "alerts",
        "SELECT a.ctid FROM alerts a WHERE a.passed_at IS NOT NULL AND a.passed_at < :before",
    ),
    RowRule(
        "acknowledgements",
        "answers to alerts that have ended",
        "keep_alerts_days",
        "alert_acknowledgements",
        "SELECT a.ctid FROM alert_acknowledgements a WHERE a.ended_at IS NOT NULL AND a.ended_at < :before",
    ),
    RowRule(
        "actions",
        "records of what people changed through the API",
        "keep_actions_days",
        "api_actions",
        "SELECT a.ctid FROM api_actions a WHERE a.done_at < :before",
    ),
    RowRule(
        "position_fluxes",
        "fluxes at positions that people asked for; ask again, and they are measured again",
        "keep_position_fluxes_days",
        "position_fluxes",
        "SELECT f.ctid FROM position_fluxes f WHERE f.measured_at < :before",
    ),
    RowRule(
        "run_workers",
        "records of which worker made which run",
        "keep_runs_days",
        "run_workers",
        "SELECT w.ctid FROM run_workers w WHERE w.requested_at < :before AND (w.ended_at IS NOT NULL OR w.lost_at IS NOT NULL)",
    ),
    RowRule(
        "variability",
        "variability figures of sources as of past nights",
        "keep_variability_days",
        "variability",
        "SELECT v.ctid FROM variability v WHERE v.night < CAST(CAST(:before AS timestamptz) AT TIME ZONE 'UTC' AS date)"
        " AND v.night < (SELECT max(night) FROM variability)",
    ),
)
