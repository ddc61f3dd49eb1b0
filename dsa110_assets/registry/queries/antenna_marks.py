"""Antennas that people have marked as bad (`antenna_marks`), and Measurement Sets that were flagged otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, false, func, or_, select, text, union, update
from sqlalchemy.dialects.postgresql import aggregate_order_by, array
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import AntennaMark, IngestGroup, MeasurementSetKind, MeasurementSetRow

MARK = (
    AntennaMark.mark_id, AntennaMark.antenna, AntennaMark.from_mjd, AntennaMark.to_mjd, AntennaMark.reason, AntennaMark.marked_by,
    AntennaMark.marked_at, AntennaMark.removed_by, AntennaMark.removed_at,
)  # fmt: skip
_VALID = AntennaMark.removed_at.is_(None)
_LONGEST_DAYS = 1.0
"""No observation lasts longer; one of the telescope lasts 309 s."""


def bad_antennas(session: Session, group_id: str) -> list[str]:
    """Names of the antennas that are marked as bad for the time of an observation, sorted."""
    statement = select(_names()).select_from(IngestGroup).where(IngestGroup.group_id == group_id)
    return list(session.scalar(statement) or [])


def of_observation(session: Session, group_id: str) -> list[dict[str, Any]]:
    """Valid marks for the time of an observation, by antenna."""
    statement = select(*MARK).join(IngestGroup, _covers()).where(IngestGroup.group_id == group_id, _VALID)
    return [dict(row) for row in session.execute(statement.order_by(AntennaMark.antenna, AntennaMark.from_mjd)).mappings()]


def flagged_for(session: Session, group_id: str) -> list[str] | None:
    """Names of the bad antennas for which the Measurement Set of an observation was flagged; None if there is none."""
    statement = select(MeasurementSetRow.bad_antennas).where(
        MeasurementSetRow.group_id == group_id, MeasurementSetRow.kind == MeasurementSetKind.RAW
    )
    return session.scalar(statement.limit(1))


def between(session: Session, since_mjd: float, until_mjd: float) -> list[dict[str, Any]]:
    """Valid marks for a part of a span of time, by antenna."""
    covers = and_(AntennaMark.from_mjd < until_mjd, or_(AntennaMark.to_mjd.is_(None), AntennaMark.to_mjd > since_mjd))
    statement = select(*MARK).where(covers, _VALID).order_by(AntennaMark.antenna, AntennaMark.from_mjd)
    return [dict(row) for row in session.execute(statement).mappings()]


def put(session: Session, antenna: str, *, from_mjd: float, to_mjd: float | None, reason: str, person: str) -> AntennaMark | None:
    """Mark an antenna as bad. An earlier mark of it from the same time ends and is returned."""
    ended = session.scalars(
        update(AntennaMark)
        .where(AntennaMark.antenna == antenna, AntennaMark.from_mjd == from_mjd, _VALID)
        .values(removed_at=func.clock_timestamp(), removed_by=person)
        .returning(AntennaMark)
    ).one_or_none()
    session.add(AntennaMark(antenna=antenna, from_mjd=from_mjd, to_mjd=to_mjd, reason=reason, marked_by=person))
    session.flush()
    return ended


def take_away(session: Session, mark_id: int, *, person: str) -> AntennaMark | None:
    """End a valid mark and return it; None if there is none."""
    ended = (
        update(AntennaMark)
        .where(AntennaMark.mark_id == mark_id, _VALID)
        .values(removed_at=func.clock_timestamp(), removed_by=person)
        .returning(AntennaMark)
    )
    return session.scalars(ended).one_or_none()


def valid_mark(session: Session, mark_id: int) -> dict[str, Any] | None:
    """A valid mark by its number; None if there is none."""
    row = session.execute(select(*MARK).where(AntennaMark.mark_id == mark_id, _VALID)).mappings().one_or_none()
    return None if row is None else dict(row)


def valid_from(session: Session, antenna: str, from_mjd: float) -> dict[str, Any] | None:
    """The valid mark of an antenna from exactly this time, which `put` replaces; None if there is none."""
    of = AntennaMark.antenna == antenna, AntennaMark.from_mjd == from_mjd
    row = session.execute(select(*MARK).where(*of, _VALID)).mappings().one_or_none()
    return None if row is None else dict(row)


def newest(session: Session, *, antenna: str | None = None, valid_only: bool, after: Sequence[Any] | None, limit: int) -> Page:
    """Marks (of one antenna), the newest first."""
    statement = select(*MARK)
    if antenna is not None:
        statement = statement.where(AntennaMark.antenna == antenna)
    if valid_only:
        statement = statement.where(_VALID)
    return read_page(session, statement, (AntennaMark.mark_id,), after=after, limit=limit)


def flagged_otherwise(session: Session, *, between_mjd: tuple[float, float | None] | None = None) -> list[str]:
    """Observations whose Measurement Set was flagged for other bad antennas than those marked today.

    ``between_mjd``: only those that lie in a span, without an end if that is None.
    """
    inside: list[ColumnElement[bool]] = []
    if between_mjd is not None:
        inside.append(IngestGroup.end_mjd > between_mjd[0])
        inside += [] if between_mjd[1] is None else [IngestGroup.start_mjd < between_mjd[1]]
    flagged = select(MeasurementSetRow.group_id).where(text("bad_antennas <> '{}'"))  # as in the index
    of_marks = [_in_span(*span) for span in _spans(session)]
    marked = select(IngestGroup.group_id).join(AntennaMark, _covers()).where(_VALID, or_(false(), *of_marks), *inside)
    concerned = union(flagged, marked).subquery()
    statement = (
        select(MeasurementSetRow.group_id)
        .join(concerned, concerned.c.group_id == MeasurementSetRow.group_id)
        .join(IngestGroup, IngestGroup.group_id == MeasurementSetRow.group_id)
        .where(MeasurementSetRow.kind == MeasurementSetKind.RAW, MeasurementSetRow.bad_antennas != _names(), *inside)
        .order_by(MeasurementSetRow.group_id)
    )
    return list(session.scalars(statement))


def _spans(session: Session) -> list[tuple[float, float | None]]:
    """Spans of time of the valid marks, without overlaps; None: no end. A condition on each finds rows by an index."""
    spans: list[tuple[float, float | None]] = []
    for begin, end in session.execute(
        select(AntennaMark.from_mjd, AntennaMark.to_mjd).where(_VALID).order_by(AntennaMark.from_mjd)
    ).tuples():
        last = spans[-1] if spans else None
        if last is None or (last[1] is not None and begin > last[1]):
            spans.append((begin, end))
        elif last[1] is not None:
            spans[-1] = (last[0], None if end is None else max(end, last[1]))
    return spans


def _in_span(begin_mjd: float, end_mjd: float | None) -> ColumnElement[bool]:
    """Whether an observation, which is shorter than `_LONGEST_DAYS`, may have a part in a span."""
    begins = IngestGroup.start_mjd > begin_mjd - _LONGEST_DAYS
    return begins if end_mjd is None else and_(begins, IngestGroup.start_mjd < end_mjd)


def _covers() -> ColumnElement[bool]:
    """Whether a mark holds for a part of the time of an observation."""
    return and_(AntennaMark.from_mjd < IngestGroup.end_mjd, or_(AntennaMark.to_mjd.is_(None), AntennaMark.to_mjd > IngestGroup.start_mjd))


def _names() -> ColumnElement[Any]:
    """Names of the antennas marked for the time of an observation of a query, sorted."""
    names = func.array_agg(aggregate_order_by(AntennaMark.antenna.distinct(), AntennaMark.antenna))
    found = select(names).where(_covers(), _VALID).correlate(IngestGroup).scalar_subquery()
    return func.coalesce(found, array([], type_=Text()))
