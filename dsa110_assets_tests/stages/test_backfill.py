"""A backfill makes the requested products and observations that exist, and no others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import pytest
from sqlalchemy import func, update

from dsa110_assets.errors import InvalidRequestError, NonRetriableError
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.storage import record_parts
from dsa110_assets.registry.schema import GroupState, StoredPart
from dsa110_assets.stages.operations import backfill, staleness
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.table import TABLE
from dsa110_assets_tests.registry_fixture import add_observation

NIGHT, NEXT = date(2026, 3, 12), date(2026, 3, 13)
TILES = ("2026-03-12T04:58:12", "2026-03-12T05:03:21", "2026-03-12T05:08:30")


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config)


@pytest.fixture
def night(platform) -> Callable[..., int]:
    """Three observations of a night, the second failed; the others with all products by the current recipes."""

    def make(session, product: str, key: str, inputs: dict[str, int] | None = None, recipe: Recipe | None = None) -> int:
        return record_version(session, product, key, inputs=inputs or {}, recipe=recipe or recipe_of(product, platform.config))

    with platform.database.session() as session:
        for tile in TILES:
            add_observation(session, tile, state=GroupState.FAILED if tile == TILES[1] else GroupState.COMPLETED)
        images = {}
        for tile in (TILES[0], TILES[2]):
            raw = make(session, "measurement_set", tile)
            calibrated = make(session, "calibrated_ms", tile, {f"measurement_set/{tile}": raw})
            images[f"tile_image/{tile}"] = make(session, "tile_image", tile, {f"calibrated_ms/{tile}": calibrated})
        for hour in ("2026-03-12T04", "2026-03-12T05"):
            mosaic = make(session, "hourly_mosaic", hour, images)
            make(session, "forced_photometry", hour, {f"hourly_mosaic/{hour}": mosaic})
        for name in ("2026-03-12", "2026-03-20"):
            make(session, "light_curves", name)
            make(session, "ese_candidates", name)
    return make


def test_a_night_is_made_again_from_its_raw_files_without_failed_observations(platform, night) -> None:
    found = backfill.plan(platform, NIGHT)
    assert found.partitions["measurement_set"] == ("2026-03-12|04:55", "2026-03-12|05:05")
    assert found.partitions["hourly_mosaic"] == ("2026-03-12|04", "2026-03-12|05")
    assert any("1 observation in state failed" in line for line in found.left_out)


def test_assets_upstream_of_the_start_stay_as_they_are(platform, night) -> None:
    found = backfill.plan(platform, NIGHT, start="tile_image")
    assert list(found.partitions) == ["tile_image", "hourly_mosaic", "forced_photometry", "light_curves", "ese_candidates"]


def test_only_failed_takes_the_failed_observations_and_nothing_else(platform, night) -> None:
    found = backfill.plan(platform, NIGHT, only_failed=True)
    assert set(found.partitions) == {"measurement_set", "calibrated_ms", "tile_image"}
    assert set(found.partitions.values()) == {("2026-03-12|05:00",)}
    assert backfill.plan(platform, only_failed=True).partitions == found.partitions
    assert backfill.plan(platform, NEXT, only_failed=True).partitions == {}


def test_the_newest_night_of_cumulative_products_is_made_last(platform, night) -> None:
    found = backfill.plan(platform, NIGHT, start="light_curves")
    assert found.partitions["light_curves"] == ("2026-03-12", "2026-03-20")


def test_a_night_without_data_has_nothing_to_make(platform, night) -> None:
    assert backfill.plan(platform, NEXT).partitions == {}


def test_a_new_product_is_not_stale(platform, night) -> None:
    assert staleness.stale_partitions(platform) == []
    assert backfill.plan(platform, only_stale=True).partitions == {}


def test_an_imaging_setting_makes_images_and_their_products_stale_but_no_measurement_set(platform, night) -> None:
    changed = Platform(platform.config.model_copy(update={"briggs_robust": -1.0}), platform.paths, platform.database)
    stale = staleness.stale_partitions(changed)
    assert {one.asset for one in stale} == {"tile_image", "hourly_mosaic", "forced_photometry"}
    assert {(one.partition, one.reasons) for one in stale if one.asset == "tile_image"} == {
        ("2026-03-12|04:55", ("configuration",)),
        ("2026-03-12|05:05", ("configuration",)),
    }
    assert staleness.summary(stale)[0] == {
        "asset": "tile_image",
        "stale": 2,
        "reasons": "configuration (2)",
        "first_night": "2026-03-12",
        "last_night": "2026-03-12",
    }
    found = backfill.plan(changed, only_stale=True)
    assert found.partitions == {
        "tile_image": ("2026-03-12|04:55", "2026-03-12|05:05"),
        "hourly_mosaic": ("2026-03-12|04", "2026-03-12|05"),
        "forced_photometry": ("2026-03-12|04", "2026-03-12|05"),
    }
    assert backfill.plan(changed, NEXT, only_stale=True).partitions == {}


@pytest.mark.parametrize(
    ("arguments", "options", "word"),
    [
        ((), {}, "no night"),
        ((NEXT, NIGHT), {}, "before it begins"),
        ((NIGHT,), {"start": "raw_subbands"}, "raw_subbands"),
        ((NIGHT,), {"only_failed": True, "only_stale": True}, "cannot be combined"),
    ],
)
def test_contradicting_options_are_an_error_with_a_next_step(platform, arguments, options, word) -> None:
    with pytest.raises(NonRetriableError, match=word) as refused:
        backfill.plan(platform, *arguments, **options)
    assert refused.value.next_step


def test_more_nights_than_one_backfill_may_have_are_an_error_with_the_limit(platform, night) -> None:
    last = NIGHT + timedelta(days=backfill.MOST_NIGHTS - 1)
    assert backfill.plan(platform, NIGHT, last).partitions == backfill.plan(platform, NIGHT).partitions
    with pytest.raises(InvalidRequestError, match=f"{backfill.MOST_NIGHTS} at a time"):
        backfill.plan(platform, NIGHT, last + timedelta(days=1))
    assert backfill.plan(platform, date(2000, 1, 1), date(2100, 1, 1), only_failed=True).partitions


def test_more_products_than_one_backfill_may_have_are_an_error(platform, night, monkeypatch) -> None:
    monkeypatch.setattr(backfill, "MOST_PRODUCTS", 3)
    with pytest.raises(InvalidRequestError, match="fewer nights"):
        backfill.plan(platform, NIGHT)


def test_ranges_cover_exactly_their_partitions() -> None:
    slots = ["2026-03-12|04:55", "2026-03-12|05:00", "2026-03-12|05:10", "2026-03-12|23:55", "2026-03-13|00:00"]
    assert backfill.consecutive("tile_image", slots) == [
        ("2026-03-12|04:55", "2026-03-12|05:00"),
        ("2026-03-12|05:10", "2026-03-12|05:10"),
        ("2026-03-12|23:55", "2026-03-12|23:55"),
        ("2026-03-13|00:00", "2026-03-13|00:00"),
    ]
    assert backfill.consecutive("hourly_mosaic", ["2026-03-12|04", "2026-03-12|05"]) == [("2026-03-12|04", "2026-03-12|05")]
    assert backfill.consecutive("light_curves", ["2026-03-12", "2026-03-13"]) == [("2026-03-12",) * 2, ("2026-03-13",) * 2]


def test_every_product_has_a_partition_key_of_its_asset() -> None:
    from dsa110_assets.definitions import build_defs

    graph = build_defs().resolve_asset_graph()
    keys = {"tile": TILES[0], "hour": "2026-03-12T04", "night": "2026-03-12", "reference": "all"}
    for node in graph.asset_nodes:
        name = node.key.to_user_string()
        if TABLE[name].recipe is not None:
            partition = staleness.partition_of(name, TILES[0] if name == "calibration_tables" else keys[node.tags["dsa110/level"]])
            assert (partition is None) == (node.partitions_def is None), name
            assert partition is None or node.partitions_def.has_partition_key(partition), name


def test_what_has_lost_its_inputs_to_retention_is_left_out_unless_they_are_made_too(platform, night) -> None:
    with platform.database.session() as session:
        for tile in (TILES[0], TILES[2]):
            record_parts(session, "calibrated_ms", tile, f"/ms/{tile}.cal.ms", {"calibrated_sets": 1})
            record_parts(session, "tile_image", tile, f"/images/{tile}", {"working_planes": 1, "mosaic_planes": 1, "tile_maps": 1})
        session.execute(update(StoredPart).where(StoredPart.key == TILES[0]).values(retired_at=func.now()))
    found = backfill.plan(platform, NIGHT, start="tile_image")
    assert found.partitions["tile_image"] == ("2026-03-12|05:05",)
    assert found.partitions["hourly_mosaic"] == ("2026-03-12|05",), "of tiles that exist"
    assert any("retention has removed their calibrated_ms" in line and "measurement_set" in line for line in found.left_out)
    everything = backfill.plan(platform, NIGHT)
    assert everything.partitions["tile_image"] == ("2026-03-12|04:55", "2026-03-12|05:05")
    assert everything.partitions["hourly_mosaic"] == ("2026-03-12|04", "2026-03-12|05")
