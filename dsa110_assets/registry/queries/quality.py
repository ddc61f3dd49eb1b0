"""Quality metrics (`qa_metrics`) and reference catalogs on disk (`reference_catalogs`)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.bulk import upsert
from dsa110_assets.registry.schema import GroupState, IngestGroup, QaMetric, RefreshableCatalog


def upsert_qa_metric(
    session: Session,
    product: str,
    key: str,
    metric: str,
    value: float | None,
    *,
    limit_low: float | None = None,
    limit_high: float | None = None,
    passed: bool | None = None,
    reason: str = "",
) -> None:
    """Record a quality metric of a product and its verdict.

    Raises:
        NonRetriableError: the metric passed without a value (pitfall 22).
    """
    if passed and (value is None or not math.isfinite(value)):
        raise NonRetriableError(f"{metric} of {product} {key}", "passed but has no value", "leave the verdict open")
    upsert(
        session,
        QaMetric,
        {
            "product": product, "key": key, "metric": metric, "value": value, "limit_low": limit_low, "limit_high": limit_high,
            "passed": passed, "reason": reason,
        },
        refresh=["measured_at"],
    )  # fmt: skip


def qa_metrics(session: Session, product: str, key: str) -> dict[str, QaMetric]:
    """Quality metrics of a product by name."""
    rows = session.scalars(select(QaMetric).where(QaMetric.product == product, QaMetric.key == key).order_by(QaMetric.metric))
    return {row.metric: row for row in rows}


class Figure(NamedTuple):
    """A quality figure of a product, its limits and its verdict. A tuple, since lists hold thousands."""

    metric: str
    passed: bool | None
    value: float | None
    limit_low: float | None
    limit_high: float | None
    reason: str


def qa_metrics_of(session: Session, product: str, keys: Iterable[str]) -> dict[str, list[Figure]]:
    """Quality figures of several products by key; an empty list for one without any."""
    found: dict[str, list[Figure]] = {key: [] for key in keys}
    columns = (QaMetric.metric, QaMetric.passed, QaMetric.value, QaMetric.limit_low, QaMetric.limit_high, QaMetric.reason)
    statement = select(QaMetric.key, *columns).where(QaMetric.product == product, QaMetric.key.in_(list(found)))
    for key, metric, passed, value, low, high, reason in session.execute(statement).tuples():
        found[key].append(Figure(metric, passed, value, low, high, reason))
    return found


SPREAD_AT = (0.0, 0.1, 0.5, 0.9, 1.0)
"""Quantiles of `spread_of`."""


def spread_of(session: Session, product: str, keys: Iterable[str]) -> dict[str, dict[str, float]]:
    """Spread of each quality figure over some keys of a product: ``n``, and ``lowest, low, median, high, highest``."""
    quantiles = func.percentile_cont(list(SPREAD_AT)).within_group(QaMetric.value)
    statement = (
        select(QaMetric.metric, func.count(), quantiles)
        .where(QaMetric.product == product, QaMetric.key.in_(list(keys)), QaMetric.value.is_not(None))
        .group_by(QaMetric.metric)
    )
    names = ("lowest", "low", "median", "high", "highest")
    return {
        metric: {"n": number, **dict(zip(names, values, strict=True))} for metric, number, values in session.execute(statement).tuples()
    }


def median_of_completed(session: Session, product: str, metric: str, since: datetime) -> tuple[float | None, int]:
    """Median of a quality figure over the observations completed since a time, and number of values."""
    recent = (  # materialized: else the figures of all observations may be read
        select(IngestGroup.group_id)
        .where(IngestGroup.state == GroupState.COMPLETED, IngestGroup.completed_at > since)
        .cte("recent")
        .prefix_with("MATERIALIZED")
    )
    median, number = func.percentile_cont(0.5).within_group(QaMetric.value), func.count(QaMetric.value)
    row = session.execute(
        select(median, number).join(recent, recent.c.group_id == QaMetric.key).where(QaMetric.product == product, QaMetric.metric == metric)
    ).one()
    return row[0], row[1]


def upsert_reference_catalog(session: Session, *, name: str, path: str, origin: str, n_rows: int) -> None:
    """Record a reference catalog that was made on disk."""
    upsert(session, RefreshableCatalog, {"name": name, "path": str(path), "origin": origin, "n_rows": n_rows}, refresh=["refreshed_at"])
