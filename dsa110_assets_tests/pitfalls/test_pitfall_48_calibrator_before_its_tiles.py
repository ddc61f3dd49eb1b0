"""Pitfall 48: newest first, and tiles get last night's tables while tonight's calibrator waits."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from benchmarks.year_registry import fill
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.calibration import upsert_caltables
from dsa110_assets.registry.schema import IngestGroup
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import refresh_calibrators, refresh_nvss
from dsa110_assets.stages.queue import intake
from dsa110_assets_tests.chaos.small_night import CALIBRATOR_TILE, SmallNight
from dsa110_assets_tests.ingest.bookkeeping import observation, settings
from dsa110_assets_tests.registry.statement_work import Work, work_of
from dsa110_assets_tests.registry_fixture import empty

NOON = datetime(2026, 3, 2, 12, 0, 0, tzinfo=UTC)
NOW = NOON + timedelta(hours=12)


def wait_in_queue(database: Database, *starts: datetime, calibrators: tuple[datetime, ...] = ()) -> None:
    """Complete observations that wait, those with a calibrator in transit known."""
    with database.session() as session:
        accept_files(session, [one for start in starts for one in observation(start=start)], NOW)
        close_ready_observations(session, NOW, settings())
        for start in calibrators:
            session.get_one(IngestGroup, name(start)).calibrator = "3C286"


def name(start: datetime) -> str:
    return f"{start:%Y-%m-%dT%H:%M:%S}"


def leased(database: Database, limit: int = 100) -> list[str]:
    with database.session() as session:
        return [lease.group_id for lease in ledger.lease_pending(session, "test", limit, NOW, lease_s=60)]


def solve(database: Database, start: datetime) -> None:
    with database.session() as session:
        upsert_caltables(
            session, directory=f"/cal/{name(start)}", group_id=name(start), night=start.date(), calibrator="3C286", refant="103", mid_mjd=61_101.5,
            valid_from_mjd=61_098.0, valid_to_mjd=61_105.0, pointing_dec_deg=54.6, accepted=True, reasons=[], quality={},
        )  # fmt: skip


def test_pitfall_48_a_calibrator_goes_before_the_tiles_of_its_night(database: Database) -> None:
    """Newest night first; in each the calibrator, then its tiles, newest first."""
    before = NOON - timedelta(days=1)
    starts = [day + timedelta(minutes=5 * k) for day in (before, NOON) for k in range(4)]
    wait_in_queue(database, *starts, calibrators=(before, NOON))
    tonight = [NOON, *(NOON + timedelta(minutes=5 * k) for k in (3, 2, 1))]
    last_night = [before, *(before + timedelta(minutes=5 * k) for k in (3, 2, 1))]
    assert leased(database) == [name(start) for start in tonight + last_night]


def test_pitfall_48_a_calibrator_that_has_its_tables_goes_with_the_others(database: Database) -> None:
    starts = [NOON + timedelta(minutes=5 * k) for k in range(3)]
    wait_in_queue(database, *starts, calibrators=(NOON,))
    solve(database, NOON)
    assert leased(database) == [name(start) for start in reversed(starts)]


def test_pitfall_48_live_data_go_before_a_backfills_calibrator(database: Database) -> None:
    wait_in_queue(database, NOON, NOON + timedelta(minutes=5), calibrators=(NOON,))
    with database.session() as session:
        session.get_one(IngestGroup, name(NOON)).priority = 0
    assert leased(database) == [name(NOON + timedelta(minutes=5)), name(NOON)]


def test_pitfall_48_the_calibrator_is_known_from_the_raw_header_before_conversion(
    database: Database, registry_config: PipelineConfig, tmp_path: Path
) -> None:
    """Three tiles arrive together, the calibrator in the second. The sensor requests that one first."""
    night = SmallNight.of(3)
    files = night.plan.write_references(tmp_path)
    config = registry_config.model_copy(
        update={
            "expected_subbands": 1, "min_subbands": 1, "min_free_gib": 0.0, "max_workers": 1,
            "vla_calibrators_file": files.vla_calibrators, "nvss_file": files.nvss,
        }
    )  # fmt: skip
    platform = Platform.open(config)
    refresh_calibrators(platform, "run")
    refresh_nvss(platform, "run")
    for tile in range(3):
        night.write(config.input_dir, tile, subbands=[0])
    while not (works := intake.tick(platform, most=1).works):
        time.sleep(0.2)
    with database.session() as session:
        calibrators = [group.calibrator for group in session.query(IngestGroup).order_by(IngestGroup.start_mjd)]
    assert [one is not None for one in calibrators] == [number == CALIBRATOR_TILE for number in range(3)]
    following = intake.tick(platform, most=1).works
    assert [work.priority for work in (*works, *following)] == [intake.CALIBRATOR_PRIORITY, 0]
    assert works[0].start_mjd < following[0].start_mjd, "the newest tile comes second"


def test_pitfall_48_five_hundred_waiting_observations_keep_the_queue_cheap(database: Database, registry_config: PipelineConfig) -> None:
    """The choice of four reads in proportion to what waits, whatever was completed before."""
    work: list[Work] = []
    for nights in (20, 60):
        empty(database.url)
        fill(database, nights, registry_config, tiles_per_night=100, light_curve_nights=1, last=(NOON - timedelta(days=3)).date())
        wait_in_queue(database, *(NOON - timedelta(minutes=5 * k) for k in range(500)), calibrators=(NOON,))
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("ANALYZE ingest_queue")
        with Session(database.engine) as session:  # rolled back
            began = time.process_time()
            assert ledger.lease_pending(session, "test", 4, NOW, lease_s=60)[0].group_id == name(NOON)
            assert time.process_time() - began < 0.2
        work.append(work_of(database, lambda session: ledger.lease_pending(session, "test", 4, NOW, lease_s=60) and session.rollback()))
    few, many = work
    assert few.rows < 10 * 500
    assert many.rows <= 1.1 * few.rows + 20, work
    assert many.buffers <= 1.3 * few.buffers + 40, work
