"""Pitfall 28: raw files are read-only. Ingest never changes a byte, a name, a permission or a modification time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.ingest.watch import Watcher
from dsa110_assets.registry.database import Database
from dsa110_assets.simulation import faults
from dsa110_assets_tests.ingest.bookkeeping import START, settings
from dsa110_assets_tests.ingest.incoming import fingerprint, raw_path, write_observation

NOW = START + timedelta(seconds=320)


def test_pitfall_28_ingest_does_not_change_good_bad_foreign_or_unfinished_files(database: Database, tmp_path: Path) -> None:
    files = write_observation(tmp_path, delays_s={3: 60.0})
    write_observation(tmp_path, range(4), start=START + timedelta(seconds=309))
    faults.truncate(raw_path(tmp_path, 0, START + timedelta(seconds=309)))
    faults.overwrite_start(raw_path(tmp_path, 1, START + timedelta(seconds=309)))
    faults.fill_with_absurd_values(raw_path(tmp_path, 2, START + timedelta(seconds=309)))
    faults.leave_incomplete(raw_path(tmp_path, 3, START + timedelta(seconds=309)))
    faults.duplicate_subband_zero(files[5])
    (tmp_path / "readme.txt").write_text("hands off")
    for path in tmp_path.iterdir():
        path.chmod(0o444)
    before = fingerprint(tmp_path)
    with Watcher(tmp_path) as watcher:
        for k in range(3):
            scan_directory(database, tmp_path, settings(), NOW + timedelta(seconds=700 * k), hints=watcher.drain())
    with database.session() as session:
        (lease,) = ledger.lease_pending(session, "worker", 1, NOW + timedelta(seconds=2000), lease_s=60)
        ledger.fail(session, lease.group_id, lease.attempt, "broken", NOW, max_attempts=1, retriable=False)
        ledger.retry(session, lease.group_id, NOW, settings())
    assert fingerprint(tmp_path) == before
