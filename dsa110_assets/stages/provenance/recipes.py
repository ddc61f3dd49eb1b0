"""Current recipes of the products.

A recipe is the code of the domain modules, the versions of the engines that they import, and the settings that the
stage reads. The table of products declares modules and settings. A product with another recipe is stale
(`registry.provenance.stale`). Recipes are written to the registry, to headers and to Dagster's code versions.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import TYPE_CHECKING

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages import product
from dsa110_assets.stages.provenance import source_digest
from dsa110_assets.stages.table import TABLE

if TYPE_CHECKING:
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


def recipes(config: PipelineConfig) -> dict[str, Recipe]:
    """Current recipes of all products that have one, upstream first."""
    return {row.name: recipe_of(row.name, config) for row in TABLE.with_recipe()}


def _declared(name: str) -> product.Recipe:
    declared = TABLE[name].recipe
    if declared is None:
        message = f"{name} has no recipe: no stage makes it"
        raise LookupError(message)
    return declared
