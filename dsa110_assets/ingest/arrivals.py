"""Booking of raw files: which file is which subband of which observation.

An observation is the header's start time (pitfall 25): `accept_files` puts a file into the group of its ``time_array[0]``,
whatever its name says. After each booking the group's files are settled anew by one rule, `_settle`, so that the order
in which files come, change, vanish or come back does not matter:

* The start that most subbands share is the observation's (`grouping`); it changes when the majority does, as long as the group is
  collecting. (A start that rounds to another identifier is another group; if it was a stray node's, that group fails as incomplete
  and does no harm.)
* A second file of a subband is ``superseded`` and steps in when the first vanishes.

Raw files are never opened for writing, moved or renamed here or anywhere (pitfall 28). All bookings are serialised by one
advisory lock, so that two scanners cannot hurt one another; each function is one transaction, which the caller's session
commits. What does not belong here: judging a file's content (`rawfile`), working on an observation (`ledger`).
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
"""Observations that are older than this when their first file is seen are backfill."""

_ARRIVALS_LOCK = 0x44534131_31300001
_CHUNK = 10_000


@dataclass(frozen=True)
class FileFacts:
    """What the ledger needs to know about a valid raw file.

    ``path``: absolute. ``subband``: 0 is the top of the band. ``size_bytes``/``mtime_ns``: as of the judgement.
    ``start_jd``: centre of the first integration, UTC JD, exactly as in the header. ``end_jd``: centre of the last one.
    ``n_times``: integrations. ``dec_deg``: pointing declination (apparent).
    """

    path: str
    subband: int
    size_bytes: int
    mtime_ns: int
    start_jd: float
    end_jd: float
    n_times: int
    dec_deg: float

    @classmethod
    def of(cls, header: RawHeader, mtime_ns: int) -> FileFacts:
        """Facts of a validated header; ``mtime_ns`` as it was before the file was read."""
        return cls(
            path=str(header.path),
            subband=header.subband,
            size_bytes=header.size_bytes,
            mtime_ns=mtime_ns,
            start_jd=header.start_jd,
            end_jd=float(header.times_jd[-1]),
            n_times=header.n_times,
            dec_deg=degrees(header.pointing_dec_rad),
        )

    @property
    def group_id(self) -> str:
        """Identifier of the observation."""
        return group_id_of(self.start_jd)

    @property
    def start_mjd(self) -> float:
        """Exact: the difference of the two floating-point numbers needs no rounding."""
        return self.start_jd - JD_MINUS_MJD

    @property
    def end_mjd(self) -> float:
        """Centre of the last integration, UTC MJD."""
        return self.end_jd - JD_MINUS_MJD


@dataclass(frozen=True)
class Rejection:
    """A file that is no raw file of this telescope, and why. ``subband``: what its name says, if it says so."""

    path: str
    reason: str
    size_bytes: int
    mtime_ns: int
    subband: int | None = None


@dataclass(frozen=True)
class Booked:
    """Outcome of one file. ``state`` and ``reason`` as in `SubbandFile`."""

    path: str
    group_id: str | None
    state: str
    reason: str | None


def accept_files(session: Session, arrived: Sequence[FileFacts], now: datetime) -> list[Booked]:
    """Book valid files, new or changed, and settle their groups; creates groups that do not exist yet.

    A subband that comes late reopens its group: a completed or failed one goes back to ``collecting`` (and, complete or
    past its deadline, to ``pending`` at the next `closing.close_ready_groups`), a running one is marked to be reopened.
    Booking the same file again changes nothing.

    Returns:
        The outcome of each file, in the order given.
    """
    _lock_arrivals(session)
    by_path = {facts.path: facts for facts in arrived}
    before = _rows(session, paths=list(by_path))
    group_ids = {facts.group_id for facts in by_path.values()} | {row.group_id for row in before.values() if row.group_id is not None}
    groups = _locked_groups(session, group_ids)
    for facts in sorted(by_path.values(), key=lambda f: f.group_id):
        if facts.group_id not in groups:
            groups[facts.group_id] = _new_group(facts, now)
            session.add(groups[facts.group_id])
    session.flush()  # groups before the files that refer to them
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
    by_group: dict[str, list[FileFacts]] = defaultdict(list)
    for facts in by_path.values():
        by_group[facts.group_id].append(facts)
    _settle_groups(session, groups, files, by_group, now, rewritten)
    for group_id in by_group:
        groups[group_id].last_file_at = now
    return [Booked(f.path, f.group_id, row.state, row.reason) for f in arrived for row in [files[f.group_id][f.path]]]


def reject_files(session: Session, rejections: Sequence[Rejection], now: datetime) -> None:
    """List files as rejected with their reasons; a file that was accepted before leaves its group."""
    if not rejections:
        return
    _lock_arrivals(session)
    before = _rows(session, paths=[r.path for r in rejections])
    groups = _locked_groups(session, {row.group_id for row in before.values() if row.group_id is not None})
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
        row.start_mjd = row.n_times = None
        row.judged_at = now
    session.flush()
    _settle_groups(session, groups, _files_of(session, groups), {}, now, set())


def mark_gone(session: Session, paths: Sequence[str], now: datetime) -> None:
    """Record that files have been deleted. Groups that still wait are counted anew; all others keep what they have."""
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
    groups = _locked_groups(session, waiting)
    for chunk in _chunks(paths):
        session.execute(
            update(SubbandFile).where(SubbandFile.path.in_(chunk)).values(state=FileState.GONE.value, reason="deleted", judged_at=now),
            execution_options={"synchronize_session": False},
        )
    _settle_groups(session, groups, _files_of(session, groups), {}, now, set())


# --- the rule -------------------------------------------------------------------------------------------------------
def _settle(group: IngestGroup, files: dict[str, SubbandFile], arrived: Iterable[FileFacts]) -> dict[str, tuple[FileState, str | None]]:
    """State and reason of each valid file of a group; changes the group's times when another start has the majority."""
    rows = sorted(files.values(), key=lambda r: (r.state != FileState.ACCEPTED, r.first_seen_at, r.path))
    members = [Member(row.path, row.subband, row.start_mjd) for row in rows if row.subband is not None and row.start_mjd is not None]
    support = subbands_by_start(members)
    facts_of_start = {facts.start_mjd: facts for facts in arrived}
    if group.state == GroupState.COLLECTING and group.attempt == 0:
        for start, facts in facts_of_start.items():
            if len(support.get(start, ())) > len(support.get(group.start_mjd, ())):
                _set_times(group, facts)
    for facts in facts_of_start.values():
        if facts.start_mjd == group.start_mjd and facts.end_mjd > group.end_mjd:
            _set_times(group, facts)
    return judge(group.group_id, group.start_mjd, members)


def _settle_groups(
    session: Session,
    groups: dict[str, IngestGroup],
    files: dict[str, dict[str, SubbandFile]],
    arrived: dict[str, list[FileFacts]],
    now: datetime,
    rewritten: set[str],
) -> None:
    """Apply the rule to groups. Demotions reach the database before promotions: there, a subband has one accepted file."""
    verdicts = {group_id: _settle(group, files[group_id], arrived.get(group_id, ())) for group_id, group in groups.items()}
    promoted: set[str] = set()
    for accepted in (False, True):
        for group_id, of_group in verdicts.items():
            for path, (state, reason) in of_group.items():
                row = files[group_id][path]
                if (state == FileState.ACCEPTED) == accepted and (row.state, row.reason) != (state, reason):
                    row.state, row.reason = state.value, reason
                    promoted.update([group_id] if accepted else [])
        session.flush()
    for group_id, group in groups.items():
        session.add_all(files[group_id].values())
        n_accepted = sum(row.state == FileState.ACCEPTED for row in files[group_id].values())
        _update_group(group, n_accepted, now, promoted=group_id in promoted, rewritten=group_id in rewritten)
    session.flush()


def _update_group(group: IngestGroup, n_accepted: int, now: datetime, *, promoted: bool, rewritten: bool) -> None:
    """Move a group on after its files were settled; only `closing.close_ready_groups` makes it pending."""
    gained = n_accepted > group.n_subbands or (rewritten and n_accepted >= group.n_subbands)
    if _needs_raw_files(group):
        if n_accepted != group.n_subbands or promoted or rewritten:
            group.state = GroupState.COLLECTING.value
        group.n_subbands = n_accepted
    elif group.state == GroupState.IN_PROGRESS:
        group.reopen = group.reopen or gained
    elif gained:
        reopen(group, n_accepted)
    group.updated_at = now


def _needs_raw_files(group: IngestGroup) -> bool:
    """Whether the raw files are still to be read; a group that waits for calibration has its Measurement Set already."""
    return group.state == GroupState.COLLECTING or (group.state == GroupState.PENDING and group.stage == TileStage.RAW)


# --- rows -----------------------------------------------------------------------------------------------------------
def _lock_arrivals(session: Session) -> None:
    session.execute(select(func.pg_advisory_xact_lock(_ARRIVALS_LOCK)))


def _rows(session: Session, paths: Sequence[str]) -> dict[str, SubbandFile]:
    rows: dict[str, SubbandFile] = {}
    for chunk in _chunks(paths):
        query = select(SubbandFile).where(SubbandFile.path.in_(chunk)).execution_options(populate_existing=True)
        rows.update((row.path, row) for row in session.scalars(query))
    return rows


def _locked_groups(session: Session, group_ids: Iterable[str]) -> dict[str, IngestGroup]:
    """Rows of the groups that exist, locked in the order of their names (two transactions cannot block one another)."""
    groups: dict[str, IngestGroup] = {}
    for chunk in _chunks(sorted(group_ids)):
        query = (
            select(IngestGroup)
            .where(IngestGroup.group_id.in_(chunk))
            .order_by(IngestGroup.group_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        groups.update((group.group_id, group) for group in session.scalars(query))
    return groups


def _files_of(session: Session, group_ids: Iterable[str]) -> dict[str, dict[str, SubbandFile]]:
    """Valid files of groups that are on disk: accepted, superseded, or rejected for their start only."""
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


def _new_group(facts: FileFacts, now: datetime) -> IngestGroup:
    night, slot = tile_partition(facts.group_id)
    live = datetime_to_mjd(now) - facts.start_mjd < LIVE_FOR / timedelta(days=1)
    group = IngestGroup(
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
    _set_times(group, facts)
    return group


def _set_times(group: IngestGroup, facts: FileFacts) -> None:
    group.start_mjd = facts.start_mjd
    group.end_mjd = facts.end_mjd
    group.mid_mjd = 0.5 * (facts.start_mjd + facts.end_mjd)
    group.dec_deg = facts.dec_deg


def _book(row: SubbandFile, facts: FileFacts, now: datetime) -> None:
    if (row.group_id, row.subband) != (facts.group_id, facts.subband) or row.state not in (FileState.ACCEPTED, FileState.SUPERSEDED):
        row.state = FileState.SUPERSEDED.value  # until the group is settled
        row.reason = None
    row.group_id = facts.group_id
    row.subband = facts.subband
    row.size_bytes = facts.size_bytes
    row.mtime_ns = facts.mtime_ns
    row.start_mjd = facts.start_mjd
    row.n_times = facts.n_times
    row.judged_at = now
