"""Leases: one worker for each observation, a run key for every attempt, and no loss when a worker dies."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from dsa110_assets.errors import (
    ChildFailedError,
    GroupBusyError,
    ImagingError,
    IncompleteGroupError,
    LeaseLostError,
    UnknownGroupError,
)
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import BACKFILL_PRIORITY, accept_files, mark_gone
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, TileStage
from dsa110_assets_tests.ingest.bookkeeping import START, observation, settings

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"
TRIES = {"max_attempts": 3}


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def fill(database: Database, n_observations: int, *, every_s: float = -309.0) -> list[str]:
    """Make pending observations. Return their names, newest first."""
    starts = [START + timedelta(seconds=every_s * k) for k in range(n_observations)]
    with database.session() as session:
        accept_files(session, [one for start in starts for one in observation(start=start)], NOW)
        close_ready_observations(session, NOW, settings())
    return [f"{start:%Y-%m-%dT%H:%M:%S}" for start in starts]


def lease_one(database: Database, now: datetime = NOW, lease_s: float = 60.0) -> ledger.Lease:
    with database.session() as session:
        (lease,) = ledger.lease_pending(session, "worker", 1, now, lease_s=lease_s)
    return lease


def queue_row(database: Database) -> IngestGroup:
    with database.session() as session:
        return session.scalars(select(IngestGroup).where(IngestGroup.group_id == GROUP)).one()


def test_the_newest_live_observation_is_first_and_backfill_last(database: Database) -> None:
    live = fill(database, 3)
    old = fill(database, 2, every_s=-86400 * 30)[1:]
    with database.session() as session:
        leases = ledger.lease_pending(session, "worker", 10, NOW, lease_s=60)
    assert [lease.group_id for lease in leases] == live + old
    assert leases[-1].priority == BACKFILL_PRIORITY
    assert leases[0].partition == "2026-03-01|05:10"


def test_leases_are_limited_to_the_requested_number(database: Database) -> None:
    group_ids = fill(database, 4)
    with database.session() as session:
        assert [lease.group_id for lease in ledger.lease_pending(session, "worker", 2, NOW, lease_s=60)] == group_ids[:2]
        assert [lease.group_id for lease in ledger.lease_pending(session, "worker", 5, NOW, lease_s=60)] == group_ids[2:]
        assert ledger.lease_pending(session, "worker", 5, NOW, lease_s=60) == []


def test_workers_in_parallel_never_share_an_observation(database: Database) -> None:
    group_ids = fill(database, 24)
    barrier = threading.Barrier(4)
    taken: dict[str, list[ledger.Lease]] = {f"worker {k}": [] for k in range(4)}

    def work(owner: str) -> None:
        barrier.wait()
        while True:
            with database.session() as session:
                leases = ledger.lease_pending(session, owner, 2, NOW, lease_s=60)
            if not leases:
                return
            taken[owner] += leases

    threads = [threading.Thread(target=work, args=(owner,)) for owner in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    all_leases = [lease for leases in taken.values() for lease in leases]
    assert sorted(lease.group_id for lease in all_leases) == sorted(group_ids)
    assert all(lease.attempt == 1 for lease in all_leases)
    with database.session() as session:
        owners = dict(session.execute(select(IngestGroup.group_id, IngestGroup.lease_owner)).tuples().all())
    assert owners == {lease.group_id: lease.owner for lease in all_leases}


def test_an_attempt_goes_through_its_stages(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    assert queue_row(database).lease_expires_at == after(60)
    with database.session() as session:
        ledger.attach_run(session, GROUP, lease.attempt, "run-1", after(10), lease_s=100)
        ledger.mark_stage(session, GROUP, lease.attempt, TileStage.MEASUREMENT_SET, after(20), calibrator="3C286")
        assert ledger.renew_lease(session, GROUP, lease.attempt, after(30), lease_s=100) == after(130)
        assert ledger.complete(session, GROUP, lease.attempt, after(40), stage=TileStage.IMAGED) == GroupState.COMPLETED
        assert ledger.complete(session, GROUP, lease.attempt, after(41)) == GroupState.COMPLETED, "a second call does no harm"
    row = queue_row(database)
    assert (row.stage, row.calibrator, row.run_id, row.completed_at) == (TileStage.IMAGED, "3C286", "run-1", after(40))
    assert (row.lease_owner, row.lease_expires_at) == (None, None)


def test_an_observation_with_an_expired_lease_goes_to_another_worker_and_the_first_cannot_report(database: Database) -> None:
    fill(database, 1)
    first = lease_one(database)
    with database.session() as session:
        assert ledger.release_expired(session, after(59), **TRIES).pending == ()
        assert ledger.release_expired(session, after(60), **TRIES).pending == (GROUP,)
    second = lease_one(database, after(61))
    assert second.run_key != first.run_key
    for report in (
        lambda s: ledger.renew_lease(s, GROUP, first.attempt, after(62), lease_s=60),
        lambda s: ledger.attach_run(s, GROUP, first.attempt, "zombie", after(62), lease_s=60),
        lambda s: ledger.mark_stage(s, GROUP, first.attempt, TileStage.IMAGED, after(62)),
        lambda s: ledger.complete(s, GROUP, first.attempt, after(62)),
        lambda s: ledger.fail(s, GROUP, first.attempt, "zombie", after(62), **TRIES),
        lambda s: ledger.await_calibration(s, GROUP, first.attempt, after(62)),
    ):
        with pytest.raises(LeaseLostError, match="attempt 1 reports"), database.session() as session:
            report(session)
    row = queue_row(database)
    assert (row.state, row.attempt, row.stage, row.run_id) == (GroupState.IN_PROGRESS, 2, TileStage.RAW, None)


def test_a_renewed_lease_does_not_expire(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        ledger.renew_lease(session, GROUP, lease.attempt, after(50), lease_s=60)
        assert ledger.release_expired(session, after(109), **TRIES).pending == ()


def test_an_observation_whose_workers_keep_dying_fails_with_a_reason(database: Database) -> None:
    fill(database, 1)
    for attempt in (1, 2, 3):
        assert lease_one(database, after(100 * attempt)).attempt == attempt
        with database.session() as session:
            ledger.attach_run(session, GROUP, attempt, f"run-{attempt}", after(100 * attempt), lease_s=60)
            released = ledger.release_expired(session, after(100 * attempt + 60), **TRIES)
    assert released.failed == (GROUP,)
    row = queue_row(database)
    assert (row.state, row.error_type) == (GroupState.FAILED, "LeaseLostError")
    assert "has not renewed its lease" in str(row.error)


def test_a_retriable_error_is_tried_again_after_a_delay_until_the_limit(database: Database) -> None:
    fill(database, 1)
    error = ChildFailedError("bandpass", "killed by signal 9", "look at the memory")
    now = 0.0
    for delay in (30.0, 60.0):
        lease = lease_one(database, after(now))
        with database.session() as session:
            assert ledger.fail(session, GROUP, lease.attempt, error, after(now), **TRIES) == GroupState.PENDING
            assert ledger.lease_pending(session, "worker", 1, after(now + delay - 1), lease_s=60) == []
        now += delay
    lease = lease_one(database, after(now))
    with database.session() as session:
        assert ledger.fail(session, GROUP, lease.attempt, error, after(now), **TRIES) == GroupState.FAILED
        assert ledger.fail(session, GROUP, lease.attempt, error, after(now), **TRIES) == GroupState.FAILED, "a second call does no harm"
    row = queue_row(database)
    assert (row.error_type, row.failures) == ("ChildFailedError", 3)
    assert "killed by signal 9" in str(row.error)


def test_no_observation_waits_longer_than_two_minutes_for_its_next_attempt(database: Database) -> None:
    fill(database, 1)
    now = 0.0
    for _ in range(8):
        lease = lease_one(database, after(now))
        with database.session() as session:
            ledger.fail(session, GROUP, lease.attempt, "killed", after(now), max_attempts=20, retriable=True)
        now += 120.0
    assert queue_row(database).failures == 8


def test_an_error_that_cannot_pass_fails_at_once(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        assert ledger.fail(session, GROUP, lease.attempt, ImagingError("x", "all flagged", "-"), NOW, **TRIES) == GroupState.FAILED


def test_a_success_resets_the_count_of_failures(database: Database) -> None:
    fill(database, 1)
    for k in range(6):
        lease = lease_one(database, after(1000 * k))
        with database.session() as session:
            if k % 2 == 0:
                assert (
                    ledger.fail(session, GROUP, lease.attempt, "lost connection", after(1000 * k), retriable=True, **TRIES)
                    == GroupState.PENDING
                )
            else:
                ledger.complete(session, GROUP, lease.attempt, after(1000 * k))
                ledger.retry(session, GROUP, after(1000 * k), settings())
    assert queue_row(database).attempt == 6


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_a_person_can_retry_an_observation_that_has_ended(database: Database, outcome: str) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        if outcome == "completed":
            ledger.complete(session, GROUP, lease.attempt, NOW)
        else:
            ledger.fail(session, GROUP, lease.attempt, "no beam", NOW, retriable=False, **TRIES)
        assert ledger.counts(session)[GroupState(outcome)] == 1
        ledger.retry(session, GROUP, NOW, settings(), priority=BACKFILL_PRIORITY)
    second = lease_one(database)
    assert (second.attempt, second.priority) == (2, BACKFILL_PRIORITY)
    assert queue_row(database).error is None


def test_a_person_can_process_an_incomplete_observation_but_not_one_without_files(database: Database) -> None:
    with database.session() as session:
        accept_files(session, observation(range(5)), NOW)
        close_ready_observations(session, after(601), settings())
        ledger.retry(session, GROUP, after(602), settings())
    assert lease_one(database, after(602)).missing_subbands == tuple(range(5, 16))
    with database.session() as session:
        ledger.fail(session, GROUP, 1, "too little", after(603), retriable=False, **TRIES)
        mark_gone(session, [one.path for one in observation(range(5))], after(604))
        with pytest.raises(IncompleteGroupError, match="no valid raw file"):
            ledger.retry(session, GROUP, after(605), settings())


def test_a_running_observation_is_taken_away_only_with_force(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        with pytest.raises(GroupBusyError, match="worker"):
            ledger.retry(session, GROUP, after(1), settings())
        with pytest.raises(GroupBusyError, match="worker"):
            ledger.lease_observation(session, GROUP, "person", after(1), lease_s=60)
        ledger.retry(session, GROUP, after(1), settings(), force=True)
        with pytest.raises(LeaseLostError):
            ledger.complete(session, GROUP, lease.attempt, after(2))


def test_a_backfill_takes_one_observation_by_name(database: Database) -> None:
    fill(database, 2)
    with database.session() as session:
        lease = ledger.lease_observation(session, GROUP, "backfill", NOW, lease_s=60)
        assert GROUP not in {other.group_id for other in ledger.lease_pending(session, "worker", 5, NOW, lease_s=60)}
        ledger.complete(session, GROUP, lease.attempt, NOW)
        assert ledger.lease_observation(session, GROUP, "backfill", NOW, lease_s=60).run_key == f"{GROUP}/2"
        assert ledger.lease_observation(session, GROUP, "another", after(61), lease_s=60).attempt == 3, "an expired lease may be taken over"


def test_files_that_vanish_during_an_attempt_are_counted_before_the_next(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        mark_gone(session, [one.path for one in observation(range(6))], NOW)
        assert ledger.fail(session, GROUP, lease.attempt, "file not found", NOW, retriable=True, **TRIES) == GroupState.COLLECTING
        assert close_ready_observations(session, after(700), settings()).failed == (GROUP,)


def test_without_raw_files_the_next_attempt_continues_from_the_measurement_set(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        ledger.mark_stage(session, GROUP, lease.attempt, TileStage.MEASUREMENT_SET, NOW)
        mark_gone(session, [one.path for one in observation()], NOW)
        assert ledger.fail(session, GROUP, lease.attempt, "child killed", NOW, retriable=True, **TRIES) == GroupState.PENDING
    assert lease_one(database, after(30)).has_measurement_set


def test_an_observation_without_tables_waits_for_them(database: Database) -> None:
    fill(database, 1)
    lease = lease_one(database)
    with database.session() as session:
        assert ledger.await_calibration(session, GROUP, lease.attempt, NOW) == GroupState.PENDING
        assert ledger.lease_pending(session, "worker", 5, after(86400), lease_s=60) == []
        row = session.scalars(select(IngestGroup)).one()
        strip = {"dec_deg": 54.6, "tolerance_deg": 0.1, "now": after(100)}
        near = {"from_mjd": row.mid_mjd - 0.5, "to_mjd": row.mid_mjd + 0.5}
        assert ledger.release_awaiting(session, **near, **{**strip, "dec_deg": 16.3}) == [], "another strip"
        assert ledger.release_awaiting(session, from_mjd=row.mid_mjd + 1, to_mjd=row.mid_mjd + 2, **strip) == [], "another night"
        assert ledger.release_awaiting(session, **near, **strip) == [GROUP]
        (second,) = ledger.lease_pending(session, "worker", 5, after(100), lease_s=60)
    assert second.has_measurement_set


def test_the_error_for_an_unknown_observation_names_it(database: Database) -> None:
    with database.session() as session, pytest.raises(UnknownGroupError, match="2020-01-01T00:00:00"):
        ledger.retry(session, "2020-01-01T00:00:00", NOW, settings())


def test_counts_include_every_state(database: Database) -> None:
    with database.session() as session:
        assert ledger.counts(session) == dict.fromkeys(GroupState, 0)


def test_recalibration_takes_only_completed_observations_and_starts_from_their_measurement_sets(database: Database) -> None:
    group_ids = fill(database, 3)
    with database.session() as session:
        first, second = ledger.lease_pending(session, "worker", 2, NOW, lease_s=60)
        ledger.complete(session, first.group_id, first.attempt, NOW, stage=TileStage.IMAGED)
        assert ledger.recalibrate(session, group_ids, after(1)) == [first.group_id]
        leases = {lease.group_id: lease for lease in ledger.lease_pending(session, "worker", 5, after(1), lease_s=60)}
    assert second.group_id not in leases
    assert (leases[first.group_id].attempt, leases[first.group_id].has_measurement_set) == (2, True)
    assert not leases[group_ids[2]].has_measurement_set
