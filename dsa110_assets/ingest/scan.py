"""One look at the input directory: find new and changed files, judge them, book them.

The periodic scan is the truth, the watcher (`watch`) only a hint which names to look at now. A file is opened once: it is
looked at again only when its size or time of modification has changed, so that a scan of a directory of 100 000 known files
costs a listing and one query. What does not belong here: what makes a file valid (`rawfile`), grouping (`arrivals`).
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import func, select

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, InvalidRawFileError
from dsa110_assets.ingest import arrivals, closing
from dsa110_assets.ingest.arrivals import Booked, FileFacts, Reason, Rejection
from dsa110_assets.products import RawName, datetime_to_mjd, parse_raw_name
from dsa110_assets.rawfile import validate_raw_file
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import SubbandFile

BEING_WRITTEN = "_incomplete.hdf5"
"""End of the name of a file that its node still writes; such files are not even listed."""

MAX_NEW = 320
"""Files that one call opens at most: twenty observations."""

SETTLE_S = 1.0
"""A file that was modified less than this ago and does not read is not rejected yet."""

FUTURE_TOLERANCE_S = 600.0
"""A file that starts later than this after the scan is rejected for good: its times cannot be trusted."""


@dataclass(frozen=True)
class ScanReport:
    """What a scan saw and did.

    ``n_listed``: files that were compared with the ledger, those being written not counted. ``n_opened``: files whose header was read.
    ``accepted``: paths of valid files, newly booked (duplicates of a subband included, see ``booked``). ``rejected``: path and reason.
    ``booked``: the ledger's verdict on each valid file. ``not_yet``: files that still grow; look at them again. ``gone``: paths that were deleted.
    ``pending``, ``failed``: groups that were closed. ``n_unread``: new files that were left for the next call.
    ``n_being_written``: files that bear ``_incomplete``. ``looks_unmounted``: the directory is empty although the ledger knows files in it.
    """

    n_listed: int = 0
    n_opened: int = 0
    n_being_written: int = 0
    n_unread: int = 0
    booked: tuple[Booked, ...] = ()
    rejected: tuple[Rejection, ...] = ()
    not_yet: tuple[Path, ...] = ()
    gone: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    looks_unmounted: bool = False

    @property
    def accepted(self) -> tuple[str, ...]:
        """Paths of the files that are now the accepted file of their subband."""
        return tuple(one.path for one in self.booked if one.state == "accepted")

    @property
    def groups_changed(self) -> tuple[str, ...]:
        """Groups that got a file or were closed."""
        return tuple(sorted({one.group_id for one in self.booked if one.group_id is not None} | set(self.pending) | set(self.failed)))


class _Listed(NamedTuple):
    path: str
    size_bytes: int
    mtime_ns: int
    trouble: str | None = None  # what the operating system said instead of the file's size

    @property
    def name(self) -> RawName | None:
        """What the name says; parsed for news only, because it is dear."""
        return parse_raw_name(self.path.rpartition(os.sep)[2])


class _Known(NamedTuple):
    size_bytes: int
    mtime_ns: int
    state: str
    look_again: bool


def scan_directory(
    database: Database,
    directory: Path,
    config: PipelineConfig,
    now: datetime,
    hints: Iterable[Path] | None = None,
    *,
    max_new: int = MAX_NEW,
) -> ScanReport:
    """Bring the ledger up to date with the input directory, and close the groups that are ready.

    New files are judged newest first by the time in their name, at most ``max_new`` in a call; deadlines of groups that
    unread files may belong to wait. Nothing is written to the directory.

    Args:
        database: the registry.
        directory: flat directory of raw files; read only.
        config: numbers of subbands, deadline, first night.
        now: time of the scan, aware, UTC.
        hints: look at these paths only (others than files directly in ``directory`` are ignored); all of the directory when None.
        max_new: bound of the files that are opened.

    Raises:
        ConfigurationError: the directory cannot be listed.
        RegistryError: the database cannot be reached; nothing was booked.
    """
    directory = directory.absolute()
    n_being_written, listed = _list(directory, None if hints is None else list(hints))
    known = _known_files(database, directory, None if hints is None else list(listed))
    fresh = [one for one in listed.values() if _is_news(one, known.get(one.path), retry_unreadable=hints is None)]
    fresh.sort(key=_newest_first, reverse=True)
    to_read, unread = fresh[:max_new], fresh[max_new:]
    report = ScanReport(n_listed=len(listed), n_being_written=n_being_written, n_unread=len(unread))
    report, valid = _judge(report, to_read, config, now)
    gone: list[str] = []
    if hints is None:
        gone = [path for path, entry in known.items() if entry.state != "gone" and path not in listed]
        if gone and not listed and not n_being_written:
            report, gone = replace(report, looks_unmounted=True), []
    with database.session() as session:
        booked = arrivals.accept_files(session, valid, now) if valid else []
        arrivals.reject_files(session, report.rejected, now)
        arrivals.mark_gone(session, gone, now)
        closed = closing.close_ready_groups(session, now, config, unread=[name.stamp for one in unread if (name := one.name) is not None])
    return replace(report, booked=tuple(booked), gone=tuple(gone), pending=closed.pending, failed=closed.failed)


# --- listing --------------------------------------------------------------------------------------------------------
def _list(directory: Path, hints: list[Path] | None) -> tuple[int, dict[str, _Listed]]:
    listed: dict[str, _Listed] = {}
    n_being_written = 0
    try:
        for name in _names(directory, hints):
            if name.startswith("."):  # what copying programs write to; renamed at the end
                continue
            if name.endswith(BEING_WRITTEN):
                n_being_written += 1
                continue
            path = f"{directory}{os.sep}{name}"
            try:
                facts = os.stat(path)  # noqa: PTH116 - a hundred thousand Path objects are dear
            except FileNotFoundError:
                continue
            except OSError as error:  # one file that the disk does not give must not hide the others
                listed[path] = _Listed(path, 0, 0, error.strerror)
                continue
            if stat.S_ISREG(facts.st_mode):
                listed[path] = _Listed(path, facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise ConfigurationError(
            "PIPELINE_INPUT_DIR",
            f"{directory} cannot be listed ({error.strerror})",
            "mount it, or set it to the directory of the raw files",
        ) from error
    return n_being_written, listed


def _names(directory: Path, hints: list[Path] | None) -> Iterator[str]:
    if hints is not None:
        yield from {hint.name for hint in hints if hint.absolute().parent == directory}
        return
    with os.scandir(directory) as entries:
        for entry in entries:
            yield entry.name


def _known_files(database: Database, directory: Path, paths: list[str] | None) -> dict[str, _Known]:
    """Rows of the files in a directory (or of some of them), without making objects of them."""
    query = select(
        SubbandFile.path,
        SubbandFile.size_bytes,
        SubbandFile.mtime_ns,
        SubbandFile.state,
        func.coalesce(SubbandFile.reason.startswith(Reason.UNREADABLE.value), False),
    )
    query = (
        query.where(SubbandFile.path.startswith(f"{directory}{os.sep}", autoescape=True))
        if paths is None
        else query.where(SubbandFile.path.in_(paths))
    )
    with database.session() as session:
        return {path: _Known(size, mtime_ns, state, again) for path, size, mtime_ns, state, again in session.execute(query).tuples()}


def _is_news(one: _Listed, known: _Known | None, *, retry_unreadable: bool) -> bool:
    if one.trouble is not None:  # it may pass; what is known of the file stays true until then
        return known is None or known.state == "gone"
    if known is None or known.state == "gone" or (one.size_bytes, one.mtime_ns) != (known.size_bytes, known.mtime_ns):
        return True
    return known.look_again and retry_unreadable


def _newest_first(one: _Listed) -> tuple[bool, str]:
    """Key of the order of reading: by the time in the name, which sorts as text; foreign names last."""
    return one.name is not None, one.path


# --- judging --------------------------------------------------------------------------------------------------------
def _judge(report: ScanReport, files: list[_Listed], config: PipelineConfig, now: datetime) -> tuple[ScanReport, list[FileFacts]]:
    valid: list[FileFacts] = []
    rejected: list[Rejection] = []
    not_yet: list[Path] = []
    n_opened = 0
    for one in files:
        outcome = _judge_name(one, config)
        if outcome is None:
            n_opened += 1
            outcome = _judge_content(one, config, now)
        if isinstance(outcome, FileFacts):
            valid.append(outcome)
        elif outcome is None:
            not_yet.append(Path(one.path))
        else:
            rejected.append(outcome)
    return replace(report, n_opened=n_opened, rejected=tuple(rejected), not_yet=tuple(not_yet)), valid


def _judge_name(one: _Listed, config: PipelineConfig) -> Rejection | None:
    if one.trouble is not None:
        return _rejection(one, Reason.UNREADABLE, one.trouble)
    name = one.name
    if name is None:
        return _rejection(one, Reason.NAME, "not YYYY-MM-DDTHH:MM:SS_sbNN.hdf5")
    if name.subband >= config.expected_subbands:
        return _rejection(
            one, Reason.SUBBAND, f"sb{name.subband:02d} does not exist: subbands are 00 to {config.expected_subbands - 1:02d}"
        )
    return None


def _judge_content(one: _Listed, config: PipelineConfig, now: datetime) -> FileFacts | Rejection | None:
    """Facts of a valid file, the reason against an invalid one, None for one that changes while it is looked at."""
    path = Path(one.path)
    try:
        header = validate_raw_file(path, now_jd=math.inf)  # the future is judged below, with a closer limit
    except InvalidRawFileError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError) or abs(now.timestamp() - one.mtime_ns * 1e-9) < SETTLE_S or not _same(path, one):
            return None
        transient = isinstance(cause, OSError) and cause.errno is not None  # the disk or the permissions, not the content
        return _rejection(one, Reason.UNREADABLE if transient else Reason.CONTENT, error.cause)
    if not _same(path, one):
        return None
    facts = FileFacts.of(header, one.mtime_ns)
    if facts.group_id[:10] < config.partition_start.isoformat():
        return _rejection(one, Reason.BEFORE_START, f"starts {facts.group_id}, before PIPELINE_PARTITION_START {config.partition_start}")
    if facts.start_mjd > datetime_to_mjd(now) + FUTURE_TOLERANCE_S / 86_400.0:
        return _rejection(one, Reason.FUTURE, f"starts {facts.group_id}, now is {now:%Y-%m-%dT%H:%M:%S}: a clock is wrong")
    return facts


def _same(path: Path, one: _Listed) -> bool:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    return (facts.st_size, facts.st_mtime_ns) == (one.size_bytes, one.mtime_ns)


def _rejection(one: _Listed, kind: Reason, detail: str) -> Rejection:
    name = one.name
    return Rejection(one.path, f"{kind}: {detail}", one.size_bytes, one.mtime_ns, name.subband if name else None)
