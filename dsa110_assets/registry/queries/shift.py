"""The log of the shifts (`shift_entries`). Entries are only added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any

from sqlalchemy import insert, or_, select
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import ShiftEntry, Source

ENTRY = (
    ShiftEntry.entry_id, ShiftEntry.person, ShiftEntry.text, ShiftEntry.group_id, ShiftEntry.source_id, ShiftEntry.night,
    ShiftEntry.written_at,
)  # fmt: skip
MOST_OF_A_NIGHT = 200
_WITH_SOURCE = select(*ENTRY, Source.name.label("source")).outerjoin(Source, Source.source_id == ShiftEntry.source_id)


def add_entry(session: Session, *, person: str, text: str, group_id: str | None, source_id: int | None, night: date | None) -> int:
    """Add an entry and return its number."""
    values = {"person": person, "text": text, "group_id": group_id, "source_id": source_id, "night": night}
    return session.execute(insert(ShiftEntry).values(**values).returning(ShiftEntry.entry_id)).scalar_one()


def entries(
    session: Session,
    *,
    night: date | None = None,
    group_id: str | None = None,
    source_id: int | None = None,
    after: Sequence[Any] | None = None,
    limit: int,
) -> Page:
    """Entries, newest first, all or those about a night, an observation or a source."""
    statement = _WITH_SOURCE
    for column, wanted in ((ShiftEntry.night, night), (ShiftEntry.group_id, group_id), (ShiftEntry.source_id, source_id)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    return read_page(session, statement, (ShiftEntry.entry_id,), after=after, limit=limit)


def entries_of_night(session: Session, night: date, first: datetime, until: datetime) -> list[dict[str, Any]]:
    """Entries about a night, and those written in a time, in order of time."""
    written = (ShiftEntry.written_at >= first) & (ShiftEntry.written_at < until)
    query = _WITH_SOURCE.where(or_(ShiftEntry.night == night, written)).order_by(ShiftEntry.entry_id).limit(MOST_OF_A_NIGHT)
    return [dict(row) for row in session.execute(query).mappings()]
