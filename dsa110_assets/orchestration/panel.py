"""What all assets show in the UI: code version, freshness policy, tags, links to documentation and data."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration import links
from dsa110_assets.products import ProductPaths
from dsa110_assets.stages.product import EachDay, Level, Product, Within
from dsa110_assets.stages.provenance.recipes import code_of
from dsa110_assets.stages.table import RAW_SUBBANDS, TABLE

RAW_FILES = "raw_files"
"""The sensor that reports raw files; its switch is that of ingest."""


def freshness_of(row: Product) -> dg.FreshnessPolicy | None:
    """Freshness policy of a product, for the UI and the alerts; None for a product that is never overdue."""
    match row.freshness:
        case Within(warn_hours, fail_hours):
            return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=fail_hours), warn_window=timedelta(hours=warn_hours))
        case EachDay(cron, hours):
            return dg.FreshnessPolicy.cron(deadline_cron=cron, lower_bound_delta=timedelta(hours=hours))
        case None:
            return None


def assets_with_freshness() -> list[str]:
    """Names of the assets with a freshness policy."""
    return [row.name for row in TABLE if row.freshness is not None]


def with_panel_metadata(asset: dg.AssetsDefinition | dg.AssetSpec, config: PipelineConfig) -> dg.AssetsDefinition | dg.AssetSpec:
    """Return the asset with all that the UI shows."""
    if isinstance(asset, dg.AssetSpec):
        return _complete(asset, config)
    return asset.map_asset_specs(lambda spec: _complete(spec, config))


def _complete(spec: dg.AssetSpec, config: PipelineConfig) -> dg.AssetSpec:
    row = TABLE[spec.key.to_user_string()]
    docs = config.docs_url.rstrip("/")
    pages = {
        "what it is": f"reference/products.html#{row.name}",
        "how it is made": f"{row.page}.html",
        "what to do when it fails": "operators/playbook.html",
    }
    metadata: dict[str, Any] = {
        **spec.metadata,
        "page": dg.MetadataValue.url(links.page_of(config, row)),
        "what is wrong now": dg.MetadataValue.url(links.dashboard(config)),
        "documentation": dg.MetadataValue.md(", ".join(f"[{title}]({docs}/{page})" for title, page in pages.items())),
    }
    if row.folder is not None:
        metadata["data"] = dg.MetadataValue.path(str(ProductPaths.of(config).folder(row.folder)))
    changes: dict[str, Any] = {
        "metadata": metadata,
        "tags": {**spec.tags, "dsa110/level": row.group if row.level is Level.WHOLE else row.level.value},
    }
    if row is RAW_SUBBANDS:  # Dagster lists as automation only what makes an asset
        metadata["reported by"] = dg.MetadataValue.url(links.sensor(config, RAW_FILES))
    if row.recipe is not None:
        if row.recipe.settings:
            metadata["settings that it reads"] = ", ".join(f"PIPELINE_{setting.upper()}" for setting in row.recipe.settings)
        changes["code_version"] = code_of(row.name)
    if (policy := freshness_of(row)) is not None:
        changes["freshness_policy"] = policy
    return spec.replace_attributes(**changes)
