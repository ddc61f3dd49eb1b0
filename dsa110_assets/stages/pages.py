"""Links between our pages and the Dagster UI: which page shows a product, and what the UI calls our definitions."""

from __future__ import annotations

from dsa110_assets.stages.table import (
    ADDED_PHOTOMETRY,
    CALIBRATED_MS,
    CALIBRATION_TABLES,
    ESE_CANDIDATES,
    FORCED_PHOTOMETRY,
    HOUR_EVENTS,
    HOURLY_MOSAIC,
    LIGHT_CURVES,
    MEASUREMENT_SET,
    MONITORED_SOURCES,
    NIGHTLY_MOSAIC,
    RAW_SUBBANDS,
    SOURCE_CATALOG,
    STALE_PRODUCTS,
    TILE_IMAGE,
    TILE_QUALITY,
    VARIABILITY_METRICS,
)

LOCATION = "dsa110_assets"
REPOSITORY = "__repository__"
"""Name that Dagster gives to the definitions of a code location."""
CODE_LOCATION = f"{REPOSITORY}@{LOCATION}"
"""How addresses in the Dagster UI name our definitions."""
_SHOWN = {
    "observations": (RAW_SUBBANDS, MEASUREMENT_SET, CALIBRATED_MS),
    "antennas": (CALIBRATION_TABLES,),
    "images": (TILE_IMAGE, TILE_QUALITY),
    "mosaics": (HOURLY_MOSAIC, NIGHTLY_MOSAIC),
    "sources": (SOURCE_CATALOG, FORCED_PHOTOMETRY, ADDED_PHOTOMETRY, LIGHT_CURVES, VARIABILITY_METRICS, MONITORED_SOURCES),
    "candidates": (HOUR_EVENTS, ESE_CANDIDATES),
    "control-panel": (STALE_PRODUCTS,),
}
_PAGE_OF = {row.name: page for page, rows in _SHOWN.items() for row in rows}


def products_of(page: str) -> tuple[str, ...]:
    """Products that a page below /ui/ shows; none for one that shows all or none of them."""
    return tuple(row.name for row in _SHOWN.get(page, ()))


def page_of(product: str) -> str:
    """Name of the page below /ui/ that shows a product; the dashboard for those that have none of their own."""
    return _PAGE_OF.get(product, "dashboard")
