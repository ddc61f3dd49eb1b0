"""Booking of raw files: which file is which subband of which observation.

The start time in the header identifies the observation (pitfall 25): `accept_files` assigns a file by its
``time_array[0]`` and ignores the time in its name. After each booking `_settle` applies one rule to all files of the
observation, so the order in which files arrive, change, vanish or return does not matter:

* The observation's start is the one that most subbands share (`grouping`). It follows the majority while the
  observation is collecting. A start that rounds to another identifier is another observation; if it came from a stray
  node, that observation fails as incomplete and does no harm.
* A second file of a subband is ``superseded``. It replaces the first one when that vanishes.

Raw files are never opened for writing, moved or renamed (pitfall 28). One advisory lock serializes all bookings, so
concurrent scanners are safe. Each function is one transaction; the caller's session commits it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import degrees

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from dsa110_assets.ingest.grouping import Member, judge, subbands_by_start
from dsa110_assets.ingest.transitions import reopen
from dsa110_assets.rawfile import RawHeader
from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage
from dsa110_assets.times import JD_MINUS_MJD, datetime_to_mjd, group_id_of, tile_partition

LIVE_PRIORITY = 10
BACKFILL_PRIORITY = 0
LIVE_FOR = timedelta(days=1)
"""An observation older than this when its first file is seen is backfill."""

_ARRIVALS_LOCK = 0x44534131_31300001
_CHUNK = 10_000


@dataclass(frozen=True)
class FileFacts:
    """Facts about a valid raw file that the ledger needs.

    ``path``: absolute. ``subband``: 0 is the highest. ``size_bytes``, ``mtime_ns``: at the time of the check.
    ``start_jd``: center of the first integration, UTC JD, exactly as in the header. ``end_jd``: center of the last one.
    ``n_times``: number of integrations. ``dec_deg``: pointing declination (apparent).
    ``sha256``: of all bytes, if asked for.
    """

    path: str
    subband: int
    size_bytes: int
    mtime_ns: int
    start_jd: float
    end_jd: float
    n_times: int
    dec_deg: float
    sha256: str | None = None

    @classmethod
    def of(cls, header: RawHeader, mtime_ns: int, sha256: str | None = None) -> FileFacts:
        """Facts of a validated header. ``mtime_ns``: time of modification before the file was read."""
        return cls(
            path=str(header.path),
            subband=header.subband,
            size_bytes=header.size_bytes,
            mtime_ns=mtime_ns,
            start_jd=header.start_jd,
            end_jd=float(header.times_jd[-1]),
            n_times=header.n_times,
            dec_deg=degrees(header.pointing_dec_rad),
            sha256=sha256,
        )

    @property
    def group_id(self) -> str:
        """Identifier of the observation."""
        return group_id_of(self.start_jd)

    @property
    def start_mjd(self) -> float:
        """Center of the first integration, UTC MJD. Exact: this difference needs no rounding."""
        return self.start_jd - JD_MINUS_MJD

    @property
    def end_mjd(self) -> float:
        """Center of the last integration, UTC MJD."""
        return self.end_jd - JD_MINUS_MJD


@dataclass(frozen=True)
class Rejection:
    """A rejected file and the reason. ``subband``: from its name, if that has one."""

    path: str
    reason: str
    size_bytes: int
    mtime_ns: int
    subband: int | None = None


@dataclass(frozen=True)
class Booked:
    """Outcome of booking one file. ``state`` and ``reason`` as in `SubbandFile`."""

    path: str
    group_id: str | None
    state: str
    reason: str | None


def accept_files(session: Session, arrived: Sequence[FileFacts], now: datetime) -> list[Booked]:
    """Book valid files, new or changed, and settle their observations. Create observations as needed.

    A late subband reopens its observation. A completed or failed observation goes back to ``collecting``, and to
    ``pending`` at the next `closing.close_ready_observations` if it is complete or past its deadline. An observation in
    progress is marked to be reopened. Booking the same file again changes nothing.

    Returns:
        The outcome of each file, in the given order.
    """
    _lock_arrivals(session)
    by_path = {facts.path: facts for facts in arrived}
    before = _rows(session, paths=list(by_path))
    group_ids = {facts.group_id for facts in by_path.values()} | {row.group_id for row in before.values() if row.group_id is not None}
    observations = _lock_observations(session, group_ids)
    for facts in sorted(by_path.values(), key=lambda f: f.group_id):
        if facts.group_id not in observations:
            observations[facts.group_id] = _new_observation(facts, now)
            session.add(observations[facts.group_id])
    session.flush()  # observations before the files that refer to them
    files = _files_of(session, group_ids)
    rewritten: set[str] = set()
    for facts in by_path.values():
        row = before.get(facts.path)
        if row is None:
            row = SubbandFile(path=facts.path, state=FileState.SUPERSEDED.value, first_seen_at=now)
        elif row.group_id is not None and row.group_id != facts.group_id:
            files[row.group_id].pop(row.path, None)
        if row.state == FileState.ACCEPTED and row.size_bytes != facts.size_bytes:
            rewritten.add(facts.group_id)
        _book(row, facts, now)
        files[facts.group_id][row.path] = row
    by_observation: dict[str, list[FileFacts]] = defaultdict(list)
    for facts in by_path.values():
        by_observation[facts.group_id].append(facts)
    _settle_observations(session, observations, files, by_observation, now, rewritten)
    for group_id in by_observation:
        observations[group_id].last_file_at = now
    return [Booked(f.path, f.group_id, row.state, row.reason) for f in arrived for row in [files[f.group_id][f.path]]]


def reject_files(session: Session, rejections: Sequence[Rejection], now: datetime) -> None:
    """Record files as rejected, with the reasons. A file that was accepted before leaves its observation."""
    if not rejections:
        return
    _lock_arrivals(session)
    before = _rows(session, paths=[r.path for r in rejections])
    observations = _lock_observations(session, {row.group_id for row in before.values() if row.group_id is not None})
    for rejection in rejections:
        row = before.get(rejection.path)
        if row is None:
            row = SubbandFile(path=rejection.path, first_seen_at=now)
            session.add(row)
        row.group_id = None
        row.subband = rejection.subband
        row.state = FileState.REJECTED.value
        row.reason = rejection.reason
        row.size_bytes = rejection.size_bytes
        row.mtime_ns = rejection.mtime_ns
        row.start_mjd = row.n_times = row.sha256 = None
        row.judged_at = now
    session.flush()
    _settle_observations(session, observations, _files_of(session, observations), {}, now, set())


def mark_gone(session: Session, paths: Sequence[str], now: datetime) -> None:
    """Record deleted files. Count the subbands of observations that still wait; others keep their count."""
    if not paths:
        return
    _lock_arrivals(session)
    waiting: set[str] = set()
    for chunk in _chunks(paths):
        waiting.update(
            session.scalars(
                select(IngestGroup.group_id)
                .join(SubbandFile, SubbandFile.group_id == IngestGroup.group_id)
                .where(SubbandFile.path.in_(chunk), IngestGroup.state.in_((GroupState.COLLECTING, GroupState.PENDING)))
                .distinct()
            )
        )
    observations = _lock_observations(session, waiting)
    for chunk in _chunks(paths):
        session.execute(
            update(SubbandFile).where(SubbandFile.path.in_(chunk)).values(state=FileState.GONE.value, reason="deleted", judged_at=now),
            execution_options={"synchronize_session": False},
        )
    _settle_observations(session, observations, _files_of(session, observations), {}, now, set())


# --- the rule -------------------------------------------------------------------------------------------------------
def _settle(
    observation: IngestGroup, files: dict[str, SubbandFile], arrived: Iterable[FileFacts]
) -> dict[str, tuple[FileState, str | None]]:
    """State and reason of each valid file of an observation. Change its times when another start has the majority."""
    rows = sorted(files.values(), key=lambda r: (r.state != FileState.ACCEPTED, r.first_seen_at, r.path))
    members = [Member(row.path, row.subband, row.start_mjd) for row in rows if row.subband is not None and row.start_mjd is not None]
    support = subbands_by_start(members)
    facts_of_start = {facts.start_mjd: facts for facts in arrived}
    if observation.state == GroupState.COLLECTING and observation.attempt == 0:
        for start, facts in facts_of_start.items():
            if len(support.get(start, ())) > len(support.get(observation.start_mjd, ())):
                _set_times(observation, facts)
    for facts in facts_of_start.values():
        if facts.start_mjd == observation.start_mjd and facts.end_mjd > observation.end_mjd:
            _set_times(observation, facts)
    return judge(observation.group_id, observation.start_mjd, members)


def _settle_observations(
    session: Session,
    observations: dict[str, IngestGroup],
    files: dict[str, dict[str, SubbandFile]],
    arrived: dict[str, list[FileFacts]],
    now: datetime,
    rewritten: set[str],
) -> None:
    """Apply the rule to observations.

    Write demotions before promotions, because the database allows one accepted file for each subband.
    """
    verdicts = {
        group_id: _settle(observation, files[group_id], arrived.get(group_id, ())) for group_id, observation in observations.items()
    }
    promoted: set[str] = set()
    for accepted in (False, True):
        for group_id, file_verdicts in verdicts.items():
            for path, (state, reason) in file_verdicts.items():
                row = files[group_id][path]
                if (state == FileState.ACCEPTED) == accepted and (row.state, row.reason) != (state, reason):
                    row.state, row.reason = state.value, reason
                    promoted.update([group_id] if accepted else [])
        session.flush()
    for group_id, observation in observations.items():
        session.add_all(files[group_id].values())
        n_accepted = sum(row.state == FileState.ACCEPTED for row in files[group_id].values())
        _update_observation(observation, n_accepted, now, promoted=group_id in promoted, rewritten=group_id in rewritten)
    session.flush()


def _update_observation(observation: IngestGroup, n_accepted: int, now: datetime, *, promoted: bool, rewritten: bool) -> None:
    """Change an observation's state after its files were settled. Only `closing` makes it pending."""
    gained = n_accepted > observation.n_subbands or (rewritten and n_accepted >= observation.n_subbands)
    if _needs_raw_files(observation):
        if n_accepted != observation.n_subbands or promoted or rewritten:
            observation.state = GroupState.COLLECTING.value
        observation.n_subbands = n_accepted
    elif observation.state == GroupState.IN_PROGRESS:
        observation.reopen = observation.reopen or gained
    elif gained:
        reopen(observation, n_accepted)
    observation.updated_at = now


def _needs_raw_files(observation: IngestGroup) -> bool:
    """Whether the raw files will be read. An observation that waits for calibration already has its Measurement Set."""
    return observation.state == GroupState.COLLECTING or (observation.state == GroupState.PENDING and observation.stage == TileStage.RAW)


# --- rows -----------------------------------------------------------------------------------------------------------
def _lock_arrivals(session: Session) -> None:
    session.execute(select(func.pg_advisory_xact_lock(_ARRIVALS_LOCK)))


def _rows(session: Session, paths: Sequence[str]) -> dict[str, SubbandFile]:
    rows: dict[str, SubbandFile] = {}
    for chunk in _chunks(paths):
        query = select(SubbandFile).where(SubbandFile.path.in_(chunk)).execution_options(populate_existing=True)
        rows.update((row.path, row) for row in session.scalars(query))
    return rows


def _lock_observations(session: Session, group_ids: Iterable[str]) -> dict[str, IngestGroup]:
    """Lock the rows of existing observations and return them. The order by name prevents deadlocks."""
    observations: dict[str, IngestGroup] = {}
    for chunk in _chunks(sorted(group_ids)):
        query = (
            select(IngestGroup)
            .where(IngestGroup.group_id.in_(chunk))
            .order_by(IngestGroup.group_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        observations.update((observation.group_id, observation) for observation in session.scalars(query))
    return observations


def _files_of(session: Session, group_ids: Iterable[str]) -> dict[str, dict[str, SubbandFile]]:
    """Valid files on disk, by observation and path: accepted, superseded, or rejected for their start only."""
    files: dict[str, dict[str, SubbandFile]] = {group_id: {} for group_id in group_ids}
    for chunk in _chunks(sorted(files)):
        query = (
            select(SubbandFile)
            .where(SubbandFile.group_id.in_(chunk), SubbandFile.state != FileState.GONE)
            .execution_options(populate_existing=True)
        )
        for row in session.scalars(query):
            assert row.group_id is not None
            files[row.group_id][row.path] = row
    return files


def _chunks(items: Sequence[str]) -> Iterable[Sequence[str]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))


def _new_observation(facts: FileFacts, now: datetime) -> IngestGroup:
    night, slot = tile_partition(facts.group_id)
    live = datetime_to_mjd(now) - facts.start_mjd < LIVE_FOR / timedelta(days=1)
    observation = IngestGroup(
        group_id=facts.group_id,
        state=GroupState.COLLECTING.value,
        stage=TileStage.RAW.value,
        night=date.fromisoformat(night),
        slot=slot,
        n_subbands=0,
        missing_subbands=[],
        attempt=0,
        failures=0,
        reopen=False,
        priority=LIVE_PRIORITY if live else BACKFILL_PRIORITY,
        first_seen_at=now,
        last_file_at=now,
    )
    _set_times(observation, facts)
    return observation


def _set_times(observation: IngestGroup, facts: FileFacts) -> None:
    observation.start_mjd = facts.start_mjd
    observation.end_mjd = facts.end_mjd
    observation.mid_mjd = 0.5 * (facts.start_mjd + facts.end_mjd)
    observation.dec_deg = facts.dec_deg


def _book(row: SubbandFile, facts: FileFacts, now: datetime) -> None:
    if (row.group_id, row.subband) != (facts.group_id, facts.subband) or row.state not in (FileState.ACCEPTED, FileState.SUPERSEDED):
        row.state = FileState.SUPERSEDED.value  # until the observation is settled
        row.reason = None
    row.group_id = facts.group_id
    row.subband = facts.subband
    row.size_bytes = facts.size_bytes
    row.mtime_ns = facts.mtime_ns
    row.start_mjd = facts.start_mjd
    row.n_times = facts.n_times
    row.sha256 = facts.sha256
    row.judged_at = now
