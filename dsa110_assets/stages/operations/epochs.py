"""Epochs of light curves: excluding and including them with the person's name, and what their fluxes come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.registry.queries import epochs, people
from dsa110_assets.registry.queries.measurements import exclude_epoch, include_epoch
from dsa110_assets.registry.schema import MosaicKind, ProductVersion
from dsa110_assets.stages.operations.staleness import median_duration
from dsa110_assets.stages.table import (
    CUSTOM_MOSAIC,
    FORCED_PHOTOMETRY,
    HOURLY_MOSAIC,
    LIGHT_CURVES,
    NIGHTLY_MOSAIC,
    TABLE,
    TILE_IMAGE,
)
from dsa110_assets.times import mjd_to_datetime

MOSAIC_PRODUCT = {
    MosaicKind.HOURLY: HOURLY_MOSAIC.name,
    MosaicKind.NIGHTLY: NIGHTLY_MOSAIC.name,
    MosaicKind.CUSTOM: CUSTOM_MOSAIC.name,
}
"""The product of each kind of mosaic."""
NIGHT_JOB = "night"
"""The job that makes light curves and what follows from them."""


def exclude(session: Session, mosaic_name: str, *, reason: str, person: str) -> None:
    """Exclude an epoch from light curves; they follow with the next night."""
    exclude_epoch(session, mosaic_name, reason=reason, person=person)
    people.record_action(session, person, "exclude_epoch", mosaic_name, {"reason": reason})


def include(session: Session, mosaic_name: str, *, person: str) -> None:
    """Include an excluded epoch again; light curves follow with the next night."""
    include_epoch(session, mosaic_name)
    people.record_action(session, person, "include_epoch", mosaic_name, {})


@dataclass(frozen=True)
class Waiting:
    """Products that do not agree with who excluded or included an epoch, and follow with the next night.

    ``night``: the newest of light curves. ``products``: those that its job makes. ``total_s``: expected time (s), None
    if no time is known.
    """

    night: str
    products: tuple[str, ...]
    total_s: float | None


def waiting(session: Session, found: Mapping[str, Any]) -> Waiting | None:
    """What waits for the next night because an epoch (`epochs.epoch`) was excluded or included; None for nothing."""
    night = session.scalar(select(func.max(ProductVersion.key)).where(ProductVersion.product == LIGHT_CURVES.name))
    if night is None or found["n_measured"] is None:
        return None
    is_in_light_curves = found["factor"] is not None
    is_of_an_earlier_night = mjd_to_datetime(found["mid_mjd"]).date().isoformat() <= night
    if is_in_light_curves is (found["reason"] is None) or not is_of_an_earlier_night:
        return None
    products = TABLE.jobs()[NIGHT_JOB]
    times = [one for product in products if (one := median_duration(session, product)) is not None]
    return Waiting(night, tuple(products), sum(times) if times else None)


def origin(session: Session, mosaic_name: str) -> dict[str, Any] | None:
    """An epoch and what it comes from: mosaic, tiles with their verdicts and tables, runs. None if there is none."""
    from dsa110_assets.stages.products.gates import verdicts

    found = epochs.epoch(session, mosaic_name)
    if found is None:
        return None
    key = key_of_mosaic(mosaic_name, found["kind"])
    product = MOSAIC_PRODUCT[MosaicKind(found["kind"])]
    tiles = epochs.tiles_of_epoch(session, mosaic_name)
    names = [tile["group_id"] for tile in tiles]
    judged, runs = verdicts(session, names), epochs.runs_of(session, TILE_IMAGE.name, names)
    for tile in tiles:
        tile["verdict"], tile["run_id"] = judged.get(tile["group_id"]), runs.get(tile["group_id"], {}).get("run_id")
    made = {name: epochs.runs_of(session, name, [key]).get(key) for name in (product, FORCED_PHOTOMETRY.name)}
    return found | {"key": key, "tiles": tiles, "products": {name: row for name, row in made.items() if row is not None}}


def key_of_mosaic(name: str, kind: str) -> str:
    """Key of a mosaic's product: its hour or night; of a mosaic on demand its name."""
    return name if kind == MosaicKind.CUSTOM else name.partition("_")[2]
