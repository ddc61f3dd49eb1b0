"""Stale partitions and the reasons, for `dsa110 stale`, the table in the UI, and backfills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry import provenance
from dsa110_assets.registry.queries.calibration import observations_with_other_tables
from dsa110_assets.registry.queries.storage import retired
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.provenance.recipes import changes_since, recipes
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import tile_partition

CODE, CONFIGURATION = provenance.StaleReason.CODE, provenance.StaleReason.CONFIGURATION
_MEASURED_VERSIONS = 200
"""So many of the last versions of a product tell how long it takes."""


@dataclass(frozen=True, slots=True)
class StalePartition:
    """A stale product.

    ``partition``: the asset's partition key in Dagster, None for an asset without partitions. ``key``: observation,
    hour or night. ``reasons``: one or more.
    """

    asset: str
    partition: str | None
    key: str
    reasons: tuple[provenance.StaleReason, ...]
    made_at: datetime

    @property
    def night(self) -> str | None:
        """UTC date of the product."""
        return None if self.partition is None else self.partition[:10]


def partition_of(asset: str, key: str) -> str | None:
    """Dagster's partition key of a product: ``2026-03-01|05:10``, ``2026-03-01|05``, ``2026-03-01`` or None."""
    level = TABLE[asset].level
    if level is Level.TILE:
        return "|".join(tile_partition(key))
    if level is Level.HOUR:
        return f"{key[:10]}|{key[11:13]}"
    return key[:10] if level is Level.NIGHT else None


def stale_partitions(platform: Platform, *, only_marked: bool = False) -> list[StalePartition]:
    """All stale products, upstream assets first; ``only_marked``: those that people's marks make stale."""
    with platform.database.session() as session:
        found = stale_products(session, platform.config, only_marked=only_marked)
    order = {name: number for number, name in enumerate(recipes(platform.config))}
    return sorted(
        (StalePartition(one.product, partition_of(one.product, one.key), one.key, one.reasons, one.made_at) for one in found),
        key=lambda one: (order[one.asset], one.key),
    )


def stale_products(session: Session, config: PipelineConfig, *, only_marked: bool = False) -> list[provenance.StaleProduct]:
    """All stale products, in an open transaction; includes observations with nearer tables than those applied.

    ``only_marked``: only what people's marks on tiles, antennas and solutions make stale.

    A product whose files retention has removed is left out. What was made from it is listed if it is stale.
    """
    from dsa110_assets.stages.operations.marks import products_against_marks, recalibrated_by_marks  # heavy: knows the domain

    marked, growing = products_against_marks(session, config), TABLE.growing()
    if only_marked:
        tables = recalibrated_by_marks(session, config)
        found = provenance.stale_by_people(session, recipes(config), other_tables=tables, marked=marked, growing=growing)
    else:
        tables = observations_with_other_tables(
            session, borrow_days=config.cal_borrow_days, tolerance_deg=config.cal_declination_tolerance_deg
        )
        found = provenance.stale(session, recipes(config), other_tables=tables, marked=marked, growing=growing)
    removed = retired(session, [(one.product, one.key) for one in found])
    return [one for one in found if (one.product, one.key) not in removed]


@dataclass(frozen=True)
class PlannedProduct:
    """What making the stale products of an asset again takes.

    ``stale``: their number. ``why``: changed modules, engines, settings and inputs, with the number of products.
    ``each_s``: median time of the last versions (s), None if none was measured. ``total_h``: of all, one at a time.
    """

    asset: str
    stale: int
    why: tuple[str, ...]
    each_s: float | None

    @property
    def total_h(self) -> float | None:
        """Hours for all of them, one after another; None if no time is known."""
        return None if self.each_s is None else self.each_s * self.stale / 3600


def remaking_plan(platform: Platform, stale: Collection[tuple[str, str]] | None = None) -> list[PlannedProduct]:
    """What would be made again, why, and for how long, upstream first; ``stale``: only these (asset, key).

    It is an upper limit: an input that comes out with the same content makes nothing else again.
    """
    config = platform.config
    with platform.database.session() as session:
        found = [one for one in stale_products(session, config) if stale is None or (one.product, one.key) in stale]
        plan: list[PlannedProduct] = []
        for asset in recipes(config):
            own = [one for one in found if one.product == asset]
            if own:
                plan.append(PlannedProduct(asset, len(own), tuple(_causes(session, config, own)), median_duration(session, asset)))
    return plan


def _causes(session: Session, config: PipelineConfig, own: Sequence[provenance.StaleProduct]) -> Iterator[str]:
    """Causes with the number of products, the most frequent first."""
    causes: Counter[str] = Counter()
    changes: dict[provenance.Recipe, list[str]] = {}
    for one in own:
        if CODE in one.reasons or CONFIGURATION in one.reasons:
            if one.recipe not in changes:
                changes[one.recipe] = changes_since(session, one.product, config, one.recipe)
            unknown = [f"{reason} of a release that did not record its parts" for reason in one.reasons if reason in (CODE, CONFIGURATION)]
            causes.update(changes[one.recipe] or unknown)
        causes.update(f"another {name}" for name in one.changed_inputs)
        if provenance.StaleReason.TABLES in one.reasons:
            causes.update(["nearer calibration tables"])
        if provenance.StaleReason.MARKS in one.reasons:
            causes.update(["marks of people"])
        if one.reasons == (provenance.StaleReason.INPUTS,) and not one.changed_inputs:
            causes.update(["inputs that are stale themselves"])
    for cause, number in causes.most_common():
        yield f"{cause} ({number})"


def median_duration(session: Session, product: str) -> float | None:
    """Median time (s) of a product's last versions; None if none was measured."""
    last = (
        select(ProductVersion.duration_s)
        .where(ProductVersion.product == product)
        .order_by(ProductVersion.created_at.desc())
        .limit(_MEASURED_VERSIONS)
        .subquery()
    )
    return session.scalar(select(func.percentile_cont(0.5).within_group(last.c.duration_s)))


def summary(stale: Sequence[StalePartition]) -> list[dict[str, str | int]]:
    """One row for each asset with stale partitions: their number, reasons and nights."""
    rows: list[dict[str, str | int]] = []
    for asset in dict.fromkeys(one.asset for one in stale):
        own = [one for one in stale if one.asset == asset]
        reasons = Counter(reason for one in own for reason in one.reasons)
        nights = sorted({one.night for one in own if one.night})
        rows.append(
            {
                "asset": asset,
                "stale": len(own),
                "reasons": ", ".join(f"{reason} ({number})" for reason, number in sorted(reasons.items())),
                "first_night": nights[0] if nights else "",
                "last_night": nights[-1] if nights else "",
            }
        )
    return rows
