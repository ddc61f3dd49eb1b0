"""Partitions: five-minute slots of a UTC date for tiles, then hours and nights.

Slots and hours have two dimensions instead of one long list, because the UI loads all keys of each dimension whenever a
page of an asset is opened: 654 keys after a year, or 105 168 (`benchmarks.partitions`). So today's slots are all there
from 0 h UTC on, and the last ones lie in the future; only one list could end now. A slot holds any number of
observations (after a restart, two can start in one slot). So products are named by the observation, never by the slot.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import dagster as dg

from dsa110_assets.stages.product import Level, Product
from dsa110_assets.times import SLOT_MINUTES

SLOTS = [f"{hour:02d}:{minute:02d}" for hour in range(24) for minute in range(0, 60, SLOT_MINUTES)]
HOURS = [f"{hour:02d}" for hour in range(24)]


@dataclass(frozen=True)
class Partitions:
    """Partition definitions and mappings from a configured night on."""

    night_live: dg.DailyPartitionsDefinition
    night: dg.DailyPartitionsDefinition
    tile: dg.MultiPartitionsDefinition
    hour: dg.MultiPartitionsDefinition
    tile_to_hour: dg.MultiPartitionMapping

    @classmethod
    def starting(cls, start: date) -> Partitions:
        """Define the partitions; ``night_live`` includes today, ``night`` ends with yesterday."""
        night_live = dg.DailyPartitionsDefinition(start_date=start.isoformat(), end_offset=1)
        night = dg.DailyPartitionsDefinition(start_date=start.isoformat())
        tile = dg.MultiPartitionsDefinition({"date": night_live, "tile": dg.StaticPartitionsDefinition(SLOTS)})
        hour = dg.MultiPartitionsDefinition({"date": night_live, "hour": dg.StaticPartitionsDefinition(HOURS)})
        tile_to_hour = dg.MultiPartitionMapping(
            {
                "date": dg.DimensionPartitionMapping("date", dg.IdentityPartitionMapping()),
                "tile": dg.DimensionPartitionMapping("hour", dg.StaticPartitionMapping({slot: slot[:2] for slot in SLOTS})),
            }
        )
        return cls(night_live=night_live, night=night, tile=tile, hour=hour, tile_to_hour=tile_to_hour)

    def of(self, row: Product) -> dg.PartitionsDefinition | None:
        """Partitions of a product; None for one without."""
        night = self.night if row.whole_nights_only else self.night_live
        return {Level.TILE: self.tile, Level.HOUR: self.hour, Level.NIGHT: night, Level.WHOLE: None}[row.level]


def tile_key(night: str, slot: str) -> dg.MultiPartitionKey:
    """Partition key of a slot, ``2026-03-01|05:10``."""
    return dg.MultiPartitionKey({"date": night, "tile": slot})


def hour_key(night: str, hour: str) -> dg.MultiPartitionKey:
    """Partition key of an hour, ``2026-03-01|05``."""
    return dg.MultiPartitionKey({"date": night, "hour": hour})


def dimensions_of(context: dg.AssetExecutionContext) -> dict[str, str]:
    """Dimensions of the run's partition: date and tile, or date and hour."""
    key = context.partition_key
    if not isinstance(key, dg.MultiPartitionKey):
        message = f"{context.op_execution_context.op.name}: expected a two-dimensional partition, got {key!r}"
        raise dg.DagsterInvariantViolationError(message)
    return dict(key.keys_by_dimension)
