"""Which waiting observations hold a calibrator's transit. Raw headers tell, so the queue can put them first."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sqlalchemy import select, update

from dsa110_assets.catalogs import calibrators
from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import calibrators_path, transiting_calibrator

MOST_AT_ONCE = 12
"""Observations that one call examines, 15 ms each; the next tick goes on."""


def name_calibrators(platform: Platform, examined: set[str]) -> None:
    """Record the calibrator that transits in waiting observations, newest first; the conversion finds it again.

    A raw file or catalog that cannot be read is left for the conversion to report.

    Args:
        platform: the platform.
        examined: observations that this process has examined already; changed in place.
    """
    waits = (IngestGroup.state == GroupState.PENDING) & (IngestGroup.stage == TileStage.RAW) & IngestGroup.calibrator.is_(None)
    with platform.database.session() as session:
        waiting = session.scalars(select(IngestGroup.group_id).where(waits).order_by(IngestGroup.start_mjd.desc())).all()
        examined.intersection_update(waiting)
        fresh = [group_id for group_id in waiting if group_id not in examined][:MOST_AT_ONCE]
        if not fresh:
            return
        accepted = select(SubbandFile.group_id, SubbandFile.path).where(
            SubbandFile.group_id.in_(fresh), SubbandFile.state == FileState.ACCEPTED
        )
        one_each = accepted.distinct(SubbandFile.group_id).order_by(SubbandFile.group_id, SubbandFile.subband)
        files = session.execute(one_each).tuples().all()
    found: dict[str, str] = {}
    with suppress(NonRetriableError):
        catalog = calibrators.load(calibrators_path(platform))
        for group_id, path in files:
            with suppress(NonRetriableError):
                if group_id is not None and (name := transiting_calibrator(catalog, Path(path))) is not None:
                    found[group_id] = name
        examined.update(fresh)
    if found:
        with platform.database.session() as session:
            for group_id, name in found.items():
                session.execute(update(IngestGroup).where(IngestGroup.group_id == group_id, waits).values(calibrator=name))
