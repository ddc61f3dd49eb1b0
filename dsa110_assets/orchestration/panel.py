"""What every asset shows in the control panel, in one pass: code version, freshness policy, tags, links to documentation, data, source.

What only one asset knows (its description, its runtime) stays in its own file. What does not belong here: sensors, checks.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import dagster as dg

from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import ProductPaths
from dsa110_assets.stages.provenance.recipes import INGREDIENTS, code_of
from dsa110_assets.stages.queue.work import HOUR_ASSETS, NIGHT_ASSETS, TILE_STAGES


def _within(warn_hours: float, fail_hours: float) -> dg.FreshnessPolicy:
    return dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=fail_hours), warn_window=timedelta(hours=warn_hours))


FRESHNESS: dict[str, dg.FreshnessPolicy] = {
    "raw_subbands": _within(2, 24),  # the telescope observes all day; a pause of hours is worth a look, one of a day an alarm
    **dict.fromkeys(TILE_STAGES, _within(4, 26)),
    **dict.fromkeys(HOUR_ASSETS, _within(6, 28)),
    "calibration_tables": _within(30, 54),  # one transit a day, and one may be missed
    "nightly_mosaic": dg.FreshnessPolicy.cron(deadline_cron="0 6 * * *", lower_bound_delta=timedelta(hours=3)),
    **dict.fromkeys(("light_curves", "variability_metrics", "ese_candidates"), _within(26, 50)),
    "injection_recovery": _within(30, 54),
    "stale_products": _within(2, 6),
}
_LEVELS = {
    **dict.fromkeys(TILE_STAGES, "tile"),
    **dict.fromkeys(HOUR_ASSETS, "hour"),
    **dict.fromkeys(NIGHT_ASSETS, "night"),
    "raw_subbands": "tile",
}


def dressed(asset: dg.AssetsDefinition | dg.AssetSpec, config: PipelineConfig) -> dg.AssetsDefinition | dg.AssetSpec:
    """An asset with all that the panel shows."""
    if isinstance(asset, dg.AssetSpec):
        return _dress(asset, config)
    return asset.map_asset_specs(lambda spec: _dress(spec, config))


def _dress(spec: dg.AssetSpec, config: PipelineConfig) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    docs = config.docs_url.rstrip("/")
    metadata: dict[str, Any] = {
        **spec.metadata,
        "documentation": dg.MetadataValue.md(
            f"[how it is made]({docs}/architecture.html), [what to do when it fails]({docs}/playbook.html)"
        ),
    }
    if (place := _place(name, ProductPaths.of(config))) is not None:
        metadata["data"] = dg.MetadataValue.path(place)
    if name in INGREDIENTS and (settings := INGREDIENTS[name].settings):
        metadata["settings that it reads"] = ", ".join(f"PIPELINE_{setting.upper()}" for setting in settings)
    changes: dict[str, Any] = {
        "metadata": metadata,
        "tags": {**spec.tags, "dsa110/level": _LEVELS.get(name, spec.group_name or "reference")},
    }
    if name in INGREDIENTS:
        changes["code_version"] = code_of(name)
    if name in FRESHNESS:
        changes["freshness_policy"] = FRESHNESS[name]
    return spec.replace_attributes(**changes)


def _place(name: str, paths: ProductPaths) -> str | None:
    """Where an asset's files are; None for rows of the registry."""
    if name in ("measurement_set", "calibrated_ms"):
        return str(paths.output_dir)
    if name in ("calibrator_catalog", "nvss_catalog"):
        return str(paths.catalogs_dir)
    folder = {
        "calibration_tables": "caltables",
        "tile_image": "images",
        "hourly_mosaic": "mosaics",
        "nightly_mosaic": "mosaics",
        "injection_recovery": "injections",
        "ese_candidates": "candidates",
    }.get(name)
    return None if folder is None else str(paths.scratch_dir / folder)
