"""Make a product again on trial, and compare its content with the one that exists. Nothing that exists is touched.

A stage runs as always, but its files go to another place, and what it writes into the registry is rolled back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import content
from dsa110_assets.errors import NonRetriableError, PipelineError
from dsa110_assets.folders import Folder
from dsa110_assets.ingest import ledger
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries.storage import retired_paths
from dsa110_assets.registry.schema import CaltableRow
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level, Product
from dsa110_assets.stages.provenance.contents import parts_of
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.stages.table import (
    CALIBRATED_MS,
    CALIBRATION_TABLES,
    CALIBRATOR_CATALOG,
    CUSTOM_MOSAIC,
    ESE_CANDIDATES,
    HOURLY_MOSAIC,
    INJECTION_RECOVERY,
    MEASUREMENT_SET,
    NIGHTLY_MOSAIC,
    NVSS_CATALOG,
    TABLE,
    TILE_IMAGE,
    VARIABILITY_METRICS,
)
from dsa110_assets.staging import new_place, registered, remove_staged

RUN = "trial"


@dataclass(frozen=True)
class Trial:
    """A product made again. ``differs``: names of the parts that differ from the existing one; empty: it says the same.

    ``duration_s``: of the stage.
    """

    product: str
    key: str
    differs: tuple[str, ...]
    duration_s: float

    @property
    def is_equal(self) -> bool:
        """Whether the product came out with the same content."""
        return not self.differs


def missing_input(session: Session, product: str, key: str) -> str | None:
    """Path of an input that is no longer on disk, so that the product cannot be made again; None if all are there."""
    version = current_version(session, product, key)
    inputs = [] if version is None else [Path(name) for name in version.inputs if name.startswith("/")]
    if product == MEASUREMENT_SET.name:
        inputs = list(ledger.raw_files(session, key).values()) or [Path(f"raw files of {key}")]
    reduced = retired_paths(session, [str(path) for path in inputs])
    return next((str(path) for path in inputs if not path.exists() or str(path) in reduced), None)


def make_on_trial(platform: Platform, product: str, key: str) -> Trial:
    """Make an existing product again and compare its content with the existing one's.

    It needs the disk space of one product, and takes as long as its stage. An error of the stage is a difference.

    Raises:
        NonRetriableError: the product does not exist, or has a folder that `_TrialPaths` does not know.
    """
    row = TABLE[product]
    if row.folder is not None and row not in _TrialPaths.KNOWN:
        raise NonRetriableError(product, "cannot be made on trial", "make it again with `dsa110 backfill --stale`")
    with platform.database.session() as session:
        version = current_version(session, product, key)
        if version is None:
            raise NonRetriableError(f"{product} {key}", "does not exist", "`dsa110 stale --partitions` lists what is stale")
        old = parts_of(session, product, key, None if version.path is None else Path(version.path))
    with _place(platform) as place, platform.database.trial() as database:
        paths = _TrialPaths(**vars(platform.paths), row=row, place=place)
        there = replace(platform, paths=paths, database=database)
        began = time.monotonic()
        try:
            result = _make(there, row, key)
        except PipelineError as error:
            return Trial(product, key, (f"it cannot be made ({error})",), time.monotonic() - began)
        duration_s = time.monotonic() - began
        if result is None:
            return Trial(product, key, ("it is not made any more",), duration_s)
        with database.session() as session:
            new = parts_of(session, product, key, result.paths.get("path"))
    return Trial(product, key, tuple(content.differences(old, new)), duration_s)


def _make(platform: Platform, row: Product, key: str) -> StageResult | None:
    """Run the stage of a product for a key, as its asset or command does."""
    if row is CALIBRATION_TABLES:
        from dsa110_assets.stages.products.calibrator import solve_transit

        with platform.database.session() as session:
            calibrator = session.scalars(select(CaltableRow.calibrator).where(CaltableRow.group_id == key)).one()
        return solve_transit(platform, key, calibrator, RUN)
    if row is CUSTOM_MOSAIC:
        from dsa110_assets.stages.products.mosaics import load_plan

        return row.function()(platform, load_plan(platform, key), RUN)
    partition = {Level.TILE: (), Level.HOUR: (key[:10], key[11:13]), Level.NIGHT: (key,), Level.WHOLE: ()}[row.level]
    if row.level is Level.TILE:
        return row.function()(platform, TileRun(key, RUN, final=False))
    return row.function()(platform, *partition, RUN)


@contextmanager
def _place(platform: Platform) -> Iterator[Path]:
    """An empty folder for a product, registered so that a start after a crash removes it."""
    place = new_place(platform.paths.folder(Folder.IMAGES))
    with registered(place):
        place.mkdir(parents=True)
        try:
            yield place
        finally:
            remove_staged(place)


@dataclass(frozen=True)
class _TrialPaths(ProductPaths):
    """Usual paths, but for the product ``row``: below ``place``."""

    row: Product
    place: Path

    KNOWN = (
        CALIBRATOR_CATALOG, NVSS_CATALOG, MEASUREMENT_SET, CALIBRATION_TABLES, CALIBRATED_MS, TILE_IMAGE, HOURLY_MOSAIC, NIGHTLY_MOSAIC,
        CUSTOM_MOSAIC, VARIABILITY_METRICS, ESE_CANDIDATES, INJECTION_RECOVERY,
    )  # fmt: skip

    def measurement_set(self, group_id: str) -> Path:
        return self._of(super().measurement_set(group_id), MEASUREMENT_SET)

    def calibrated_ms(self, group_id: str) -> Path:
        return self._of(super().calibrated_ms(group_id), CALIBRATED_MS)

    def calibration_dir(self, group_id: str) -> Path:
        return self._of(super().calibration_dir(group_id), CALIBRATION_TABLES)

    def image_dir(self, group_id: str) -> Path:
        return self._of(super().image_dir(group_id), TILE_IMAGE)

    def mosaic_dir(self, name: str) -> Path:
        return self._of(super().mosaic_dir(name), HOURLY_MOSAIC, NIGHTLY_MOSAIC, CUSTOM_MOSAIC)

    def injection_dir(self, night: str) -> Path:
        return self._of(super().injection_dir(night), INJECTION_RECOVERY)

    def variability_dir(self, night: str) -> Path:
        return self._of(super().variability_dir(night), VARIABILITY_METRICS)

    def candidates_dir(self, night: str) -> Path:
        return self._of(super().candidates_dir(night), ESE_CANDIDATES)

    @property
    def catalogs_dir(self) -> Path:
        return self._of(super().catalogs_dir, CALIBRATOR_CATALOG, NVSS_CATALOG)

    def _of(self, usual: Path, *rows: Product) -> Path:
        return self.place / usual.name if self.row in rows else usual
