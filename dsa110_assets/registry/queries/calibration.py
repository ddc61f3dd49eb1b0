"""Calibration tables and their use (`caltables`, `calibration_applied`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, all_, any_, exists, func, literal, not_, select, update
from sqlalchemy.orm import Session, aliased

from dsa110_assets.registry.bulk import upsert
from dsa110_assets.registry.queries.marks import decision_on
from dsa110_assets.registry.schema import CalibrationApplied, CaltableRow, IngestGroup, MarkDecision, MarkKind
from dsa110_assets.strips import in_strip

_TABLES_LOCK = 0x0D5A_0CA1  # an advisory lock is any fixed number


def lock_caltables(session: Session, *, exclusive: bool = False) -> None:
    """Lock the set of registered calibration tables until this transaction ends, shared or ``exclusive``.

    Readers share the lock: code that selects tables, waits for tables or ends an observation. Registration takes it
    exclusively. So an observation either finds new tables, or their registration finds the observation (pitfall 14's
    race). Take this lock before any row lock.
    """
    lock = func.pg_advisory_xact_lock if exclusive else func.pg_advisory_xact_lock_shared
    session.execute(select(lock(_TABLES_LOCK)))


def may_be_used(tables: type[CaltableRow]) -> ColumnElement[bool]:
    """Whether tables may be used: a person's mark on them, else the verdict of the solver."""
    decision = decision_on(MarkKind.SOLUTION, tables.group_id)
    return func.coalesce(decision == MarkDecision.GOOD, tables.accepted)


def upsert_caltables(
    session: Session,
    *,
    directory: str,
    group_id: str,
    night: date | str,
    calibrator: str,
    refant: str,
    mid_mjd: float,
    valid_from_mjd: float,
    valid_to_mjd: float,
    pointing_dec_deg: float,
    accepted: bool,
    reasons: Sequence[str],
    quality: Mapping[str, Any],
) -> None:
    """Register the tables of one calibrator transit, also refused ones, with the reasons."""
    upsert(
        session,
        CaltableRow,
        {
            "directory": str(directory), "group_id": group_id, "night": date.fromisoformat(night) if isinstance(night, str) else night,
            "calibrator": calibrator, "refant": refant, "mid_mjd": mid_mjd, "valid_from_mjd": valid_from_mjd,
            "valid_to_mjd": valid_to_mjd, "pointing_dec_deg": pointing_dec_deg, "accepted": accepted, "reasons": list(reasons),
            "quality": dict(quality),
        },
        refresh=["created_at"],
    )  # fmt: skip


def observations_with_other_tables(
    session: Session, *, borrow_days: int, tolerance_deg: float, near: tuple[float, float] | None = None
) -> list[str]:
    """Observations that may get other tables today: nearer ones have come, or those applied were refused since.

    Nearer tables that were considered when the applied ones were chosen fitted worse (`calibration.comparison`).
    ``near``: only observations whose middle is between these times (UTC MJD).
    """
    used, nearer = aliased(CaltableRow), aliased(CaltableRow)
    exists_nearer = exists().where(
        may_be_used(nearer),
        in_strip(nearer.pointing_dec_deg, IngestGroup.dec_deg, tolerance_deg),
        nearer.night.between(IngestGroup.night - borrow_days, IngestGroup.night + borrow_days),  # so the index on `night` serves
        func.abs(nearer.mid_mjd - IngestGroup.mid_mjd) < func.abs(used.mid_mjd - IngestGroup.mid_mjd),
        nearer.group_id != all_(CalibrationApplied.considered),
    )
    statement = (
        select(CalibrationApplied.group_id)
        .join(IngestGroup, IngestGroup.group_id == CalibrationApplied.group_id)
        .join(used, used.directory == CalibrationApplied.caltable_directory)
        .where(not_(may_be_used(used)) | exists_nearer)
        .order_by(CalibrationApplied.group_id)
    )
    if near is not None:
        statement = statement.where(IngestGroup.mid_mjd.between(*near))
    return list(session.scalars(statement))


def record_calibration_applied(
    session: Session, *, group_id: str, caltable_directory: str, rung: str, hours_away: float, considered: Sequence[str] = ()
) -> None:
    """Record the tables applied to an observation.

    ``rung``: of the borrowing ladder. ``hours_away``: time of the tables minus time of the data. ``considered``: see
    the schema.
    """
    upsert(
        session,
        CalibrationApplied,
        {
            "group_id": group_id, "caltable_directory": str(caltable_directory), "rung": rung, "hours_away": hours_away,
            "considered": list(considered),
        },
        refresh=["applied_at"],
    )  # fmt: skip


def forget_considered(session: Session, group_id: str) -> None:
    """Let the tables of a calibrator's observation be considered again: they were solved again."""
    others = CalibrationApplied.considered
    session.execute(
        update(CalibrationApplied).where(literal(group_id) == any_(others)).values(considered=func.array_remove(others, group_id))
    )
