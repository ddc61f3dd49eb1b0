"""What the registry's rows say of a product, as tables: for digests of its content (`content.of_frame`).

Each function reads the rows of one partition, in an order that does not depend on when they were written. Times of
bookkeeping, and what people add later, are left out. The table of products names the function of a product (`rows`).
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.products import hourly_mosaic_name
from dsa110_assets.registry.bulk import read_frame, read_frame_bulk
from dsa110_assets.registry.queries.sources import detections
from dsa110_assets.registry.schema import (
    ChannelPhotometry,
    Detection,
    EpochFactor,
    EseCandidate,
    Photometry,
    ProductVersion,
    Source,
    Variability,
)
from dsa110_assets.times import datetime_to_mjd

if TYPE_CHECKING:
    import pandas as pd

_LATER = ("created_at", "label", "comment", "event_id")
"""Columns that do not come from the stage: times, what people say, numbers that the registry counts."""


def monitored_sources(session: Session, key: str) -> dict[str, pd.DataFrame]:
    """Positions that are measured now; ``key`` is always ``all``."""
    del key
    columns = (Source.name, Source.ra_deg, Source.dec_deg, Source.reference_flux_jy, Source.origin)
    return {Source.__tablename__: read_frame_bulk(session, select(*columns).where(Source.active).order_by(Source.name))}


def source_catalog(session: Session, key: str) -> dict[str, pd.DataFrame]:
    """Detections in the mosaic of an hour, ``YYYY-MM-DDTHH``."""
    return {Detection.__tablename__: detections(session, _mosaic(key)).drop(columns="mosaic_name")}


def forced_photometry(session: Session, key: str) -> dict[str, pd.DataFrame]:
    """Fluxes in the mosaic of an hour, ``YYYY-MM-DDTHH``, and in its channels."""
    whole = select(*_columns(Photometry, "mosaic_name")).where(Photometry.mosaic_name == _mosaic(key)).order_by(Photometry.source_id)
    channels = (
        select(*_columns(ChannelPhotometry, "mosaic_name"))
        .where(ChannelPhotometry.mosaic_name == _mosaic(key))
        .order_by(ChannelPhotometry.source_id, ChannelPhotometry.channel)
    )
    return {Photometry.__tablename__: read_frame_bulk(session, whole), ChannelPhotometry.__tablename__: read_frame_bulk(session, channels)}


def light_curves(session: Session, key: str) -> dict[str, pd.DataFrame]:
    """Factors of the epochs up to and including a night, and the content of the photometry that they divide."""
    following = date.fromisoformat(key) + timedelta(days=1)
    factors = (
        select(
            EpochFactor.mosaic_name, EpochFactor.factor, EpochFactor.factor_err, EpochFactor.n_reference, EpochFactor.usable,
            EpochFactor.noise_scale,
        )
        .where(EpochFactor.time_mjd < datetime_to_mjd(datetime.combine(following, time(), UTC)))
        .order_by(EpochFactor.mosaic_name)
    )  # fmt: skip
    measured = (
        select(ProductVersion.key, ProductVersion.checksum)
        .distinct(ProductVersion.key)
        .where(ProductVersion.product == "forced_photometry", ProductVersion.key < following.isoformat())
        .order_by(ProductVersion.key, ProductVersion.version_id.desc())
    )
    return {EpochFactor.__tablename__: read_frame_bulk(session, factors), ProductVersion.__tablename__: read_frame_bulk(session, measured)}


def variability_metrics(session: Session, key: str) -> dict[str, pd.DataFrame]:
    """Metrics of all sources as of a night."""
    rows = select(*_columns(Variability, "night")).where(Variability.night == date.fromisoformat(key)).order_by(Variability.source_id)
    return {Variability.__tablename__: read_frame_bulk(session, rows)}


def ese_candidates(session: Session, key: str) -> dict[str, pd.DataFrame]:
    """Candidates as of a night."""
    rows = select(*_columns(EseCandidate, "night")).where(EseCandidate.night == date.fromisoformat(key)).order_by(EseCandidate.source_id)
    return {EseCandidate.__tablename__: read_frame(session, rows)}


def _mosaic(key: str) -> str:
    return hourly_mosaic_name(key[:10], key[11:13])


def _columns(table: type[Photometry | ChannelPhotometry | Variability | EseCandidate], partition: str) -> list[Any]:
    """Columns of a table without the partition's and those of `_LATER`."""
    return [column for column in table.__table__.columns if column.name not in (partition, *_LATER)]
