"""In any order of events no observation is lost, none is processed twice at a time, and no run key repeats."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from dsa110_assets.errors import GroupBusyError, IncompleteGroupError, LeaseLostError
from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.arrivals import Rejection, mark_gone, reject_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile
from dsa110_assets_tests.ingest import bookkeeping
from dsa110_assets_tests.ingest.bookkeeping import START, accept_file, facts

N_SUBBANDS, N_NEEDED, N_TRIES, LEASE_S, DEADLINE_S = 4, 3, 2, 100.0, 60.0
STARTS = (START, START + timedelta(seconds=60))
CONFIG = bookkeeping.settings(
    expected_subbands=N_SUBBANDS, min_subbands=N_NEEDED, max_attempts=N_TRIES, lease_s=LEASE_S, group_deadline_s=DEADLINE_S
)
GROUPS = st.sampled_from([f"{start:%Y-%m-%dT%H:%M:%S}" for start in STARTS])
SUBBANDS = st.integers(0, N_SUBBANDS - 1)
COPIES = st.integers(0, 1)


def start_of(group_id: str) -> datetime:
    return next(start for start in STARTS if f"{start:%Y-%m-%dT%H:%M:%S}" == group_id)


class IngestMachine(RuleBasedStateMachine):
    """Drives the ledger as files, sensors, runs, dying workers and people do, and keeps a simpler record of its own."""

    database: Database

    def __init__(self) -> None:
        super().__init__()
        with self.database.session() as session:
            session.execute(delete(SubbandFile))
            session.execute(delete(IngestGroup))
        self.now = START + timedelta(seconds=320)
        self.on_disk: dict[str, set[tuple[int, int]]] = {}  # group_id -> (subband, copy)
        self.seen: set[str] = set()
        self.running: dict[str, tuple[int, datetime]] = {}  # group_id -> attempt, expiry
        self.old_attempts: set[tuple[str, int]] = set()
        self.run_keys: set[str] = set()
        self.used: dict[str, int] = {}  # group_id -> number of subbands of its newest successful attempt

    def path(self, group_id: str, subband: int, copy: int) -> str:
        return f"/incoming/{group_id}_sb{subband:02d}_{copy}"

    def subbands(self, group_id: str) -> set[int]:
        return {subband for subband, _ in self.on_disk.get(group_id, set())}

    # --- files
    @rule(group_id=GROUPS, subband=SUBBANDS, copy=COPIES)
    def a_file_arrives(self, group_id: str, subband: int, copy: int) -> None:
        with self.database.session() as session:
            accept_file(session, facts(subband, start_of(group_id), path=self.path(group_id, subband, copy)), self.now)
        self.on_disk.setdefault(group_id, set()).add((subband, copy))
        self.seen.add(group_id)

    @rule(group_id=GROUPS)
    def all_files_arrive(self, group_id: str) -> None:
        for subband in range(N_SUBBANDS):
            self.a_file_arrives(group_id, subband, 0)

    @rule(group_id=GROUPS, subband=SUBBANDS, copy=COPIES)
    def a_file_is_deleted(self, group_id: str, subband: int, copy: int) -> None:
        with self.database.session() as session:
            mark_gone(session, [self.path(group_id, subband, copy)], self.now)
        self.on_disk.get(group_id, set()).discard((subband, copy))

    @rule(group_id=GROUPS, subband=SUBBANDS, copy=COPIES)
    def a_file_is_overwritten_with_garbage(self, group_id: str, subband: int, copy: int) -> None:
        with self.database.session() as session:
            reject_files(session, [Rejection(self.path(group_id, subband, copy), "content: truncated", 1, 1, subband)], self.now)
        self.on_disk.get(group_id, set()).discard((subband, copy))

    # --- the sensor
    @rule(seconds=st.sampled_from([1.0, 45.0, 120.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def the_sensor_closes_and_releases(self) -> None:
        with self.database.session() as session:
            closed = close_ready_observations(session, self.now, CONFIG)
            released = ledger.release_expired(session, self.now, max_attempts=N_TRIES)
        for group_id in closed.pending:
            assert len(self.subbands(group_id)) >= N_NEEDED
        for group_id in closed.failed:
            assert len(self.subbands(group_id)) < N_NEEDED
        expired = {group_id for group_id, (_, expiry) in self.running.items() if expiry <= self.now}
        assert set(released.pending) | set(released.failed) <= expired
        self.record_lost_leases(expired)

    def record_lost_leases(self, group_ids: set[str]) -> None:
        for group_id in group_ids:
            attempt, _ = self.running.pop(group_id)
            self.old_attempts.add((group_id, attempt))

    @rule(limit=st.integers(1, 3))
    def the_sensor_leases(self, limit: int) -> None:
        with self.database.session() as session:
            leases = ledger.lease_pending(session, "sensor", limit, self.now, lease_s=LEASE_S)
        for lease in leases:
            self.start(lease)

    def start(self, lease: ledger.Lease) -> None:
        assert lease.group_id not in self.running, "processed twice at a time"
        assert lease.run_key not in self.run_keys, "a repeated run key"
        self.run_keys.add(lease.run_key)
        self.running[lease.group_id] = (lease.attempt, lease.expires_at)

    # --- runs
    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def a_run_renews(self, data: st.DataObject) -> None:
        group_id = data.draw(st.sampled_from(sorted(self.running)))
        attempt, _ = self.running[group_id]
        with self.database.session() as session:
            self.running[group_id] = (attempt, ledger.renew_lease(session, group_id, attempt, self.now, lease_s=LEASE_S))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), outcome=st.sampled_from(["completed", "retriable", "final"]))
    def a_run_ends(self, data: st.DataObject, outcome: str) -> None:
        group_id = data.draw(st.sampled_from(sorted(self.running)))
        attempt, _ = self.running.pop(group_id)
        self.old_attempts.add((group_id, attempt))
        with self.database.session() as session:
            if outcome == "completed":
                self.used[group_id] = session.scalars(select(IngestGroup.n_subbands).where(IngestGroup.group_id == group_id)).one()
                ledger.complete(session, group_id, attempt, self.now)
            else:
                ledger.fail(
                    session, group_id, attempt, outcome, self.now, max_attempts=N_TRIES, retriable=outcome == "retriable", delay_s=5.0
                )

    @precondition(lambda self: self.old_attempts)
    @rule(data=st.data())
    def an_old_run_reports(self, data: st.DataObject) -> None:
        group_id, attempt = data.draw(st.sampled_from(sorted(self.old_attempts)))
        with self.database.session() as session, pytest.raises(LeaseLostError):
            ledger.renew_lease(session, group_id, attempt, self.now, lease_s=LEASE_S)

    # --- people
    @precondition(lambda self: self.seen)
    @rule(data=st.data(), force=st.booleans())
    def a_person_retries(self, data: st.DataObject, force: bool) -> None:
        group_id = data.draw(st.sampled_from(sorted(self.seen)))
        with self.database.session() as session:
            try:
                ledger.retry(session, group_id, self.now, CONFIG, force=force)
            except GroupBusyError:
                assert group_id in self.running
                assert not force
            except IncompleteGroupError:
                assert not self.subbands(group_id)
            else:
                if group_id in self.running:
                    self.record_lost_leases({group_id})

    # --- invariants
    @invariant()
    def the_ledger_agrees_with_the_record(self) -> None:
        with self.database.session() as session:
            rows = {row.group_id: row for row in session.scalars(select(IngestGroup))}
            files = session.scalars(select(SubbandFile)).all()
        assert set(rows) == self.seen, "an observation appeared or vanished"
        assert {group_id for group_id, row in rows.items() if row.state == GroupState.IN_PROGRESS} == set(self.running)
        for group_id, row in rows.items():
            accepted = [file.subband for file in files if file.group_id == group_id and file.state == FileState.ACCEPTED]
            assert len(accepted) == len(set(accepted)), "two files of one subband"
            if row.state == GroupState.COLLECTING:
                assert set(accepted) == self.subbands(group_id)
                assert row.n_subbands == len(accepted)
            if row.state == GroupState.FAILED:
                assert row.error, "a failure without a reason"

    def teardown(self) -> None:
        """With a healthy pipeline every observation ends, and every usable subband was used."""
        for _ in range(4 * N_TRIES):
            self.now += timedelta(seconds=DEADLINE_S + LEASE_S)
            self.the_sensor_closes_and_releases()
            self.the_sensor_leases(3)
            for group_id, (attempt, _) in list(self.running.items()):
                del self.running[group_id]
                with self.database.session() as session:
                    self.used[group_id] = session.scalars(select(IngestGroup.n_subbands).where(IngestGroup.group_id == group_id)).one()
                    ledger.complete(session, group_id, attempt, self.now)
        with self.database.session() as session:
            rows = session.scalars(select(IngestGroup)).all()
        for row in rows:
            assert row.state in (GroupState.COMPLETED, GroupState.FAILED), "an observation did not end"
            present = len(self.subbands(row.group_id))
            if row.state == GroupState.COMPLETED:
                assert self.used[row.group_id] >= present, "a subband that arrived was never used"
            elif row.error_type == "IncompleteGroupError":
                assert present < N_NEEDED, "enough subbands, but failed as incomplete"


def test_no_order_of_events_loses_or_doubles_an_observation(database: Database) -> None:
    machine = type("Machine", (IngestMachine,), {"database": database})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=30, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        ),
    )
