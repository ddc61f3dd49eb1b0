"""Variability metrics, ESE candidates and their events (`variability`, `ese_candidates`, `candidate_events`)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from dsa110_assets.registry.bulk import copy_rows, read_frame, table_of, upsert_rows
from dsa110_assets.registry.queries.labels import newest
from dsa110_assets.registry.schema import CandidateEvent, EseCandidate, EventLabel, Source, Variability

if TYPE_CHECKING:
    import pandas as pd

_VARIABILITY_COLUMNS = ("source_id", "night", "n_epochs", "mean_flux_jy", "eta", "v", "vs", "m", "chi2", "chi2_probability", "ese_score")
_CANDIDATE_COLUMNS = ("source_id", "night", "event_id", "rank", "score", "epoch_mjd", "depth", "false_alarm_probability", "reasons")


def replace_variability(session: Session, night: date | str, figures: pd.DataFrame) -> int:
    """Replace the variability metrics as of a night. Columns as in `Variability` without the night; NaN: undefined."""
    night = _date(night)
    session.execute(delete(Variability).where(Variability.night == night))
    return copy_rows(session, "variability", figures.assign(night=night.isoformat()), _VARIABILITY_COLUMNS)


def variability(session: Session, night: date | str | None = None) -> pd.DataFrame:
    """Variability metrics as of a night (default: the newest), with each source's name and position."""
    as_of = select(func.max(Variability.night)).scalar_subquery() if night is None else _date(night)
    columns = [getattr(Variability, name) for name in _VARIABILITY_COLUMNS]
    return read_frame(
        session,
        select(*columns, Source.name, Source.ra_deg, Source.dec_deg)
        .join(Source, Source.source_id == Variability.source_id)
        .where(Variability.night == as_of)
        .order_by(Variability.source_id),
    )


def replace_candidates(session: Session, night: date | str, found: pd.DataFrame) -> int:
    """Replace the ESE candidates as of a night. Columns as in `EseCandidate` without the night; see `save_events`."""
    night = _date(night)
    session.execute(delete(EseCandidate).where(EseCandidate.night == night))
    return copy_rows(session, table_of(EseCandidate).name, found.assign(night=night.isoformat()), _CANDIDATE_COLUMNS)


def add_candidates(session: Session, night: date | str, found: pd.DataFrame) -> None:
    """Add candidates to those of a night, or replace those of the same sources, and rank all by score.

    If the night has none yet, it begins with those of the night before.
    """
    if found.empty:
        return
    names, day = ", ".join(_CANDIDATE_COLUMNS), _date(night)
    copied = ", ".join("CAST(:night AS date)" if name == "night" else name for name in _CANDIDATE_COLUMNS)
    session.execute(
        text(
            f"INSERT INTO ese_candidates ({names}) SELECT {copied} FROM ese_candidates "  # noqa: S608 - constants of this module
            "WHERE night = (SELECT max(night) FROM ese_candidates WHERE night < :night) "
            "AND NOT EXISTS (SELECT FROM ese_candidates WHERE night = :night)"
        ),
        {"night": day},
    )
    upsert_rows(session, EseCandidate, found.assign(night=day.isoformat(), rank=0), _CANDIDATE_COLUMNS)
    session.execute(
        text(
            "UPDATE ese_candidates c SET rank = r.rank FROM (SELECT source_id, row_number() OVER (ORDER BY score DESC, source_id) AS rank "
            "FROM ese_candidates WHERE night = :night) r WHERE c.night = :night AND c.source_id = r.source_id"
        ),
        {"night": day},
    )


def candidates(session: Session, night: date | str | None = None, *, min_score: float | None = None) -> pd.DataFrame:
    """ESE candidates as of a night (default: the newest), best first, with each source's name and position.

    Also ``first_night`` of the event, and ``label, comment, labeled_by``: the newest of anybody.
    """
    as_of = select(func.max(EseCandidate.night)).scalar_subquery() if night is None else _date(night)
    columns = [getattr(EseCandidate, name) for name in _CANDIDATE_COLUMNS]
    of_event = (
        CandidateEvent.first_night,
        newest(EventLabel.label).label("label"),
        newest(EventLabel.comment).label("comment"),
        newest(EventLabel.person).label("labeled_by"),
    )
    statement = (
        select(*columns, *of_event, Source.name, Source.ra_deg, Source.dec_deg)
        .join(Source, Source.source_id == EseCandidate.source_id)
        .join(CandidateEvent, CandidateEvent.event_id == EseCandidate.event_id)
        .where(EseCandidate.night == as_of)
    )
    if min_score is not None:
        statement = statement.where(EseCandidate.score >= min_score)
    return read_frame(session, statement.order_by(EseCandidate.rank, EseCandidate.source_id))


def events_of(session: Session, source_ids: Sequence[int]) -> pd.DataFrame:
    """Known events of sources: ``event_id, source_id, first_mjd, last_mjd``."""
    columns = CandidateEvent.event_id, CandidateEvent.source_id, CandidateEvent.first_mjd, CandidateEvent.last_mjd
    return read_frame(session, select(*columns).where(CandidateEvent.source_id.in_([int(one) for one in source_ids])))


def save_events(session: Session, night: date | str, found: pd.DataFrame) -> list[int]:
    """Insert new events (``event_id`` 0) and bring known ones up to date. Return the ``event_id`` of each row.

    ``found``: ``event_id, source_id, kind, epoch_mjd, first_mjd, last_mjd, depth, score``.
    """
    numbers: list[int] = []
    for row in found.to_dict("records"):
        values = {
            "kind": str(row["kind"]), "peak_mjd": float(row["epoch_mjd"]), "first_mjd": float(row["first_mjd"]),
            "last_mjd": float(row["last_mjd"]), "depth": float(row["depth"]), "score": float(row["score"]),
        }  # fmt: skip
        if number := int(row["event_id"]):
            session.execute(update(CandidateEvent).where(CandidateEvent.event_id == number).values(**values, last_seen_at=func.now()))
        else:
            one = CandidateEvent(source_id=int(row["source_id"]), first_night=_date(night), **values)
            session.add(one)
            session.flush()
            number = one.event_id
        numbers.append(number)
    return numbers


def _date(night: date | str) -> date:
    return date.fromisoformat(night) if isinstance(night, str) else night
