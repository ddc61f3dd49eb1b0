"""Files become observations: by start time, in any order, one file for each subband."""

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
from dsa110_assets.ingest.closing import close_ready_groups
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets_tests.ingest.bookkeeping import START, accept_file, facts, julian_date, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"


def group_of(database: Database, group_id: str = GROUP) -> IngestGroup:
    with database.session() as session:
        return session.scalars(select(IngestGroup).where(IngestGroup.group_id == group_id)).one()


def file_of(database: Database, path: str) -> SubbandFile:
    with database.session() as session:
        return session.scalars(select(SubbandFile).where(SubbandFile.path == path)).one()


def to_completed(database: Database, files: list[FileFacts], *, after_s: float = 0.0) -> int:
    """Book, close, lease and complete one observation; its attempt."""
    now = NOW + timedelta(seconds=after_s)
    with database.session() as session:
        accept_files(session, files, NOW)
        close_ready_groups(session, now, settings())
        (lease,) = ledger.lease_pending(session, "worker", 1, now, lease_s=60)
        ledger.complete(session, lease.group_id, lease.attempt, now, stage=TileStage.IMAGED)
        return lease.attempt


def test_an_observation_carries_the_times_of_its_header(database: Database) -> None:
    with database.session() as session:
        accept_file(session, facts(3, n_times=20), NOW)
        accept_file(session, facts(4, n_times=24), NOW)
    group = group_of(database)
    assert group.start_mjd == julian_date(START) - 2400000.5, "the start is the header's, bit by bit"
    assert (group.end_mjd - group.start_mjd) * 86400 == pytest.approx(23 * 12.884901888, abs=1e-3), "the longest subband counts"
    assert group.mid_mjd == pytest.approx(0.5 * (group.start_mjd + group.end_mjd), abs=1e-9)
    assert (group.night.isoformat(), group.slot) == ("2026-03-01", "05:10")
    assert (group.state, group.n_subbands, group.attempt) == (GroupState.COLLECTING, 2, 0)


def test_two_observations_a_minute_apart_stay_apart(database: Database) -> None:
    later = START + timedelta(seconds=60)
    files = observation() + observation(start=later)
    random.Random(3).shuffle(files)
    with database.session() as session:
        accept_files(session, files, NOW)
        moved = close_ready_groups(session, NOW, settings())
    assert set(moved.pending) == {GROUP, "2026-03-01T05:11:11"}
    with database.session() as session:
        for group_id, stamp in ((GROUP, "05:10:11"), ("2026-03-01T05:11:11", "05:11:11")):
            paths = ledger.group_files(session, group_id)
            assert sorted(paths) == list(range(16))
            assert all(stamp in path.name for path in paths.values())
        slots = session.execute(select(IngestGroup.night, IngestGroup.slot)).tuples().all()
        assert set(slots) == {(START.date(), "05:10")}, "both belong to one slot"


def test_a_second_file_of_a_subband_is_superseded_and_steps_in_when_the_first_vanishes(database: Database) -> None:
    first, second = facts(0), facts(0, path="/incoming/2026-03-01T05:10:40_sb00.hdf5")
    with database.session() as session:
        accept_files(session, observation(range(1, 16)), NOW)
        accept_file(session, first, NOW)
        booked = accept_file(session, second, NOW)
    assert booked.state == "superseded"
    assert first.path in str(booked.reason)
    assert group_of(database).n_subbands == 16
    with database.session() as session:
        mark_gone(session, [first.path], NOW)
        assert str(ledger.group_files(session, GROUP)[0]) == second.path
    assert file_of(database, first.path).state == "gone"
    assert group_of(database).n_subbands == 16


def test_booking_the_same_file_again_changes_nothing(database: Database) -> None:
    attempt = to_completed(database, observation())
    with database.session() as session:
        again = accept_files(session, observation(), NOW + timedelta(hours=1))
        close_ready_groups(session, NOW + timedelta(hours=1), settings())
    assert {one.state for one in again} == {"accepted"}
    group = group_of(database)
    assert (group.state, group.attempt) == (GroupState.COMPLETED, attempt)


@pytest.mark.parametrize("seed", range(4))
def test_a_stray_start_never_mixes_and_the_majority_names_the_observation(database: Database, seed: int) -> None:
    """Two files carry a start that is 0.2 s off but rounds to the same second; in whatever order they come, 14 agree."""
    stray_start = START + timedelta(milliseconds=200)
    strays = [facts(sb, stray_start, path=f"/incoming/stray_sb{sb:02d}.hdf5") for sb in (4, 9)]
    files = strays + observation(sb for sb in range(16) if sb not in (4, 9))
    random.Random(seed).shuffle(files)
    with database.session() as session:
        for one in files:
            accept_file(session, one, NOW)
    group = group_of(database)
    assert group.n_subbands == 14
    assert group.start_mjd == julian_date(START) - 2400000.5
    for stray in strays:
        row = file_of(database, stray.path)
        assert row.state == "rejected"
        assert str(row.reason).startswith("start: +200.0")
    with database.session() as session:
        assert set(ledger.group_files(session, GROUP)) == set(range(16)) - {4, 9}


def test_a_late_subband_reopens_a_partial_observation_as_a_new_attempt(database: Database) -> None:
    assert to_completed(database, observation(range(13)), after_s=601) == 1
    assert group_of(database).missing_subbands == [13, 14, 15]
    later = NOW + timedelta(seconds=900)
    with database.session() as session:
        accept_file(session, facts(13), later)
        assert close_ready_groups(session, later, settings()).pending == (GROUP,)
        (lease,) = ledger.lease_pending(session, "worker", 5, later, lease_s=60)
    assert (lease.run_key, lease.n_subbands, lease.missing_subbands) == (f"{GROUP}/2", 14, (14, 15))


def test_a_subband_that_comes_while_the_observation_is_processed_causes_one_more_attempt(database: Database) -> None:
    closed = NOW + timedelta(seconds=601)
    with database.session() as session:
        accept_files(session, observation(range(12)), NOW)
        close_ready_groups(session, closed, settings())
        (lease,) = ledger.lease_pending(session, "worker", 1, closed, lease_s=60)
    with database.session() as session:
        accept_file(session, facts(12), closed)
        close_ready_groups(session, closed, settings())
        assert ledger.lease_pending(session, "other", 1, closed, lease_s=60) == [], "the running attempt is not disturbed"
    with database.session() as session:
        assert ledger.complete(session, GROUP, lease.attempt, closed) == GroupState.COLLECTING
        close_ready_groups(session, closed, settings())
        (second,) = ledger.lease_pending(session, "other", 1, closed, lease_s=60)
        assert second.n_subbands == 13
        assert ledger.complete(session, GROUP, second.attempt, closed) == GroupState.COMPLETED


def test_a_late_subband_reaches_an_observation_that_waits_for_calibration(database: Database) -> None:
    closed = NOW + timedelta(seconds=601)
    with database.session() as session:
        accept_files(session, observation(range(15)), NOW)
        close_ready_groups(session, closed, settings())
        (lease,) = ledger.lease_pending(session, "worker", 1, closed, lease_s=60)
        ledger.await_calibration(session, GROUP, lease.attempt, closed)
    with database.session() as session:
        mark_gone(session, [f.path for f in observation(range(10))], closed)
        close_ready_groups(session, closed, settings())
    group = group_of(database)
    assert (group.state, group.stage) == (GroupState.PENDING, TileStage.AWAITING_CALIBRATION), "its Measurement Set outlives the raw files"
    with database.session() as session:
        accept_files(session, observation(), closed)
        close_ready_groups(session, closed, settings())
        (second,) = ledger.lease_pending(session, "worker", 1, closed, lease_s=60)
    assert (second.n_subbands, second.has_measurement_set) == (16, False), "made again from the raw files"


def test_deleting_raw_files_does_not_hurt_what_was_made_from_them(database: Database) -> None:
    files = observation()
    attempt = to_completed(database, files)
    with database.session() as session:
        mark_gone(session, [f.path for f in files], NOW)
        close_ready_groups(session, NOW + timedelta(days=30), settings())
    group = group_of(database)
    assert (group.state, group.attempt, group.n_subbands) == (GroupState.COMPLETED, attempt, 16)
    with database.session() as session:
        assert ledger.group_files(session, GROUP) == {}
        accept_file(session, facts(7), NOW + timedelta(days=31))
        close_ready_groups(session, NOW + timedelta(days=31), settings())
    assert group_of(database).state == GroupState.COMPLETED, "one file that comes back is no better than the sixteen that were used"


def test_deleting_a_file_of_a_waiting_observation_is_noticed(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
        close_ready_groups(session, NOW, settings())
    with database.session() as session:
        mark_gone(session, [facts(5).path], NOW)
        assert ledger.lease_pending(session, "worker", 1, NOW, lease_s=60) == []
        assert close_ready_groups(session, NOW + timedelta(seconds=601), settings()).pending == (GROUP,)
    assert group_of(database).missing_subbands == [5]


def test_a_file_that_was_rewritten_with_another_size_is_processed_again(database: Database) -> None:
    to_completed(database, observation())
    with database.session() as session:
        accept_file(session, facts(6, mtime_ns=99), NOW)
    assert group_of(database).state == GroupState.COMPLETED, "a touched file has the same content"
    with database.session() as session:
        accept_file(session, facts(6, mtime_ns=100, size=146_000_000), NOW)
        assert close_ready_groups(session, NOW, settings()).pending == (GROUP,)


def test_a_file_that_turns_bad_leaves_its_waiting_observation(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(), NOW)
        reject_files(session, [Rejection(facts(2).path, "content: truncated", 10, 5, 2)], NOW)
    assert group_of(database).n_subbands == 15
    row = file_of(database, facts(2).path)
    assert (row.state, row.group_id, row.reason) == ("rejected", None, "content: truncated")


def test_a_path_whose_content_became_another_observation_moves_over(database: Database) -> None:
    later = START + timedelta(seconds=309)
    spare = facts(0, path="/incoming/spare_sb00.hdf5")
    with database.session() as session:
        accept_files(session, observation(), NOW)
        accept_file(session, spare, NOW)
        moved = accept_file(session, facts(0, later, path=facts(0).path, mtime_ns=7), NOW)
    assert (moved.group_id, moved.state) == ("2026-03-01T05:15:20", "accepted")
    with database.session() as session:
        assert str(ledger.group_files(session, GROUP)[0]) == spare.path


def test_old_observations_are_backfill(database: Database) -> None:
    old = START - timedelta(days=20)
    with database.session() as session:
        accept_files(session, observation() + observation(start=old), NOW)
    assert group_of(database).priority == LIVE_PRIORITY
    assert group_of(database, f"{old:%Y-%m-%dT%H:%M:%S}").priority == BACKFILL_PRIORITY


def test_two_scanners_that_book_the_same_files_at_once_agree(database: Database) -> None:
    files = observation() + observation(start=START + timedelta(seconds=309))
    gate = threading.Barrier(3)
    errors: list[BaseException] = []

    def scan(seed: int) -> None:
        mine = files.copy()
        random.Random(seed).shuffle(mine)
        gate.wait()
        try:
            for k in range(0, len(mine), 4):
                with database.session() as session:
                    accept_files(session, mine[k : k + 4], NOW)
                with database.session() as session:
                    reject_files(session, [Rejection("/incoming/notes.txt", "name: not a raw file", 1, 1)], NOW)
                    close_ready_groups(session, NOW, settings())
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
        close_ready_groups(session, NOW, settings())
        assert ledger.counts(session)[GroupState.PENDING] == 2
