"""The journal of staging places, so that what a crash left is found without a walk through the products.

A publisher writes an entry before it makes its staging folder: a file named like the folder, with the folder's path. It
holds a lock on the entry until the folder is gone. The kernel releases the lock when the process dies, however it dies.
An entry without a lock is therefore what a crash left. The journal is a directory of files because it must work without
the database. `publication` says what happens in a staging folder.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

_PREFIX = ".staging"


def new_place(parent: Path) -> Path:
    """Return the path of a new staging folder in ``parent``. Each has its own name: publishers share no folder."""
    return parent / f"{_PREFIX}-{uuid.uuid4().hex}"


def is_staging(name: str) -> bool:
    """Whether a name is that of a staging folder (older releases shared one ``.staging`` in a directory)."""
    return name.startswith(_PREFIX)


@dataclass
class _Process:
    journal: Path | None = None


_process = _Process()


def keep_journal_in(directory: Path) -> None:
    """Register this process's staging places in a directory (`ProductPaths.staging_journal`) from now on.

    Without a journal, as when the science code is used as a library, publication works, and only
    `dsa110 clean --thorough` finds what a crash leaves.
    """
    _process.journal = directory.absolute()


@contextmanager
def registered(place: Path) -> Iterator[None]:
    """Hold an entry for a staging folder. The folder is made and removed inside the block.

    If the folder could not be removed, the entry stays for the next `sweep`.

    Raises:
        OSError: the entry could not be written.
    """
    if _process.journal is None:
        yield
        return
    _process.journal.mkdir(parents=True, exist_ok=True)
    entry = _process.journal / place.name
    descriptor = _locked(entry)
    try:
        os.write(descriptor, os.fsencode(place.absolute()))
        os.fsync(descriptor)
        _fsync(entry.parent)  # also after a power failure there is no folder without an entry
        yield
    finally:
        if not place.exists():
            entry.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(entry: Path) -> int:
    """Open and lock a new entry; again if a sweep removed it between the two."""
    while True:
        descriptor = os.open(entry, os.O_CREAT | os.O_RDWR, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)


def left_by_crashes(journal: Path) -> list[Path]:
    """Return the registered staging folders whose publisher has died."""
    found: list[Path] = []
    for entry in _entries(journal):
        with _lock_of(entry) as path:
            if path and Path(path).exists():
                found.append(Path(path))
    return found


def in_use(journal: Path) -> list[Path]:
    """Return the staging folders in which living processes write."""
    found: list[Path] = []
    for entry in _entries(journal):
        with _lock_of(entry) as path, suppress(FileNotFoundError):
            if path is None:
                found.append(Path(os.fsdecode(entry.read_bytes())))
    return found


def sweep(journal: Path) -> list[Path]:
    """Remove what crashes left in registered staging folders. Return these folders.

    It opens the journal and the folders named there, so its cost does not depend on the size of the archive.
    """
    removed: list[Path] = []
    for entry in _entries(journal):
        with _lock_of(entry) as path:
            if path is None:
                continue
            place = Path(path)
            if path and (is_staging(place.name) or is_staging(place.parent.name)):
                there = place.exists()
                remove_staged(place)
                if place.exists():  # a child of the publisher may still write there; the next sweep tries again
                    continue
                removed += [place] if there else []
            entry.unlink(missing_ok=True)
    return removed


def remove_staged(place: Path) -> None:
    """Remove a staging folder with its content, as far as permissions allow."""
    shutil.rmtree(place, ignore_errors=True)


def _entries(journal: Path) -> list[Path]:
    return sorted(journal.iterdir()) if journal.is_dir() else []


@contextmanager
def _lock_of(entry: Path) -> Iterator[str | None]:
    """Yield the path in an entry; None if its publisher is alive, or if it has just finished."""
    try:
        descriptor = os.open(entry, os.O_RDWR)
    except FileNotFoundError:
        yield None
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
            return
        yield os.fsdecode(os.read(descriptor, 1 << 16))
    finally:
        os.close(descriptor)


def _fsync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
