"""Progress of a demonstration, read from the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from dsa110_assets.ingest import ledger
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, ProductVersion, SubbandFile, TileStage
from dsa110_assets.stages.product import Product
from dsa110_assets.stages.table import (
    CALIBRATED_MS,
    CALIBRATION_TABLES,
    ESE_CANDIDATES,
    FORCED_PHOTOMETRY,
    HOURLY_MOSAIC,
    MEASUREMENT_SET,
    SOURCE_CATALOG,
    TILE_IMAGE,
)

if TYPE_CHECKING:
    from dsa110_assets.stages.platform import Platform

_COUNTED = (
    MEASUREMENT_SET.name,
    CALIBRATION_TABLES.name,
    CALIBRATED_MS.name,
    TILE_IMAGE.name,
    HOURLY_MOSAIC.name,
    FORCED_PHOTOMETRY.name,
    ESE_CANDIDATES.name,
)


@dataclass(frozen=True)
class Progress:
    """Numbers of files, observations by state, and products (each key once); whether the last night has candidates.

    ``catalogs_found``: whether each hour's mosaic, as it is now, has been searched for sources.
    """

    files: int
    rejected: int
    collecting: int
    pending: int
    awaiting: int
    in_progress: int
    completed: int
    failed: int
    products: tuple[tuple[str, int], ...]
    candidates_ranked: bool
    catalogs_found: bool

    def line(self, expected: int) -> str:
        """The progress as one line of text."""
        numbers = dict(self.products)

        def made(row: Product) -> int:
            return numbers.get(row.name, 0)

        waiting = f", {self.awaiting} waiting for a calibrator" if self.awaiting else ""
        failed = f", [red]{self.failed} failed[/]" if self.failed else ""
        return (
            f"{self.files:4d} files ({self.rejected} rejected) | observations: {self.pending - self.awaiting} pending{waiting}, "
            f"{self.in_progress} running, {self.completed}/{expected} done{failed} | "
            f"MS {made(MEASUREMENT_SET)}, tables {made(CALIBRATION_TABLES)}, images {made(TILE_IMAGE)}, "
            f"mosaics {made(HOURLY_MOSAIC)}, photometry {made(FORCED_PHOTOMETRY)}, candidates {made(ESE_CANDIDATES)}"
        )


def read_progress(platform: Platform, last_night: str) -> Progress:
    """Read the progress from the registry."""
    with platform.database.session() as session:
        counts = ledger.counts(session)
        files = dict(session.execute(select(SubbandFile.state, func.count()).group_by(SubbandFile.state)).tuples().all())
        awaiting = session.scalar(
            select(func.count()).where(IngestGroup.state == GroupState.PENDING, IngestGroup.stage == TileStage.AWAITING_CALIBRATION)
        )
        query = select(ProductVersion.product, func.count(ProductVersion.key.distinct())).where(ProductVersion.product.in_(_COUNTED))
        products = session.execute(query.group_by(ProductVersion.product)).tuples().all()
        ranked = session.scalar(select(func.count()).where(ProductVersion.product == ESE_CANDIDATES.name, ProductVersion.key == last_night))
        newest = select(ProductVersion.key, func.max(ProductVersion.version_id)).group_by(ProductVersion.key)
        mosaics, catalogs = (
            dict(session.execute(newest.where(ProductVersion.product == row.name)).tuples().all())
            for row in (HOURLY_MOSAIC, SOURCE_CATALOG)
        )
    return Progress(
        files=files.get(FileState.ACCEPTED, 0),
        rejected=files.get(FileState.REJECTED, 0),
        collecting=counts[GroupState.COLLECTING],
        pending=counts[GroupState.PENDING],
        awaiting=awaiting or 0,
        in_progress=counts[GroupState.IN_PROGRESS],
        completed=counts[GroupState.COMPLETED],
        failed=counts[GroupState.FAILED],
        products=tuple(sorted(products)),
        candidates_ranked=bool(ranked),
        catalogs_found=all(catalogs.get(key, 0) > version for key, version in mosaics.items()),
    )
