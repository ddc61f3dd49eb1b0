"""Labels and notes that people give to events of candidates (`event_labels`): each person's own, with its history.

Rows are never changed in what they say and never deleted. A person's current label is the row without
``superseded_at``; nobody else's label touches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, text, update
from sqlalchemy.orm import Session

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.schema import CandidateEvent, EventLabel

MOST_HISTORY = 500
_Said = tuple[str | None, str | None]
_SAYS_SOMETHING = or_(EventLabel.label.is_not(None), EventLabel.comment.is_not(None))


def label_event(session: Session, event_id: int, *, person: str, label: str | None, comment: str | None) -> None:
    """Set a person's label and comment on an event; None and None remove them. The earlier ones stay in the history.

    Raises:
        NonRetriableError: the event does not exist.
    """
    _replace(session, event_id, person, lambda _: (label, comment))


def change_label(session: Session, event_id: int, *, person: str, label: str | None) -> None:
    """Set a person's label; the comment stays. See `label_event`."""
    _replace(session, event_id, person, lambda said: (label, said[1]))


def change_comment(session: Session, event_id: int, *, person: str, comment: str | None) -> None:
    """Set a person's comment; the label stays. See `label_event`."""
    _replace(session, event_id, person, lambda said: (said[0], comment))


def undo_label(session: Session, event_id: int, *, person: str) -> None:
    """Take back a person's last change of label or comment; again: the one before. It stays in the history as undone.

    Raises:
        NonRetriableError: the person has not labeled the event, or has undone everything.
    """
    _lock(session, event_id, person)
    current = _current(session, event_id, person)
    if current is None:
        raise NonRetriableError(f"event {event_id}", f"{person} has nothing to undo on it", "label it")
    current.superseded_at, current.undone = func.now(), True
    session.flush()
    before = session.scalars(
        select(EventLabel)
        .where(
            EventLabel.event_id == event_id,
            EventLabel.person == person,
            EventLabel.label_id < current.label_id,
            EventLabel.undone.is_(False),
        )
        .order_by(EventLabel.label_id.desc())
        .limit(1)
    ).one_or_none()
    if before is not None:
        before.superseded_at = None
        session.flush()


def labels_of(session: Session, event_ids: Sequence[int]) -> dict[int, list[dict[str, Any]]]:
    """Everybody's current label and comment on events, the newest first: ``person, label, comment, labeled_at``."""
    rows = session.scalars(
        select(EventLabel)
        .where(EventLabel.event_id.in_([int(one) for one in event_ids]), EventLabel.superseded_at.is_(None), _SAYS_SOMETHING)
        .order_by(EventLabel.label_id.desc())
    )
    found: dict[int, list[dict[str, Any]]] = {int(one): [] for one in event_ids}
    for row in rows:
        found[row.event_id].append({"person": row.person, "label": row.label, "comment": row.comment, "labeled_at": row.labeled_at})
    return found


def history_of(session: Session, event_id: int) -> list[dict[str, Any]]:
    """All that people said about an event, the newest first, at most `MOST_HISTORY`."""
    columns = (
        EventLabel.person, EventLabel.label, EventLabel.comment, EventLabel.labeled_at, EventLabel.superseded_at, EventLabel.undone,
    )  # fmt: skip
    statement = select(*columns).where(EventLabel.event_id == event_id).order_by(EventLabel.label_id.desc()).limit(MOST_HISTORY)
    return [dict(row) for row in session.execute(statement).mappings()]


def newest(column: Any) -> ColumnElement[Any]:
    """A column of the newest label or comment of anybody on a `CandidateEvent` of the statement; None without one."""
    return (
        select(column)
        .where(EventLabel.event_id == CandidateEvent.event_id, EventLabel.superseded_at.is_(None), _SAYS_SOMETHING)
        .order_by(EventLabel.label_id.desc())
        .limit(1)
        .correlate(CandidateEvent)
        .scalar_subquery()
    )


def is_labeled(*, person: str | None = None, label: str | None = None) -> ColumnElement[bool]:
    """Whether a `CandidateEvent` of the statement has a label: of anybody or of ``person``; any or this one."""
    found = select(EventLabel.label_id).where(
        EventLabel.event_id == CandidateEvent.event_id, EventLabel.superseded_at.is_(None), EventLabel.label.is_not(None)
    )
    if person is not None:
        found = found.where(EventLabel.person == person)
    if label is not None:
        found = found.where(EventLabel.label == label)
    return found.correlate(CandidateEvent).exists()


def _replace(session: Session, event_id: int, person: str, change: Callable[[_Said], _Said]) -> None:
    _lock(session, event_id, person)
    if session.get(CandidateEvent, int(event_id)) is None:
        raise NonRetriableError(f"event {event_id}", "does not exist", "list candidates: `dsa110 candidates list`")
    current = _current(session, event_id, person)
    said = (None, None) if current is None else (current.label, current.comment)
    wanted = change(said)
    if wanted == said:
        return
    session.execute(
        update(EventLabel)
        .where(EventLabel.event_id == event_id, EventLabel.person == person, EventLabel.superseded_at.is_(None))
        .values(superseded_at=func.now())
    )
    session.add(EventLabel(event_id=event_id, person=person, label=wanted[0], comment=wanted[1]))
    session.flush()


def _lock(session: Session, event_id: int, person: str) -> None:
    """Two windows of the same person take turns; other people do not wait."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": f"label {int(event_id)} {person}"})


def _current(session: Session, event_id: int, person: str) -> EventLabel | None:
    return session.scalars(
        select(EventLabel).where(EventLabel.event_id == event_id, EventLabel.person == person, EventLabel.superseded_at.is_(None))
    ).one_or_none()
