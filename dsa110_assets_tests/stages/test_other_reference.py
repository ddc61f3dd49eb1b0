"""A night is solved again with the antenna that a person names: all of its transits, and no other observation."""

from __future__ import annotations

from typing import Any

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import upsert_measurement_set
from dsa110_assets.stages.operations import other_reference
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets_tests.registry_fixture import add_observation

TRANSITS = {"2026-03-12T05:00:00": "0834+555", "2026-03-12T12:00:00": "3C286"}
OTHERS = ("2026-03-12T06:00:00", "2026-03-13T05:00:00")


@pytest.fixture
def platform(registry_config: PipelineConfig, database: Database) -> Platform:
    """Two transits of a night with Measurement Sets, one without, another observation, a transit of the next night."""
    with database.session() as session:
        for group_id in (*TRANSITS, *OTHERS, "2026-03-12T13:00:00"):
            row = add_observation(session, group_id)
            row.calibrator = TRANSITS.get(group_id, None if group_id == OTHERS[0] else "3C48")
            if group_id != "2026-03-12T13:00:00":
                upsert_measurement_set(
                    session, path=f"/ms/{group_id}.ms", group_id=group_id, kind="raw", status="flagged", start_mjd=row.start_mjd,
                    mid_mjd=row.mid_mjd, end_mjd=row.end_mjd, ra_deg=150.0, dec_deg=54.6, pointing_dec_deg=54.6, n_channels=768,
                    flagged_fraction=0.1, size_bytes=1000,
                )  # fmt: skip
    return Platform.open(registry_config)


def test_each_transit_of_the_night_is_solved_with_the_named_antenna_and_must_have_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    solved: dict[str, tuple[str, str, bool]] = {}

    def solve_transit(_: Platform, group_id: str, calibrator: str, run_id: str, *, options: Any) -> StageResult:
        assert run_id == "run-1"
        solved[group_id] = calibrator, options.refant, options.must_have_refant
        return StageResult("calibration_tables", group_id)

    monkeypatch.setattr(other_reference, "solve_transit", solve_transit)
    results = other_reference.solve_with(platform, "2026-03-12", "104", "run-1")
    assert solved == {group_id: (calibrator, "104", True) for group_id, calibrator in TRANSITS.items()}
    assert [result.key for result in results] == list(TRANSITS)
    with pytest.raises(InvalidRequestError, match="no calibrator transit"):
        other_reference.solve_with(platform, "2026-03-14", "104", "run-1")
