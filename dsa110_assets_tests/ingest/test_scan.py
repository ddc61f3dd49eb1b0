"""A scan finds every file, opens each once, and gives a reason for each rejection."""

from __future__ import annotations

import os
import shutil
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, insert, select

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.ingest import ledger, status
from dsa110_assets.ingest.scan import ScanReport, scan_directory
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets.simulation import faults
from dsa110_assets_tests.conversion.minimal_raw import write_raw
from dsa110_assets_tests.conversion.newer_layout import rewritten_by_pyuvdata
from dsa110_assets_tests.ingest.bookkeeping import START, julian_date, settings
from dsa110_assets_tests.ingest.incoming import fingerprint, raw_path, write_observation

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"


@pytest.fixture
def incoming(tmp_path: Path) -> Path:
    directory = tmp_path / "incoming"
    directory.mkdir()
    return directory


def scan(database: Database, directory: Path, *, after_s: float = 0.0, **options: object) -> ScanReport:
    return scan_directory(database, directory, settings(), NOW + timedelta(seconds=after_s), **options)  # type: ignore[arg-type]


def reasons(database: Database) -> dict[str, str]:
    with database.session() as session:
        return {Path(row.path).name: str(row.reason) for row in status.rejected_files(session)}


def test_one_scan_of_a_complete_directory_gives_a_pending_observation(database: Database, incoming: Path) -> None:
    files = write_observation(incoming)
    report = scan(database, incoming)
    assert sorted(report.accepted) == sorted(map(str, files))
    assert (report.n_listed, report.n_opened, report.pending) == (16, 16, (GROUP,))
    with database.session() as session:
        assert ledger.raw_files(session, GROUP) == dict(enumerate(files))
        row = session.scalars(select(IngestGroup)).one()
    assert row.dec_deg == pytest.approx(54.6029, abs=1e-3)


def test_an_observation_in_two_layouts_is_accepted(database: Database, incoming: Path) -> None:
    """The nodes of half the subbands write UVH5's newer layout, as pyuvdata 3 does."""
    files = write_observation(incoming)
    for path in files[::2]:
        path.write_bytes(rewritten_by_pyuvdata(path, incoming.parent / path.name).read_bytes())
    report = scan(database, incoming)
    assert (sorted(report.accepted), report.rejected, report.pending) == (sorted(map(str, files)), (), (GROUP,))


def test_known_files_are_not_opened_again(database: Database, incoming: Path) -> None:
    write_observation(incoming, range(3))
    (incoming / "notes.txt").write_text("hello")
    first, second = scan(database, incoming), scan(database, incoming)
    assert (first.n_opened, len(first.rejected)) == (3, 1)
    assert (second.n_listed, second.n_opened, second.booked, second.rejected) == (4, 0, (), ())


def test_every_rejected_file_is_listed_with_its_reason(database: Database, incoming: Path) -> None:
    files = write_observation(incoming)
    faults.truncate(files[1])
    faults.overwrite_start(files[2])
    faults.remove_header_item(files[3])
    files[4].rename(raw_path(incoming, 4).with_name("2026-03-01T05:10:11_sb99.hdf5"))
    shutil.copyfile(files[5], raw_path(incoming, 6))
    (incoming / "observer_notes.txt").write_text("clouds")
    (incoming / ".2026-03-01T05:10:11_sb07.hdf5.Xy12").write_bytes(b"half a copy")
    (incoming / "2026-03-01T05:15:20_sb00_incomplete.hdf5").write_bytes(b"being written")
    (incoming / "folder.hdf5").mkdir()
    report = scan(database, incoming)
    found = reasons(database)
    assert len(report.accepted) == 11
    assert report.n_being_written == 1
    assert set(found) == {files[k].name for k in (1, 2, 3, 6)} | {"2026-03-01T05:10:11_sb99.hdf5", "observer_notes.txt"}
    assert found[files[1].name].startswith("content: ")
    assert found[files[2].name].startswith("content: not a complete HDF5 file")
    assert "time_array" in found[files[3].name]
    assert "sb06" in found[files[6].name]
    assert "sb05" in found[files[6].name]
    assert found["2026-03-01T05:10:11_sb99.hdf5"].startswith("subband: sb99")
    assert found["observer_notes.txt"].startswith("name: ")


def test_a_file_from_the_future_or_from_before_the_survey_is_rejected(database: Database, incoming: Path) -> None:
    for start in (START + timedelta(days=3), datetime(2022, 12, 31, 23, 59, 59, tzinfo=START.tzinfo)):
        write_raw(
            raw_path(incoming, 0, start), 0, start_jd=julian_date(start), dec_rad=0.9, n_times=2, n_channels=4, order=(1, 0), n_antennas=3
        )
    scan(database, incoming)
    found = reasons(database)
    assert found["2026-03-04T05:10:11_sb00.hdf5"].startswith("future: starts 2026-03-04T05:10:11")
    assert found["2022-12-31T23:59:59_sb00.hdf5"].startswith("before partition start: ")
    assert scan(database, incoming, after_s=86400 * 4).n_opened == 0, "its times stay wrong when that date comes"


def test_a_file_that_still_grows_is_not_rejected_yet(database: Database, incoming: Path) -> None:
    (whole,) = write_observation(incoming.parent, [4])
    growing = incoming / whole.name
    growing.write_bytes(whole.read_bytes()[:5000])
    just_now = NOW.timestamp() - 0.2
    os.utime(growing, (just_now, just_now))
    report = scan(database, incoming)
    assert (report.not_yet, report.rejected) == ((growing,), ())
    assert reasons(database) == {}
    shutil.copyfile(whole, growing)
    assert scan(database, incoming, after_s=5).accepted == (str(growing),)


def test_a_rejected_file_is_checked_again_only_when_it_changes(database: Database, incoming: Path) -> None:
    (whole,) = write_observation(incoming.parent, [4])
    path = incoming / whole.name
    path.write_bytes(whole.read_bytes()[:5000])
    assert len(scan(database, incoming).rejected) == 1
    assert scan(database, incoming, after_s=60).n_opened == 0
    shutil.copyfile(whole, path)
    assert scan(database, incoming, after_s=120).accepted == (str(path),)
    assert reasons(database) == {}


def test_an_accepted_file_that_is_truncated_later_leaves_its_observation(database: Database, incoming: Path) -> None:
    files = write_observation(incoming, range(8))
    scan(database, incoming)
    faults.truncate(files[3])
    assert [one.path for one in scan(database, incoming).rejected] == [str(files[3])]
    with database.session() as session:
        assert set(ledger.raw_files(session, GROUP)) == set(range(8)) - {3}


def test_an_unreadable_file_hides_no_other_and_is_tried_again(database: Database, incoming: Path) -> None:
    write_observation(incoming, [1, 3])
    loop = raw_path(incoming, 2)
    loop.symlink_to(loop.name)  # ELOOP stands for EIO, ESTALE and permissions: neither missing nor damaged
    report = scan(database, incoming)
    assert len(report.accepted) == 2
    assert reasons(database)[loop.name].startswith("unreadable: ")
    known = raw_path(incoming, 3)
    known.unlink()
    known.symlink_to(known.name)
    assert scan(database, incoming).gone == ()
    with database.session() as session:
        assert set(ledger.raw_files(session, GROUP)) == {1, 3}, "a disk error does not change the state of a known file"
    loop.unlink()
    write_observation(incoming, [2])
    assert scan(database, incoming, after_s=60).accepted == (str(loop),)


def test_the_error_for_an_unusable_input_directory_names_the_setting(database: Database, incoming: Path) -> None:
    (incoming / "file").touch()
    with pytest.raises(ConfigurationError, match=r"PIPELINE_INPUT_DIR.*cannot be listed"):
        scan(database, incoming / "file")


def test_hints_are_checked_without_listing_the_directory(database: Database, incoming: Path) -> None:
    files = write_observation(incoming, range(4))
    hints = [files[2], incoming / "no_longer_there.hdf5", Path("/elsewhere") / files[0].name]
    report = scan(database, incoming, hints=hints)
    assert (report.accepted, report.n_listed, report.gone) == ((str(files[2]),), 1, ())
    assert scan(database, incoming, hints=[]).n_listed == 0
    assert len(scan(database, incoming).accepted) == 3, "the full scan finds the others"


def test_a_long_backlog_is_read_in_bounded_steps_newest_first(database: Database, incoming: Path) -> None:
    newest = START + timedelta(seconds=309)
    write_observation(incoming)
    write_observation(incoming, start=newest)
    report = scan(database, incoming, max_new=20, after_s=400)
    assert (report.n_opened, report.n_unread, report.pending) == (20, 12, ("2026-03-01T05:15:20",))
    report = scan(database, incoming, max_new=8, after_s=1100)
    assert (report.n_unread, report.failed) == (4, ()), "the deadline waits for unread files"
    assert scan(database, incoming, max_new=8, after_s=1101).pending == (GROUP,)


def test_deleted_files_are_recorded_but_an_empty_directory_counts_as_unmounted(database: Database, incoming: Path, tmp_path: Path) -> None:
    files = write_observation(incoming)
    scan(database, incoming)
    files[0].unlink()
    assert scan(database, incoming).gone == (str(files[0]),)
    away = tmp_path / "away"
    incoming.rename(away)
    incoming.mkdir()
    report = scan(database, incoming)
    assert (report.looks_unmounted, report.gone) == (True, ())
    incoming.rmdir()
    with pytest.raises(ConfigurationError, match="PIPELINE_INPUT_DIR"):
        scan(database, incoming)
    away.rename(incoming)
    assert scan(database, incoming).n_opened == 0, "mounted again: nothing has changed"


def test_a_file_that_returns_is_accepted_again(database: Database, incoming: Path, tmp_path: Path) -> None:
    files = write_observation(incoming, range(14))
    scan(database, incoming)
    aside = tmp_path / files[5].name
    files[5].rename(aside)
    scan(database, incoming)
    aside.rename(files[5])
    assert scan(database, incoming).accepted == (str(files[5]),)


def test_only_new_files_are_opened_beside_twenty_thousand_known_ones(database: Database, incoming: Path) -> None:
    """Four days of data."""
    rows = []
    for k in range(20_000):
        start = START - timedelta(seconds=310 * (k // 16 + 1))
        path = raw_path(incoming, k % 16, start)
        path.touch()
        facts = path.stat()
        rows.append({"path": str(path), "subband": k % 16, "state": "accepted", "size_bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns})
    night = date(2026, 2, 20)
    common = {"state": GroupState.COMPLETED, "stage": TileStage.IMAGED, "dec_deg": 54.6, "night": night, "slot": "00:00", "n_subbands": 16}
    ids = sorted({Path(row["path"]).name[:19] for row in rows})
    with database.session() as session:
        session.execute(insert(IngestGroup), [{"group_id": g, "start_mjd": 6e4, "mid_mjd": 6e4, "end_mjd": 6e4} | common for g in ids])
        session.execute(insert(SubbandFile), [row | {"group_id": Path(row["path"]).name[:19]} for row in rows])
    write_observation(incoming)
    report = scan(database, incoming)
    assert (report.n_listed, report.n_opened, report.pending, report.gone) == (20_016, 16, (GROUP,), ())
    assert scan(database, incoming).n_opened == 0
    for path in list(incoming.glob("*_sb03.hdf5")):
        path.unlink()
    report = scan(database, incoming)
    assert (len(report.gone), report.n_opened) == (1251, 0)
    with database.session() as session:
        states = dict(session.execute(select(SubbandFile.state, func.count()).group_by(SubbandFile.state)).tuples().all())
        assert states == {"accepted": 20_016 - 1251, "gone": 1251}
        assert ledger.counts(session)[GroupState.COMPLETED] == 1250


def test_a_scan_leaves_the_input_directory_as_it_was(database: Database, incoming: Path) -> None:
    files = write_observation(incoming)
    faults.truncate(files[9])
    before = fingerprint(incoming)
    scan(database, incoming)
    scan(database, incoming, after_s=700)
    assert fingerprint(incoming) == before


def test_the_simulators_files_are_accepted(database: Database, tiny_raw_tile) -> None:  # type: ignore[no-untyped-def]
    report = scan_directory(database, tiny_raw_tile.directory, settings(), START + timedelta(days=300))
    assert (len(report.accepted), report.rejected, len(report.pending)) == (16, (), 1)
