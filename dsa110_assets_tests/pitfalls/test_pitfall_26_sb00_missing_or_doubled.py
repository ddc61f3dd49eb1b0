"""Pitfall 26: an observation without sb00, or with a wrong second sb00, stays in `collecting` for ever."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from dsa110_assets.ingest import ledger, status
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.simulation.faults import duplicate_subband_zero
from dsa110_assets_tests.ingest.bookkeeping import START, settings
from dsa110_assets_tests.ingest.incoming import raw_path, write_observation

NOW = START + timedelta(seconds=320)
GROUP = "2026-03-01T05:10:11"


def test_pitfall_26_an_observation_without_sb00_is_processed_after_its_deadline(database: Database, tmp_path: Path) -> None:
    write_observation(tmp_path, range(1, 16))
    assert scan_directory(database, tmp_path, settings(), NOW).pending == ()
    assert scan_directory(database, tmp_path, settings(), NOW + timedelta(seconds=600)).pending == (GROUP,)
    with database.session() as session:
        (lease,) = ledger.lease_pending(session, "worker", 1, NOW + timedelta(seconds=600), lease_s=60)
    assert lease.missing_subbands == (0,)


def test_pitfall_26_a_second_sb00_of_wrong_frequencies_is_rejected_and_delays_nothing(database: Database, tmp_path: Path) -> None:
    files = write_observation(tmp_path)
    wrong_file = duplicate_subband_zero(raw_path(tmp_path, 7))
    assert scan_directory(database, tmp_path, settings(), NOW).pending == (GROUP,)
    with database.session() as session:
        (rejected,) = status.rejected_files(session)
        assert ledger.raw_files(session, GROUP)[0] == files[0]
    assert rejected.path == str(wrong_file)
    assert "sb00" in str(rejected.reason)
    assert "sb07" in str(rejected.reason)


def test_pitfall_26_a_wrong_file_in_place_of_sb00_counts_as_a_missing_subband(database: Database, tmp_path: Path) -> None:
    write_observation(tmp_path, range(1, 16))
    duplicate_subband_zero(raw_path(tmp_path, 7))
    scan_directory(database, tmp_path, settings(), NOW)
    scan_directory(database, tmp_path, settings(), NOW + timedelta(seconds=600))
    with database.session() as session:
        details = status.observation_details(session, GROUP)
    assert details is not None
    assert (details.group.state, details.group.missing_subbands) == (GroupState.PENDING, (0,))
