"""No observation misses new tables, applied tables are recorded, and nearer tables make older results stale."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets import publication
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import CalibrationMismatchError, NoCalibrationError, NonRetriableError
from dsa110_assets.ingest import ledger
from dsa110_assets.registry.provenance import record_version
from dsa110_assets.registry.queries.calibration import (
    lock_caltables,
    observations_with_other_tables,
    record_calibration_applied,
    upsert_caltables,
)
from dsa110_assets.registry.schema import CalibrationApplied, CaltableRow, GroupState, IngestGroup, TileStage
from dsa110_assets.stages.operations.staleness import stale_products
from dsa110_assets.stages.products.nearest import read_registered, usable_tables
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets_tests.registry_fixture import add_observation

CALIBRATOR, TILE, LATER = "2026-03-12T05:00:00", "2026-03-12T08:00:00", "2026-03-12T07:30:00"
CONFIG = PipelineConfig(_env_file=None)


def register_tables(session, group_id, *, accepted=True, dec_deg=16.0):
    group = session.get_one(IngestGroup, group_id)
    upsert_caltables(
        session, directory=f"/cal/{group_id}", group_id=group_id, night=group_id[:10], calibrator="3C286", refant="103", mid_mjd=group.mid_mjd,
        valid_from_mjd=group.mid_mjd - 4, valid_to_mjd=group.mid_mjd + 4, pointing_dec_deg=dec_deg, accepted=accepted, reasons=[], quality={},
    )  # fmt: skip


@pytest.fixture
def waiting(database):
    """Two observations: one of a calibrator, and one that a run has just converted."""
    with database.session() as session:
        add_observation(session, CALIBRATOR)
        group = add_observation(session, TILE, state=GroupState.PENDING, stage=TileStage.MEASUREMENT_SET)
        group.pending_at = now()
    with database.session() as session:
        return ledger.lease_observation(session, TILE, "run", now(), lease_s=600).attempt


def solver(database, found: list[str], started: threading.Event) -> threading.Thread:
    """A thread that registers tables as the end of a solution does, in its own session."""

    def end_of_solution() -> None:
        with database.session() as session:
            started.set()
            lock_caltables(session, exclusive=True)
            register_tables(session, CALIBRATOR)
            found.extend(ledger.release_awaiting(session, from_mjd=0, to_mjd=99_999, dec_deg=16.0, tolerance_deg=0.5, now=now()))

    return threading.Thread(target=end_of_solution)


def test_tables_registered_while_an_observation_starts_to_wait_release_it(database, waiting):
    """Session A finds no tables; B registers some before A records that it waits. Without the lock A waits forever."""
    released: list[str] = []
    started = threading.Event()
    thread = solver(database, released, started)
    with database.session() as session:
        group = session.get_one(IngestGroup, TILE)
        with pytest.raises(NoCalibrationError):
            usable_tables(session, CONFIG, group)
        thread.start()
        started.wait(5)
        time.sleep(0.3)
        assert released == []  # B waits for the lock
        ledger.await_calibration(session, TILE, waiting, now())
    thread.join(10)
    assert released == [TILE]
    with database.session() as session:
        assert session.get_one(IngestGroup, TILE).stage == TileStage.MEASUREMENT_SET


def test_an_observation_that_chooses_tables_during_a_registration_gets_the_new_ones(database, waiting):
    chosen: list[str] = []

    def choose() -> None:
        with database.session() as session:
            chosen.append(str(usable_tables(session, CONFIG, session.get_one(IngestGroup, TILE))[0].candidate.path))

    thread = threading.Thread(target=choose)
    with database.session() as session:
        lock_caltables(session, exclusive=True)
        thread.start()
        time.sleep(0.3)
        assert chosen == []
        register_tables(session, CALIBRATOR)
    thread.join(10)
    assert chosen == [f"/cal/{CALIBRATOR}"]


def test_several_observations_choose_at_the_same_time(database, waiting):
    with database.session() as session:
        register_tables(session, CALIBRATOR)
    with database.session() as one, database.session() as two:
        for session in (one, two):
            assert usable_tables(session, CONFIG, session.get_one(IngestGroup, TILE))[0].rung == "same-night"


@pytest.fixture
def calibrated(database, tmp_path):
    """An observation that was calibrated with tables of three hours before, and imaged."""
    with database.session() as session:
        for name in (CALIBRATOR, TILE, LATER):
            add_observation(session, name)
        register_tables(session, CALIBRATOR)
        record_calibration_applied(session, group_id=TILE, caltable_directory=f"/cal/{CALIBRATOR}", rung="same-night", hours_away=-3.0)
        version = record_version(session, "calibrated_ms", TILE, path=f"/ms/{TILE}.cal.ms", recipe=recipe_of("calibrated_ms", CONFIG))
        inputs = {f"/ms/{TILE}.cal.ms": version}
        record_version(session, "tile_image", TILE, path=f"/im/{TILE}", inputs=inputs, recipe=recipe_of("tile_image", CONFIG))


def stale_now(database):
    with database.session() as session:
        return {(one.product, one.key, one.reasons) for one in stale_products(session, CONFIG)}


def test_nearer_tables_make_affected_products_stale(database, calibrated):
    assert stale_now(database) == set()
    with database.session() as session:
        register_tables(session, LATER)
    assert stale_now(database) == {("calibrated_ms", TILE, ("tables",)), ("tile_image", TILE, ("inputs",))}


@pytest.mark.parametrize("options", [{"accepted": False}, {"dec_deg": 54.6}])
def test_refused_tables_and_tables_of_another_strip_make_nothing_stale(database, calibrated, options):
    with database.session() as session:
        register_tables(session, LATER, **options)
    assert stale_now(database) == set()


def test_an_observation_whose_tables_were_refused_later_has_other_tables_now(database, calibrated):
    with database.session() as session:
        register_tables(session, CALIBRATOR, accepted=False)
        assert observations_with_other_tables(session, borrow_days=3, tolerance_deg=0.5) == [TILE]


def test_the_query_for_outdated_tables_agrees_with_the_choice_of_tables(database):
    """Compared with `valid_tables` for random tables of two strips and several nights."""
    rng = np.random.default_rng(7)
    names = [f"2026-03-{day:02d}T{hour:02d}:00:00" for day in range(9, 17) for hour in (3, 9, 21)]
    with database.session() as session:
        for name in names:
            add_observation(session, name)
            register_tables(session, name, accepted=bool(rng.random() < 0.7), dec_deg=float(rng.choice([16.0, 16.3, 54.6])))
        observations = [f"2026-03-12T{hour:02d}:30:00" for hour in range(24)]
        expected = []
        for name in observations:
            group = add_observation(session, name)
            used = str(rng.choice(names))
            record_calibration_applied(session, group_id=name, caltable_directory=f"/cal/{used}", rung="borrowed", hours_away=0.0)
            if usable_tables(session, CONFIG, group)[0].candidate.path != Path(f"/cal/{used}"):
                expected.append(name)
        listed = observations_with_other_tables(session, borrow_days=CONFIG.cal_borrow_days, tolerance_deg=0.5)
    assert set(listed) <= set(expected)
    missed = set(expected) - set(listed)
    with database.session() as session:  # only observations whose applied tables are nearer but no longer allowed (strip, nights)
        for name in missed:
            group = session.get_one(IngestGroup, name)
            choice = usable_tables(session, CONFIG, group)[0]
            used = session.get_one(CaltableRow, session.get_one(CalibrationApplied, name).caltable_directory)
            assert abs(used.mid_mjd - group.mid_mjd) <= abs(choice.candidate.mid_mjd - group.mid_mjd)


def test_tables_that_were_changed_on_disk_are_not_applied(database, tmp_path):
    directory = tmp_path / CALIBRATOR
    (directory / "gain.cal").mkdir(parents=True)
    (directory / "gain.cal" / "table.dat").write_text("as registered")
    with database.session() as session:
        checksum = publication.checksum(directory)
        recipe = recipe_of("calibration_tables", CONFIG)
        record_version(session, "calibration_tables", CALIBRATOR, path=directory, recipe=recipe, checksum=checksum)
        with pytest.raises(NonRetriableError, match="cannot be opened"):  # unchanged, so the files are read
            read_registered(session, directory)
        (directory / "gain.cal" / "table.dat").write_text("changed later")
        with pytest.raises(CalibrationMismatchError, match="not what was registered"):
            read_registered(session, directory)
        with pytest.raises(NonRetriableError, match="no calibration tables"):
            read_registered(session, tmp_path)
