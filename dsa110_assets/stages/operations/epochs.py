"""Epochs of light curves: excluding and including them with the person's name, and what their fluxes come from."""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from dsa110_assets.registry.queries import epochs, people
from dsa110_assets.registry.queries.measurements import exclude_epoch, include_epoch
from dsa110_assets.registry.schema import MosaicKind
from dsa110_assets.stages.table import CUSTOM_MOSAIC, FORCED_PHOTOMETRY, HOURLY_MOSAIC, NIGHTLY_MOSAIC, TILE_IMAGE

MOSAIC_PRODUCT = {
    MosaicKind.HOURLY: HOURLY_MOSAIC.name,
    MosaicKind.NIGHTLY: NIGHTLY_MOSAIC.name,
    MosaicKind.CUSTOM: CUSTOM_MOSAIC.name,
}
"""The product of each kind of mosaic."""


def exclude(session: Session, mosaic_name: str, *, reason: str, person: str) -> None:
    """Exclude an epoch from light curves; they follow with the next night."""
    exclude_epoch(session, mosaic_name, reason=reason, person=person)
    people.record_action(session, person, "exclude_epoch", mosaic_name, {"reason": reason})


def include(session: Session, mosaic_name: str, *, person: str) -> None:
    """Include an excluded epoch again; light curves follow with the next night."""
    include_epoch(session, mosaic_name)
    people.record_action(session, person, "include_epoch", mosaic_name, {})


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
