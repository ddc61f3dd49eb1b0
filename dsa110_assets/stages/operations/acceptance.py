"""Accept products of an earlier recipe as made by today's, after a random sample came out with the same content."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.provenance import Recipe, StaleProduct
from dsa110_assets.registry.schema import AcceptedRecipe
from dsa110_assets.stages.operations.staleness import CODE, CONFIGURATION, stale_products
from dsa110_assets.stages.operations.trials import Trial, make_on_trial, missing_input
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.table import TABLE

SAMPLE = 5
"""Products of each earlier recipe that are made again unless a person asks for another number."""


@dataclass(frozen=True)
class Acceptance:
    """The answer. ``trials``: the sample. ``products``: with an earlier recipe, and stale for no other reason.

    ``without_inputs``: products drawn for the sample whose inputs are no longer on disk; others took their places.
    """

    product: str
    accepted: bool
    trials: tuple[Trial, ...]
    products: int
    without_inputs: tuple[str, ...]


def accept(
    platform: Platform,
    product: str,
    *,
    reason: str,
    person: str,
    sample: int = SAMPLE,
    seed: int | None = None,
    progress: Callable[[Trial], None] | None = None,
) -> Acceptance:
    """Make a random sample again on trial; if all of it is equal, accept today's recipe for products of earlier ones.

    The sample is drawn anew for each earlier recipe, among products that are stale because of code or settings alone.
    Of a cumulative product it is the newest night, which holds all. It ends at the first difference; then nothing is
    accepted. Both answers are recorded in `accepted_recipes`. If a
    share ``p`` of the products would differ, a sample of ``n`` misses it with the probability ``(1 - p)**n``.

    Args:
        platform: the platform.
        product: name of a product with a recipe.
        reason, person: why, and who accepts; neither may be empty.
        sample: number of products of each earlier recipe; all of them if it has fewer.
        seed: of the random choice, for a repetition.
        progress: called after each product.

    Raises:
        NonRetriableError: no such product, no reason or name, nothing to accept, or no inputs left for a sample.
    """
    if product not in TABLE or TABLE[product].recipe is None:
        known = ", ".join(row.name for row in TABLE.with_recipe())
        raise NonRetriableError(product, "is not a product with a recipe", f"choose one of {known}")
    if not reason.strip() or not person.strip():
        raise NonRetriableError(product, "an acceptance needs a reason and a name", "give the reason and your name")
    today = recipe_of(product, platform.config)
    with platform.database.session() as session:
        found = [one for one in stale_products(session, platform.config) if one.product == product]
    of_recipe: dict[Recipe, list[StaleProduct]] = {}
    for one in found:
        if set(one.reasons) <= {CODE, CONFIGURATION}:
            of_recipe.setdefault(one.recipe, []).append(one)
    if not of_recipe:
        raise NonRetriableError(
            product,
            f"nothing to accept: {len(found)} of its products are stale, none because of code or settings alone",
            "`dsa110 stale --plan` says why products are stale",
        )
    draw = random.Random(seed)  # noqa: S311 - not for secrets
    trials: dict[Recipe, list[Trial]] = {recipe: [] for recipe in of_recipe}
    lost: list[str] = []
    for recipe, own in of_recipe.items():
        newest_first = sorted(own, key=lambda one: one.key, reverse=True)
        for one in newest_first[:1] if TABLE[product].is_cumulative else draw.sample(own, len(own)):
            with platform.database.session() as session:
                missing = missing_input(session, product, one.key)
            if missing is not None:
                lost.append(f"{one.key}: {missing}")
                continue
            trials[recipe].append(make_on_trial(platform, product, one.key))
            if progress is not None:
                progress(trials[recipe][-1])
            if not trials[recipe][-1].is_equal or len(trials[recipe]) >= sample:
                break
        if not trials[recipe]:
            raise NonRetriableError(
                product,
                f"no sample can be made of {len(own)} products: their inputs are no longer on disk; the first: {lost[0]}",
                "leave them as they are, or restore inputs of a few",
            )
        if not trials[recipe][-1].is_equal:
            break
    made = [trial for some in trials.values() for trial in some]
    accepted = all(trial.is_equal for trial in made)
    with platform.database.session() as session:
        session.add_all(
            AcceptedRecipe(
                product=product,
                from_code=recipe.code_version,
                from_config=recipe.config_hash,
                to_code=today.code_version,
                to_config=today.config_hash,
                accepted=accepted,
                accepted_by=person.strip(),
                reason=reason.strip(),
                sample={trial.key: list(trial.differs) for trial in some},
                products=len(of_recipe[recipe]),
            )
            for recipe, some in trials.items()
            if some
        )
    return Acceptance(product, accepted, tuple(made), sum(map(len, of_recipe.values())), tuple(lost))


def shortened(differs: Sequence[str], most: int = 8) -> str:
    """The first names of what differs, and the number of others."""
    rest = f" and {len(differs) - most} more" if len(differs) > most else ""
    return ", ".join(differs[:most]) + rest
