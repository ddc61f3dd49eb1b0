"""The ledger on a directory of real files that telescope, disks and people treat badly.

`test_state_machine` tests the rules of the queue without files. Here every file is real: complete, half, growing, not a
raw file, from the future, a second sb00 with wrong frequencies, named up to 82 s late, of two observations 60 s apart.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import delete, select

from dsa110_assets.ingest import ledger, sweep
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.ingest.sweep import Sweep
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile
from dsa110_assets_tests.ingest import bookkeeping
from dsa110_assets_tests.ingest.bookkeeping import START
from dsa110_assets_tests.ingest.incoming import fingerprint, raw_path, write_observation

N_SUBBANDS, N_NEEDED, DEADLINE_S, LEASE_S = 4, 3, 200.0, 500.0
STARTS = (START, START + timedelta(seconds=60))
FUTURE = START + timedelta(days=400)
CONFIG = bookkeeping.settings(
    expected_subbands=N_SUBBANDS, min_subbands=N_NEEDED, max_attempts=9, lease_s=LEASE_S, group_deadline_s=DEADLINE_S
)
SUBBANDS = st.integers(0, N_SUBBANDS - 1)
WHICH = st.integers(0, 1)
JITTER_S = st.integers(0, 82)
C, P, R, D, F = GroupState.COLLECTING, GroupState.PENDING, GroupState.IN_PROGRESS, GroupState.COMPLETED, GroupState.FAILED
LEGAL = {
    "scan": {C: {C, P, F}, P: {P, C, F}, R: {R}, D: {D, C, P}, F: {F, C, P}},
    "lease": {C: {C}, P: {P, R}, R: {R}, D: {D}, F: {F}},
    "end": {C: {C}, P: {P}, R: {R, D, C, P, F}, D: {D}, F: {F}},
}


def group_id_of(start: datetime) -> str:
    return f"{start:%Y-%m-%dT%H:%M:%S}"


class DirectoryMachine(RuleBasedStateMachine):
    """``truth``: (observation, subband) of each path in the directory, or None if it is not a valid raw file."""

    database: Database
    templates: Path

    def __init__(self) -> None:
        super().__init__()
        with self.database.session() as session:
            session.execute(delete(SubbandFile))
            session.execute(delete(IngestGroup))
        self.now = START + timedelta(seconds=320)
        self.directory = Path(tempfile.mkdtemp(prefix="machine-", dir=self.templates.parent))
        self.truth: dict[Path, tuple[str, int] | None] = {}
        self.writing: set[Path] = set()
        self.sweep: Sweep | None = None
        self.states: dict[str, GroupState] = {}
        self.attempts: dict[str, int] = {}
        self.touched: set[str] = set()  # observations whose files may have changed since their last lease

    def template(self, which: int, subband: int) -> Path:
        return raw_path(self.templates, subband, STARTS[which])

    def put(self, source: Path, target: Path, *, keep: float = 1.0) -> None:
        data = source.read_bytes()
        target.write_bytes(data[: int(len(data) * keep)])
        stamp = int((self.now - timedelta(seconds=30)).timestamp() * 1e9) + len(self.truth)
        os.utime(target, ns=(stamp, stamp))
        self.touched.update(group_id_of(start) for start in STARTS)

    # --- the telescope
    @rule(which=WHICH, subband=SUBBANDS, jitter_s=JITTER_S)
    def a_file_arrives(self, which: int, subband: int, jitter_s: int) -> None:
        target = raw_path(self.directory, subband, STARTS[which], jitter_s)
        if target not in self.truth:
            self.put(self.template(which, subband), target)
            self.truth[target] = (group_id_of(STARTS[which]), subband)

    @rule(which=WHICH)
    def all_files_arrive(self, which: int) -> None:
        for subband in range(N_SUBBANDS):
            self.a_file_arrives(which, subband, subband)

    @rule(which=WHICH, subband=SUBBANDS, jitter_s=JITTER_S)
    def a_file_begins_to_grow(self, which: int, subband: int, jitter_s: int) -> None:
        final = raw_path(self.directory, subband, STARTS[which], jitter_s)
        if final not in self.truth:
            self.put(self.template(which, subband), final.with_name(final.stem + "_incomplete.hdf5"), keep=0.6)
            self.writing.add(final)

    @precondition(lambda self: self.writing)
    @rule(data=st.data())
    def a_growing_file_is_finished(self, data: st.DataObject) -> None:
        final = data.draw(st.sampled_from(sorted(self.writing)))
        self.writing.discard(final)
        subband = int(final.stem[-2:])
        which = data.draw(WHICH)
        part = final.with_name(final.stem + "_incomplete.hdf5")
        self.put(self.template(which, subband), part)
        part.rename(final)
        self.truth[final] = (group_id_of(STARTS[which]), subband)

    @rule(which=WHICH, subband=SUBBANDS, jitter_s=JITTER_S, keep=st.sampled_from([0.0, 0.3, 0.95]))
    def a_transfer_breaks_off(self, which: int, subband: int, jitter_s: int, keep: float) -> None:
        """A new file, or an existing one that is overwritten."""
        target = raw_path(self.directory, subband, STARTS[which], jitter_s)
        self.put(self.template(which, subband), target, keep=keep)
        self.truth[target] = None

    @rule(which=WHICH, jitter_s=JITTER_S, like=st.integers(1, N_SUBBANDS - 1))
    def a_misconfigured_node_writes_a_second_sb00(self, which: int, jitter_s: int, like: int) -> None:
        target = raw_path(self.directory, 0, STARTS[which], jitter_s)
        if target not in self.truth:
            self.put(self.template(which, like), target)
            self.truth[target] = None

    @rule(subband=SUBBANDS)
    def a_clock_runs_ahead(self, subband: int) -> None:
        target = raw_path(self.directory, subband, FUTURE)
        self.put(raw_path(self.templates, subband, FUTURE), target)
        self.truth[target] = None

    @rule(name=st.sampled_from(["notes.txt", "2026-03-01T05:10:11_sb17.hdf5", "copy of 2026-03-01T05:10:11_sb01.hdf5"]))
    def a_person_leaves_a_file(self, name: str) -> None:
        self.put(self.template(0, 1), self.directory / name)
        self.truth[self.directory / name] = None

    @precondition(lambda self: self.truth)
    @rule(data=st.data())
    def a_person_deletes_a_file(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(sorted(self.truth)))
        path.unlink()
        del self.truth[path]
        self.touched.update(group_id_of(start) for start in STARTS)

    # --- the platform
    @rule(seconds=st.sampled_from([1.0, 90.0, 250.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(data=st.data(), max_new=st.sampled_from([2, 320]))
    def the_watcher_gives_some_hints(self, data: st.DataObject, max_new: int) -> None:
        hints = data.draw(st.lists(st.sampled_from(sorted(self.truth)), max_size=4)) if self.truth else []
        scan_directory(self.database, self.directory, CONFIG, self.now, hints, max_new=max_new)
        self.check_transitions("scan")

    @rule(data=st.data())
    def the_sensor_continues_its_sweep(self, data: st.DataObject) -> None:
        """With one hint or none."""
        if self.sweep is None or (self.sweep.is_done and not self.sweep.unread):
            self.sweep = Sweep(self.directory)
        hints = data.draw(st.lists(st.sampled_from(sorted(self.truth)), max_size=1)) if self.truth else []
        scan_directory(self.database, self.directory, CONFIG, self.now, hints, sweep=self.sweep, max_new=2, time_limit_s=0.0)
        self.check_transitions("scan")

    @rule()
    def the_periodic_scan(self) -> None:
        before = fingerprint(self.directory)
        scan_directory(self.database, self.directory, CONFIG, self.now)
        assert fingerprint(self.directory) == before, "raw files were touched"
        self.check_transitions("scan")
        if self.truth:  # an empty directory looks like an unmounted disk
            self.check_that_the_ledger_agrees_with_the_directory()

    @rule()
    def the_sensor_leases(self) -> None:
        with self.database.session() as session:
            leases = ledger.lease_pending(session, "sensor", 2, self.now, lease_s=LEASE_S)
        for lease in leases:
            self.touched.discard(lease.group_id)
        self.check_transitions("lease")

    @rule(outcome=st.sampled_from(["completed", "retriable", "final"]))
    def runs_end(self, outcome: str) -> None:
        for group_id, state in list(self.states.items()):
            if state == R:
                with self.database.session() as session:
                    if outcome == "completed":
                        ledger.complete(session, group_id, self.attempts[group_id], self.now)
                    else:
                        ledger.fail(
                            session, group_id, self.attempts[group_id], outcome, self.now, max_attempts=9, retriable=outcome == "retriable"
                        )
        self.check_transitions("end")

    # --- checks
    def check_transitions(self, by: str) -> None:
        with self.database.session() as session:
            rows = session.scalars(select(IngestGroup)).all()
        for row in rows:
            new, old = GroupState(row.state), self.states.get(row.group_id)
            if old is not None:
                assert new in LEGAL[by][old], f"{by} moved {row.group_id} from {old} to {new}"
                if old == D and row.group_id not in self.touched:
                    assert new == D, "a completed observation is processed again without a change"
            assert row.attempt >= self.attempts.get(row.group_id, 0)
            self.states[row.group_id], self.attempts[row.group_id] = new, row.attempt

    def check_that_the_ledger_agrees_with_the_directory(self) -> None:
        with self.database.session() as session:
            rows = {Path(row.path): row for row in session.scalars(select(SubbandFile).where(SubbandFile.state != FileState.GONE))}
        assert set(rows) == set(self.truth), "a file is missing from the ledger, or does not exist"
        for path, true in self.truth.items():
            row = rows[path]
            if true is None:
                assert row.state == FileState.REJECTED
                assert row.reason
                assert row.group_id is None
            else:
                assert row.state in (FileState.ACCEPTED, FileState.SUPERSEDED), f"{path.name}: {row.reason}"
                assert (row.group_id, row.subband) == true, "booked into another observation"
        for group_id, state in self.states.items():
            present = self.present_subbands(group_id)
            accepted = [row.subband for row in rows.values() if row.state == FileState.ACCEPTED and row.group_id == group_id]
            assert sorted(accepted) == sorted(present), "a subband is lost or doubled"
            if state == C:
                assert len(present) < N_SUBBANDS, "complete, but still collecting"

    def present_subbands(self, group_id: str) -> set[int]:
        return {true[1] for true in self.truth.values() if true is not None and true[0] == group_id}

    @invariant()
    def no_observation_is_invented(self) -> None:
        assert set(self.states) <= {group_id_of(start) for start in STARTS}

    def teardown(self) -> None:
        """With a healthy pipeline every observation ends, and every complete one was processed."""
        for _ in range(12):
            self.now += timedelta(seconds=DEADLINE_S)
            self.the_periodic_scan()
            self.the_sensor_leases()
            self.runs_end("completed")
        for group_id, state in self.states.items():
            present = self.present_subbands(group_id)
            assert state in (D, F), f"{group_id} stays in {state}"
            assert state == D or len(present) < N_NEEDED or self.attempts[group_id] > 0, "enough subbands, but never tried"
        shutil.rmtree(self.directory)


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("machine") / "templates"
    directory.mkdir()
    for start in (*STARTS, FUTURE):
        write_observation(directory, range(N_SUBBANDS), start)
    return directory


def test_no_order_of_files_loses_doubles_or_mixes_an_observation(
    database: Database, templates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "PART", 3)
    monkeypatch.setattr(sweep, "ROWS", 3)
    machine = type("Machine", (DirectoryMachine,), {"database": database, "templates": templates})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=12, stateful_step_count=25, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        ),
    )
