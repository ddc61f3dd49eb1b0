"""A mark decides what mosaics and calibration use, and exactly what it changes is made again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NoCalibrationError, NotFoundError
from dsa110_assets.products import hourly_mosaic_name, nightly_mosaic_name
from dsa110_assets.quality import gate
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import record_version
from dsa110_assets.registry.queries.calibration import record_calibration_applied, upsert_caltables
from dsa110_assets.registry.queries.images import upsert_image, upsert_mosaic
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import GroupState, IngestGroup, MarkDecision, MarkKind, TileStage
from dsa110_assets.stages.operations import backfill
from dsa110_assets.stages.operations.marks import mark, unmark
from dsa110_assets.stages.operations.staleness import stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.products.nearest import usable_tables
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets_tests.registry_fixture import add_observation

FIRST, SECOND, REFUSED, LATER = "2026-03-01T05:10:00", "2026-03-01T05:30:00", "2026-03-01T05:40:00", "2026-03-01T07:30:00"
HOURS = {"05": (FIRST, SECOND), "07": (LATER,)}
WHY = {"reason": "a satellite", "person": "J. Doe"}


@pytest.fixture
def platform(database: Database, registry_config: PipelineConfig) -> Platform:
    """Two hours with mosaics and photometry, and their night; of four tiles one is refused."""
    config = registry_config
    with database.session() as session:
        for group_id in (FIRST, SECOND, REFUSED, LATER):
            row = add_observation(session, group_id)
            upsert_image(
                session, directory=f"/im/{group_id}", group_id=group_id, mid_mjd=row.mid_mjd, ra_deg=120.0, dec_deg=16.0, pointing_dec_deg=16.0,
                noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0, bmaj_arcsec=40, bmin_arcsec=30, bpa_deg=0,
            )  # fmt: skip
            for name in gate.TILE_CHECKS:
                upsert_qa_metric(session, "tile_image", group_id, name, 1.0, passed=group_id != REFUSED, reason="as measured")
    make_mosaics(database, config, dict(HOURS))
    return Platform.open(config)


def make_mosaics(database: Database, config: PipelineConfig, hours: dict[str, tuple[str, ...]]) -> None:
    """Register mosaics of hours with these tiles, their photometry, and the night's mosaic."""

    def mosaic(name: str, kind: str, tiles: tuple[str, ...]) -> None:
        with database.session() as session:
            upsert_mosaic(
                session, name=name, kind=kind, directory=f"/mo/{name}", start_mjd=61_100.2, mid_mjd=61_100.21, end_mjd=61_100.25, ra_deg=120.0,
                dec_deg=16.0, noise_jy_per_beam=5e-4, group_ids=tiles,
            )  # fmt: skip

    for hour, tiles in hours.items():
        name, key = hourly_mosaic_name("2026-03-01", hour), f"2026-03-01T{hour}"
        mosaic(name, "hourly", tiles)
        with database.session() as session:
            version = record_version(session, "hourly_mosaic", key, path=f"/mo/{name}", recipe=recipe_of("hourly_mosaic", config))
            record_version(
                session, "forced_photometry", key, inputs={f"/mo/{name}": version}, recipe=recipe_of("forced_photometry", config)
            )
    name = nightly_mosaic_name("2026-03-01")
    mosaic(name, "nightly", tuple(tile for tiles in hours.values() for tile in tiles))
    with database.session() as session:
        record_version(session, "nightly_mosaic", "2026-03-01", path=f"/mo/{name}", recipe=recipe_of("nightly_mosaic", config))


def stale(platform: Platform, *, only_marked: bool = False) -> dict[str, str]:
    return {f"{one.asset} {one.key}": "+".join(one.reasons) for one in stale_partitions(platform, only_marked=only_marked)}


def good(platform: Platform) -> list[str]:
    with platform.database.session() as session:
        tiles = gates.good_tiles(session, [FIRST, SECOND, REFUSED, LATER])
        judged = gates.verdicts(session, [FIRST, SECOND, REFUSED, LATER])
        assert tiles == [one for one in judged if judged[one].is_good]
        refused = gates.not_good(session, completed_after=now() - timedelta(days=10_000), limit=100)
        assert set(refused) == {FIRST, SECOND, REFUSED, LATER} - set(tiles), "SQL agrees"
    return tiles


@pytest.fixture
def completed(platform: Platform) -> Platform:
    with platform.database.session() as session:
        for group in session.query(IngestGroup):
            group.completed_at = now()
    return platform


EXPECTED = {
    "hourly_mosaic 2026-03-01T05": "marks",
    "nightly_mosaic 2026-03-01": "marks",
    "forced_photometry 2026-03-01T05": "marks",
}


def test_a_tile_marked_bad_is_left_out_and_exactly_its_mosaics_are_made_again(completed: Platform) -> None:
    assert good(completed) == [FIRST, SECOND, LATER]
    assert stale(completed) == {}
    found = mark(completed, MarkKind.TILE, SECOND, MarkDecision.BAD, **WHY)
    assert good(completed) == [FIRST, LATER]
    assert stale(completed) == stale(completed, only_marked=True) == EXPECTED
    assert {f"{product} {key}" for product, key in found.products} == set(EXPECTED)
    plan = backfill.plan(completed, only_marked=True)
    assert plan.partitions["hourly_mosaic"] == ("2026-03-01|05",)
    make_mosaics(completed.database, completed.config, {"05": (FIRST,), "07": (LATER,)})
    assert stale(completed) == {}


def test_a_refused_tile_marked_good_is_used(completed: Platform) -> None:
    mark(completed, MarkKind.TILE, REFUSED, MarkDecision.GOOD, **WHY)
    assert good(completed) == [FIRST, SECOND, REFUSED, LATER]
    assert stale(completed) == EXPECTED
    make_mosaics(completed.database, completed.config, {"05": (FIRST, SECOND, REFUSED), "07": (LATER,)})
    assert stale(completed) == {}
    unmark(completed, MarkKind.TILE, REFUSED, person="A. Other")
    assert good(completed) == [FIRST, SECOND, LATER]
    assert stale(completed) == EXPECTED


def test_a_mark_that_changes_no_verdict_makes_nothing_again(completed: Platform) -> None:
    assert mark(completed, MarkKind.TILE, FIRST, MarkDecision.GOOD, **WHY).products == ()
    assert mark(completed, MarkKind.TILE, REFUSED, MarkDecision.BAD, **WHY).products == ()
    unmark(completed, MarkKind.TILE, REFUSED, person="J. Doe")
    assert stale(completed) == {}


def test_a_mosaic_that_loses_its_last_good_tile_is_named_and_not_made_again(completed: Platform) -> None:
    found = mark(completed, MarkKind.TILE, LATER, MarkDecision.BAD, **WHY)
    assert found.without_tiles == ("hourly_2026-03-01T07",)
    assert "hourly_mosaic 2026-03-01T07" not in stale(completed)
    assert "nightly_mosaic 2026-03-01" in stale(completed)


def test_the_verdict_says_who_marked_a_tile_and_why(completed: Platform) -> None:
    mark(completed, MarkKind.TILE, FIRST, MarkDecision.BAD, **WHY)
    with completed.database.session() as session:
        line = gates.verdicts(session, [FIRST])[FIRST].line()
    assert line.startswith("refused: J. Doe marked it bad: a satellite. Next: ")


def test_what_is_not_there_cannot_be_marked(completed: Platform) -> None:
    with pytest.raises(NotFoundError, match="no tables were solved"):
        mark(completed, MarkKind.SOLUTION, FIRST, MarkDecision.BAD, **WHY)
    with pytest.raises(NotFoundError, match="there is none"):
        unmark(completed, MarkKind.TILE, FIRST, person="J. Doe")
    with pytest.raises(InvalidRequestError, match="reason"):
        mark(completed, MarkKind.TILE, FIRST, MarkDecision.BAD, reason=" ", person="J. Doe")


def solve(platform: Platform, group_id: str, *, accepted: bool) -> None:
    with platform.database.session() as session:
        row = session.get_one(IngestGroup, group_id)
        upsert_caltables(
            session, directory=f"/cal/{group_id}", group_id=group_id, night=group_id[:10], calibrator="3C286", refant="103", mid_mjd=row.mid_mjd,
            valid_from_mjd=row.mid_mjd - 4, valid_to_mjd=row.mid_mjd + 4, pointing_dec_deg=16.0, accepted=accepted,
            reasons=[] if accepted else ["median S/N 2"], quality={},
        )  # fmt: skip


def chosen(platform: Platform, group_id: str) -> str:
    with platform.database.session() as session:
        return str(usable_tables(session, platform.config, session.get_one(IngestGroup, group_id))[0].candidate.path)


def test_a_solution_marked_bad_is_not_applied_and_its_tiles_are_made_again(completed: Platform) -> None:
    solve(completed, FIRST, accepted=True)
    solve(completed, LATER, accepted=True)
    with completed.database.session() as session:
        record_calibration_applied(session, group_id=SECOND, caltable_directory=f"/cal/{FIRST}", rung="same-night", hours_away=-0.3)
        record_version(session, "calibrated_ms", SECOND, path="/ms/second", recipe=recipe_of("calibrated_ms", completed.config))
    assert chosen(completed, SECOND) == f"/cal/{FIRST}"
    found = mark(completed, MarkKind.SOLUTION, FIRST, MarkDecision.BAD, **WHY)
    assert found.products == (("calibrated_ms", SECOND),)
    assert chosen(completed, SECOND) == f"/cal/{LATER}"
    assert stale(completed) == stale(completed, only_marked=True) == {f"calibrated_ms {SECOND}": "tables"}
    unmark(completed, MarkKind.SOLUTION, FIRST, person="J. Doe")
    assert chosen(completed, SECOND) == f"/cal/{FIRST}"
    assert stale(completed) == {}


def test_a_refused_solution_marked_good_is_applied_and_lets_waiting_tiles_go_on(completed: Platform) -> None:
    solve(completed, FIRST, accepted=False)
    with completed.database.session() as session:
        row = session.get_one(IngestGroup, SECOND)
        row.state, row.stage = GroupState.PENDING.value, TileStage.AWAITING_CALIBRATION.value
    with pytest.raises(NoCalibrationError):
        chosen(completed, SECOND)
    mark(completed, MarkKind.SOLUTION, FIRST, MarkDecision.GOOD, **WHY)
    assert chosen(completed, SECOND) == f"/cal/{FIRST}"
    with completed.database.session() as session:
        assert session.get_one(IngestGroup, SECOND).stage == TileStage.MEASUREMENT_SET
