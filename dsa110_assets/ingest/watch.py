"""Hints about new files from the file system, so that they need not wait for the periodic scan.

A watcher only collects names. `scan` checks the files and finds all of them without it. So a watcher that has died,
never started or lost events does no harm: `Watcher.drain` then returns None, and the whole directory is scanned. Import
starts nothing (pitfall 34).
"""

from __future__ import annotations

import logging
import os
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from watchdog.events import DirMovedEvent, FileSystemEvent, FileSystemEventHandler, FileSystemMovedEvent
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver
from watchdog.observers.polling import PollingObserver

from dsa110_assets.products import parse_raw_name

MAX_HINTS = 5_000
"""With more names than this, a scan of the directory is cheaper."""

POLL_INTERVAL_S = 5.0
_JOIN_LIMIT_S = 10.0
_DESCRIPTORS = Path("/proc/self/fdinfo")
_log = logging.getLogger(__name__)


class Watcher:
    """Collector of the paths of raw files that were closed, renamed into place or changed in one flat directory.

    Args:
        directory: the input directory; need not exist yet.
        polling: list the directory periodically instead of using inotify, which does not work on network mounts.
        poll_interval_s: period of the polling.
    """

    def __init__(self, directory: Path, *, polling: bool = False, poll_interval_s: float = POLL_INTERVAL_S) -> None:
        self.directory = directory.absolute()
        self._polling = polling
        self._poll_interval_s = poll_interval_s
        self._lock = threading.Lock()
        self._hints: set[Path] = set()
        self._complete = False  # whether the hints include all events since the last drain
        self._observer: BaseObserver | None = None
        self._pid: int | None = None
        self._identity: tuple[int, int] | None = None  # file system and inode of the watched directory

    @property
    def is_alive(self) -> bool:
        """Whether events of the directory are being collected.

        False in a forked child, which has no watcher threads, and after the directory was removed, renamed, replaced
        or unmounted: the kernel watches an inode, not a name.
        """
        return self._observer is not None and self._pid == os.getpid() and self._observer.is_alive() and self._is_watched()

    def _is_watched(self) -> bool:
        return _identity_of(self.directory) == self._identity and (self._polling or _kernel_watches(self._identity))

    def start(self) -> bool:
        """Start, or start again after the watcher died or lost its directory.

        Return False and log a warning when it cannot start.
        """
        with self._lock:
            if self.is_alive:
                return True
            if self._observer is not None and self._pid == os.getpid() and self._observer.is_alive():
                _log.warning("input directory %s was replaced or unmounted; it is watched anew", self.directory)
                self._observer.stop()
                self._observer = None
            self._complete = False
            observer: BaseObserver = PollingObserver(timeout=self._poll_interval_s) if self._polling else Observer()
            identity = _identity_of(self.directory)
            try:
                observer.schedule(_Collector(self), str(self.directory), recursive=False)
                observer.start()
            except OSError as error:  # no such directory, or the kernel's limit of watches
                _log.warning("input directory %s is not watched (%s); the periodic scan still finds its files", self.directory, error)
                return False
            self._observer, self._pid, self._identity = observer, os.getpid(), identity
            return True

    def stop(self) -> None:
        """Stop collecting. Collected paths can still be drained."""
        with self._lock:
            observer, self._observer = self._observer, None
            started_here = self._pid == os.getpid()
            self._complete = False
        if observer is not None and started_here:
            observer.stop()
            observer.join(_JOIN_LIMIT_S)

    def drain(self) -> set[Path] | None:
        """Paths since the last call. None when some may be missing: then scan the whole directory."""
        with self._lock:
            hints, self._hints = self._hints, set()
            complete, self._complete = self._complete, self.is_alive
            return hints if complete and self.is_alive else None

    def collect(self, path: Path) -> None:
        """Add a hint. Ignore names that are not those of raw files."""
        if parse_raw_name(path.name) is None:
            return
        with self._lock:
            if len(self._hints) >= MAX_HINTS:
                self._hints.clear()
                self._complete = False
            self._hints.add(path)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


class _Collector(FileSystemEventHandler):
    """Handler that passes on the final paths of files: the closed file, the target of a rename."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def on_any_event(self, event: FileSystemEvent) -> None:
        if event.is_directory or event.event_type in ("opened", "closed_no_write"):
            return
        moved = isinstance(event, FileSystemMovedEvent | DirMovedEvent) or event.event_type == "moved"
        self._watcher.collect(Path(os.fsdecode(event.dest_path if moved else event.src_path)))


def _identity_of(directory: Path) -> tuple[int, int] | None:
    try:
        found = directory.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _kernel_watches(identity: tuple[int, int] | None) -> bool:
    """Whether this process has an inotify watch of an inode. True where the kernel does not tell.

    A watch ends with its directory or with its mount, and a directory that is mounted again has the same identity.
    """
    if identity is None:
        return False
    wanted = f"ino:{identity[1]:x}"
    try:
        descriptors = list(_DESCRIPTORS.iterdir())
    except OSError:
        return True
    for descriptor in descriptors:
        with suppress(OSError):  # closed meanwhile
            lines = descriptor.read_text().splitlines()
            if any(line.startswith("inotify ") and wanted in line.split() for line in lines):
                return True
    return False
