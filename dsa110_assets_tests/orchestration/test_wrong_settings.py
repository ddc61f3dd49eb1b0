"""A wrong setting that a run finds is a failure with cause and next step, in every asset and every job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dsa110_assets.definitions import build_defs
from dsa110_assets.orchestration import alerting
from dsa110_assets.orchestration.partitions import hour_key, tile_key
from dsa110_assets.registry.database import Database

NIGHT = "2026-03-12"
JOBS: dict[str, dict[str, Any]] = {
    "tile": {"partition_key": tile_key(NIGHT, "05:00"), "asset_selection": [dg.AssetKey("measurement_set")]},
    "hour": {"partition_key": hour_key(NIGHT, "05"), "asset_selection": [dg.AssetKey("hourly_mosaic")]},
    "night": {"partition_key": NIGHT, "asset_selection": [dg.AssetKey("light_curves")]},
    "look_at_tiles": {},
    "housekeeping": {},
    "backfill": {"run_config": {"ops": {"request_nights": {"config": {"first_night": NIGHT}}}}},
    "judge_again": {},
    "measure_position": {"run_config": {"ops": {"fluxes_at_position": {"config": {"ra_deg": 120.0, "dec_deg": 16.0}}}}},
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("output", "scratch", "state"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("PIPELINE_INPUT_DIR", str(tmp_path / "mistyped"))


def _failure(instance: dg.DagsterInstance, job: str, arguments: dict[str, Any]) -> str:
    """The description of a failed run; an untyped error has none."""
    result = build_defs().resolve_job_def(job).execute_in_process(instance=instance, raise_on_error=False, **arguments)
    assert not result.success
    failures = [event for event in result.all_events if event.event_type == dg.DagsterEventType.STEP_FAILURE]
    assert failures
    for failed in failures:
        assert failed.step_failure_data.user_failure_data is not None, "a raw trace"
        assert failed.step_failure_data.user_failure_data.metadata["next step"].value
    return alerting.cause_of(instance, result.run_id)


@pytest.mark.parametrize(("job", "variable", "remedy"), [
    *((job, "PIPELINE_OUTPUT_DIR", "set it to a writable directory") for job in JOBS),
    ("tile", "PIPELINE_INPUT_DIR", "set it to the directory of the raw files"),
])  # fmt: skip
def test_a_directory_that_cannot_be_used_is_explained(
    job: str, variable: str, remedy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if variable == "PIPELINE_OUTPUT_DIR":
        (tmp_path / "incoming").mkdir()
        (tmp_path / "file").touch()
        monkeypatch.setenv("PIPELINE_INPUT_DIR", str(tmp_path / "incoming"))
        monkeypatch.setenv("PIPELINE_OUTPUT_DIR", str(tmp_path / "file" / "ms"))
    with dg.DagsterInstance.ephemeral() as instance:
        cause = _failure(instance, job, JOBS[job])
        assert variable in cause
        assert remedy in cause
        for name in {key.to_user_string() for key in JOBS[job].get("asset_selection", [])}:
            (observation,) = instance.fetch_observations(dg.AssetKey(name), limit=5).records
            assert observation.asset_observation.metadata["next step"].value == remedy


@pytest.mark.parametrize("job", ["hour", "night", "look_at_tiles", "housekeeping"])
def test_what_reads_no_raw_files_needs_no_directory_of_them(job: str, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the raw files is not mounted, or was moved: mosaics of what was observed are made all the same."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    with dg.DagsterInstance.ephemeral() as instance:
        assert build_defs().resolve_job_def(job).execute_in_process(instance=instance, **JOBS[job]).success


def test_a_registry_that_cannot_be_reached_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql+psycopg://nobody@127.0.0.1:9/none")
    with dg.DagsterInstance.ephemeral() as instance:
        assert "check PIPELINE_DATABASE_URL and the server" in _failure(instance, "look_for_stale", {})
