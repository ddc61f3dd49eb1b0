"""The views of the queue agree with the queue."""

from __future__ import annotations

from datetime import timedelta

from dsa110_assets.ingest import ledger, status
from dsa110_assets.ingest.arrivals import Rejection, accept_files, reject_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState
from dsa110_assets_tests.ingest.bookkeeping import START, accept_file, facts, julian_date, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"


def test_an_empty_queue_has_no_backlog(database: Database) -> None:
    with database.session() as session:
        found = status.backlog(session, NOW)
        assert status.observation_details(session, GROUP) is None
    assert (found.n_live, found.n_backfill, found.oldest_pending_s, found.newest_start_mjd, found.n_rejected) == (0, 0, None, None, 0)


def test_the_backlog_has_the_longest_wait_of_live_data(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation() + observation(start=START - timedelta(seconds=309)), NOW)
        accept_files(session, observation(start=START - timedelta(days=9)), NOW - timedelta(days=2))
        close_ready_observations(session, NOW, settings())
        ledger.lease_pending(session, "worker", 1, NOW, lease_s=60)
    with database.session() as session:
        found = status.backlog(session, NOW + timedelta(seconds=90))
    assert (found.n_live, found.n_backfill, found.n_expired) == (1, 1, 1)
    assert found.oldest_pending_s == 90.0
    assert found.newest_start_mjd == julian_date(START) - 2400000.5
    assert found.last_file_at == NOW


def test_observations_are_listed_newest_first_and_filtered(database: Database) -> None:
    with database.session() as session:
        for k in range(5):
            accept_files(session, observation(range(16 if k % 2 else 12), START + timedelta(seconds=309 * k)), NOW)
        close_ready_observations(session, NOW, settings())
        ids = [row.group_id for row in status.observations(session)]
        pending = status.observations(session, state=GroupState.PENDING)
        limited = status.observations(session, limit=2)
        selected = status.observations(session, state=GroupState.PENDING, group_ids=ids[2:4])
    assert len(ids) == 5
    assert ids == sorted(ids, reverse=True)
    assert [row.group_id for row in pending] == [ids[1], ids[3]]
    assert [row.group_id for row in limited] == ids[:2]
    assert [row.group_id for row in selected] == [ids[3]]


def test_rejected_files_are_listed_with_their_reasons(database: Database) -> None:
    with database.session() as session:
        reject_files(
            session, [Rejection("/in/a.txt", "name: not a raw file", 1, 1), Rejection("/in/b", "content: truncated", 1, 1, 4)], NOW
        )
        reject_files(session, [Rejection("/in/c", "content: no Header group", 1, 1, 4)], NOW + timedelta(seconds=5))
        rows = status.rejected_files(session)
        assert [(row.path, row.reason) for row in rows] == [
            ("/in/c", "content: no Header group"),
            ("/in/a.txt", "name: not a raw file"),
            ("/in/b", "content: truncated"),
        ]
        assert [row.path for row in status.rejected_files(session, limit=1)] == ["/in/c"]
        assert status.rejected_by_kind(session) == {"content": 2, "name": 1}
        assert status.backlog(session, NOW).n_rejected == 3


def test_the_details_of_an_observation_include_every_file_assigned_to_it(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(14)), NOW)
        accept_file(session, facts(0, path="/incoming/again_sb00.hdf5"), NOW)
        accept_file(session, facts(15, START + timedelta(milliseconds=90), path="/incoming/stray_sb15.hdf5"), NOW)
        details = status.observation_details(session, GROUP)
    assert details is not None
    assert details.missing == (14, 15)
    assert [(file.subband, file.state) for file in details.files] == [
        (0, "accepted"),
        (0, "superseded"),
        *((k, "accepted") for k in range(1, 14)),
        (15, "rejected"),
    ]
    assert str(details.files[-1].reason).startswith("start: ")
