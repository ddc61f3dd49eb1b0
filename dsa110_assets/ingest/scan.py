"""One look at the input directory: find new and changed files, judge them, book them.

The periodic scan is the truth, the watcher (`watch`) only a hint which names to look at now. A file is opened once: it is
looked at again only when its size or time of modification has changed (`sweep`). What does not belong here: what makes a file
valid (`rawfile`), grouping (`arrivals`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRawFileError
from dsa110_assets.ingest import arrivals, closing
from dsa110_assets.ingest.arrivals import Booked, FileFacts, Rejection
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.ingest.sweep import Listed, Sweep, hinted, newest_first, news
from dsa110_assets.rawfile import is_future_dated, validate_raw_file
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd

MAX_NEW = 320
"""Files that one call opens at most: twenty observations."""

FEWEST_NEW = 16
"""Files that one call opens even when its time is over: one observation."""

SETTLE_S = 1.0
"""A file that was modified less than this ago and does not read is not rejected yet."""


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
        return tuple(one.path for one in self.booked if one.state == FileState.ACCEPTED)


def scan_directory(
    database: Database,
    directory: Path,
    config: PipelineConfig,
    now: datetime,
    hints: Iterable[Path] | None = None,
    *,
    sweep: Sweep | None = None,
    max_new: int = MAX_NEW,
    time_limit_s: float = math.inf,
) -> ScanReport:
    """Bring the ledger up to date with the input directory, and close the groups that are ready.

    New files are judged newest first by the time in their name, at most ``max_new`` in a call; deadlines of groups that
    unread files may belong to wait. Nothing is written to the directory.

    Args:
        database: the registry.
        directory: flat directory of raw files; read only.
        config: numbers of subbands, deadline, first night.
        now: time of the scan, aware, UTC.
        hints: look at these paths (others than files directly in ``directory`` are ignored). Without hints and sweep: at all of
            the directory, to the end.
        sweep: also go on with this walk over the directory, as far as the time allows.
        max_new: bound of the files that are opened.
        time_limit_s: wall-clock time, seconds, after which no further file is opened; half of it is for the sweep. At least
            `FEWEST_NEW` files are opened, and one part of the sweep is done, so that slow disks do not stop everything.

    Raises:
        ConfigurationError: the directory cannot be listed.
        RegistryError: the database cannot be reached; nothing was booked.
    """
    began = time.monotonic()
    directory = directory.absolute()
    n_listed, fresh, gone = 0, list[Listed](), list[str]()
    if hints is not None:
        n_listed, fresh = news(database, directory, hinted(directory, hints), retry_unreadable=False)
    elif sweep is None:
        sweep = Sweep(directory)
    if sweep is not None:
        limited = math.isfinite(time_limit_s)
        compared, gone = sweep.advance(database, until=began + time_limit_s / 2, enough=max_new if limited else math.inf)
        n_listed += compared
        fresh = list({one.path: one for one in (*sweep.unread, *fresh)}.values())
    fresh = newest_first(fresh)
    report, valid, unread = _judge(fresh, config, now, max_new, began + time_limit_s)
    report = replace(report, n_listed=n_listed, n_being_written=sweep.n_being_written if sweep else 0, n_unread=len(unread))
    if sweep is not None and gone and sweep.sees_nothing:
        report, gone = replace(report, looks_unmounted=True), []
    with database.session() as session:
        booked = arrivals.accept_files(session, valid, now) if valid else []
        arrivals.reject_files(session, report.rejected, now)
        arrivals.mark_gone(session, gone, now)
        closed = closing.close_ready_groups(session, now, config, unread=[name.stamp for one in unread if (name := one.name) is not None])
    if sweep is not None:
        sweep.booked(unread, gone)  # what the database has not taken is judged again
    return replace(report, booked=tuple(booked), gone=tuple(gone), pending=closed.pending, failed=closed.failed)


# --- judging --------------------------------------------------------------------------------------------------------
def _judge(
    files: list[Listed], config: PipelineConfig, now: datetime, max_new: int, until: float
) -> tuple[ScanReport, list[FileFacts], list[Listed]]:
    """Verdicts on files, one after the other; the last value are those that bound and time have left."""
    valid: list[FileFacts] = []
    rejected: list[Rejection] = []
    not_yet: list[Path] = []
    n_opened = n_judged = 0
    for one in files[:max_new]:
        if n_judged >= FEWEST_NEW and time.monotonic() >= until:
            break
        n_judged += 1
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
    return ScanReport(n_opened=n_opened, rejected=tuple(rejected), not_yet=tuple(not_yet)), valid, files[n_judged:]


def _judge_name(one: Listed, config: PipelineConfig) -> Rejection | None:
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


def _judge_content(one: Listed, config: PipelineConfig, now: datetime) -> FileFacts | Rejection | None:
    """Facts of a valid file, the reason against an invalid one, None for one that changes while it is looked at."""
    path = Path(one.path)
    try:
        header = validate_raw_file(path, now_jd=math.inf)  # the future is judged below, by the scan's clock and with its own reason
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
    if is_future_dated(header, datetime_to_mjd(now) + JD_MINUS_MJD):
        return _rejection(one, Reason.FUTURE, f"starts {facts.group_id}, now is {now:%Y-%m-%dT%H:%M:%S}: a clock is wrong")
    return facts


def _same(path: Path, one: Listed) -> bool:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    return (facts.st_size, facts.st_mtime_ns) == (one.size_bytes, one.mtime_ns)


def _rejection(one: Listed, kind: Reason, detail: str) -> Rejection:
    name = one.name
    return Rejection(one.path, f"{kind}: {detail}", one.size_bytes, one.mtime_ns, name.subband if name else None)
