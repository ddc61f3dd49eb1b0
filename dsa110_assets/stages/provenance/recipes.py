"""Current recipes of the products.

A recipe is the code of the domain modules, the versions of the engines that they import, and the settings that the
stage reads. The table of products declares modules and settings. A product with another recipe is stale
(`registry.provenance.stale`). Recipes are written to the registry, to headers and to Dagster's code versions.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING, Any

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages import product
from dsa110_assets.stages.provenance import source_digest
from dsa110_assets.stages.table import TABLE

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from dsa110_assets.registry.provenance import Recipe


@cache
def _code(declared: product.Recipe) -> str:
    engines = ",".join(f"{name}={version}" for name, version in source_digest.engines(declared.modules).items())
    return hashlib.sha256(f"{source_digest.digest(declared.modules)} {engines} {declared.revision}".encode()).hexdigest()[:12]


def code_of(name: str) -> str:
    """Code version of a product: a digest of its domain modules, its engines' versions and its revision.

    It depends on the code alone, not on the commit.
    """
    return _code(_declared(name))


def configuration_of(name: str, config: PipelineConfig) -> str:
    """Hash of the values of a product's settings."""
    values = config.model_dump(mode="json", include=set(_declared(name).settings))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def recipe_of(name: str, config: PipelineConfig) -> Recipe:
    """Current recipe of a product."""
    from dsa110_assets.registry.provenance import Recipe

    return Recipe(code_of(name), configuration_of(name, config))


def record_recipe(session: Session, name: str, config: PipelineConfig) -> None:
    """Record what the current recipe of a product consists of, unless it is known."""
    from sqlalchemy.dialects.postgresql import insert

    from dsa110_assets.registry.schema import RecipeRecord

    recipe = recipe_of(name, config)
    row = {"product": name, "code_version": recipe.code_version, "config_hash": recipe.config_hash, **_parts_of(name, config)}
    session.execute(insert(RecipeRecord).values(row).on_conflict_do_nothing())


def changes_since(session: Session, name: str, config: PipelineConfig, then: Recipe) -> list[str]:
    """Modules, engines and settings in which the current recipe of a product differs from an earlier one.

    A module is named ``imaging.clean``, an engine ``ducc0 0.41 -> 0.42``, a setting ``briggs_robust 0.5 -> 0.0``. The
    list is empty if the earlier recipe was recorded by a release that did not record its parts.
    """
    from dsa110_assets.registry.schema import RecipeRecord

    known = session.get(RecipeRecord, (name, then.code_version, then.config_hash))
    if known is None:
        return []
    today = _parts_of(name, config)
    modules = [one for one in sorted(known.modules.keys() | today["modules"].keys()) if known.modules.get(one) != today["modules"].get(one)]
    others = [
        f"{one} {old.get(one, 'none')} -> {new.get(one, 'none')}"
        for old, new in ((known.engines, today["engines"]), (known.settings, today["settings"]))
        for one in sorted(old.keys() | new.keys())
        if old.get(one) != new.get(one)
    ]
    return modules + others


def _parts_of(name: str, config: PipelineConfig) -> dict[str, dict[str, Any]]:
    modules, engines = _code_parts(_declared(name))
    return {"modules": modules, "engines": engines, "settings": config.model_dump(mode="json", include=set(_declared(name).settings))}


@cache
def _code_parts(declared: product.Recipe) -> tuple[dict[str, str], dict[str, str]]:
    modules = source_digest.digests(declared.modules)
    if declared.revision > 1:
        modules["the stage's revision"] = str(declared.revision)
    return modules, source_digest.engines(declared.modules)


def modules_of_recipes() -> list[str]:
    """Full names of all modules that decide the content of a product."""
    return sorted(set().union(*(source_digest.closure(_declared(row.name).modules) for row in TABLE.with_recipe())))


def recipes(config: PipelineConfig) -> dict[str, Recipe]:
    """Current recipes of all products that have one, upstream first."""
    return {row.name: recipe_of(row.name, config) for row in TABLE.with_recipe()}


def _declared(name: str) -> product.Recipe:
    declared = TABLE[name].recipe
    if declared is None:
        message = f"{name} has no recipe: no stage makes it"
        raise LookupError(message)
    return declared
