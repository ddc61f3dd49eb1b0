"""The calibration tables that are valid for an observation, and a new calibration of observations that have others.

An observation gets borrowed tables if its own night's calibrator has not transited yet. It is calibrated again when
nearer tables are registered; if its tile is refused, also when the first tables on the other side in time are. The data
then decide between the tables (`calibration.comparison`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import content
from dsa110_assets.calibration.caltable import CalTable, read_caltable
from dsa110_assets.calibration.select import CalCandidate, CalChoice, to_compare, valid_tables
from dsa110_assets.calibration.solve import tables_in
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import CalibrationMismatchError, NoCalibrationError, NonRetriableError
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries.calibration import lock_caltables, may_be_used
from dsa110_assets.registry.schema import CalibrationApplied, CaltableRow, IngestGroup, MeasurementSetKind, MeasurementSetRow
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.table import CALIBRATION_TABLES


def usable_tables(session: Session, config: PipelineConfig, group: IngestGroup) -> list[CalChoice]:
    """The valid tables of an observation, nearest in time first; lock all tables until the transaction ends.

    Raises:
        NoCalibrationError: no tables are valid.
    """
    lock_caltables(session)
    reach = config.cal_borrow_days + 1
    within = CaltableRow.mid_mjd.between(group.mid_mjd - reach, group.mid_mjd + reach)
    rows = session.execute(select(CaltableRow, may_be_used(CaltableRow)).where(within)).tuples()
    return valid_tables(
        [CalCandidate(Path(row.directory), row.mid_mjd, row.pointing_dec_deg, row.night.isoformat(), used) for row, used in rows],
        mid_mjd=group.mid_mjd,
        declination_deg=group.dec_deg,
        night=group.night.isoformat(),
        borrow_days=config.cal_borrow_days,
        declination_tolerance_deg=config.cal_declination_tolerance_deg,
    )


def read_registered(session: Session, directory: Path) -> list[CalTable]:
    """Read registered tables and check that they have not changed; lock them first (`usable_tables`).

    Raises:
        CalibrationMismatchError: the files have changed since they were registered.
        NonRetriableError: the files are missing.
    """
    version = current_version(session, CALIBRATION_TABLES.name, directory.name)
    tables = tables_in(directory)
    if not tables:
        raise NonRetriableError(
            directory, "holds no calibration tables", "solve the calibrator's tile again; `dsa110 db check` lists what is lost"
        )
    if version is not None and version.checksum is not None and not content.agrees(directory, version.checksum):
        raise CalibrationMismatchError(directory, "is not what was registered (its content differs)", "solve the calibrator's tile again")
    return [read_caltable(path) for path in tables]


def recalibrate_outdated(session: Session, config: PipelineConfig, group_ids: Sequence[str]) -> list[str]:
    """Return observations to the queue if tables have come that may fit them better; return their names.

    Those are nearer ones; for a refused tile, also the nearest on the other side in time. Tables that were considered
    before do not count. Only completed observations go back; those in progress are checked when they complete. Tables
    that were solved again under the same name do not count; `dsa110 stale` reports what they make stale.
    """
    outdated: list[str] = []
    if_refused: list[str] = []
    for group_id in group_ids:
        group, applied = session.get(IngestGroup, group_id), session.get(CalibrationApplied, group_id)
        if group is None or applied is None or not _has_measurement_set(session, group_id):
            continue
        try:
            choices = usable_tables(session, config, group)
        except NoCalibrationError:
            continue
        used = next((one for one in choices if str(one.candidate.path) == applied.caltable_directory), None)
        new = [one for one in choices if one is not used and one.candidate.path.name not in applied.considered]
        if used is None or any(abs(one.hours_away) < abs(used.hours_away) for one in new):
            outdated.append(group_id)
        elif any(one in new for one in to_compare(choices)):
            if_refused.append(group_id)
    outdated += gates.refused_tiles(session, if_refused)
    return ledger.recalibrate(session, outdated, now()) if outdated else []


def _has_measurement_set(session: Session, group_id: str) -> bool:
    """Whether it can be calibrated again; housekeeping may have removed the raw Measurement Set."""
    query = select(MeasurementSetRow.path).where(MeasurementSetRow.group_id == group_id, MeasurementSetRow.kind == MeasurementSetKind.RAW)
    return session.scalar(query) is not None


def observations_near(session: Session, group_id: str, days: float) -> list[str]:
    """Observations whose middle is at most ``days`` from the middle of ``group_id``, in order of time."""
    mid_mjd = session.get_one(IngestGroup, group_id).mid_mjd
    query = select(IngestGroup.group_id).where(IngestGroup.mid_mjd.between(mid_mjd - days, mid_mjd + days))
    return list(session.scalars(query.order_by(IngestGroup.group_id)))
