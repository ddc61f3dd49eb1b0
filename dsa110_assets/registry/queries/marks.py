"""Marks of people on tiles and calibration solutions (`marks`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import Mark, MarkDecision, MarkKind

MARK = (
    Mark.mark_id, Mark.kind, Mark.group_id, Mark.decision, Mark.reason, Mark.marked_by, Mark.marked_at, Mark.removed_by, Mark.removed_at,
)  # fmt: skip


def valid(session: Session, kind: MarkKind, group_ids: Collection[str]) -> dict[str, Mark]:
    """Valid marks on these observations."""
    statement = select(Mark).where(Mark.kind == kind, Mark.group_id.in_(list(group_ids)), Mark.removed_at.is_(None))
    return {one.group_id: one for one in session.scalars(statement)}


def decision_on(kind: MarkKind, group_id: InstrumentedAttribute[str]) -> ColumnElement[Any]:
    """A person's decision about an observation of a query; NULL without a mark."""
    statement = select(Mark.decision).where(Mark.kind == kind, Mark.group_id == group_id, Mark.removed_at.is_(None))
    return statement.correlate(group_id.class_).scalar_subquery()


def put(session: Session, kind: MarkKind, group_id: str, decision: MarkDecision, *, reason: str, person: str) -> Mark:
    """Mark something; an earlier mark on it ends."""
    take_away(session, kind, group_id, person=person)
    mark = Mark(kind=kind.value, group_id=group_id, decision=decision.value, reason=reason, marked_by=person)
    session.add(mark)
    session.flush()
    session.refresh(mark)
    return mark


def take_away(session: Session, kind: MarkKind, group_id: str, *, person: str) -> bool:
    """End the valid mark on something; tell whether there was one."""
    ended = (
        update(Mark)
        .where(Mark.kind == kind, Mark.group_id == group_id, Mark.removed_at.is_(None))
        .values(removed_at=func.clock_timestamp(), removed_by=person)
        .returning(Mark.mark_id)
    )
    return bool(session.execute(ended).all())


def history(session: Session, group_ids: Iterable[str]) -> list[dict[str, Any]]:
    """All marks that these observations ever had, the newest first."""
    statement = select(*MARK).where(Mark.group_id.in_(list(group_ids))).order_by(Mark.mark_id.desc())
    return [dict(row) for row in session.execute(statement).mappings()]


def changed(session: Session, kind: MarkKind, group_ids: Collection[str] | None = None) -> dict[str, datetime]:
    """Observations (of these) that ever had a mark of a kind, and when a mark on them was last made or removed."""
    last = func.max(func.greatest(Mark.marked_at, Mark.removed_at))
    statement = select(Mark.group_id, last).where(Mark.kind == kind).group_by(Mark.group_id)
    if group_ids is not None:
        statement = statement.where(Mark.group_id.in_(list(group_ids)))
    return dict(session.execute(statement).tuples().all())


def newest(session: Session, *, valid_only: bool, after: Sequence[Any] | None, limit: int) -> Page:
    """Marks, the newest first."""
    statement = select(*MARK)
    if valid_only:
        statement = statement.where(Mark.removed_at.is_(None))
    return read_page(session, statement, (Mark.mark_id,), after=after, limit=limit)
