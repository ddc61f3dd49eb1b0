"""What a crash leaves is found from the journal, wherever the publisher was killed and however large the archive is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from dsa110_assets import publication, staging
from dsa110_assets.products import ProductPaths

_FORK = multiprocessing.get_context("fork")
_LINES_OF = {publication.__file__, staging.__file__}


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Path]:
    before = staging._process.journal
    staging.keep_journal_in(tmp_path / "state" / "staging")
    yield tmp_path / "state" / "staging"
    staging._process.journal = before


def _publish_and_die_at(destination: Path, line: int) -> None:
    """Publish a directory; SIGKILL before the given line that publication or journal executes."""
    left = line

    def count(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in _LINES_OF:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return count

    sys.settrace(count)
    with publication.publish(destination) as staged:
        staged.mkdir()
        (staged / "part").write_text("new")
    sys.settrace(None)


def test_a_kill_before_any_line_leaves_nothing_after_the_sweep(tmp_path: Path, journal: Path) -> None:
    destination = tmp_path / "products" / "tile"
    killed = 0
    for line in range(1000):
        destination.mkdir(parents=True, exist_ok=True)
        (destination / "part").write_text("old")
        child = _FORK.Process(target=_publish_and_die_at, args=(destination, line))
        child.start()
        child.join(timeout=30)
        staging.sweep(journal)
        assert [path.name for path in destination.parent.iterdir()] == ["tile"], line
        assert (destination / "part").read_text() in ("old", "new"), line
        assert not list(journal.iterdir() if journal.exists() else []), line
        if child.exitcode == 0:
            break
        killed += 1
    assert killed > 30, "the lines of publication and journal"
    assert (destination / "part").read_text() == "new"


def test_what_a_living_process_writes_is_not_swept(tmp_path: Path, journal: Path) -> None:
    with publication.publish(tmp_path / "slow") as staged:
        staged.write_text("slow")
        assert staging.left_by_crashes(journal) == []
        assert staging.sweep(journal) == []
        assert staging.in_use(journal) == [staged.parent]
    assert (tmp_path / "slow").read_text() == "slow"
    assert not list(journal.iterdir())


def _keep_publishing(directory: Path, count: int) -> None:
    for number in range(count):
        with publication.publish(directory / str(number)) as staged:
            staged.write_text(str(number))


def test_sweeps_do_not_disturb_publishers(tmp_path: Path, journal: Path) -> None:
    publisher = _FORK.Process(target=_keep_publishing, args=(tmp_path / "products", 200))
    publisher.start()
    while publisher.is_alive():
        assert staging.sweep(journal) == []
    publisher.join()
    assert publisher.exitcode == 0
    assert len(list((tmp_path / "products").iterdir())) == 200


def test_a_damaged_entry_removes_nothing(tmp_path: Path, journal: Path) -> None:
    product = tmp_path / "images" / "tile"
    product.mkdir(parents=True)
    journal.mkdir(parents=True)
    for name, content in (("empty", b""), ("cut", os.fsencode(product)), ("noise", b"\xff\xfe\n")):
        (journal / name).write_bytes(content)
    assert staging.sweep(journal) == []
    assert product.is_dir()
    assert not list(journal.iterdir())


class _Listings:
    """Directories that this process lists."""

    def __init__(self) -> None:
        self.paths: list[str] | None = None
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.paths is not None and event in ("os.listdir", "os.scandir"):
            with suppress(TypeError):  # a descriptor inside a removed folder
                self.paths.append(os.fsdecode(arguments[0]))

    @contextmanager
    def noted(self) -> Iterator[list[str]]:
        self.paths = paths = []
        try:
            yield paths
        finally:
            self.paths = None


_listings = _Listings()


def _leave_half_a_product(destination: Path) -> None:
    with publication.publish(destination) as staged:
        staged.mkdir()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_sweep_lists_only_what_is_registered_beside_thousands_of_products(tmp_path: Path, journal: Path) -> None:
    paths = ProductPaths(tmp_path / "ms", tmp_path / "scratch", tmp_path / "state")
    for number in range(3000):
        paths.image_dir(f"2026-03-{1 + number % 30:02d}T{number // 60 % 24:02d}:{number % 60:02d}:00").mkdir(parents=True, exist_ok=True)
    destination = paths.image_dir("2026-03-12T05:04:30")
    child = _FORK.Process(target=_leave_half_a_product, args=(destination,))
    child.start()
    child.join(timeout=30)
    (place,) = staging.left_by_crashes(journal)
    with _listings.noted() as listed:
        assert staging.sweep(journal) == [place]
    assert 0 < len(listed) <= 4, listed
    assert all(one == str(journal) or one.startswith(str(place)) for one in listed if "/" in one), listed
    with _listings.noted() as walked:
        assert list(publication.staged_products(paths.scratch_dir)) == []
    assert len(walked) > 1000, "the count sees a walk"
