"""The log of the shifts: what people on shift saw and did. An entry is never changed; a correction is another entry."""

from __future__ import annotations

from datetime import date

from sqlalchemy.orm import Session

from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.registry.queries import shift as queries
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.schema import Source

LONGEST_TEXT = 4000


def write(
    session: Session, text: str, *, person: str, group_id: str | None = None, source_id: int | None = None, night: date | None = None
) -> int:
    """Add an entry, perhaps about an observation, a source or a night; return its number.

    Raises:
        InvalidRequestError: no text, too long a text, or no name.
        UnknownGroupError: there is no such observation.
        NotFoundError: there is no such source.
    """
    if not text.strip() or len(text) > LONGEST_TEXT or not person.strip() or "\x00" in text:
        raise InvalidRequestError("entry", f"needs a name, and a text of at most {LONGEST_TEXT} characters", "write what you saw or did")
    if group_id is not None:
        observation(session, group_id)
    if source_id is not None and session.get(Source, source_id) is None:
        raise NotFoundError(f"source {source_id}", "there is no source of this number", "search them: /api/sources")
    return queries.add_entry(session, person=person.strip(), text=text.strip(), group_id=group_id, source_id=source_id, night=night)
