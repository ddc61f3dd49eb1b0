"""A new recipe is accepted after a sample that came out equal, and only then; the registry says who, why and what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry import provenance
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, current_version, record_version
from dsa110_assets.registry.schema import AcceptedRecipe, Source
from dsa110_assets.stages.operations.acceptance import accept
from dsa110_assets.stages.operations.staleness import remaking_plan, stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import reference_path, refresh_monitored
from dsa110_assets.stages.provenance import recipes as current

PRODUCT = "monitored_sources"


@pytest.fixture
def made(registry_config: PipelineConfig) -> Callable[..., Platform]:
    """Sources were made with a limit of 30 mJy; called with a limit (Jy): the platform with this setting."""
    platform = Platform.open(registry_config.model_copy(update={"photometry_min_catalog_jy": 0.03}))
    path = reference_path(platform)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(
        {
            "name": ["a", "b", "c"],
            "ra_deg": [10.0, 11.0, 12.0],
            "dec_deg": [50.0, 51.0, 52.0],
            "flux_jy": [0.1, 0.04, 0.01],
            "spectral_index": [-0.7] * 3,
        }
    ).to_parquet(path)
    refresh_monitored(platform, "first")

    def today(limit_jy: float) -> Platform:
        return Platform.open(registry_config.model_copy(update={"photometry_min_catalog_jy": limit_jy}))

    return today


def stale_keys(platform: Platform) -> list[tuple[str, tuple[str, ...]]]:
    return [(one.asset, one.reasons) for one in stale_partitions(platform)]


def test_an_equal_sample_is_accepted_and_recorded(made: Callable[..., Platform]) -> None:
    platform = made(0.02)
    assert stale_keys(platform) == [(PRODUCT, ("configuration",))]
    found = accept(platform, PRODUCT, reason="the limit moved between two sources", person="J. Doe")
    assert found.accepted
    assert [(one.key, one.differs) for one in found.trials] == [("all", ())]
    assert stale_keys(platform) == []
    with platform.database.session() as session:
        (row,) = session.query(AcceptedRecipe)
        assert (row.product, row.accepted, row.accepted_by, row.products) == (PRODUCT, True, "J. Doe", 1)
        assert (row.reason, row.sample) == ("the limit moved between two sources", {"all": []})
        assert (row.from_config, row.to_config) == tuple(current.configuration_of(PRODUCT, made(x).config) for x in (0.03, 0.02))


def test_a_sample_that_differs_accepts_nothing_and_says_what_differs(made: Callable[..., Platform]) -> None:
    platform = made(0.05)
    found = accept(platform, PRODUCT, reason="should be the same", person="J. Doe")
    assert not found.accepted
    assert {"registry sources rows", "registry sources name"} <= set(found.trials[0].differs)
    assert stale_keys(platform) == [(PRODUCT, ("configuration",))]
    with platform.database.session() as session:
        (row,) = session.query(AcceptedRecipe)
        assert (row.accepted, row.sample["all"]) == (False, list(found.trials[0].differs))
        assert [one.name for one in session.query(Source).filter_by(active=True)] == ["a", "b"], "the trial left no rows"
        version = current_version(session, PRODUCT, "all")
        assert version is not None
        assert version.run_id == "first"


def test_acceptances_add_up_over_releases_and_hold_in_one_direction(made: Callable[..., Platform]) -> None:
    for limit in (0.02, 0.025):
        accept(made(limit), PRODUCT, reason="nothing changes", person="J. Doe")
    assert stale_keys(made(0.025)) == []
    assert stale_keys(made(0.02)) == []
    assert stale_keys(made(0.011)) == [(PRODUCT, ("configuration",))]


def test_an_acceptance_needs_a_product_a_reason_a_name_and_something_to_accept(made: Callable[..., Platform]) -> None:
    with pytest.raises(NonRetriableError, match="not a product with a recipe"):
        accept(made(0.02), "raw_subbands", reason="r", person="p")
    for reason, person in (("", "p"), ("r", " ")):
        with pytest.raises(NonRetriableError, match="needs a reason and a name"):
            accept(made(0.02), PRODUCT, reason=reason, person=person)
    with pytest.raises(NonRetriableError, match="nothing to accept"):
        accept(made(0.03), PRODUCT, reason="r", person="p")


def test_products_without_inputs_on_disk_are_not_drawn(database: Database, registry_config: PipelineConfig, tmp_path: Path) -> None:
    with database.session() as session:
        record_version(
            session, "tile_image", "2026-03-12T05:10:04", path=tmp_path / "image", inputs={"/gone.ms": 1}, recipe=Recipe("old", "old")
        )
    with pytest.raises(NonRetriableError, match=r"no longer on disk.*/gone\.ms"):
        accept(Platform.open(registry_config), "tile_image", reason="r", person="p")


def test_only_an_accepted_recipe_of_the_same_product_counts(database: Database) -> None:
    old, new = Recipe("old", "c"), Recipe("new", "c")
    today = {"tile_image": new, "hourly_mosaic": new}

    def decide(product: str, *, accepted: bool) -> None:
        session.add(
            AcceptedRecipe(
                product=product, from_code="old", from_config="c", to_code="new", to_config="c", accepted=accepted, accepted_by="p",
                reason="r", sample={}, products=1,
            )
        )  # fmt: skip
        session.flush()

    with database.session() as session:
        image = record_version(session, "tile_image", "t", path="/i", recipe=old)
        record_version(session, "hourly_mosaic", "h", path="/m", inputs={"/i": image}, recipe=new)
        assert {one.product for one in provenance.stale(session, today)} == {"tile_image", "hourly_mosaic"}
        decide("hourly_mosaic", accepted=True)
        decide("tile_image", accepted=False)
        assert {one.product for one in provenance.stale(session, today)} == {"tile_image", "hourly_mosaic"}
        decide("tile_image", accepted=True)
        assert provenance.stale(session, today) == [], "what was made from it is not stale either"


def test_the_plan_names_settings_modules_and_inputs_and_measured_times(
    made: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = made(0.02)
    (planned,) = remaking_plan(platform)
    assert (planned.asset, planned.stale, planned.why) == (PRODUCT, 1, ("photometry_min_catalog_jy 0.03 -> 0.02 (1)",))
    assert planned.each_s is not None
    assert planned.total_h == pytest.approx(planned.each_s / 3600)
    before = current.source_digest.digests

    def changed(modules: tuple[str, ...]) -> dict[str, str]:
        return before(modules) | {"catalogs.sky": "other"}

    monkeypatch.setattr(current.source_digest, "digests", changed)
    monkeypatch.setattr(current, "_code", lambda declared: f"other {declared.modules}")
    current._code_parts.cache_clear()
    try:
        (planned,) = remaking_plan(made(0.03))
    finally:
        current._code_parts.cache_clear()
    assert planned.why == ("catalogs.sky (1)",)


def test_the_plan_names_inputs_that_came_out_differently_and_old_releases(database: Database, registry_config: PipelineConfig) -> None:
    platform = Platform.open(registry_config)
    recipe = {name: current.recipe_of(name, registry_config) for name in ("tile_image", "hourly_mosaic", "nightly_mosaic")}
    with database.session() as session:
        first = record_version(session, "tile_image", "2026-03-12T05:10:04", path="/i", recipe=recipe["tile_image"], checksum="1")
        record_version(session, "tile_image", "2026-03-12T05:10:04", path="/i", recipe=recipe["tile_image"], checksum="2", duration_s=7200)
        record_version(session, "hourly_mosaic", "2026-03-12T05", path="/m", inputs={"/i": first}, recipe=recipe["hourly_mosaic"])
        record_version(session, "nightly_mosaic", "2026-03-12", path="/n", recipe=Recipe("older", recipe["nightly_mosaic"].config_hash))
    plan = {one.asset: (one.why, one.total_h) for one in remaking_plan(platform)}
    assert plan == {
        "hourly_mosaic": (("another tile_image (1)",), None),
        "nightly_mosaic": (("code of a release that did not record its parts (1)",), None),
    }


def test_the_commands_print_plan_and_answer(made: Callable[..., Platform], monkeypatch: pytest.MonkeyPatch) -> None:
    platform = made(0.02)
    monkeypatch.setattr("dsa110_assets.stages.platform.Platform.open", lambda: platform)
    shown = CliRunner().invoke(app, ["stale", "--plan"])
    assert (shown.exit_code, "photometry_min_catalog_jy 0.03 -> 0.02" in shown.stdout) == (1, True), shown.output
    answer = CliRunner().invoke(app, ["stale", "accept", PRODUCT, "--reason", "the same sources", "--by", "J. Doe"])
    assert (answer.exit_code, "accepted: 1 products" in answer.stdout) == (0, True), answer.output
    assert CliRunner().invoke(app, ["stale"]).stdout.strip() == "nothing is stale"
