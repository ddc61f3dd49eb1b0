"""Fourteen days of the telescope's real file listings, replayed: who groups by the header gets the groups whole."""

from __future__ import annotations

import csv
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select

from dsa110_assets.ingest import ledger, status
from dsa110_assets.ingest.arrivals import FileFacts, accept_files
from dsa110_assets.ingest.closing import close_ready_groups
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets_tests.ingest.bookkeeping import facts, settings

INVENTORY = Path(__file__).parents[2] / "../shared/data/inventory.csv"
TEST_ROWS = (80, 240)
"""Subband counts of two rows that are no observations."""


def real_files() -> list[tuple[datetime, FileFacts]]:
    """(time in the name, facts) of every file. Stamps within 60 s of the one before are one observation, whose header has one start.

    The listing has counts only: subbands are numbered in the order of the stamps. The names carry the jitter that was seen,
    the headers one start that no name need equal.
    """
    with INVENTORY.open() as stream:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), int(row["n_subbands_found"])) for row in csv.DictReader(stream)
        ]
    files: list[tuple[datetime, FileFacts]] = []
    last = start = datetime(2000, 1, 1, tzinfo=UTC)
    subband = 0
    for stamp, count in sorted(row for row in rows if row[1] not in TEST_ROWS):
        if stamp - last > timedelta(seconds=60):
            start, subband = stamp + timedelta(milliseconds=640), 0
        for _ in range(count):
            files.append((stamp, facts(subband, start, path=f"/incoming/{stamp:%Y-%m-%dT%H:%M:%S}_sb{subband:02d}.hdf5")))
            subband += 1
        last = stamp
    return files


@pytest.mark.skipif(not INVENTORY.exists(), reason="the telescope's file listing is not beside the checkout")
def test_the_real_listing_gives_2389_complete_observations_where_names_give_three_percent(database: Database) -> None:
    files = real_files()
    by_name = Counter(stamp for stamp, _ in files)
    assert sum(n == 16 for n in by_name.values()) / 2413 < 0.1, "grouping by equal names"
    closed_at: datetime | None = None
    batch: list[FileFacts] = []
    for stamp, one in files:  # the sensor as it would have run: files in the order of their names, closed every few hours
        if closed_at is not None and stamp - closed_at > timedelta(hours=4):
            book(database, batch, stamp)
            batch, closed_at = [], stamp
        closed_at = closed_at or stamp
        batch.append(one)
    end = files[-1][0] + timedelta(hours=1)
    book(database, batch, end)
    with database.session() as session:
        close_ready_groups(session, end + timedelta(seconds=601), settings())
        complete = session.scalar(select(func.count()).where(IngestGroup.n_subbands == 16, IngestGroup.state == GroupState.PENDING)) or 0
        counts = ledger.counts(session)
        assert status.rejected_by_kind(session) == {}
    assert complete >= 2389
    assert sum(counts.values()) == 2413
    assert counts[GroupState.COLLECTING] == 0, "nothing hangs"
    assert counts[GroupState.PENDING] - complete == 3, "the groups of 13, 14 and 15 subbands are processed without the missing ones"
    assert counts[GroupState.FAILED] == 21, "the shorter ones are listed as incomplete"


def book(database: Database, batch: list[FileFacts], now: datetime) -> None:
    with database.session() as session:
        accept_files(session, batch, now)
        close_ready_groups(session, now, settings())
