"""One epoch, a mosaic in which sources were measured: what it was made from, and the epochs of one source in pages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import (
    CalibrationApplied,
    CaltableRow,
    EpochFactor,
    ExcludedEpoch,
    MosaicRow,
    MosaicTile,
    Photometry,
    ProductVersion,
    Source,
)

MOST_TILES = 300
"""Tiles of a night."""


def epoch(session: Session, mosaic_name: str) -> dict[str, Any] | None:
    """A mosaic with the scale of its fluxes and who excluded it, if anybody; None if there is no such mosaic."""
    columns = (
        MosaicRow.name, MosaicRow.kind, MosaicRow.start_mjd, MosaicRow.mid_mjd, MosaicRow.end_mjd, MosaicRow.n_tiles,
        MosaicRow.noise_jy_per_beam, MosaicRow.created_at, EpochFactor.n_measured, EpochFactor.factor, EpochFactor.factor_err,
        EpochFactor.n_reference, EpochFactor.usable, ExcludedEpoch.reason, ExcludedEpoch.excluded_by, ExcludedEpoch.excluded_at,
    )  # fmt: skip
    statement = (
        select(*columns)
        .outerjoin(EpochFactor, EpochFactor.mosaic_name == MosaicRow.name)
        .outerjoin(ExcludedEpoch, ExcludedEpoch.mosaic_name == MosaicRow.name)
        .where(MosaicRow.name == mosaic_name)
    )
    row = session.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def tiles_of_epoch(session: Session, mosaic_name: str) -> list[dict[str, Any]]:
    """Tiles of a mosaic in order of time, with the calibration tables that were applied, at most `MOST_TILES`."""
    statement = (
        select(
            MosaicTile.group_id,
            CaltableRow.group_id.label("calibrator_observation"),
            CaltableRow.calibrator,
            CalibrationApplied.rung,
            CalibrationApplied.hours_away,
        )
        .outerjoin(CalibrationApplied, CalibrationApplied.group_id == MosaicTile.group_id)
        .outerjoin(CaltableRow, CaltableRow.directory == CalibrationApplied.caltable_directory)
        .where(MosaicTile.mosaic_name == mosaic_name)
        .order_by(MosaicTile.group_id)
        .limit(MOST_TILES)
    )
    return [dict(row) for row in session.execute(statement).mappings()]


def runs_of(session: Session, product: str, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Number and run of the current version of each key of a product."""
    columns = ProductVersion.key, ProductVersion.version_id, ProductVersion.run_id, ProductVersion.created_at
    statement = (
        select(*columns)
        .distinct(ProductVersion.key)
        .where(ProductVersion.product == product, ProductVersion.key.in_(list(keys)))
        .order_by(ProductVersion.key, ProductVersion.version_id.desc())
    )
    return {row["key"]: dict(row) for row in session.execute(statement).mappings()}


def epochs_of_source(session: Session, source_id: int, *, kind: str, after: Sequence[Any] | None, limit: int) -> Page:
    """Epochs of a kind of mosaic in which a source was measured, newest first."""
    statement = (
        select(
            Photometry.time_mjd,
            Photometry.mosaic_name,
            Photometry.flux_jy,
            Photometry.flux_err_jy,
            Photometry.snr,
            Photometry.is_limit,
            MosaicRow.created_at,
            ExcludedEpoch.reason,
        )
        .join(MosaicRow, MosaicRow.name == Photometry.mosaic_name)
        .outerjoin(ExcludedEpoch, ExcludedEpoch.mosaic_name == Photometry.mosaic_name)
        .where(Photometry.source_id == source_id, MosaicRow.kind == kind)
    )
    return read_page(session, statement, (Photometry.time_mjd, Photometry.mosaic_name), after=after, limit=limit)


def place_of(session: Session, source_id: int, mosaic_name: str) -> tuple[MosaicRow, float, float, float, float] | None:
    """Mosaic, position (RA, Dec), noise and flux of a source in an epoch; None if it was not measured in it."""
    statement = (
        select(MosaicRow, Source.ra_deg, Source.dec_deg, Photometry.noise_jy_per_beam, Photometry.flux_jy)
        .join(Photometry, Photometry.mosaic_name == MosaicRow.name)
        .join(Source, Source.source_id == Photometry.source_id)
        .where(MosaicRow.name == mosaic_name, Photometry.source_id == source_id)
    )
    row = session.execute(statement).first()
    return None if row is None else (row[0], row[1], row[2], row[3], row[4])
