"""Links from the Dagster UI to our pages, and to runs of an observation."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages import pages
from dsa110_assets.stages.product import Product


def page_of(config: PipelineConfig, row: Product) -> str:
    """Address of the page that shows what an asset makes."""
    return f"{config.pages_url.rstrip('/')}/{pages.page_of(row.name)}"


def dashboard(config: PipelineConfig) -> str:
    """Address of the dashboard, which says what is wrong now."""
    return f"{config.pages_url.rstrip('/')}/dashboard"


def sensor(config: PipelineConfig, name: str) -> str:
    """Address of a sensor in Dagster, where its switch and its ticks are."""
    return f"{config.ui_url.rstrip('/')}/locations/{pages.CODE_LOCATION}/sensors/{quote(name)}"


def observation_page(config: PipelineConfig, group_id: str) -> str:
    """Address of the page of an observation."""
    return f"{config.pages_url.rstrip('/')}/observations/{quote(group_id)}"


def day_page(config: PipelineConfig, night: str) -> str:
    """Address of the page that shows a UTC date in slots: observed, empty or missing."""
    return f"{config.pages_url.rstrip('/')}/observations?{urlencode({'day': night})}"


def runs_of(config: PipelineConfig, group_id: str) -> str:
    """Address of Dagster's list of the runs of an observation."""
    return f"{config.ui_url.rstrip('/')}/runs?{urlencode({'q[0]': f'tag:dsa110/observation={group_id}'})}"
