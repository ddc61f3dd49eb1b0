"""Find new and changed files in the input directory, in parts that take a limited time.

A `Sweep` is one pass over the whole directory, newest name first. It lists the names once. `Sweep.advance` compares
some thousands of them at a time with the ledger until all are done or the caller's time is over; the next call
continues. So a sensor's tick stays short for any number of files, and each sweep checks every file once. A file is
changed when its size or time of modification differs from the ledger's. The process remembers for a while what the
ledger has confirmed (`Confirmed`), so most sweeps take a listing and no query.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select, text
from sqlalchemy.dialects.postgresql import aggregate_order_by

from dsa110_assets import raw_checksums
from dsa110_assets.errors import ConfigurationError
from dsa110_assets.files import printable, regular_facts
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.products import RawName, parse_raw_name
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState, SubbandFile

BEING_WRITTEN = "_incomplete.hdf5"
"""End of the name of a file that its node is still writing. Such files are not listed."""

_CHECKSUM_FILE = f".hdf5{raw_checksums.SUFFIX}"

PART = 2_000
"""Number of names that one query compares with the ledger."""

ROWS = 10_000
"""Number of the ledger's rows that are compared with the listing at a time."""


class Listed(NamedTuple):
    """A file as the operating system reports it. ``error``: the system's message instead of a size."""

    path: str
    size_bytes: int
    mtime_ns: int
    error: str | None = None

    @property
    def key(self) -> str:
        """The path as the ledger has it: printable, also if the name is not UTF-8."""
        return self.path if self.path.isascii() and self.path.isprintable() else printable(self.path)

    @property
    def name(self) -> RawName | None:
        """The parsed name. Parsing is slow, so use this for new and changed files only."""
        return parse_raw_name(self.path.rpartition(os.sep)[2])


Confirmed = dict[str, tuple[int, int]]
"""Size and time of modification, by path, of files that agreed with the ledger."""


def unknown_or_changed(
    database: Database, directory: Path, names: Iterable[str], *, retry_unreadable: bool, confirmed: Confirmed | None = None
) -> tuple[int, list[Listed]]:
    """Files of a directory that the ledger does not have, or has with another size or time of modification.

    Args:
        database: the registry.
        directory: absolute.
        names: names in it. Missing files and anything but regular files are ignored.
        retry_unreadable: also return files that could not be read last time.
        confirmed: files that need not be compared. Files that agree with the ledger are added.

    Returns:
        Number of existing files, and the unknown or changed ones.
    """
    confirmed = {} if confirmed is None else confirmed
    listed = {file.key: file for name in names if (file := _stat(f"{directory}{os.sep}{name}")) is not None}
    to_compare = {key: file for key, file in listed.items() if confirmed.get(key) != file[1:3]}
    if not to_compare:
        return len(listed), []
    columns = zip(*((key, file.size_bytes, file.mtime_ns, file.error is not None) for key, file in to_compare.items()), strict=True)
    found = dict(zip(("paths", "sizes", "mtimes", "unreadable"), map(list, columns), strict=True))
    with database.session() as session:
        fresh = session.scalars(_UNKNOWN_OR_CHANGED, found | {"retry": retry_unreadable}).all()
    confirmed.update((key, file[1:3]) for key, file in to_compare.items() if file.error is None)
    for path in fresh:
        confirmed.pop(path, None)
    return len(listed), [to_compare[path] for path in fresh]


_UNKNOWN_OR_CHANGED = text(
    f"""
    SELECT seen.path
    FROM unnest(CAST(:paths AS text[]), CAST(:sizes AS bigint[]), CAST(:mtimes AS bigint[]), CAST(:unreadable AS boolean[]))
        AS seen(path, size_bytes, mtime_ns, unreadable)
    LEFT JOIN {SubbandFile.__tablename__} AS known ON known.path = seen.path AND known.state <> '{FileState.GONE}'
    WHERE known.path IS NULL
        OR NOT seen.unreadable AND (
            (known.size_bytes, known.mtime_ns) <> (seen.size_bytes, seen.mtime_ns)
            OR :retry AND known.reason LIKE '{Reason.UNREADABLE}%'
        )
    """  # noqa: S608 - names of the schema
)
"""Unknown or changed files of a list. A known file that is unreadable now is unchanged: a disk error may pass."""


class Sweep:
    """One pass over a directory.

    ``n_being_written``: number of files named ``_incomplete``. ``unread``: new or changed files, not opened yet.

    Args:
        directory: flat directory of raw files.
        confirmed: files that earlier sweeps of this process found in the ledger. This sweep compares only the others,
            and adds to it. Without it, or when it is empty, every file and every row of the ledger is compared.

    Raises:
        ConfigurationError: the directory cannot be listed.
    """

    def __init__(self, directory: Path, confirmed: Confirmed | None = None) -> None:
        self.directory = directory.absolute()
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - a hundred thousand Path objects are slow
        except OSError as error:
            raise ConfigurationError(
                "PIPELINE_INPUT_DIR",
                f"{self.directory} cannot be listed ({error.strerror})",
                "mount it, or set it to the directory of the raw files",
            ) from error
        self.n_being_written = sum(name.endswith(BEING_WRITTEN) for name in names)
        self._to_compare = sorted(set(finished_names(names)))
        self._names = {name if name.isascii() and name.isprintable() else printable(name) for name in self._to_compare}
        self._confirmed: Confirmed = {} if confirmed is None else confirmed
        self._rows_from: str | None = None if self._confirmed else f"{self.directory}{os.sep}"
        self._missing = [path for path in self._confirmed if path.rpartition(os.sep)[2] not in self._names]
        self.unread: list[Listed] = []

    @property
    def is_done(self) -> bool:
        """Whether all files and all rows of the ledger were compared. `unread` may still have some."""
        return not self._to_compare and self._rows_from is None

    @property
    def is_empty(self) -> bool:
        """Whether the directory was empty, which may mean that its file system is not mounted."""
        return not self._names and not self.n_being_written

    def advance(self, database: Database, *, until: float = float("inf"), max_unread: float = float("inf")) -> tuple[int, list[str]]:
        """Continue until the end, the monotonic time ``until`` (at least one part), or ``max_unread`` unread files.

        Returns:
            Number of files that were compared, and the paths of known files that were deleted.
        """
        n_compared = 0
        gone, self._missing = [path for path in self._missing if not os.path.lexists(path)], []
        while not self.is_done and len(self.unread) < max_unread:
            if self._to_compare:
                part = self._to_compare[: -PART - 1 : -1]
                n_there, fresh = unknown_or_changed(database, self.directory, part, retry_unreadable=True, confirmed=self._confirmed)
                n_compared += n_there
                self.unread += fresh
                del self._to_compare[-PART:]
            else:
                gone += self._deleted(database)
            if time.monotonic() >= until:
                break
        return n_compared, gone

    def mark_booked(self, unread: list[Listed], gone: Iterable[str]) -> None:
        """Forget what `advance` found, except ``unread``. Call it when the ledger has recorded the rest."""
        self.unread = unread
        for path in gone:
            self._confirmed.pop(path, None)

    def _deleted(self, database: Database) -> list[str]:
        """Paths without a file among the next rows of the ledger, in the ledger's order."""
        query = (
            select(SubbandFile.path)
            .where(SubbandFile.path.startswith(f"{self.directory}{os.sep}", autoescape=True), SubbandFile.state != FileState.GONE)
            .where(SubbandFile.path > self._rows_from)
            .order_by(SubbandFile.path)
            .limit(ROWS)
            .subquery()
        )
        with database.session() as session:  # as one array, because a row costs several times as much
            paths = session.scalar(select(func.array_agg(aggregate_order_by(query.c.path, query.c.path)))) or []
        self._rows_from = paths[-1] if len(paths) == ROWS else None
        missing = [path for path in paths if path.rpartition(os.sep)[2] not in self._names]
        return [path for path in missing if not os.path.lexists(path)]  # it may have arrived after the listing


def finished_names(names: Iterable[str]) -> list[str]:
    """Names without checksum files and files being written or copied, which get another name at the end."""
    return [name for name in names if not name.startswith(".") and not name.endswith((BEING_WRITTEN, _CHECKSUM_FILE))]


def names_of_hints(directory: Path, hints: Iterable[Path]) -> list[str]:
    """Names of the hints that are directly in the directory."""
    return finished_names({hint.name for hint in hints if hint.absolute().parent == directory})


def _stat(path: str) -> Listed | None:
    try:
        facts = regular_facts(path)
    except OSError as error:  # an unreadable file must not hide the others
        return Listed(path, 0, 0, error.strerror)
    return None if facts is None else Listed(path, facts.st_size, facts.st_mtime_ns)


def newest_first(files: Sequence[Listed]) -> list[Listed]:
    """Files in the order of reading: by the time in the name, which sorts as text; other names last."""
    return sorted(files, key=lambda file: (file.name is not None, file.path), reverse=True)
