"""Fourteen days of the telescope's real file listings, replayed: grouping by the header keeps observations whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dsa110_assets.ingest import arrivals
from dsa110_assets.registry.database import Database
from dsa110_assets_tests.chaos.replay import files_of, replay, verdict
from dsa110_assets_tests.reference_data import reference_data


def test_the_real_listing_gives_2389_complete_observations_where_names_give_three_percent(database: Database) -> None:
    found = replay(database, files_of(reference_data("inventory.csv")))
    assert verdict(found) == []
    assert found.complete >= 2389
    assert (found.observations, found.complete_by_name < 0.1 * 2413) == (2413, True)
    assert found.partial == 3, "observations of 13, 14 and 15 subbands are processed without the missing ones"
    assert found.incomplete == 21, "shorter ones are listed as incomplete"


def test_the_replay_detects_merged_observations(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Planted fault: the ledger merges the observations of the first forty minutes."""
    files = files_of(reference_data("inventory.csv"))[16:640]  # the first observation is a year older than the others
    real = arrivals.FileFacts.group_id.fget  # type: ignore[attr-defined]
    first = files[0][1].start_jd

    def merged(self: arrivals.FileFacts) -> str:
        return str(real(replace(self, start_jd=first)) if self.start_jd < first + timedelta(minutes=40) / timedelta(days=1) else real(self))

    monkeypatch.setattr(arrivals.FileFacts, "group_id", property(merged))
    assert any("merged" in line for line in verdict(replay(database, files)))
