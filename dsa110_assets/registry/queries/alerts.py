"""Alerts that the platform reported (`alerts`), and what people answered (`alert_acknowledgements`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import AlertAcknowledgement, AlertRecord

MOST_ALERTS = 1000


def record_open(session: Session, present: Sequence[Mapping[str, str]], now: datetime) -> None:
    """Record what is open now: rows of key, level, title, next_step and page. Other open rows have passed."""
    if present:
        statement = upsert(AlertRecord).values([{**one, "opened_at": now, "seen_at": now} for one in present])
        fresh = {name: statement.excluded[name] for name in ("level", "title", "next_step", "page", "seen_at")}
        session.execute(statement.on_conflict_do_update(index_elements=["key"], index_where=AlertRecord.passed_at.is_(None), set_=fresh))
    keys = [one["key"] for one in present]
    session.execute(update(AlertRecord).where(AlertRecord.passed_at.is_(None), AlertRecord.key.not_in(keys)).values(passed_at=now))


def open_records(session: Session) -> list[AlertRecord]:
    """Alerts that had not passed when the platform last looked."""
    return list(session.scalars(select(AlertRecord).where(AlertRecord.passed_at.is_(None)).order_by(AlertRecord.key).limit(MOST_ALERTS)))


def opened_between(session: Session, first: datetime, until: datetime) -> list[AlertRecord]:
    """Alerts that appeared in a time, in this order."""
    query = select(AlertRecord).where(AlertRecord.opened_at >= first, AlertRecord.opened_at < until).order_by(AlertRecord.opened_at)
    return list(session.scalars(query.limit(MOST_ALERTS)))


def acknowledgements(session: Session, now: datetime) -> dict[str, AlertAcknowledgement]:
    """Answers that are in force, by the alert's key."""
    row = AlertAcknowledgement
    query = select(row).where(row.ended_at.is_(None), or_(row.until.is_(None), row.until > now)).limit(MOST_ALERTS)
    return {one.key: one for one in session.scalars(query)}


def acknowledge(session: Session, key: str, *, person: str, reason: str, until: datetime | None) -> None:
    """Record an answer; an earlier one to the same alert ends."""
    end_acknowledgement(session, key)
    session.execute(insert(AlertAcknowledgement).values(key=key, person=person, reason=reason, until=until))


def end_acknowledgement(session: Session, key: str) -> bool:
    """End the answer to an alert; False if there is none."""
    row = AlertAcknowledgement
    ended = update(row).where(row.key == key, row.ended_at.is_(None)).values(ended_at=func.now()).returning(row.acknowledgement_id)
    return bool(session.execute(ended).all())


def end_acknowledgements(session: Session, present: Collection[str], now: datetime) -> None:
    """End answers whose time is over, and those without a time to alerts that have passed."""
    row = AlertAcknowledgement
    over = or_(row.until <= now, row.until.is_(None) & row.key.not_in(list(present)))
    session.execute(update(row).where(row.ended_at.is_(None), over).values(ended_at=now))
