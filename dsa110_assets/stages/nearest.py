"""Which tables an observation should have, and sending back those that have others.

An observation that was calibrated with borrowed tables, because its own night's calibrator had not passed yet, is
calibrated again when nearer ones are registered. What does not belong here: the ladder itself (`calibration.select`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.calibration.select import CalCandidate, CalChoice, select_tables
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import NoCalibrationError
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.schema import CalibrationApplied, CaltableRow, IngestGroup, MeasurementSetRow
from dsa110_assets.stages.attempts import now


def nearest_tables(session: Session, config: PipelineConfig, group: IngestGroup) -> CalChoice:
    """The tables that an observation gets today.

    Raises:
        NoCalibrationError: none is valid; says why.
    """
    reach = config.cal_borrow_days + 1
    rows = session.scalars(select(CaltableRow).where(CaltableRow.mid_mjd.between(group.mid_mjd - reach, group.mid_mjd + reach)))
    return select_tables(
        [CalCandidate(Path(row.directory), row.mid_mjd, row.pointing_dec_deg, row.night.isoformat(), row.accepted) for row in rows],
        mid_mjd=group.mid_mjd,
        declination_deg=group.dec_deg,
        night=group.night.isoformat(),
        borrow_days=config.cal_borrow_days,
        declination_tolerance_deg=config.cal_declination_tolerance_deg,
    )


def recalibrate_outdated(session: Session, config: PipelineConfig, group_ids: Sequence[str]) -> list[str]:
    """Send those of the observations back to the queue that have other tables than the nearest; returns them.

    Only completed ones: an observation in progress is looked at when it completes. Tables that were solved again under the
    same name are not "other" ones; what they make stale is for `dsa110 stale` to say.
    """
    outdated: list[str] = []
    for group_id in group_ids:
        group, applied = session.get(IngestGroup, group_id), session.get(CalibrationApplied, group_id)
        if group is None or applied is None or not _has_measurement_set(session, group_id):
            continue
        try:
            choice = nearest_tables(session, config, group)
        except NoCalibrationError:
            continue
        if str(choice.candidate.path) != applied.caltable_directory:
            outdated.append(group_id)
    return ledger.recalibrate(session, outdated, now()) if outdated else []


def _has_measurement_set(session: Session, group_id: str) -> bool:
    """Whether it can be calibrated again; housekeeping may have removed what that needs."""
    query = select(MeasurementSetRow.path).where(MeasurementSetRow.group_id == group_id, MeasurementSetRow.kind == "raw")
    return session.scalar(query) is not None


def observations_near(session: Session, group_id: str, days: float) -> list[str]:
    """Observations whose middle is at most ``days`` from that of ``group_id``, in order of time."""
    mid_mjd = session.get_one(IngestGroup, group_id).mid_mjd
    query = select(IngestGroup.group_id).where(IngestGroup.mid_mjd.between(mid_mjd - days, mid_mjd + days))
    return list(session.scalars(query.order_by(IngestGroup.group_id)))
