"""All gains jump between two transits of a calibrator: tiles get the tables of their own side, and keep them."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets.calibration.solve import solve
from dsa110_assets.catalogs.calibrators import Manual, write_calibrator_db
from dsa110_assets.config import PipelineConfig
from dsa110_assets.quality import gate
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import record_version
from dsa110_assets.registry.queries import upsert_image, upsert_measurement_set
from dsa110_assets.registry.queries.calibration import forget_considered, observations_with_other_tables, upsert_caltables
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import CalibrationApplied, GroupState, IngestGroup, TileStage
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import tile
from dsa110_assets.stages.products.nearest import recalibrate_outdated
from dsa110_assets.stages.products.references import calibrators_path, reference_path
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.calibration.small_ms import source_frame, write_small_ms
from dsa110_assets_tests.registry_fixture import add_observation

BEFORE, TILE, AFTER = "2026-03-12T04:30:00", "2026-03-12T05:10:00", "2026-03-12T08:00:00"
"""The gains jump at 05:00; the tables of the wrong side are nearer."""
DEC_DEG = 55.4
SKY = source_frame([("a", 128.4, 55.7, 0.5, -0.7), ("b", 129.9, 55.1, 0.4, -0.7), ("c", 128.9, 54.9, 0.2, -0.7)])
CALIBRATOR = source_frame([("0834+555", 128.7288, 55.5725, 8.8, -0.7)])
SIGMA_JY = 6500.0 / np.sqrt(2 * 4 * 244140.625 * 12.884901888)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The calibrator before and after the jump, solved by CASA, and a tile after it. Another seed means other gains."""
    directory = tmp_path_factory.mktemp("jump")
    for name, sky, seed in ((BEFORE, CALIBRATOR, 1), (AFTER, CALIBRATOR, 2), (TILE, SKY, 2)):
        one = write_small_ms(directory / f"{name}.ms", sky, n_ant=10, n_chan=16, n_time=6, noise=SIGMA_JY, seed=seed)
        if name != TILE:
            assert solve(one.path, directory / name, sky=sky, smearing=False).accepted
    return {name: directory / name for name in (BEFORE, AFTER)} | {TILE: directory / f"{TILE}.ms"}


@pytest.fixture
def platform(registry_config: PipelineConfig, database: Database, made: dict[str, Path]) -> Platform:
    """A platform with the tile's Measurement Set, not yet calibrated."""
    platform = Platform.open(registry_config.model_copy(update={"correct_smearing": False}))
    reference_path(platform).parent.mkdir(parents=True, exist_ok=True)
    SKY.to_parquet(reference_path(platform))
    write_calibrator_db(Manual(()), calibrators_path(platform))
    source = platform.paths.measurement_set(TILE)
    source.parent.mkdir(parents=True, exist_ok=True)
    source.symlink_to(made[TILE])
    with database.session() as session:
        for name in (BEFORE, AFTER):
            add_observation(session, name, dec_deg=DEC_DEG)
        row = add_observation(session, TILE, stage=TileStage.MEASUREMENT_SET, dec_deg=DEC_DEG)
        upsert_measurement_set(
            session, path=str(source), group_id=TILE, kind="raw", status="flagged", start_mjd=row.start_mjd, mid_mjd=row.mid_mjd,
            end_mjd=row.end_mjd, ra_deg=128.7, dec_deg=DEC_DEG, pointing_dec_deg=DEC_DEG, n_channels=16, flagged_fraction=0.0, size_bytes=1,
        )  # fmt: skip
    return platform


def register(platform: Platform, made: dict[str, Path], name: str) -> None:
    """Register the tables of a transit, where the solver published them."""
    with platform.database.session() as session:
        mid_mjd = session.get_one(IngestGroup, name).mid_mjd
        record_version(session, "calibration_tables", name, path=made[name], recipe=recipe_of("calibration_tables", platform.config))
        upsert_caltables(
            session, directory=str(made[name]), group_id=name, night=date(2026, 3, 12), calibrator="0834+555", refant="103",
            mid_mjd=mid_mjd, valid_from_mjd=mid_mjd - 4, valid_to_mjd=mid_mjd + 4, pointing_dec_deg=DEC_DEG, accepted=True, reasons=[],
            quality={},
        )  # fmt: skip


def calibrate(platform: Platform) -> tuple[str, list[str]]:
    """Calibrate the tile again; return whose tables it got, and which others were considered."""
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, TILE)
        group.state = GroupState.COMPLETED.value
    tile.calibrate(platform, TileRun(TILE, "run"))
    with platform.database.session() as session:
        applied = session.get_one(CalibrationApplied, TILE)
        return Path(applied.caltable_directory).name, applied.considered


def tile_phases(platform: Platform) -> str:
    """Calibrate the tile again; return what became of its own phases."""
    with platform.database.session() as session:
        session.get_one(IngestGroup, TILE).state = GroupState.COMPLETED.value
    result = tile.calibrate(platform, TileRun(TILE, "run"))
    assert result is not None
    return str(result.figures["tile_phases"])


def judge(platform: Platform, *, good: bool) -> None:
    """Give the tile an image with a verdict."""
    with platform.database.session() as session:
        row = session.get_one(IngestGroup, TILE)
        upsert_image(
            session, directory="/images/tile", group_id=TILE, mid_mjd=row.mid_mjd, ra_deg=128.7, dec_deg=DEC_DEG, pointing_dec_deg=DEC_DEG,
            noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0, bmaj_arcsec=40, bmin_arcsec=30, bpa_deg=0,
        )  # fmt: skip
        for name in gate.TILE_CHECKS:
            upsert_qa_metric(session, "tile_image", TILE, name, 1.0, passed=good, reason="as measured")


def outdated(platform: Platform) -> list[str]:
    with platform.database.session() as session:
        return recalibrate_outdated(session, platform.config, [TILE])


def stale(platform: Platform) -> list[str]:
    with platform.database.session() as session:
        return observations_with_other_tables(session, borrow_days=3, tolerance_deg=0.5)


def test_a_tile_after_a_jump_gets_the_later_tables_though_the_earlier_ones_are_nearer(platform: Platform, made: dict[str, Path]):
    register(platform, made, BEFORE)
    register(platform, made, AFTER)
    assert calibrate(platform) == (AFTER, [BEFORE])
    assert outdated(platform) == []  # the nearer tables were considered: nothing goes round in circles
    assert stale(platform) == []


def test_a_good_tile_is_not_made_again_with_nearer_tables_of_the_wrong_side(platform: Platform, made: dict[str, Path]):
    register(platform, made, AFTER)
    assert calibrate(platform) == (AFTER, [])
    judge(platform, good=True)
    register(platform, made, BEFORE)
    assert stale(platform) == [TILE]
    assert outdated(platform) == [TILE]  # the data decide
    assert calibrate(platform) == (AFTER, [BEFORE])
    assert (stale(platform), outdated(platform)) == ([], [])


def test_a_refused_tile_tries_the_first_tables_of_the_other_side(platform: Platform, made: dict[str, Path]):
    register(platform, made, BEFORE)
    assert calibrate(platform) == (BEFORE, [])
    judge(platform, good=True)
    register(platform, made, AFTER)
    assert outdated(platform) == []  # farther than its own
    judge(platform, good=False)
    assert outdated(platform) == [TILE]
    assert calibrate(platform) == (AFTER, [BEFORE])
    assert outdated(platform) == []


def test_tables_that_were_solved_again_are_considered_again(platform: Platform, made: dict[str, Path]):
    register(platform, made, BEFORE)
    register(platform, made, AFTER)
    calibrate(platform)
    with platform.database.session() as session:
        forget_considered(session, BEFORE)
    assert outdated(platform) == [TILE]


def test_phases_of_the_tile_replace_those_of_tables_from_the_wrong_side(platform: Platform, made: dict[str, Path]):
    register(platform, made, BEFORE)
    assert tile_phases(platform) == "kept"


def test_a_tile_without_known_sources_is_calibrated_with_its_tables_and_says_so(platform: Platform, made: dict[str, Path]):
    SKY.assign(flux_jy=0.001).to_parquet(reference_path(platform))
    register(platform, made, AFTER)
    assert tile_phases(platform) == "not solved: no known source is bright enough"
