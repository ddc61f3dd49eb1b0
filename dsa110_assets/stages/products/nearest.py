"""Which tables an observation should have, and sending back those that have others.

An observation that was calibrated with borrowed tables, because its own night's calibrator had not passed yet, is
calibrated again when nearer ones are registered. What does not belong here: the ladder itself (`calibration.select`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import publication
from dsa110_assets.calibration.caltable import CalTable, read_caltable
from dsa110_assets.calibration.select import CalCandidate, CalChoice, select_tables
from dsa110_assets.calibration.solve import tables_in
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import CalibrationMismatchError, NoCalibrationError, NonRetriableError
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries.calibration import lock_caltables
from dsa110_assets.registry.schema import CalibrationApplied, CaltableRow, IngestGroup, MeasurementSetKind, MeasurementSetRow
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.table import CALIBRATION_TABLES


def nearest_tables(session: Session, config: PipelineConfig, group: IngestGroup) -> CalChoice:
    """The tables that an observation gets today; none is registered or replaced until the transaction ends.

    Raises:
        NoCalibrationError: none is valid; says why.
    """
    lock_caltables(session)
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


def read_registered(session: Session, directory: Path) -> list[CalTable]:
    """Solutions of a registered set, in memory; checked to be those that were registered. Call with the tables locked (`nearest_tables`).

    Raises:
        CalibrationMismatchError: the files were changed since.
        NonRetriableError: they are gone.
    """
    version = current_version(session, CALIBRATION_TABLES.name, directory.name)
    tables = tables_in(directory)
    if not tables:
        raise NonRetriableError(
            directory, "holds no calibration tables", "solve the calibrator's tile again; `dsa110 db check` lists what is lost"
        )
    if version is not None and version.checksum is not None and publication.checksum(directory) != version.checksum:
        raise CalibrationMismatchError(directory, "is not what was registered (its checksum differs)", "solve the calibrator's tile again")
    return [read_caltable(path) for path in tables]


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
    query = select(MeasurementSetRow.path).where(MeasurementSetRow.group_id == group_id, MeasurementSetRow.kind == MeasurementSetKind.RAW)
    return session.scalar(query) is not None


def observations_near(session: Session, group_id: str, days: float) -> list[str]:
    """Observations whose middle is at most ``days`` from that of ``group_id``, in order of time."""
    mid_mjd = session.get_one(IngestGroup, group_id).mid_mjd
    query = select(IngestGroup.group_id).where(IngestGroup.mid_mjd.between(mid_mjd - days, mid_mjd + days))
    return list(session.scalars(query.order_by(IngestGroup.group_id)))
