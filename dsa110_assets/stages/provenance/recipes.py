"""Today's recipes: what decides how each product comes out, apart from its inputs.

That is the code of its domain modules, the engines that these import, and the settings that its stage reads; the table of products
declares modules and settings. A product whose recipe is not today's is stale (`registry.provenance.stale`). Recipes go into the
registry, the headers and Dagster's code versions.
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
    """Version of the code that makes a product: a digest of its domain modules, its engines' versions and its revision.

    The same for everybody who has the same code, whatever commit it is in.
    """
    return _code(_declared(name))


def configuration_of(name: str, config: PipelineConfig) -> str:
    """Hash over the values of the settings that decide how a product comes out."""
    values = config.model_dump(mode="json", include=set(_declared(name).settings))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def recipe_of(name: str, config: PipelineConfig) -> Recipe:
    """Today's recipe of a product."""
    from dsa110_assets.registry.provenance import Recipe

    return Recipe(code_of(name), configuration_of(name, config))


def recipes(config: PipelineConfig) -> dict[str, Recipe]:
    """Today's recipes of all products that have one, upstream first."""
    return {row.name: recipe_of(row.name, config) for row in TABLE.with_recipe()}


def _declared(name: str) -> product.Recipe:
    declared = TABLE[name].recipe
    if declared is None:
        message = f"{name} has no recipe: no stage makes it"
        raise LookupError(message)
    return declared
