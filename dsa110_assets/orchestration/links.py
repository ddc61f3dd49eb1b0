"""Links from the Dagster UI to our pages, and to runs of an observation."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.product import Product

PAGES = {
    "measurement_set": "observations", "calibrated_ms": "observations", "raw_subbands": "observations", "calibration_tables": "antennas",
    "tile_image": "images", "tile_quality": "images", "hourly_mosaic": "mosaics", "nightly_mosaic": "mosaics",
    "source_catalog": "sources", "forced_photometry": "sources", "added_photometry": "sources", "light_curves": "sources",
    "variability_metrics": "sources", "monitored_sources": "sources", "hour_events": "candidates", "ese_candidates": "candidates",
    "stale_products": "control-panel",
}  # fmt: skip
"""Page that shows what an asset makes. All others: the dashboard."""


def page_of(config: PipelineConfig, row: Product) -> str:
    """Address of the page that shows what an asset makes."""
    return f"{config.pages_url.rstrip('/')}/{PAGES.get(row.name, 'dashboard')}"


def dashboard(config: PipelineConfig) -> str:
    """Address of the dashboard, which says what is wrong now."""
    return f"{config.pages_url.rstrip('/')}/dashboard"


def observation_page(config: PipelineConfig, group_id: str) -> str:
    """Address of the page of an observation."""
    return f"{config.pages_url.rstrip('/')}/observations/{quote(group_id)}"


def runs_of(config: PipelineConfig, group_id: str) -> str:
    """Address of Dagster's list of the runs of an observation."""
    return f"{config.ui_url.rstrip('/')}/runs?{urlencode({'q[0]': f'tag:dsa110/observation={group_id}'})}"
