"""Marks of people on antennas: one is bad from a time on, or between two times.

Conversion flags it in every observation of that span (`stages.products.tile`), so that no solution and no image has
it. A Measurement Set that was flagged otherwise is stale, and so is what is made from it; a backfill makes exactly that
again.
"""

from __future__ import annotations

from sqlalchemy.orm import Session

from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.registry.queries import antenna_marks, antennas
from dsa110_assets.registry.queries.storage import retired
from dsa110_assets.stages.operations.marks import Consequences, checked
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.table import MEASUREMENT_SET

_LONGEST_NAME = 50
_SOLUTIONS_WITH_NAMES = 10


def mark_antenna(
    platform: Platform, antenna: str, *, from_mjd: float, to_mjd: float | None = None, reason: str, person: str
) -> Consequences:
    """Mark an antenna as bad; tell what is to be made again. A mark from the same time replaces the earlier one.

    Args:
        platform: the platform.
        antenna: its name in the raw files.
        from_mjd, to_mjd: observations with a part in this span are flagged; ``to_mjd`` None: all from then on.
        reason: why.
        person: who says so.

    Raises:
        InvalidRequestError: without a reason or a name, or the span ends before it begins.
        NotFoundError: no recent solution has an antenna of this name.
    """
    with platform.database.session() as session:
        return put_mark(session, antenna, from_mjd=from_mjd, to_mjd=to_mjd, reason=reason, person=person)


def put_mark(session: Session, antenna: str, *, from_mjd: float, to_mjd: float | None, reason: str, person: str) -> Consequences:
    """Mark an antenna in an open transaction; see `mark_antenna`."""
    antenna, reason, person = checked("antenna", antenna, _LONGEST_NAME), checked("reason", reason), checked("name", person)
    if to_mjd is not None and to_mjd <= from_mjd:
        raise InvalidRequestError("span", "ends before it begins", "give an end after the start, or none")
    known = known_antennas(session)
    if known and antenna not in known:
        raise NotFoundError(f"antenna {antenna}", "is in no recent solution", "take a name of /ui/antennas or /api/antennas")
    earlier = antenna_marks.put(session, antenna, from_mjd=from_mjd, to_mjd=to_mjd, reason=reason, person=person)
    ends = [to_mjd] if earlier is None else [to_mjd, earlier.to_mjd]
    return _consequences(session, from_mjd, None if None in ends else max(one for one in ends if one is not None))


def unmark_antenna(platform: Platform, mark_id: int, *, person: str) -> Consequences:
    """Take a mark on an antenna away; tell what is to be made again.

    Raises:
        NotFoundError: there is no valid mark of this number.
    """
    with platform.database.session() as session:
        return take_mark_away(session, mark_id, person=person)


def take_mark_away(session: Session, mark_id: int, *, person: str) -> Consequences:
    """Take a mark on an antenna away in an open transaction; see `unmark_antenna`."""
    mark = antenna_marks.take_away(session, mark_id, person=person)
    if mark is None:
        raise no_antenna_mark(mark_id)
    return _consequences(session, mark.from_mjd, mark.to_mjd)


def no_antenna_mark(mark_id: int) -> NotFoundError:
    """The error of who asks for a mark on an antenna that does not exist, or not any more."""
    return NotFoundError(f"mark {mark_id}", "there is no valid one on an antenna", "list them: `dsa110 mark antennas`")


def known_antennas(session: Session) -> set[str]:
    """Names of the antennas in the newest solutions; empty if no tables have any."""
    return {name for row in antennas.solutions(session, limit=_SOLUTIONS_WITH_NAMES) for name in row[antennas.ANTENNAS] or {}}


def _consequences(session: Session, from_mjd: float, to_mjd: float | None) -> Consequences:
    """Measurement Sets of a span that were flagged for other antennas than those marked now."""
    found = [(MEASUREMENT_SET.name, one) for one in antenna_marks.flagged_otherwise(session, between_mjd=(from_mjd, to_mjd))]
    gone = retired(session, found)
    return Consequences(
        products=tuple(one for one in found if one not in gone),
        without_files=tuple(key for product, key in found if (product, key) in gone),
    )
