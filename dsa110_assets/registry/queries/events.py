"""Candidates in pages with the newest labels; one event with the other events of its source; its light curve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sqlalchemy import and_, func, select, true
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.labels import is_labeled, newest
from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import (
    CandidateEvent,
    EseCandidate,
    EventLabel,
    ExcludedEpoch,
    LightCurvePoint,
    MosaicKind,
    MosaicRow,
    Photometry,
    Source,
)

MOST_POINTS, MOST_EVENTS = 3000, 100
CANDIDATE = (
    EseCandidate.source_id, EseCandidate.night, EseCandidate.rank, EseCandidate.score, EseCandidate.epoch_mjd, EseCandidate.depth,
    EseCandidate.false_alarm_probability, EseCandidate.reasons, EseCandidate.event_id, CandidateEvent.kind, CandidateEvent.first_night,
    newest(EventLabel.label).label("label"), newest(EventLabel.comment).label("comment"), newest(EventLabel.person).label("labeled_by"),
    Source.name, Source.ra_deg, Source.dec_deg,
)  # fmt: skip
CANDIDATE_ORDERS = {
    "rank": EseCandidate.rank,
    "score": EseCandidate.score,
    "depth": EseCandidate.depth,
    "time": EseCandidate.epoch_mjd,
}
EVENT = (
    CandidateEvent.event_id, CandidateEvent.source_id, CandidateEvent.kind, CandidateEvent.peak_mjd, CandidateEvent.first_mjd,
    CandidateEvent.last_mjd, CandidateEvent.depth, CandidateEvent.score, CandidateEvent.first_night, CandidateEvent.first_seen_at,
    CandidateEvent.last_seen_at, newest(EventLabel.label).label("label"),
)  # fmt: skip


def candidates(
    session: Session,
    *,
    night: date | None,
    min_score: float | None,
    label: str | None,
    unlabeled: bool,
    after: Sequence[Any] | None,
    limit: int,
    unlabeled_by: str | None = None,
    max_score: float | None = None,
    sort: str = "rank",
    descending: bool | None = None,
) -> Page:
    """ESE candidates as of a night (default: the newest), best first, with the newest label and comment of anybody.

    ``sort``: one of `CANDIDATE_ORDERS`. ``descending``: None for the best rank, or the largest or latest first.

    ``label``: somebody gave this label. ``unlabeled``: nobody labeled the event; ``unlabeled_by``: this person did not.
    """
    as_of = night or newest_night(session)
    statement = (
        select(*CANDIDATE)
        .join(Source, Source.source_id == EseCandidate.source_id)
        .join(CandidateEvent, CandidateEvent.event_id == EseCandidate.event_id)
        .where(EseCandidate.night == as_of)
    )
    if min_score is not None:
        statement = statement.where(EseCandidate.score >= min_score)
    if max_score is not None:
        statement = statement.where(EseCandidate.score <= max_score)
    if label is not None:
        statement = statement.where(is_labeled(label=label))
    if unlabeled:
        statement = statement.where(~is_labeled())
    if unlabeled_by is not None:
        statement = statement.where(~is_labeled(person=unlabeled_by))
    order = (CANDIDATE_ORDERS[sort], EseCandidate.source_id)
    return read_page(session, statement, order, after=after, limit=limit, descending=sort != "rank" if descending is None else descending)


def newest_night(session: Session) -> date | None:
    """Newest night with candidates."""
    return session.scalar(select(func.max(EseCandidate.night)))


def event(session: Session, event_id: int) -> dict[str, Any] | None:
    """An event with its source, and rank, score and reasons of the newest night that ranked it; None without it."""
    ranked = (
        select(EseCandidate.night, EseCandidate.rank, EseCandidate.false_alarm_probability, EseCandidate.reasons)
        .where(EseCandidate.source_id == CandidateEvent.source_id, EseCandidate.event_id == CandidateEvent.event_id)
        .order_by(EseCandidate.night.desc())
        .limit(1)
        .lateral()
    )
    statement = (
        select(*EVENT, Source.name, Source.ra_deg, Source.dec_deg, ranked)
        .join(Source, Source.source_id == CandidateEvent.source_id)
        .outerjoin(ranked, true())
        .where(CandidateEvent.event_id == event_id)
    )
    row = session.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def events_of_source(session: Session, source_id: int, *, without: int | None = None) -> list[dict[str, Any]]:
    """Events of a source, the newest first, at most `MOST_EVENTS`. ``without``: this one is left out."""
    statement = select(*EVENT).where(CandidateEvent.source_id == source_id)
    if without is not None:
        statement = statement.where(CandidateEvent.event_id != without)
    return [dict(row) for row in session.execute(statement.order_by(CandidateEvent.peak_mjd.desc()).limit(MOST_EVENTS)).mappings()]


def curve_between(session: Session, source_id: int, low_mjd: float, high_mjd: float) -> list[dict[str, Any]]:
    """Normalized fluxes of a source between two times, in order of time, at most `MOST_POINTS`."""
    point = LightCurvePoint
    statement = (
        select(point.time_mjd, point.flux_jy, point.flux_err_jy, point.is_limit)
        .where(point.source_id == source_id, point.time_mjd >= low_mjd, point.time_mjd <= high_mjd)
        .order_by(point.time_mjd)
        .limit(MOST_POINTS)
    )
    return [dict(row) for row in session.execute(statement).mappings()]


def epochs_around(session: Session, source_id: int, mjd: float, *, each_side: int) -> list[dict[str, Any]]:
    """Hourly mosaics with a flux of a source around a time, some before and as many after it, in order of time."""
    statement = (
        select(Photometry.time_mjd, Photometry.mosaic_name, Photometry.flux_jy, Photometry.is_limit, MosaicRow.created_at)
        .join(MosaicRow, and_(MosaicRow.name == Photometry.mosaic_name, MosaicRow.kind == MosaicKind.HOURLY))
        .where(Photometry.source_id == source_id, Photometry.mosaic_name.not_in(select(ExcludedEpoch.mosaic_name)))
    )
    before = statement.where(Photometry.time_mjd <= mjd).order_by(Photometry.time_mjd.desc()).limit(each_side)
    after = statement.where(Photometry.time_mjd > mjd).order_by(Photometry.time_mjd).limit(each_side)
    rows = [dict(row) for part in (before, after) for row in session.execute(part).mappings()]
    return sorted(rows, key=lambda row: row["time_mjd"])
