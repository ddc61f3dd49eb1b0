"""Files are booked into observations by start time, in any order, one file for each subband."""

from __future__ import annotations

import random
import threading
from datetime import timedelta

import pytest
from sqlalchemy import select

from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import (
    BACKFILL_PRIORITY,
    LIVE_PRIORITY,
    FileFacts,
    Rejection,
    accept_files,
    mark_gone,
    reject_files,
)
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets_tests.ingest.bookkeeping import START, accept_file, facts, julian_date, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"


def queue_row(database: Database, group_id: str = GROUP) -> IngestGroup:
    with database.session() as session:
        return session.scalars(select(IngestGroup).where(IngestGroup.group_id == group_id)).one()


def file_of(database: Database, path: str) -> SubbandFile:
    with database.session() as session:
        return session.scalars(select(SubbandFile).where(SubbandFile.path == path)).one()


def complete_observation(database: Database, files: list[FileFacts], *, after_s: float = 0.0) -> int:
    """Book, close, lease and complete one observation. Return the number of the attempt."""
    now = NOW + timedelta(seconds=after_s)
    with database.session() as session:
        accept_files(session, files, NOW)
        close_ready_observations(session, now, settings())
        (lease,) = ledger.lease_pending(session, "worker", 1, now, lease_s=60)
        ledger.complete(session, lease.group_id, lease.attempt, now, stage=TileStage.IMAGED)
        return lease.attempt


def test_an_observation_has_the_times_of_its_header(database: Database) -> None:
    with database.session() as session:
        accept_file(session, facts(3, n_times=20), NOW)
        accept_file(session, facts(4, n_times=24), NOW)
    queued = queue_row(database)
    assert queued.start_mjd == julian_date(START) - 2400000.5, "the start is bit-identical to the header's"
    assert (queued.end_mjd - queued.start_mjd) * 86400 == pytest.approx(23 * 12.884901888, abs=1e-3), "the longest subband counts"
    assert queued.mid_mjd == pytest.approx(0.5 * (queued.start_mjd + queued.end_mjd), abs=1e-9)
    assert (queued.night.isoformat(), queued.slot) == ("2026-03-01", "05:10")
    assert (queued.state, queued.n_subbands, queued.attempt) == (GroupState.COLLECTING, 2, 0)


def test_two_observations_a_minute_apart_are_not_mixed(database: Database) -> None:
    later = START + timedelta(seconds=60)
    files = observation() + observation(start=later)
    random.Random(3).shuffle(files)
    with database.session() as session:
        accept_files(session, files, NOW)
        closed = close_ready_observations(session, NOW, settings())
    assert set(closed.pending) == {GROUP, "2026-03-01T05:11:11"}
    with database.session() as session:
        for group_id, stamp in ((GROUP, "05:10:11"), ("2026-03-01T05:11:11", "05:11:11")):
            paths = ledger.raw_files(session, group_id)
            assert sorted(paths) == list(range(16))
            assert all(stamp in path.name for path in paths.values())
        slots = session.execute(select(IngestGroup.night, IngestGroup.slot)).tuples().all()
        assert set(slots) == {(START.date(), "05:10")}, "both belong to one slot"


def test_a_second_file_of_a_subband_is_superseded_and_replaces_the_first_when_that_vanishes(database: Database) -> None:
    first, second = facts(0), facts(0, path="/incoming/2026-03-01T05:10:40_sb00.hdf5")
    with database.session() as session:
        accept_files(session, observation(range(1, 16)), NOW)
        accept_file(session, first, NOW)
        booked = accept_file(session, second, NOW)
    assert booked.state == "superseded"
    assert first.path in str(booked.reason)
    assert queue_row(database).n_subbands == 16
    with database.session() as session:
        mark_gone(session, [first.path], NOW)
        assert str(ledger.raw_files(session, GROUP)[0]) == second.path
    assert file_of(database, first.path).state == "gone"
    assert queue_row(database).n_subbands == 16


def test_booking_the_same_file_again_changes_nothing(database: Database) -> None:
    attempt = complete_observation(database, observation())
    with database.session() as session:
        again = accept_files(session, observation(), NOW + timedelta(hours=1))
        close_ready_observations(session, NOW + timedelta(hours=1), settings())
    assert {one.state for one in again} == {"accepted"}
    queued = queue_row(database)
    assert (queued.state, queued.attempt) == (GroupState.COMPLETED, attempt)


@pytest.mark.parametrize("seed", range(4))
def test_files_with_a_stray_start_are_rejected_in_any_order_of_arrival(database: Database, seed: int) -> None:
    """Two files have a start that is 0.2 s off and rounds to the same second; 14 files agree."""
    stray_start = START + timedelta(milliseconds=200)
    strays = [facts(sb, stray_start, path=f"/incoming/stray_sb{sb:02d}.hdf5") for sb in (4, 9)]
    files = strays + observation(sb for sb in range(16) if sb not in (4, 9))
    random.Random(seed).shuffle(files)
    with database.session() as session:
        for file in files:
            accept_file(session, file, NOW)
    queued = queue_row(database)
    assert queued.n_subbands == 14
    assert queued.start_mjd == julian_date(START) - 2400000.5
    for stray in strays:
        row = file_of(database, stray.path)
        assert row.state == "rejected"
        assert str(row.reason).startswith("start: +200.0")
    with database.session() as session:
        assert set(ledger.raw_files(session, GROUP)) == set(range(16)) - {4, 9}


def test_a_late_subband_reopens_a_partial_observation_as_a_new_attempt(database: Database) -> None:
    assert complete_observation(database, observation(range(13)), after_s=601) == 1
    assert queue_row(database).missing_subbands == [13, 14, 15]
    later = NOW + timedelta(seconds=900)
    with database.session() as session:
        accept_file(session, facts(13), later)
        assert close_ready_observations(session, later, settings()).pending == (GROUP,)
        (lease,) = ledger.lease_pending(session, "worker", 5, later, lease_s=60)
    assert (lease.run_key, lease.n_subbands, lease.missing_subbands) == (f"{GROUP}/2", 14, (14, 15))


def test_a_subband_that_arrives_during_processing_causes_one_more_attempt(database: Database) -> None:
    closed = NOW + timedelta(seconds=601)
    with database.session() as session:
        accept_files(session, observation(range(12)), NOW)
        close_ready_observations(session, closed, settings())
        (lease,) = ledger.lease_pending(session, "worker", 1, closed, lease_s=60)
    with database.session() as session:
        accept_file(session, facts(12), closed)
        close_ready_observations(session, closed, settings())
        assert ledger.lease_pending(session, "other", 1, closed, lease_s=60) == [], "the running attempt is not disturbed"
    with database.session() as session:
        assert ledger.complete(session, GROUP, lease.attempt, closed) == GroupState.COLLECTING
        close_ready_observations(session, closed, settings())
        (second,) = ledger.lease_pending(session, "other", 1, closed, lease_s=60)
        assert second.n_subbands == 13
        assert ledger.complete(session, GROUP, second.attempt, closed) == GroupState.COMPLETED


def test_a_late_subband_reaches_an_observation_that_waits_for_calibration(database: Database) -> None:
    closed = NOW + timedelta(seconds=601)
    with database.session() as session:
        accept_files(session, observation(range(15)), NOW)
        close_ready_observations(session, closed, settings())
        (lease,) = ledger.lease_pending(session, "worker", 1, closed, lease_s=60)
        ledger.await_calibration(session, GROUP, lease.attempt, closed)
    with database.session() as session:
        mark_gone(session, [f.path for f in observation(range(10))], closed)
        close_ready_observations(session, closed, settings())
    queued = queue_row(database)
    assert (queued.state, queued.stage) == (GroupState.PENDING, TileStage.AWAITING_CALIBRATION), (
        "it needs its Measurement Set, not the raw files"
    )
    with database.session() as session:
        accept_files(session, observation(), closed)
        close_ready_observations(session, closed, settings())
        (second,) = ledger.lease_pending(session, "worker", 1, closed, lease_s=60)
    assert (second.n_subbands, second.has_measurement_set) == (16, False), "made again from the raw files"


def test_deleting_raw_files_of_a_completed_observation_changes_nothing(database: Database) -> None:
    files = observation()
    attempt = complete_observation(database, files)
    with database.session() as session:
        mark_gone(session, [f.path for f in files], NOW)
        close_ready_observations(session, NOW + timedelta(days=30), settings())
    queued = queue_row(database)
    assert (queued.state, queued.attempt, queued.n_subbands) == (GroupState.COMPLETED, attempt, 16)
    with database.session() as session:
        assert ledger.raw_files(session, GROUP) == {}
        accept_file(session, facts(7), NOW + timedelta(days=31))
        close_ready_observations(session, NOW + timedelta(days=31), settings())
    assert queue_row(database).state == GroupState.COMPLETED, "one file that returns adds nothing to the sixteen that were used"


def test_a_pending_observation_loses_a_deleted_file(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
        close_ready_observations(session, NOW, settings())
    with database.session() as session:
        mark_gone(session, [facts(5).path], NOW)
        assert ledger.lease_pending(session, "worker", 1, NOW, lease_s=60) == []
        assert close_ready_observations(session, NOW + timedelta(seconds=601), settings()).pending == (GROUP,)
    assert queue_row(database).missing_subbands == [5]


def test_a_file_that_was_rewritten_with_another_size_is_processed_again(database: Database) -> None:
    complete_observation(database, observation())
    with database.session() as session:
        accept_file(session, facts(6, mtime_ns=99), NOW)
    assert queue_row(database).state == GroupState.COMPLETED, "a touched file has the same content"
    with database.session() as session:
        accept_file(session, facts(6, mtime_ns=100, size=146_000_000), NOW)
        assert close_ready_observations(session, NOW, settings()).pending == (GROUP,)


def test_a_file_that_turns_bad_leaves_its_waiting_observation(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
        reject_files(session, [Rejection(facts(2).path, "content: truncated", 10, 5, 2)], NOW)
    assert queue_row(database).n_subbands == 15
    row = file_of(database, facts(2).path)
    assert (row.state, row.group_id, row.reason) == ("rejected", None, "content: truncated")


def test_a_path_with_new_content_moves_to_the_observation_of_that_content(database: Database) -> None:
    later = START + timedelta(seconds=309)
    spare = facts(0, path="/incoming/spare_sb00.hdf5")
    with database.session() as session:
        accept_files(session, observation(), NOW)
        accept_file(session, spare, NOW)
        moved = accept_file(session, facts(0, later, path=facts(0).path, mtime_ns=7), NOW)
    assert (moved.group_id, moved.state) == ("2026-03-01T05:15:20", "accepted")
    with database.session() as session:
        assert str(ledger.raw_files(session, GROUP)[0]) == spare.path


def test_old_observations_are_backfill(database: Database) -> None:
    old = START - timedelta(days=20)
    with database.session() as session:
        accept_files(session, observation() + observation(start=old), NOW)
    assert queue_row(database).priority == LIVE_PRIORITY
    assert queue_row(database, f"{old:%Y-%m-%dT%H:%M:%S}").priority == BACKFILL_PRIORITY


def test_concurrent_scanners_of_the_same_files_agree(database: Database) -> None:
    files = observation() + observation(start=START + timedelta(seconds=309))
    barrier = threading.Barrier(3)
    errors: list[BaseException] = []

    def scan(seed: int) -> None:
        shuffled = files.copy()
        random.Random(seed).shuffle(shuffled)
        barrier.wait()
        try:
            for k in range(0, len(shuffled), 4):
                with database.session() as session:
                    accept_files(session, shuffled[k : k + 4], NOW)
                with database.session() as session:
                    reject_files(session, [Rejection("/incoming/notes.txt", "name: not a raw file", 1, 1)], NOW)
                    close_ready_observations(session, NOW, settings())
        except BaseException as error:  # noqa: BLE001 - reported below
            errors.append(error)

    threads = [threading.Thread(target=scan, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    with database.session() as session:
        rows = session.scalars(select(SubbandFile)).all()
        assert len(rows) == 33
        assert sum(row.state == "accepted" for row in rows) == 32
        close_ready_observations(session, NOW, settings())
        assert ledger.counts(session)[GroupState.PENDING] == 2
