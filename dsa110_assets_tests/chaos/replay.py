"""`make replay`: replay a real listing of the input directory through the ledger.

``python -m dsa110_assets_tests.chaos.replay ../shared/data/inventory.csv``. The listing has a row for each time in a
file name, with the number of subbands that have it. Times within a minute of the previous one belong to one
observation, whose header has one start. Subbands are numbered in the order of the times.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select

from dsa110_assets.ingest import ledger, status
from dsa110_assets.ingest.arrivals import FileFacts, accept_files
from dsa110_assets.ingest.closing import close_ready_observations
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup, SubbandFile
from dsa110_assets_tests.ingest.bookkeeping import facts, settings

ONE_OBSERVATION = timedelta(seconds=60)
TEST_ROWS = (80, 240)
"""Subband counts of two rows of the real listing that are not observations."""
FEWEST_COMPLETE = 2389
BOOKED_EVERY = timedelta(hours=4)


@dataclass(frozen=True)
class Replayed:
    """Result of a replay.

    ``complete``: observations with 16 subbands. ``merged``: observations with files of two starts, or without files of
    their own.
    """

    files: int
    observations: int
    complete: int
    partial: int
    incomplete: int
    hanging: int
    rejected: int
    merged: int
    complete_by_name: int
    seconds: float


def files_of(listing: Path) -> list[tuple[datetime, FileFacts]]:
    """(time in the name, facts) of every file of a listing, in the order of the names."""
    with listing.open() as stream:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), int(row["n_subbands_found"])) for row in csv.DictReader(stream)
        ]
    files: list[tuple[datetime, FileFacts]] = []
    last = start = datetime(2000, 1, 1, tzinfo=UTC)
    subband = 0
    for stamp, count in sorted(row for row in rows if row[1] not in TEST_ROWS):
        if stamp - last > ONE_OBSERVATION:
            start, subband = stamp + timedelta(milliseconds=640), 0
        for _ in range(count):
            files.append((stamp, facts(subband, start, path=f"/incoming/{stamp:%Y-%m-%dT%H:%M:%S}_sb{subband:02d}.hdf5")))
            subband += 1
        last = stamp
    return files


def replay(database: Database, files: list[tuple[datetime, FileFacts]]) -> Replayed:
    """Book all files as by a sensor that scans every few hours. Close observations and count."""
    began = time.perf_counter()
    batch: list[FileFacts] = []
    last_scan = files[0][0]
    for stamp, file in files:
        if stamp - last_scan > BOOKED_EVERY:
            _book(database, batch, stamp)
            batch, last_scan = [], stamp
        batch.append(file)
    end = files[-1][0] + timedelta(hours=1)
    _book(database, batch, end)
    _book(database, [], end + timedelta(seconds=601))
    with database.session() as session:
        counts = ledger.counts(session)
        complete = session.scalar(select(func.count()).where(IngestGroup.n_subbands == 16, IngestGroup.state == GroupState.PENDING)) or 0
        rejected = sum(status.rejected_by_kind(session).values())
        booked = {row.path: row.group_id for row in session.execute(select(SubbandFile.path, SubbandFile.group_id))}
    truth = _truth(files)
    wrong = {group_id for path, group_id in booked.items() if truth.get(path) != group_id}
    wrong |= {truth[path] for path in truth.keys() - booked.keys()}
    by_name = Counter(stamp for stamp, _ in files)
    return Replayed(
        files=len(files), observations=sum(counts.values()), complete=complete, partial=counts[GroupState.PENDING] - complete,
        incomplete=counts[GroupState.FAILED], hanging=counts[GroupState.COLLECTING], rejected=rejected, merged=len(wrong),
        complete_by_name=sum(n == 16 for n in by_name.values()), seconds=round(time.perf_counter() - began, 1),
    )  # fmt: skip


def _truth(files: list[tuple[datetime, FileFacts]]) -> dict[str, str]:
    """Observation of each file, computed from its start alone through Unix time."""
    unix_s = {file.path: (file.start_jd - 2440587.5) * 86400 for _, file in files}
    return {path: f"{datetime.fromtimestamp(round(seconds), UTC):%Y-%m-%dT%H:%M:%S}" for path, seconds in unix_s.items()}


def _book(database: Database, batch: list[FileFacts], now: datetime) -> None:
    with database.session() as session:
        accept_files(session, batch, now)
        close_ready_observations(session, now, settings())


def verdict(found: Replayed) -> list[str]:
    """Errors in the result of the real listing, if any."""
    return [
        *([f"{found.complete} complete observations instead of {FEWEST_COMPLETE} or more"] if found.complete < FEWEST_COMPLETE else []),
        *([f"{found.merged} observations were merged or split"] if found.merged else []),
        *([f"{found.hanging} observations are still collecting"] if found.hanging else []),
        *([f"{found.rejected} files were rejected"] if found.rejected else []),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("listing", type=Path, help="CSV with columns timestamp (of the names) and n_subbands_found")
    options = parser.parse_args(arguments)
    from dsa110_assets.registry.server import EmbeddedServer
    from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

    files = files_of(options.listing)
    with tempfile.TemporaryDirectory(prefix="dsa110-replay-") as folder:
        Path(folder).chmod(0o755)
        server = EmbeddedServer(Path(folder) / "postgres", settings=TEST_SETTINGS)
        try:
            database = Database(server.ensure().url("postgres"))
            database.migrate()
            found = replay(database, files)
            database.dispose()
        finally:
            server.stop(immediate=True)
    print(json.dumps(vars(found)))
    wrong = verdict(found)
    print("\n".join(wrong) or "every observation has its own files, all of them, and no others")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
