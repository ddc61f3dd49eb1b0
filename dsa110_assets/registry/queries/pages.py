"""Lists in pages, for the API: keyset pagination, filters, and an order that an index gives.

A page begins after the key of the last row of the page before, so the work follows the size of a page and not its
number. Each list has a fixed set of orders; each order has an index.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, and_, cast, false, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.registry.queries.antennas import ANTENNAS
from dsa110_assets.registry.schema import (
    CalibrationApplied,
    CaltableRow,
    ImageRow,
    IngestGroup,
    MeasurementSetRow,
    MosaicRow,
    ProductVersion,
    QaMetric,
    Source,
    Variability,
)

MOST_ROWS = 1000
"""Largest page."""
Column = InstrumentedAttribute[Any] | ColumnElement[Any]

OBSERVATION = (
    IngestGroup.group_id, IngestGroup.state, IngestGroup.stage, IngestGroup.start_mjd, IngestGroup.mid_mjd, IngestGroup.end_mjd,
    IngestGroup.dec_deg, IngestGroup.night, IngestGroup.slot, IngestGroup.n_subbands, IngestGroup.missing_subbands, IngestGroup.attempt,
    IngestGroup.failures, IngestGroup.calibrator, IngestGroup.error, IngestGroup.error_type, IngestGroup.run_id, IngestGroup.first_seen_at,
    IngestGroup.completed_at, IngestGroup.updated_at,
)  # fmt: skip
IMAGE = (
    ImageRow.group_id, ImageRow.mid_mjd, ImageRow.ra_deg, ImageRow.dec_deg, ImageRow.pointing_dec_deg, ImageRow.noise_jy_per_beam,
    ImageRow.thermal_jy_per_beam, ImageRow.peak_jy_per_beam, ImageRow.bmaj_arcsec, ImageRow.bmin_arcsec, ImageRow.bpa_deg,
    ImageRow.created_at,
)  # fmt: skip
MOSAIC = (
    MosaicRow.name, MosaicRow.kind, MosaicRow.start_mjd, MosaicRow.mid_mjd, MosaicRow.end_mjd, MosaicRow.ra_deg, MosaicRow.dec_deg,
    MosaicRow.n_tiles, MosaicRow.noise_jy_per_beam, MosaicRow.created_at,
)  # fmt: skip
SOURCE = (
    Source.source_id, Source.name, Source.ra_deg, Source.dec_deg, Source.reference_flux_jy, Source.origin, Source.active, Source.created_at,
)  # fmt: skip
FIGURES = (
    Variability.night, Variability.n_epochs, Variability.mean_flux_jy, Variability.eta, Variability.v, Variability.vs, Variability.m,
    Variability.chi2, Variability.chi2_probability, Variability.ese_score,
)  # fmt: skip
CALIBRATION = (
    CaltableRow.group_id, CaltableRow.night, CaltableRow.calibrator, CaltableRow.refant, CaltableRow.mid_mjd, CaltableRow.valid_from_mjd,
    CaltableRow.valid_to_mjd, CaltableRow.pointing_dec_deg, CaltableRow.accepted, CaltableRow.reasons,
    CaltableRow.quality.op("-", return_type=JSONB)(cast(ANTENNAS, Text)).label("quality"),  # they have an address of their own
    CaltableRow.created_at,
)  # fmt: skip
QUALITY = (
    QaMetric.product, QaMetric.key, QaMetric.metric, QaMetric.value, QaMetric.limit_low, QaMetric.limit_high, QaMetric.passed,
    QaMetric.reason, QaMetric.measured_at,
)  # fmt: skip
VERSION = (
    ProductVersion.version_id, ProductVersion.product, ProductVersion.key, ProductVersion.code_version, ProductVersion.config_hash,
    ProductVersion.release, ProductVersion.checksum, ProductVersion.size_bytes, ProductVersion.duration_s, ProductVersion.peak_memory_mb,
    ProductVersion.run_id, ProductVersion.created_at,
)  # fmt: skip


@dataclass(frozen=True)
class Page:
    """Rows of one page, and the key after which the next page begins; None on the last one."""

    rows: list[dict[str, Any]]
    next_key: tuple[Any, ...] | None


def read_page(
    session: Session, statement: Select[Any], order: Sequence[Column], *, after: Sequence[Any] | None, limit: int, descending: bool = True
) -> Page:
    """Read one page of a statement.

    Args:
        session: open transaction.
        statement: a SELECT with the columns of ``order`` among its columns, without an order of its own.
        order: the columns of the key, unique together and never NULL; an index has them in this order.
        after: key of the last row of the page before; None begins.
        limit: number of rows, at most `MOST_ROWS`.
        descending: the largest key first.

    Raises:
        InvalidRequestError: ``after`` is not a key of this order.
    """
    key = tuple_(*order)
    if after is not None:
        if len(after) != len(order):
            raise InvalidRequestError("cursor", "belongs to another list or order", "take `next` of the page before, unchanged")
        statement = statement.where(key < tuple_(*after) if descending else key > tuple_(*after))
    ordered = statement.order_by(*(column.desc() if descending else column for column in order)).limit(min(limit, MOST_ROWS) + 1)
    result = session.execute(ordered)
    names = list(result.keys())
    rows = [dict(zip(names, row, strict=True)) for row in result]
    more = len(rows) > limit
    return Page(rows[:limit], tuple(rows[limit - 1][str(column.key)] for column in order) if more else None)


def observations(
    session: Session,
    *,
    since: str | None,
    until: str | None,
    state: str | None,
    calibrator: str | None,
    after: Sequence[Any] | None,
    limit: int,
    descending: bool = True,
) -> Page:
    """Observations, newest first, or oldest first. ``since``, ``until``: identifiers, ``until`` exclusive."""
    statement = _between(select(*OBSERVATION), IngestGroup.group_id, since, until)
    if state is not None:
        statement = statement.where(IngestGroup.state == state)
    if calibrator is not None:
        statement = statement.where(IngestGroup.calibrator == calibrator)
    return read_page(session, statement, (IngestGroup.group_id,), after=after, limit=limit, descending=descending)


def images(
    session: Session,
    *,
    since: str | None,
    until: str | None,
    near: tuple[float, float, float] | None,
    noise_max: float | None,
    sort: str,
    after: Sequence[Any] | None,
    limit: int,
    noise_min: float | None = None,
    descending: bool | None = None,
) -> Page:
    """Tile images by time or noise. ``near``: RA, Dec, radius in degrees, of an image's center.

    ``descending``: None for newest first, or least noisy first.
    """
    statement = _between(select(*IMAGE), ImageRow.group_id, since, until)
    if near is not None:
        statement = statement.where(within(ImageRow.ra_deg, ImageRow.dec_deg, *near))
    statement = _noise_between(statement, ImageRow.noise_jy_per_beam, noise_min, noise_max)
    if sort == "noise":
        by_noise = (ImageRow.noise_jy_per_beam, ImageRow.group_id)
        return read_page(session, statement, by_noise, after=after, limit=limit, descending=bool(descending))
    return read_page(session, statement, (ImageRow.group_id,), after=after, limit=limit, descending=descending is not False)


def mosaics(
    session: Session,
    *,
    since_mjd: float | None,
    until_mjd: float | None,
    kind: str | None,
    near: tuple[float, float, float] | None = None,
    noise_max: float | None = None,
    after: Sequence[Any] | None,
    limit: int,
    noise_min: float | None = None,
    sort: str = "time",
    descending: bool | None = None,
) -> Page:
    """Mosaics by their middle or noise. ``near``: RA, Dec, radius in degrees, of a mosaic's center.

    ``descending``: None for newest first, or least noisy first.
    """
    statement = select(*MOSAIC)
    if since_mjd is not None:
        statement = statement.where(MosaicRow.mid_mjd >= since_mjd)
    if until_mjd is not None:
        statement = statement.where(MosaicRow.mid_mjd < until_mjd)
    if kind is not None:
        statement = statement.where(MosaicRow.kind == kind)
    if near is not None:
        statement = statement.where(within(MosaicRow.ra_deg, MosaicRow.dec_deg, *near))
    statement = _noise_between(statement, MosaicRow.noise_jy_per_beam, noise_min, noise_max)
    if sort == "noise":
        by_noise = (MosaicRow.noise_jy_per_beam, MosaicRow.name)
        return read_page(session, statement, by_noise, after=after, limit=limit, descending=bool(descending))
    return read_page(session, statement, (MosaicRow.mid_mjd, MosaicRow.name), after=after, limit=limit, descending=descending is not False)


@dataclass(frozen=True)
class SourceFilter:
    """Conditions on sources; None for no condition.

    ``near``: RA, Dec, radius in degrees. ``name``: beginning of the name. ``min_...``, ``max_...``: of the figures as
    of the newest night (`Variability`), which leave out sources without figures.
    """

    near: tuple[float, float, float] | None = None
    name: str | None = None
    origin: str | None = None
    min_eta: float | None = None
    min_v: float | None = None
    min_score: float | None = None
    min_flux_jy: float | None = None
    max_eta: float | None = None
    max_v: float | None = None
    max_score: float | None = None
    max_flux_jy: float | None = None


def sources(
    session: Session,
    chosen: SourceFilter,
    *,
    sort: str,
    after: Sequence[Any] | None,
    limit: int,
    descending: bool | None = None,
) -> Page:
    """Sources with their figures as of the newest night, by number, eta, V, score or flux.

    ``descending``: None for the lowest number, or the largest figure first.
    """
    night = newest_night(session)
    as_of = Variability.night == night if night is not None else false()
    joined = select(*SOURCE, *FIGURES).outerjoin(Variability, and_(Variability.source_id == Source.source_id, as_of))
    for column, lowest in (
        (Variability.eta, chosen.min_eta),
        (Variability.v, chosen.min_v),
        (Variability.ese_score, chosen.min_score),
        (Variability.mean_flux_jy, chosen.min_flux_jy),
    ):
        if lowest is not None:
            joined = joined.where(as_of, column >= lowest)
    for column, highest in (
        (Variability.eta, chosen.max_eta),
        (Variability.v, chosen.max_v),
        (Variability.ese_score, chosen.max_score),
        (Variability.mean_flux_jy, chosen.max_flux_jy),
    ):
        if highest is not None:
            joined = joined.where(as_of, column <= highest)
    if chosen.near is not None:
        joined = joined.where(within(Source.ra_deg, Source.dec_deg, *chosen.near))
    if chosen.name is not None:
        joined = joined.where(Source.name.startswith(chosen.name, autoescape=True))
    if chosen.origin is not None:
        joined = joined.where(Source.origin == chosen.origin)
    by = {"eta": Variability.eta, "v": Variability.v, "score": Variability.ese_score, "flux": Variability.mean_flux_jy}.get(sort)
    if by is None:
        return read_page(session, joined, (Source.source_id,), after=after, limit=limit, descending=bool(descending))
    own = Variability.source_id.label("variability_source_id")
    joined = joined.add_columns(own).where(as_of, by.is_not(None))
    page = read_page(session, joined, (by, own), after=after, limit=limit, descending=descending is not False)
    for row in page.rows:
        del row["variability_source_id"]
    return page


def source(session: Session, source_id: int) -> dict[str, Any] | None:
    """One source with its figures as of the newest night; None if there is none of this number."""
    night = newest_night(session)
    as_of = Variability.night == night if night is not None else false()
    joined = select(*SOURCE, *FIGURES).outerjoin(Variability, and_(Variability.source_id == Source.source_id, as_of))
    row = session.execute(joined.where(Source.source_id == source_id)).mappings().one_or_none()
    return None if row is None else dict(row)


def newest_night(session: Session) -> date | None:
    """Newest night with variability figures."""
    return session.scalar(select(func.max(Variability.night)))


def calibrations(
    session: Session,
    *,
    since: date | None,
    until: date | None,
    accepted: bool | None,
    after: Sequence[Any] | None,
    limit: int,
    descending: bool = True,
) -> Page:
    """Calibration tables, newest or oldest night first. ``since``, ``until``: nights, both included."""
    statement = select(*CALIBRATION, CaltableRow.directory)
    if since is not None:
        statement = statement.where(CaltableRow.night >= since)
    if until is not None:
        statement = statement.where(CaltableRow.night <= until)
    if accepted is not None:
        statement = statement.where(CaltableRow.accepted == accepted)
    order = (CaltableRow.night, CaltableRow.directory)
    page = read_page(session, statement, order, after=after, limit=limit, descending=descending)
    for row in page.rows:
        del row["directory"]
    return page


def calibration(session: Session, group_id: str) -> dict[str, Any] | None:
    """Tables solved on one observation; None if there are none."""
    row = session.execute(select(*CALIBRATION).where(CaltableRow.group_id == group_id).limit(1)).mappings().first()
    return None if row is None else dict(row)


def calibrated_with(session: Session, group_id: str, *, limit: int) -> list[dict[str, Any]]:
    """Observations to which the tables of a calibrator's observation were applied, newest first."""
    applied = CalibrationApplied
    statement = (
        select(applied.group_id, applied.rung, applied.hours_away, applied.applied_at)
        .join(CaltableRow, CaltableRow.directory == applied.caltable_directory)
        .where(CaltableRow.group_id == group_id)
        .order_by(applied.group_id.desc())
        .limit(limit)
    )
    return [dict(row) for row in session.execute(statement).mappings()]


def tables_of(session: Session, group_id: str) -> dict[str, Any] | None:
    """The calibration tables applied to an observation, and how far away they were."""
    applied = CalibrationApplied
    statement = (
        select(
            CaltableRow.group_id.label("calibrator_observation"),
            CaltableRow.calibrator,
            applied.rung,
            applied.hours_away,
            applied.applied_at,
        )
        .join(CaltableRow, CaltableRow.directory == applied.caltable_directory)
        .where(applied.group_id == group_id)
    )
    row = session.execute(statement).mappings().one_or_none()
    return None if row is None else dict(row)


def measurement_sets_of(session: Session, group_id: str) -> list[dict[str, Any]]:
    """Measurement Sets of an observation."""
    row = MeasurementSetRow
    statement = select(
        row.kind, row.status, row.ra_deg, row.dec_deg, row.n_channels, row.flagged_fraction, row.size_bytes, row.created_at, row.path
    ).where(row.group_id == group_id)
    return [dict(found) for found in session.execute(statement.order_by(row.kind)).mappings()]


def quality(
    session: Session,
    product: str,
    *,
    metric: str | None,
    since: str | None,
    until: str | None,
    after: Sequence[Any] | None,
    limit: int,
    descending: bool = True,
) -> Page:
    """Quality figures of a product, newest or oldest key first: with ``metric``, its trend."""
    statement = _between(select(*QUALITY).where(QaMetric.product == product), QaMetric.key, since, until)
    if metric is not None:
        statement = statement.where(QaMetric.metric == metric)
    return read_page(session, statement, (QaMetric.key, QaMetric.metric), after=after, limit=limit, descending=descending)


def versions(session: Session, product: str, *, key: str | None, after: Sequence[Any] | None, limit: int) -> Page:
    """Versions of a product, or of one of its keys, newest first."""
    statement = select(*VERSION).where(ProductVersion.product == product)
    if key is not None:
        statement = statement.where(ProductVersion.key == key)
        return read_page(session, statement, (ProductVersion.version_id,), after=after, limit=limit)
    return read_page(session, statement, (ProductVersion.key, ProductVersion.version_id), after=after, limit=limit)


def version(session: Session, version_id: int) -> ProductVersion | None:
    """One version of a product."""
    return session.get(ProductVersion, version_id)


def inputs_of(session: Session, found: ProductVersion, *, limit: int) -> list[dict[str, Any]]:
    """Versions of products that a version was made from, at most ``limit``."""
    numbers = [int(number) for number in list(found.inputs.values())[:limit]]
    statement = select(*VERSION).where(ProductVersion.version_id.in_(numbers)).order_by(ProductVersion.version_id)
    return [dict(row) for row in session.execute(statement).mappings()]


def made_from(session: Session, found: ProductVersion, *, limit: int) -> list[dict[str, Any]]:
    """Versions of products that were made from a version, oldest first, at most ``limit``."""
    name = found.path or f"{found.product}/{found.key}"
    statement = (
        select(*VERSION)
        .where(ProductVersion.inputs.contains({name: found.version_id}), ProductVersion.version_id > found.version_id)
        .order_by(ProductVersion.version_id)
        .limit(limit)
    )
    return [dict(row) for row in session.execute(statement).mappings()]


def _noise_between(statement: Select[Any], noise: InstrumentedAttribute[float], low: float | None, high: float | None) -> Select[Any]:
    if low is not None:
        statement = statement.where(noise >= low)
    return statement if high is None else statement.where(noise <= high)


def _between(statement: Select[Any], column: InstrumentedAttribute[str], since: str | None, until: str | None) -> Select[Any]:
    if since is not None:
        statement = statement.where(column >= since)
    if until is not None:
        statement = statement.where(column < until)
    return statement


def within(
    ra: InstrumentedAttribute[float], dec: InstrumentedAttribute[float], ra_deg: float, dec_deg: float, radius_deg: float
) -> ColumnElement[bool]:
    """Positions within a radius: a box that an index serves, and the haversine formula."""
    box = dec.between(dec_deg - radius_deg, dec_deg + radius_deg)
    farthest = abs(dec_deg) + radius_deg
    if farthest < 90.0:
        half = math.degrees(math.asin(min(1.0, math.sin(math.radians(radius_deg)) / math.cos(math.radians(dec_deg)))))
        low, high = ra_deg % 360.0 - half, ra_deg % 360.0 + half
        ranges: list[ColumnElement[bool]] = [ra.between(low, high)]
        if low < 0.0:
            ranges.append(ra >= low + 360.0)
        if high > 360.0:
            ranges.append(ra <= high - 360.0)
        box = and_(box, or_(*ranges))
    north = func.power(func.sin(func.radians((dec - dec_deg) / 2.0)), 2)
    east = func.power(func.sin(func.radians((ra - ra_deg) / 2.0)), 2)
    haversine = north + func.cos(func.radians(dec)) * math.cos(math.radians(dec_deg)) * east
    return and_(box, haversine <= math.sin(math.radians(radius_deg) / 2.0) ** 2)
