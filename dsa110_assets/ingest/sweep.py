"""Which files of the input directory are news: listing, and comparing with the ledger, in parts that take a limited time.

A `Sweep` is one walk over the whole directory, newest name first. It lists the names once, and `Sweep.advance` compares some
thousands of them at a time with the ledger, until all are done or the caller's time is over; the next call goes on. So a
sensor's tick stays short however many files there are, and every file is looked at once in each sweep. A file is news when its
size or its time of modification is not the ledger's; what the ledger has once confirmed is remembered by the process for a while
(`Confirmed`), so that most sweeps cost a listing and no query. What does not belong here: opening files (`scan`).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import select, text

from dsa110_assets.errors import ConfigurationError
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.products import RawName, parse_raw_name
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState, SubbandFile

BEING_WRITTEN = "_incomplete.hdf5"
"""End of the name of a file that its node still writes; such files are not even listed."""

PART = 2_000
"""Names that are compared with the ledger by one query."""

ROWS = 10_000
"""Rows of the ledger that are compared with the listing at a time."""


class Listed(NamedTuple):
    """A file as the operating system shows it; ``trouble``: what it said instead of the size."""

    path: str
    size_bytes: int
    mtime_ns: int
    trouble: str | None = None

    @property
    def name(self) -> RawName | None:
        """What the name says; parsed for news only, because it is dear."""
        return parse_raw_name(self.path.rpartition(os.sep)[2])


Confirmed = dict[str, tuple[int, int]]
"""Size and time of modification of the files, by path, that the ledger was seen to know as they are."""


def news(
    database: Database, directory: Path, names: Iterable[str], *, retry_unreadable: bool, confirmed: Confirmed | None = None
) -> tuple[int, list[Listed]]:
    """Files of a directory that the ledger does not know as they are now.

    Args:
        database: the registry.
        directory: absolute.
        names: names in it; what is no regular file, or has gone, is passed over.
        retry_unreadable: whether files that the disk did not give the last time are news.
        confirmed: files of which the ledger need not be asked; what it confirms is added.

    Returns:
        Number of the files that are there, and those that are news.
    """
    confirmed = {} if confirmed is None else confirmed
    listed = [one for name in names if (one := _look(f"{directory}{os.sep}{name}")) is not None]
    asked = {one.path: one for one in listed if confirmed.get(one.path) != one[1:3]}
    if not asked:
        return len(listed), []
    columns = zip(*((one.path, one.size_bytes, one.mtime_ns, one.trouble is not None) for one in asked.values()), strict=True)
    found = dict(zip(("paths", "sizes", "mtimes", "troubles"), map(list, columns), strict=True))
    with database.session() as session:
        fresh = session.scalars(_NEWS, found | {"retry": retry_unreadable}).all()
    confirmed.update((one.path, one[1:3]) for one in asked.values() if one.trouble is None)
    for path in fresh:
        confirmed.pop(path, None)
    return len(listed), [asked[path] for path in fresh]


_NEWS = text(
    f"""
    SELECT seen.path
    FROM unnest(CAST(:paths AS text[]), CAST(:sizes AS bigint[]), CAST(:mtimes AS bigint[]), CAST(:troubles AS boolean[]))
        AS seen(path, size_bytes, mtime_ns, trouble)
    LEFT JOIN {SubbandFile.__tablename__} AS known ON known.path = seen.path AND known.state <> '{FileState.GONE}'
    WHERE known.path IS NULL
        OR NOT seen.trouble AND (
            (known.size_bytes, known.mtime_ns) <> (seen.size_bytes, seen.mtime_ns)
            OR :retry AND known.reason LIKE '{Reason.UNREADABLE}%'
        )
    """  # noqa: S608 - names of the schema
)
"""Of a list of files those that are unknown or differ. Trouble with the disk may pass: what is known of such a file stays true until then."""


class Sweep:
    """One walk over a directory. ``n_being_written``: files that bear ``_incomplete``. ``unread``: news that nobody has opened yet.

    Args:
        directory: flat directory of raw files.
        confirmed: what earlier sweeps of this process have found known; this one asks the ledger about all others only, and adds to
            it. Without it, or when it is empty, every file and every row of the ledger is compared.

    Raises:
        ConfigurationError: the directory cannot be listed.
    """

    def __init__(self, directory: Path, confirmed: Confirmed | None = None) -> None:
        self.directory = directory.absolute()
        try:
            names = os.listdir(self.directory)  # noqa: PTH208 - a hundred thousand Path objects are dear
        except OSError as error:
            raise ConfigurationError(
                "PIPELINE_INPUT_DIR",
                f"{self.directory} cannot be listed ({error.strerror})",
                "mount it, or set it to the directory of the raw files",
            ) from error
        self.n_being_written = sum(name.endswith(BEING_WRITTEN) for name in names)
        self._names = set(wanted(names))
        self._to_compare = sorted(self._names)
        self._confirmed: Confirmed = {} if confirmed is None else confirmed
        self._rows_from: str | None = None if self._confirmed else f"{self.directory}{os.sep}"
        self._missing = [path for path in self._confirmed if path.rpartition(os.sep)[2] not in self._names]
        self.unread: list[Listed] = []

    @property
    def is_done(self) -> bool:
        """Whether every file has been looked at, and every row of the ledger; `unread` may hold some all the same."""
        return not self._to_compare and self._rows_from is None

    @property
    def sees_nothing(self) -> bool:
        """Whether the directory was empty: a file system that is not mounted looks like that."""
        return not self._names and not self.n_being_written

    def advance(self, database: Database, *, until: float = float("inf"), enough: float = float("inf")) -> tuple[int, list[str]]:
        """Go on to the end, to the monotonic time ``until`` (at least one part), or until ``enough`` news wait to be opened.

        Returns:
            Number of the files that were compared, and the paths of known files that have been deleted.
        """
        n_compared = 0
        gone, self._missing = [path for path in self._missing if not os.path.lexists(path)], []
        while not self.is_done and len(self.unread) < enough:
            if self._to_compare:
                part = self._to_compare[: -PART - 1 : -1]
                n_there, fresh = news(database, self.directory, part, retry_unreadable=True, confirmed=self._confirmed)
                n_compared += n_there
                self.unread += fresh
                del self._to_compare[-PART:]
            else:
                gone += self._deleted(database)
            if time.monotonic() >= until:
                break
        return n_compared, gone

    def booked(self, unread: list[Listed], gone: Iterable[str]) -> None:
        """The ledger has taken what `advance` found, but for ``unread``; only now it may be forgotten."""
        self.unread = unread
        for path in gone:
            self._confirmed.pop(path, None)

    def _deleted(self, database: Database) -> list[str]:
        """Some of the ledger's rows, in the ledger's own order: those whose files the listing did not show."""
        query = (
            select(SubbandFile.path)
            .where(SubbandFile.path.startswith(f"{self.directory}{os.sep}", autoescape=True), SubbandFile.state != FileState.GONE)
            .where(SubbandFile.path > self._rows_from)
            .order_by(SubbandFile.path)
            .limit(ROWS)
        )
        with database.session() as session:
            paths = session.scalars(query).all()
        self._rows_from = paths[-1] if len(paths) == ROWS else None
        missing = [path for path in paths if path.rpartition(os.sep)[2] not in self._names]
        return [path for path in missing if not os.path.lexists(path)]  # it may have come since the names were listed


def wanted(names: Iterable[str]) -> list[str]:
    """Names without those of files that are being written or copied, which get another name at the end."""
    return [name for name in names if not name.startswith(".") and not name.endswith(BEING_WRITTEN)]


def hinted(directory: Path, hints: Iterable[Path]) -> list[str]:
    """Names of those hints that are directly in the directory."""
    return wanted({hint.name for hint in hints if hint.absolute().parent == directory})


def _look(path: str) -> Listed | None:
    try:
        facts = os.stat(path)  # noqa: PTH116 - a hundred thousand Path objects are dear
    except FileNotFoundError:
        return None
    except OSError as error:  # one file that the disk does not give must not hide the others
        return Listed(path, 0, 0, error.strerror)
    return Listed(path, facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def newest_first(files: Sequence[Listed]) -> list[Listed]:
    """In the order of reading: by the time in the name, which sorts as text; foreign names last."""
    return sorted(files, key=lambda one: (one.name is not None, one.path), reverse=True)
