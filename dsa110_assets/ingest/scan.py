"""Scan the input directory: find new and changed files, check them, record them.

The periodic scan finds all files. The watcher (`watch`) only hints at names to check now. A file is opened once, and
again only when its size or time of modification has changed (`sweep`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from dsa110_assets import raw_checksums
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError, InvalidRawFileError
from dsa110_assets.files import is_storable, printable
from dsa110_assets.ingest import arrivals, closing
from dsa110_assets.ingest.arrivals import Booked, FileFacts, Rejection
from dsa110_assets.ingest.grouping import Reason
from dsa110_assets.ingest.sweep import Listed, Sweep, names_of_hints, newest_first, unknown_or_changed
from dsa110_assets.rawfile import is_future_dated, validate_raw_file
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import FileState
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd

MAX_NEW = 320
"""Maximum number of files that one call opens: twenty observations."""

FEWEST_NEW = 16
"""Number of files that one call opens even when its time is over: one observation."""

SETTLE_S = 1.0
"""An invalid file that was modified less than this ago is not rejected yet."""


@dataclass(frozen=True)
class ScanReport:
    """Results of a scan.

    ``n_listed``: files compared with the ledger, without those being written. ``n_opened``: files whose header was
    read. ``booked``: the ledger's outcome for each valid file. ``rejected``: paths and reasons. ``not_yet``: files that
    are still growing and must be checked again. ``gone``: deleted paths. ``pending``, ``failed``: observations that
    were closed. ``n_unread``: new files left for the next call. ``n_being_written``: files named ``_incomplete``.
    ``looks_unmounted``: the directory is empty although the ledger has files in it.
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
        """Paths of the files that were recorded as accepted, without duplicates of a subband."""
        return tuple(file.path for file in self.booked if file.state == FileState.ACCEPTED)


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
    """Bring the ledger up to date with the input directory, and close the observations that are ready.

    New files are checked newest first by the time in their name, at most ``max_new`` in a call. Deadlines wait for
    unread files that may belong to the observation. Nothing is written to the directory.

    Args:
        database: the registry.
        directory: flat directory of raw files; read only.
        config: numbers of subbands, deadline, first night.
        now: time of the scan, aware, UTC.
        hints: paths to check; those that are not directly in ``directory`` are ignored. Without hints and sweep, scan
            the whole directory.
        sweep: also continue this sweep of the directory as far as the time allows.
        max_new: maximum number of files to open.
        time_limit_s: wall-clock time, seconds, after which no further file is opened. Half of it is for the sweep. At
            least `FEWEST_NEW` files are opened and one part of the sweep is done, so slow disks do not stop ingest.

    Raises:
        ConfigurationError: the directory cannot be listed.
        RegistryError: the database cannot be reached; nothing was recorded.
    """
    began = time.monotonic()
    directory = directory.absolute()
    if not is_storable(directory):
        raise ConfigurationError(
            "PIPELINE_INPUT_DIR",
            f"{printable(directory)} is not a name in UTF-8 without control characters, so its files cannot be registered",
            "rename the directory, or link to it under another name",
        )
    n_listed, fresh, gone = 0, list[Listed](), list[str]()
    if hints is not None:
        n_listed, fresh = unknown_or_changed(database, directory, names_of_hints(directory, hints), retry_unreadable=False)
    elif sweep is None:
        sweep = Sweep(directory)
    if sweep is not None:
        limited = math.isfinite(time_limit_s)
        compared, gone = sweep.advance(database, until=began + time_limit_s / 2, max_unread=max_new if limited else math.inf)
        n_listed += compared
        fresh = list({file.key: file for file in (*sweep.unread, *fresh)}.values())
    fresh = newest_first(fresh)
    report, valid, unread = _judge(fresh, config, now, max_new, began + time_limit_s)
    report = replace(report, n_listed=n_listed, n_being_written=sweep.n_being_written if sweep else 0, n_unread=len(unread))
    if sweep is not None and gone and sweep.is_empty:
        report, gone = replace(report, looks_unmounted=True), []
    with database.session() as session:
        booked = arrivals.accept_files(session, valid, now) if valid else []
        arrivals.reject_files(session, report.rejected, now)
        arrivals.mark_gone(session, gone, now)
        closed = closing.close_ready_observations(
            session, now, config, unread=[name.stamp for file in unread if (name := file.name) is not None]
        )
    if sweep is not None:
        sweep.mark_booked(unread, gone)  # after the commit: files that were not recorded are checked again
    return replace(report, booked=tuple(booked), gone=tuple(gone), pending=closed.pending, failed=closed.failed)


# --- checking files -------------------------------------------------------------------------------------------------
def _judge(
    files: list[Listed], config: PipelineConfig, now: datetime, max_new: int, until: float
) -> tuple[ScanReport, list[FileFacts], list[Listed]]:
    """Check files one after the other. Return the report, the valid files, and the files left over by the limits."""
    valid: list[FileFacts] = []
    rejected: list[Rejection] = []
    not_yet: list[Path] = []
    n_opened = n_judged = 0
    for file in files[:max_new]:
        if n_judged >= FEWEST_NEW and time.monotonic() >= until:
            break
        n_judged += 1
        outcome = _judge_name(file, config)
        if outcome is None:
            n_opened += 1
            outcome = _judge_content(file, config, now)
        if isinstance(outcome, FileFacts):
            valid.append(outcome)
        elif outcome is None:
            not_yet.append(Path(file.path))
        else:
            rejected.append(outcome)
    return ScanReport(n_opened=n_opened, rejected=tuple(rejected), not_yet=tuple(not_yet)), valid, files[n_judged:]


def _judge_name(file: Listed, config: PipelineConfig) -> Rejection | None:
    if file.error is not None:
        return _rejection(file, Reason.UNREADABLE, file.error)
    name = file.name
    if name is None:
        return _rejection(file, Reason.NAME, "not YYYY-MM-DDTHH:MM:SS_sbNN.hdf5")
    if name.subband >= config.expected_subbands:
        return _rejection(
            file, Reason.SUBBAND, f"sb{name.subband:02d} does not exist: subbands are 00 to {config.expected_subbands - 1:02d}"
        )
    return None


def _judge_content(file: Listed, config: PipelineConfig, now: datetime) -> FileFacts | Rejection | None:
    """Facts of a valid file, the rejection of an invalid one, or None for one that changes during the check."""
    path = Path(file.path)
    try:
        header = validate_raw_file(path, now_jd=math.inf)  # the future is checked below, by the scan's clock
        sha256 = _first_checksum(path) if config.raw_checksums == "first-sight" else None
    except InvalidRawFileError as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError) or abs(now.timestamp() - file.mtime_ns * 1e-9) < SETTLE_S or not _is_unchanged(path, file):
            return None
        transient = isinstance(cause, OSError) and cause.errno is not None  # the disk or the permissions, not the content
        return _rejection(file, Reason.UNREADABLE if transient else Reason.CONTENT, error.cause)
    if not _is_unchanged(path, file):
        return None
    facts = FileFacts.of(header, file.mtime_ns, sha256)
    if facts.group_id[:10] < config.partition_start.isoformat():
        return _rejection(file, Reason.BEFORE_START, f"starts {facts.group_id}, before PIPELINE_PARTITION_START {config.partition_start}")
    if is_future_dated(header, datetime_to_mjd(now) + JD_MINUS_MJD):
        return _rejection(file, Reason.FUTURE, f"starts {facts.group_id}, now is {now:%Y-%m-%dT%H:%M:%S}: a clock is wrong")
    return facts


def _first_checksum(path: Path) -> str:
    try:
        return raw_checksums.sha256_of(path)
    except OSError as error:
        raise InvalidRawFileError(path, f"cannot be read to its end ({error.strerror})", "look at the disk of the raw files") from error


def _is_unchanged(path: Path, file: Listed) -> bool:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return False
    return (facts.st_size, facts.st_mtime_ns) == (file.size_bytes, file.mtime_ns)


def _rejection(file: Listed, kind: Reason, detail: str) -> Rejection:
    name = file.name
    return Rejection(file.key, printable(f"{kind}: {detail}"), file.size_bytes, file.mtime_ns, name.subband if name else None)
