"""Pitfall 29: a half-written product is never taken for a whole one, wherever the writer is killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from dsa110_assets import products, publication, staging
from dsa110_assets.errors import ProductVerificationError

OLD, NEW = {"a": "old", "b": "old"}, {"a": "new", "b": "new"}


def _write(directory: Path, parts: dict[str, str]) -> None:
    directory.mkdir(exist_ok=True)
    for name, text in parts.items():
        (directory / name).write_text(text)


def _content(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def _publish_and_die(journal: Path, destination: Path, instant: str) -> None:
    staging.keep_journal_in(journal)

    def die(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    if instant == "flushed":
        publication.move_into_place = die
    if instant == "moved":
        move = publication.move_into_place
        publication.move_into_place = lambda staged, target: (move(staged, target), die())
    with publication.publish(destination) as staged:
        _write(staged, {"a": "new"})
        if instant == "half written":
            die()
        _write(staged, {"b": "new"})


@pytest.mark.parametrize(("instant", "left"), [("half written", OLD), ("flushed", OLD), ("moved", NEW)])
def test_pitfall_29_a_kill_leaves_the_old_product_or_the_new_one(tmp_path: Path, instant: str, left: dict[str, str]) -> None:
    paths = products.ProductPaths(output_dir=tmp_path / "ms", scratch_dir=tmp_path / "scratch", state_dir=tmp_path / "state")
    destination = paths.measurement_set("2026-03-12T05:04:30")
    destination.parent.mkdir(parents=True)
    _write(destination, OLD)
    child = multiprocessing.get_context("fork").Process(target=_publish_and_die, args=(paths.staging_journal, destination, instant))
    child.start()
    child.join(timeout=30)
    assert child.exitcode == -signal.SIGKILL
    assert _content(destination) == left
    staging.sweep(paths.staging_journal)
    assert [path.name for path in destination.parent.iterdir()] == [destination.name]
    with publication.publish(destination) as staged:  # the next run can publish
        _write(staged, NEW)
    assert _content(destination) == NEW


def test_pitfall_29_a_product_that_fails_verification_is_not_published(tmp_path: Path) -> None:
    destination = tmp_path / "images"
    _write(destination, OLD)

    def write_incomplete_product() -> None:
        with publication.publish(destination) as staged:
            _write(staged, {"a": "new"})
            raise ProductVerificationError(staged, "b is missing", "make it again")

    with pytest.raises(ProductVerificationError):
        write_incomplete_product()
    assert _content(destination) == OLD
