"""A watcher gives hints. Its death, absence or overflow costs only speed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dsa110_assets.ingest.watch import MAX_HINTS, Watcher

NAME = "2026-03-01T05:10:11_sb{:02d}.hdf5"


def wait_for(condition: Callable[[], bool], limit_s: float = 20.0) -> bool:
    """Poll until the condition holds. The limit is generous, because a busy machine is slow."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def collects(watcher: Watcher, expected: set[Path]) -> bool:
    found: set[Path] = set()

    def all_found() -> bool:
        found.update(watcher.drain() or set())
        return expected <= found

    return wait_for(all_found)


@pytest.mark.parametrize("polling", [False, True])
def test_files_that_are_renamed_into_place_or_closed_become_hints(tmp_path: Path, polling: bool) -> None:
    with Watcher(tmp_path, polling=polling, poll_interval_s=0.1) as watcher:
        assert watcher.is_alive
        assert watcher.drain() is None, "events before the start are unknown: scan everything once"
        assert watcher.drain() == set()
        written = tmp_path / NAME.format(0).replace(".hdf5", "_incomplete.hdf5")
        written.write_bytes(b"data")
        written.rename(tmp_path / NAME.format(0))
        (tmp_path / NAME.format(1)).write_bytes(b"data")
        assert collects(watcher, {tmp_path / NAME.format(0), tmp_path / NAME.format(1)})


def test_files_with_other_names_give_no_hints(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    watcher.start()
    watcher.drain()
    for name in ("notes.txt", NAME.format(3).replace(".hdf5", "_incomplete.hdf5")):
        (tmp_path / name).write_text("x")
    (tmp_path / NAME.format(4)).write_text("x")
    found: set[Path] = set()

    def found_the_last() -> bool:
        found.update(watcher.drain() or set())
        return tmp_path / NAME.format(4) in found

    assert wait_for(found_the_last)
    watcher.stop()
    assert found == {tmp_path / NAME.format(4)}


def test_a_dead_watcher_requests_a_full_scan_and_can_be_started_again(tmp_path: Path) -> None:
    watcher = Watcher(tmp_path)
    assert watcher.drain() is None, "never started"
    watcher.start()
    watcher.drain()
    watcher.stop()
    assert not watcher.is_alive
    (tmp_path / NAME.format(5)).write_text("x")
    assert watcher.drain() is None
    assert watcher.start()
    assert watcher.start(), "starting a running watcher is harmless"
    assert watcher.drain() is None
    (tmp_path / NAME.format(6)).write_text("x")
    assert collects(watcher, {tmp_path / NAME.format(6)})
    watcher.stop()


def test_a_missing_directory_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher(tmp_path / "not_mounted")
    assert not watcher.start()
    assert "not_mounted is not watched" in caplog.text
    assert watcher.drain() is None
    (tmp_path / "not_mounted").mkdir()
    assert watcher.start()
    watcher.stop()


def _replace(directory: Path) -> None:
    directory.rename(directory.with_name("old"))
    directory.mkdir()


def _make_again(directory: Path) -> None:
    directory.rmdir()
    directory.mkdir()


def _may_mount() -> bool:
    """Whether this process may mount file systems, as root usually may outside a container."""
    with tempfile.TemporaryDirectory() as place:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], capture_output=True, check=False).returncode:
            return False
        subprocess.run(["umount", place], check=True)
    return True


@pytest.mark.parametrize(("lose", "polling"), [(_replace, False), (_make_again, False), (_replace, True)])
def test_a_directory_that_was_replaced_is_watched_anew_after_a_full_scan(
    tmp_path: Path, lose: Callable[[Path], None], polling: bool, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "incoming"
    directory.mkdir()
    with Watcher(directory, polling=polling, poll_interval_s=0.1) as watcher:
        watcher.drain()
        lose(directory)
        assert wait_for(lambda: not watcher.is_alive)
        assert watcher.start()
        assert "is watched anew" in caplog.text
        assert watcher.drain() is None, "what arrived meanwhile is found by a full scan"
        assert watcher.drain() == set()
        (directory / NAME.format(7)).write_text("x")
        assert collects(watcher, {directory / NAME.format(7)})


@pytest.mark.skipif(not _may_mount(), reason="needs the right to mount")
def test_a_file_system_that_was_mounted_over_the_directory_or_unmounted_is_watched(tmp_path: Path) -> None:
    directory = tmp_path / "incoming"
    directory.mkdir()
    with Watcher(directory) as watcher:
        watcher.drain()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
        try:
            assert not watcher.is_alive
            assert watcher.start()
            watcher.drain()
            (directory / NAME.format(8)).write_text("x")
            assert collects(watcher, {directory / NAME.format(8)})
        finally:
            subprocess.run(["umount", directory], check=True)
        assert not watcher.is_alive
        assert watcher.start()
        watcher.drain()
        (directory / NAME.format(9)).write_text("x")
        assert collects(watcher, {directory / NAME.format(9)})


def test_too_many_hints_are_replaced_by_one_full_scan(tmp_path: Path) -> None:
    with Watcher(tmp_path) as watcher:
        watcher.drain()
        for k in range(MAX_HINTS + 1):
            watcher.collect(tmp_path / f"2026-03-01T{k // 3600:02d}:{k // 60 % 60:02d}:{k % 60:02d}_sb00.hdf5")
        assert watcher.drain() is None
        assert watcher.drain() == set()


def test_a_forked_child_has_no_live_watcher(tmp_path: Path) -> None:
    with Watcher(tmp_path) as watcher:
        watcher._pid = os.getpid() + 1  # as in a child, which has another process id
        assert not watcher.is_alive
        assert watcher.drain() is None
        watcher._pid = os.getpid()


def test_nothing_starts_at_import() -> None:
    code = "import threading, dsa110_assets.ingest.watch, dsa110_assets.ingest.scan; print(threading.active_count())"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stdout.strip() == "1"
