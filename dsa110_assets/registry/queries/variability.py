"""Variability metrics and ESE candidates (`variability`, `ese_candidates`)."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.orm import Session

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.bulk import copy_rows, read_frame
from dsa110_assets.registry.schema import EseCandidate, Source, Variability

if TYPE_CHECKING:
    import pandas as pd

_VARIABILITY_COLUMNS = ("source_id", "night", "n_epochs", "mean_flux_jy", "eta", "v", "vs", "m", "chi2", "chi2_probability", "ese_score")
_CANDIDATE_COLUMNS = ("source_id", "night", "rank", "score", "epoch_mjd", "depth", "false_alarm_probability", "reasons")


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
    """Replace the ESE candidates as of a night. Columns as in `EseCandidate` without the night.

    People's labels and comments stay: a candidate that is found again keeps its own, and one that is not found again is
    removed only if it has neither.
    """
    night = _date(night)
    session.execute(
        text(
            "CREATE TEMPORARY TABLE IF NOT EXISTS incoming_candidates (source_id int8, night date, rank int4, score float8, epoch_mjd float8, "
            "depth float8, false_alarm_probability float8, reasons text) ON COMMIT DROP"
        )
    )
    session.execute(text("TRUNCATE incoming_candidates"))
    count = copy_rows(session, "incoming_candidates", found.assign(night=night.isoformat()), _CANDIDATE_COLUMNS)
    session.execute(
        text(
            "DELETE FROM ese_candidates WHERE night = :night AND label IS NULL AND comment IS NULL "
            "AND source_id NOT IN (SELECT source_id FROM incoming_candidates)"
        ),
        {"night": night},
    )
    names = ", ".join(_CANDIDATE_COLUMNS)
    changes = ", ".join(f"{name} = excluded.{name}" for name in _CANDIDATE_COLUMNS[2:])
    statement = (
        f"INSERT INTO ese_candidates ({names}) SELECT {names} FROM incoming_candidates ON CONFLICT (source_id, night) DO UPDATE SET "  # noqa: S608
    )
    session.execute(text(statement + changes))
    return count


def candidates(session: Session, night: date | str | None = None, *, min_score: float | None = None) -> pd.DataFrame:
    """ESE candidates as of a night (default: the newest), best first, with each source's name and position."""
    as_of = select(func.max(EseCandidate.night)).scalar_subquery() if night is None else _date(night)
    columns = [getattr(EseCandidate, name) for name in _CANDIDATE_COLUMNS]
    statement = (
        select(*columns, EseCandidate.label, EseCandidate.comment, Source.name, Source.ra_deg, Source.dec_deg)
        .join(Source, Source.source_id == EseCandidate.source_id)
        .where(EseCandidate.night == as_of)
    )
    if min_score is not None:
        statement = statement.where(EseCandidate.score >= min_score)
    return read_frame(session, statement.order_by(EseCandidate.rank, EseCandidate.source_id))


def label_candidate(session: Session, source_id: int, night: date | str, *, label: str | None, comment: str | None) -> None:
    """Set a person's label and comment on a candidate.

    Raises:
        NonRetriableError: the candidate does not exist.
    """
    changed = session.execute(
        update(EseCandidate)
        .where(EseCandidate.source_id == source_id, EseCandidate.night == _date(night))
        .values(label=label, comment=comment)
        .returning(EseCandidate.source_id)
    ).all()
    if not changed:
        raise NonRetriableError(f"candidate {source_id} of {night}", "does not exist", "list them with /ui/candidates")


def _date(night: date | str) -> date:
    return date.fromisoformat(night) if isinstance(night, str) else night
