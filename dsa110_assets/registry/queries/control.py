"""What the control panel asks the registry."""

from __future__ import annotations

from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import IngestGroup, MeasurementSetKind, MeasurementSetRow


def transits_of_night(session: Session, night: date) -> list[tuple[str, str]]:
    """Observations of a night in which a calibrator transits and which have a Measurement Set, with the calibrator."""
    has_set = select(MeasurementSetRow.path).where(
        MeasurementSetRow.group_id == IngestGroup.group_id, MeasurementSetRow.kind == MeasurementSetKind.RAW
    )
    query = (
        select(IngestGroup.group_id, IngestGroup.calibrator)
        .where(IngestGroup.night == night, IngestGroup.calibrator.is_not(None), has_set.exists())
        .order_by(IngestGroup.group_id)
    )
    return [(group_id, str(calibrator)) for group_id, calibrator in session.execute(query)]
