"""Choose the partitions of a backfill: one night or a range; from one asset on; all, failed, or stale ones.

Empty slots are left out: a backfill that contains one never reaches the assets after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NonRetriableError
from dsa110_assets.registry.queries import observations
from dsa110_assets.registry.queries.storage import retired
from dsa110_assets.registry.schema import GroupState, IngestGroup, ProductVersion
from dsa110_assets.stages.hours import hours_near
from dsa110_assets.stages.operations.staleness import StalePartition, median_duration, partition_of, stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.retention import MOSAIC_PLANES
from dsa110_assets.stages.table import CALIBRATION_TABLES, TABLE
from dsa110_assets.times import SLOT_MINUTES, tile_partition

MOST_NIGHTS = 100
"""Nights of one backfill that is chosen by nights."""
MOST_PRODUCTS = 200_000
"""Products of one backfill; a night has about 900 of tiles."""


@dataclass(frozen=True)
class Backfill:
    """What to make: ``partitions`` by asset, upstream first, empty for an unpartitioned asset; ``left_out``: why."""

    partitions: Mapping[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of products."""
        return sum(max(1, len(keys)) for keys in self.partitions.values())

    def rows(self) -> list[dict[str, str | int]]:
        """One row for each asset."""
        return [
            {"asset": asset, "partitions": max(1, len(keys)), "which": ", ".join(keys[:6]) + (" ..." if len(keys) > 6 else "")}
            for asset, keys in self.partitions.items()
        ]


@dataclass(frozen=True)
class Estimate:
    """What a backfill makes of an asset. ``each_s``: median time of its last versions, None if none was measured."""

    asset: str
    products: int
    each_s: float | None

    @property
    def total_s(self) -> float | None:
        """Seconds for all of them, one after another."""
        return None if self.each_s is None else self.each_s * self.products


def estimates(platform: Platform, chosen: Backfill) -> list[Estimate]:
    """Number of products and expected time by asset, in the order in which they are made."""
    with platform.database.session() as session:
        return [Estimate(asset, max(1, len(keys)), median_duration(session, asset)) for asset, keys in chosen.partitions.items()]


@dataclass
class _Chosen:
    partitions: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    left_out: list[str] = field(default_factory=list[str])

    def add(self, asset: str, partitions: Iterable[str]) -> None:
        self.partitions.setdefault(asset, set()).update(partitions)

    @property
    def size(self) -> int:
        return sum(max(1, len(keys)) for keys in self.partitions.values())

    def ordered(self) -> Backfill:
        chosen = {asset: tuple(sorted(self.partitions[asset])) for asset in TABLE.made() if asset in self.partitions}
        return Backfill(chosen, tuple(self.left_out))


def plan(
    platform: Platform,
    first: date | None = None,
    last: date | None = None,
    *,
    start: str | None = None,
    only_failed: bool = False,
    only_stale: bool = False,
    only_marked: bool = False,
    observation: str | None = None,
    known_stale: Sequence[StalePartition] | None = None,
) -> Backfill:
    """Choose what a backfill makes.

    Args:
        platform: the platform.
        first, last: nights (UTC), both included. None, with ``only_failed`` or ``only_stale``: all nights.
        start: the first asset to make again; assets upstream of it stay as they are.
        only_failed: only observations that failed; mosaics and light curves follow automatically.
        only_stale: only stale products, and all of them.
        only_marked: only what people's marks have made stale.
        observation: only what is made from this observation; without nights and other choices.
        known_stale: with ``only_stale``, what was stale some minutes ago; None looks again, at all products.

    Raises:
        NonRetriableError: the options contradict one another.
        InvalidRequestError: these are more nights, or more products, than one backfill may have.
        UnknownGroupError: there is no such observation.
    """
    order = TABLE.made()
    if start is not None and start not in order:
        raise NonRetriableError(start, "is not an asset that a backfill makes", f"choose one of {', '.join(order)}")
    last = last or first
    _check(first, last, observation, only_failed=only_failed, only_stale=only_stale, only_marked=only_marked)
    only_stale = only_stale or only_marked
    wanted = order[order.index(start) :] if start else order
    chosen = _Chosen()
    if only_stale:
        for one in stale_partitions(platform, only_marked=only_marked) if known_stale is None else known_stale:
            inside = one.night is None or first is None or last is None or first <= date.fromisoformat(one.night) <= last
            if one.asset in wanted and inside:
                chosen.add(one.asset, [one.partition] if one.partition else [])
    elif observation is not None:
        with platform.database.session() as session:
            _choose_from(session, platform.config, chosen, observation, wanted)
    else:
        with platform.database.session() as session:
            if only_failed:
                _choose_failed(session, chosen, first, last, wanted)
            elif first is not None and last is not None:
                _choose(session, chosen, first, last, wanted)
    if chosen.size > MOST_PRODUCTS:
        raise InvalidRequestError("backfill", f"{chosen.size} products are too many for one", "give fewer nights at a time")
    with platform.database.session() as session:
        _add_newest_night(session, chosen)
        _leave_out_without_inputs(session, chosen)
    return chosen.ordered()


def _check(
    first: date | None, last: date | None, observation: str | None, *, only_failed: bool, only_stale: bool, only_marked: bool
) -> None:
    """Refuse options that contradict one another, or ask for too much."""
    if only_failed and only_stale:
        raise NonRetriableError("backfill", "--only-failed and --stale cannot be combined", "request one, then the other")
    if only_marked and (only_failed or only_stale):
        raise NonRetriableError(
            "backfill", "marked products cannot be combined with --only-failed or --stale", "request one, then the other"
        )
    by_reason = only_failed or only_stale or only_marked
    if observation is not None and (first is not None or by_reason):
        raise NonRetriableError("backfill", "an observation was given together with nights or another choice", "give only one of them")
    if first is None and observation is None and not by_reason:
        raise NonRetriableError("backfill", "no night was given", "give the first night, such as 2025-12-01")
    if first is None or last is None:
        return
    if last < first:
        raise NonRetriableError("backfill", f"the range {first} .. {last} ends before it begins", "swap the two nights")
    if (last - first).days >= MOST_NIGHTS and not by_reason:
        nights = (last - first).days + 1
        raise InvalidRequestError("backfill", f"{nights} nights are too many for one", f"give {MOST_NIGHTS} at a time")


def _choose_failed(session: Session, chosen: _Chosen, first: date | None, last: date | None, wanted: tuple[str, ...]) -> None:
    query = select(IngestGroup).where(IngestGroup.state == GroupState.FAILED).order_by(IngestGroup.group_id).limit(MOST_PRODUCTS)
    if first is not None and last is not None:
        query = query.where(IngestGroup.night.between(first, last))
    _add_tiles(chosen, session.scalars(query).all(), wanted)


def _add_tiles(chosen: _Chosen, groups: Sequence[IngestGroup], wanted: tuple[str, ...]) -> None:
    for asset in wanted:
        if TABLE[asset].level is Level.TILE and groups:
            chosen.add(asset, (f"{group.night.isoformat()}|{group.slot}" for group in groups))


def _choose(session: Session, chosen: _Chosen, first: date, last: date, wanted: tuple[str, ...]) -> None:
    query = select(IngestGroup).where(IngestGroup.night.between(first, last)).order_by(IngestGroup.group_id)
    groups = session.scalars(query).all()
    taken = [group for group in groups if group.state == GroupState.COMPLETED]
    for other in GroupState:
        number = sum(group.state == other for group in groups)
        if number and other != GroupState.COMPLETED:
            hint = "`--only-failed` takes them" if other == GroupState.FAILED else "they are being made, or will be"
            chosen.left_out.append(f"{number} observation{'s' if number > 1 else ''} in state {other.value}: {hint}")
    _add_tiles(chosen, taken, wanted)
    calibrated = {group.night.isoformat() for group in taken if group.calibrator}
    if CALIBRATION_TABLES.name in wanted and calibrated:
        chosen.add(CALIBRATION_TABLES.name, calibrated)
    for asset in wanted:
        if TABLE[asset].level is not Level.TILE and asset != CALIBRATION_TABLES.name and (made := _existing(session, asset, first, last)):
            chosen.add(asset, made)


def _choose_from(session: Session, config: PipelineConfig, chosen: _Chosen, group_id: str, wanted: tuple[str, ...]) -> None:
    """Choose what is made from one observation: its tile, the hours and the night that contain it, if they exist."""
    group = observations.observation(session, group_id)
    if group.state not in (GroupState.COMPLETED, GroupState.FAILED):
        chosen.left_out.append(f"{group_id} is in state {group.state}: it is being made, or will be")
        return
    hours = {f"{key[:10]}|{key[11:]}" for key in hours_near(group.mid_mjd, config.mosaic_overlap_minutes)}
    own = {Level.TILE: {"|".join(tile_partition(group_id))}, Level.HOUR: hours, Level.NIGHT: {group_id[:10]}}
    for asset in wanted:
        level = TABLE[asset].level
        if level is Level.TILE or (asset == CALIBRATION_TABLES.name and group.calibrator):
            chosen.add(asset, own[level])
        elif level in own and asset != CALIBRATION_TABLES.name:
            nights = [date.fromisoformat(partition[:10]) for partition in own[level]]
            if partitions := _existing(session, asset, min(nights), max(nights)) & own[level]:
                chosen.add(asset, partitions)


def _add_newest_night(session: Session, chosen: _Chosen) -> None:
    """Add the newest night of cumulative products, which must be made last because it includes all epochs."""
    for asset in chosen.partitions:
        newest = session.scalar(select(func.max(ProductVersion.key)).where(ProductVersion.product == asset))
        if TABLE[asset].is_cumulative and newest is not None and (partition := partition_of(asset, newest)) is not None:
            chosen.add(asset, [partition])


def _leave_out_without_inputs(session: Session, chosen: _Chosen) -> None:
    """Leave out tiles and mosaics whose inputs retention has removed, unless the backfill makes these inputs too."""
    for asset in TABLE.made():
        for upstream in TABLE[asset].inputs:
            if asset not in chosen.partitions or upstream.level is not Level.TILE or not upstream.parts:
                continue
            made = chosen.partitions.get(upstream.name, set())
            needed = _tiles_of(session, asset, chosen.partitions[asset])
            not_made = [(upstream.name, key) for key in needed if partition_of(upstream.name, key) not in made]
            impossible = {partition for _, key in retired(session, not_made, [MOSAIC_PLANES.rule]) for partition in needed[key]}
            if impossible:
                chosen.partitions[asset] -= impossible
                chosen.left_out.append(
                    f"{len(impossible)} partitions of {asset}: retention has removed their {upstream.name}; "
                    "begin with measurement_set while the raw files exist"
                )
            if not chosen.partitions[asset]:
                del chosen.partitions[asset]


def _tiles_of(session: Session, asset: str, partitions: Iterable[str]) -> dict[str, set[str]]:
    """Observations that are inputs of these partitions of an asset of tiles, hours or nights, with the partitions."""
    level, wanted = TABLE[asset].level, set(partitions)
    days = sorted({partition[:10] for partition in wanted})
    found: dict[str, set[str]] = {}
    if not days or level is Level.WHOLE:
        return found
    nights = [date.fromisoformat(day) for day in days]
    query = select(IngestGroup.group_id).where(IngestGroup.night.in_(nights))
    if asset == CALIBRATION_TABLES.name:
        query = query.where(IngestGroup.calibrator.is_not(None))
    for group_id in session.scalars(query):
        own = {Level.TILE: "|".join(tile_partition(group_id)), Level.HOUR: f"{group_id[:10]}|{group_id[11:13]}"}.get(level, group_id[:10])
        if own in wanted:
            found.setdefault(group_id, set()).add(own)
    return found


def _existing(session: Session, asset: str, first: date, last: date) -> set[str]:
    """Partitions of an asset that exist, of nights from ``first`` to ``last``."""
    inside = (ProductVersion.key >= first.isoformat(), ProductVersion.key < (last + timedelta(days=1)).isoformat())
    keys = session.scalars(select(ProductVersion.key).where(ProductVersion.product == asset, *inside).distinct())
    return {partition for partition in (partition_of(asset, key) for key in keys) if partition is not None}


def consecutive(asset: str, partitions: Iterable[str]) -> list[tuple[str, str]]:
    """Return partitions as ranges (first, last) with exactly these partitions; a range stays within its night."""
    step = {Level.TILE: SLOT_MINUTES, Level.HOUR: 60}.get(TABLE[asset].level)
    ranges: list[tuple[str, str]] = []
    for partition in sorted(partitions):
        if step is not None and ranges and ranges[-1][1][:10] == partition[:10] and _minute(partition) - _minute(ranges[-1][1]) == step:
            ranges[-1] = (ranges[-1][0], partition)
        else:
            ranges.append((partition, partition))
    return ranges


def _minute(partition: str) -> int:
    hour, _, minute = partition[11:].partition(":")
    return int(hour) * 60 + int(minute or 0)
