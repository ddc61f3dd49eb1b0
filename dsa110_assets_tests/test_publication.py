"""Publication leaves the product and nothing else, however many publishers share a directory."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from dsa110_assets import publication
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.publication import publish, withdraw

_FORK = multiprocessing.get_context("fork")


def _publish_files(directory: Path, writer: int, count: int) -> None:
    for number in range(count):
        with publish(directory / f"{writer}-{number}") as staged:
            staged.write_text(str(number))


def _publish_what_does_not_verify(destination: Path) -> None:
    with publish(destination) as staged:
        staged.write_text("wrong")
        raise ProductVerificationError(staged, "is wrong", "make it again")


def _publish_and_withdraw(night: Path, writer: int, count: int) -> None:
    for _ in range(count):
        _publish_files(night, writer, 1)
        withdraw(night / f"{writer}-0")


def test_no_staging_folder_remains_after_a_product_its_replacement_or_a_failure(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with publish(tmp_path / "product") as staged:
            staged.mkdir()
            (staged / "part").write_text(text)
    with pytest.raises(ProductVerificationError):
        _publish_what_does_not_verify(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["product"]
    assert (tmp_path / "product" / "part").read_text() == "new"


def test_no_staging_folder_remains_where_the_file_system_cannot_exchange_directories(tmp_path: Path, monkeypatch) -> None:
    class WithoutExchange:
        def renameat2(self, *_: object) -> int:
            publication.ctypes.set_errno(publication.errno.EINVAL)
            return -1

    monkeypatch.setattr(publication.ctypes, "CDLL", lambda *_, **__: WithoutExchange())
    for text in ("old", "new"):
        with publish(tmp_path / "product") as staged:
            staged.mkdir()
            (staged / "part").write_text(text)
    assert [path.name for path in tmp_path.iterdir()] == ["product"]
    assert (tmp_path / "product" / "part").read_text() == "new"


def test_the_folder_stays_while_another_product_is_written_in_it(tmp_path: Path) -> None:
    with publish(tmp_path / "slow") as slow:
        slow.write_text("slow")
        with publish(tmp_path / "quick") as quick:
            quick.write_text("quick")
        assert slow.read_text() == "slow"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["quick", "slow"]


def test_a_publisher_makes_its_directory_again_when_the_last_product_of_a_night_is_withdrawn(tmp_path: Path) -> None:
    writers = [_FORK.Process(target=_publish_and_withdraw, args=(tmp_path / "night", writer, 200)) for writer in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0] * 3
    assert list(tmp_path.iterdir()) == []


def test_concurrent_publishers_do_not_disturb_one_another(tmp_path: Path) -> None:
    writers = [_FORK.Process(target=_publish_files, args=(tmp_path, writer, 60)) for writer in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(timeout=60)
    assert [writer.exitcode for writer in writers] == [0] * 4
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{writer}-{number}" for writer in range(4) for number in range(60)}
