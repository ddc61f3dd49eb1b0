"""Observations (`ingest_queue`, read only) and Measurement Sets (`ms_index`)."""

from __future__ import annotations

from datetime import date

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.errors import UnknownGroupError
from dsa110_assets.registry.bulk import upsert
from dsa110_assets.registry.schema import GroupState, IngestGroup, MeasurementSetRow


def group(session: Session, group_id: str) -> IngestGroup:
    """One observation.

    Raises:
        UnknownGroupError: there is none of this name.
    """
    row = session.get(IngestGroup, group_id)
    if row is None:
        raise UnknownGroupError(group_id, "is not in the ingest queue", "list observations with `dsa110 ingest status`")
    return row


def groups_of_slot(session: Session, night: date | str, slot: str) -> list[IngestGroup]:
    """Observations that start in a 5-minute slot (``"05:10"``) of a UTC date, in order of time: none, one, or more after a restart."""
    return list(
        session.scalars(
            select(IngestGroup).where(IngestGroup.night == _date(night), IngestGroup.slot == slot).order_by(IngestGroup.start_mjd)
        )
    )


def groups_of_hour(session: Session, night: date | str, hour: str) -> list[IngestGroup]:
    """Observations that start in an hour (``"05"``) of a UTC date, in order of time."""
    return list(
        session.scalars(
            select(IngestGroup)
            .where(IngestGroup.night == _date(night), IngestGroup.slot.startswith(f"{hour}:"))
            .order_by(IngestGroup.start_mjd)
        )
    )


def groups_of_night(session: Session, night: date | str) -> list[IngestGroup]:
    """Observations that start on a UTC date, in order of time."""
    return list(session.scalars(select(IngestGroup).where(IngestGroup.night == _date(night)).order_by(IngestGroup.start_mjd)))


def counts_by_state(session: Session, *, since: date | str | None = None) -> dict[GroupState, int]:
    """Number of observations in each state, zeros included; ``since``: first night that counts."""
    statement = select(IngestGroup.state, func.count()).group_by(IngestGroup.state)
    if since is not None:
        statement = statement.where(IngestGroup.night >= _date(since))
    found = dict(session.execute(statement).tuples().all())
    return {state: found.get(state.value, 0) for state in GroupState}


def upsert_measurement_set(
    session: Session,
    *,
    path: str,
    group_id: str,
    kind: str,
    status: str,
    start_mjd: float,
    mid_mjd: float,
    end_mjd: float,
    ra_deg: float,
    dec_deg: float,
    pointing_dec_deg: float,
    n_channels: int,
    flagged_fraction: float,
    size_bytes: int,
    calibrator: str | None = None,
) -> None:
    """Register a Measurement Set; ``kind`` is ``raw`` or ``calibrated``, ``ra_deg``, ``dec_deg`` its ICRS phase centre."""
    upsert(
        session,
        MeasurementSetRow,
        {
            "path": str(path), "group_id": group_id, "kind": kind, "status": status, "start_mjd": start_mjd, "mid_mjd": mid_mjd,
            "end_mjd": end_mjd, "ra_deg": ra_deg, "dec_deg": dec_deg, "pointing_dec_deg": pointing_dec_deg, "calibrator": calibrator,
            "n_channels": n_channels, "flagged_fraction": flagged_fraction, "size_bytes": size_bytes,
        },
        refresh=["created_at"],
    )  # fmt: skip


def measurement_sets(session: Session, start_mjd: float, end_mjd: float, *, kind: str | None = None) -> list[MeasurementSetRow]:
    """Measurement Sets whose mid-time lies in [start, end) (UTC MJD), in order of time."""
    statement = select(MeasurementSetRow).where(MeasurementSetRow.mid_mjd >= start_mjd, MeasurementSetRow.mid_mjd < end_mjd)
    if kind is not None:
        statement = statement.where(MeasurementSetRow.kind == kind)
    return list(session.scalars(statement.order_by(MeasurementSetRow.mid_mjd)))


def _date(night: date | str) -> date:
    return date.fromisoformat(night) if isinstance(night, str) else night
