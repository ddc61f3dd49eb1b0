"""Pitfall 25: the time in a file's name is its node's wall clock; the header's first integration assigns the file."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dsa110_assets.ingest import ledger
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.registry.database import Database
from dsa110_assets_tests.ingest.bookkeeping import START, settings
from dsa110_assets_tests.ingest.incoming import write_observation

BAD_DAY_S = {0: 0, 1: 1, 2: 2, 3: 13, 4: 21, 5: 58, 6: 60, 7: 82, 8: 82, 9: -2, 10: 5, 11: 59, 12: 1, 13: 0, 14: 40, 15: 75}
"""Delays of names within one observation, up to the 82 s that have occurred."""


def test_pitfall_25_names_that_are_82_s_apart_are_one_observation(database: Database, tmp_path: Path) -> None:
    files = write_observation(tmp_path, delays_s=BAD_DAY_S)
    assert len({path.name[:19] for path in files}) > 10
    report = scan_directory(database, tmp_path, settings(), START + timedelta(seconds=400))
    assert report.pending == ("2026-03-01T05:10:11",)
    with database.session() as session:
        assert ledger.raw_files(session, "2026-03-01T05:10:11") == dict(enumerate(files))


def test_pitfall_25_equal_names_do_not_join_two_observations(database: Database, tmp_path: Path) -> None:
    """Two observations are a minute apart, and jitter gives names of one the time of the other."""
    later = START + timedelta(seconds=60)
    write_observation(tmp_path, range(8), delays_s=dict.fromkeys(range(8), 60.0))
    write_observation(tmp_path, range(8, 16), start=later)
    write_observation(tmp_path, range(8, 16))
    write_observation(tmp_path, range(8), start=later, delays_s=dict.fromkeys(range(8), 1.0))
    report = scan_directory(database, tmp_path, settings(), START + timedelta(seconds=460))
    assert sorted(report.pending) == ["2026-03-01T05:10:11", "2026-03-01T05:11:11"]
    with database.session() as session:
        first = ledger.raw_files(session, "2026-03-01T05:10:11")
    assert [path.name[11:19] for path in first.values()] == ["05:11:11"] * 8 + ["05:10:11"] * 8
