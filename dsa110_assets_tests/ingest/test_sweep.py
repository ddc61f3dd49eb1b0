"""A sweep runs in parts of limited time and loses nothing between them."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, func, insert, select

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, RegistryError
from dsa110_assets.ingest import arrivals, scan, sweep
from dsa110_assets.ingest.scan import ScanReport, scan_directory
from dsa110_assets.ingest.sweep import Sweep
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import SubbandFile
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue import intake
from dsa110_assets_tests.ingest.bookkeeping import START, settings
from dsa110_assets_tests.ingest.incoming import raw_path, write_observation

NOW = START + timedelta(seconds=320)
N_PARTS = 12


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    directory = tmp_path / "incoming"
    directory.mkdir(exist_ok=True)
    return directory


@pytest.fixture
def known(database: Database, incoming: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """1200 older files that are in the ledger. They fill twelve parts."""
    monkeypatch.setattr(sweep, "PART", 100)
    monkeypatch.setattr(sweep, "ROWS", 100)
    paths = [raw_path(incoming, k % 16, START - timedelta(seconds=310 * (k // 16 + 1))) for k in range(100 * N_PARTS)]
    rows = []
    for path in paths:
        path.write_bytes(b"old")
        facts = path.stat()
        rows.append({"path": str(path), "state": "rejected", "reason": "content: old", "size_bytes": 3, "mtime_ns": facts.st_mtime_ns})
    with database.session() as session:
        session.execute(insert(SubbandFile), rows)
    return sorted(paths)


def scan_one_part(database: Database, directory: Path, walk: Sweep, hints: list[Path] | None = None) -> ScanReport:
    """One call with a time limit of zero."""
    return scan_directory(database, directory, settings(), NOW, hints, sweep=walk, time_limit_s=0.0)


def states(database: Database) -> dict[str, int]:
    with database.session() as session:
        return dict(session.execute(select(SubbandFile.state, func.count()).group_by(SubbandFile.state)).tuples().all())


def test_a_call_without_time_does_one_part_and_all_parts_together_find_every_file(
    database: Database, incoming: Path, known: list[Path]
) -> None:
    new = write_observation(incoming)  # the newest
    hidden = write_observation(incoming, [3], START - timedelta(seconds=310 * 60 - 100))  # in the middle
    known[7].write_bytes(b"changed")
    known[5].unlink()
    known[1000].unlink()
    walk = Sweep(incoming)
    reports = [scan_one_part(database, incoming, walk)]
    assert sorted(reports[0].accepted) == sorted(map(str, new)), "newest first: live data do not wait for old files"
    while not walk.is_done:
        reports.append(scan_one_part(database, incoming, walk))
    assert max(report.n_listed for report in reports) <= 100
    assert sum(report.n_listed for report in reports) == 1200 + 17 - 2
    assert {path for report in reports for path in report.accepted} == {str(path) for path in (*new, *hidden)}
    assert {one.path for report in reports for one in report.rejected} == {str(known[7])}
    assert sorted(path for report in reports for path in report.gone) == [str(known[5]), str(known[1000])]
    assert sum(report.n_opened for report in reports) == 18


def test_a_sweep_does_not_query_files_that_an_earlier_one_has_confirmed(database: Database, incoming: Path, known: list[Path]) -> None:
    """It still finds changes and deletions: it queries only new, changed and unreadable files."""
    confirmed: sweep.Confirmed = {}
    queries: list[str] = []

    def record_query(*call: Any) -> None:
        queries.extend([call[2]] if "unnest" in call[2] or "subband_files.path >" in call[2] else [])

    event.listen(database.engine, "before_cursor_execute", record_query)

    def sweep_all() -> ScanReport:
        queries.clear()
        return scan_directory(database, incoming, settings(), NOW, sweep=Sweep(incoming, confirmed))

    assert sweep_all().n_listed == 1200
    assert len(queries) > 2 * N_PARTS
    assert (sweep_all().n_listed, queries) == (1200, [])
    new = write_observation(incoming)
    known[7].write_bytes(b"changed")
    known[5].unlink()
    report = sweep_all()
    assert sorted(report.accepted) == sorted(map(str, new))
    assert ([one.path for one in report.rejected], report.gone) == ([str(known[7])], (str(known[5]),))
    assert (sweep_all().gone, sweep_all().n_opened) == ((), 0)
    known[5].write_bytes(b"old")
    assert [one.path for one in sweep_all().rejected] == [str(known[5])], "it has come back"


def test_files_that_arrive_during_a_sweep_do_not_count_as_deleted(database: Database, incoming: Path, known: list[Path]) -> None:
    walk = Sweep(incoming)
    scan_one_part(database, incoming, walk)
    new = write_observation(incoming)
    assert len(scan_one_part(database, incoming, walk, hints=new).accepted) == 16, "every call checks its hints"
    while not walk.is_done:
        assert scan_one_part(database, incoming, walk).gone == ()
    assert states(database) == {"rejected": 1200, "accepted": 16}


def test_no_file_counts_as_deleted_when_the_disk_is_unmounted_during_a_sweep(database: Database, incoming: Path, known: list[Path]) -> None:
    walk = Sweep(incoming)
    scan_one_part(database, incoming, walk)
    incoming.rename(incoming.with_name("away"))
    while not walk.is_done:
        assert scan_one_part(database, incoming, walk).gone == ()
    with pytest.raises(ConfigurationError, match="PIPELINE_INPUT_DIR"):
        Sweep(incoming)
    assert states(database) == {"rejected": 1200}


def test_a_sweep_waits_until_its_unread_files_are_read(
    database: Database, incoming: Path, known: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backlog is read in bounded steps and with bounded memory."""
    monkeypatch.setattr(scan, "FEWEST_NEW", 20)
    for k in range(12):
        write_observation(incoming, start=START - timedelta(seconds=310 * k + 100))
    walk = Sweep(incoming)
    opened, most_unread = [], 0
    while not walk.is_done or walk.unread:
        report = scan_directory(database, incoming, settings(), NOW, sweep=walk, max_new=20, time_limit_s=0.0)
        opened.append(report.n_opened)
        most_unread = max(most_unread, len(walk.unread))
        assert report.failed == ()
    assert (sum(opened), max(opened)) == (192, 20)
    assert most_unread < 120
    assert states(database) == {"rejected": 1200, "accepted": 192}


def test_files_that_the_database_refused_are_booked_by_the_next_call(database: Database, incoming: Path) -> None:
    """Another process has locked the bookings for longer than this one may wait."""
    write_observation(incoming)
    impatient = Database(database.url + "&options=-clock_timeout%3D200")
    walk = Sweep(incoming)
    with database.session() as session:
        arrivals._lock_arrivals(session)
        with pytest.raises(RegistryError, match="lock"):
            scan_one_part(impatient, incoming, walk)
    assert states(database) == {}
    assert len(scan_one_part(impatient, incoming, walk).accepted) == 16
    impatient.dispose()


def test_the_sensor_checks_hints_and_continues_the_sweep_in_each_call(
    registry_config: PipelineConfig, incoming: Path, known: list[Path], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any time, a call does one part of a sweep, and the sweep still ends."""
    monkeypatch.setattr(intake, "SCAN_LIMIT_S", 0.0)
    monkeypatch.setattr(intake, "_scanners", {})
    platform = Platform(registry_config, None, database)  # type: ignore[arg-type] - looking needs no paths of products
    os.utime(known[0], (1e9, 1e9))  # the oldest: no watcher has seen it
    looked = [intake.scan_input(platform) for _ in range(2 * N_PARTS)]
    assert max(report.n_listed for report in looked) == 100
    assert sum(report.n_listed for report in looked) == 1200
    assert sum(report.n_opened for report in looked) == 1
    write_observation(incoming)
    for _ in range(100):
        if len(intake.scan_input(platform).accepted) == 16:
            break
    intake._scanners[registry_config.input_dir].watcher.stop()
    assert states(database) == {"rejected": 1200, "accepted": 16}
