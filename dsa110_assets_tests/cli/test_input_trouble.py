"""An input directory that went away is told by the commands that people ask first, and stops no sensor."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration import alerting, sensors
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.registry.database import Database


@pytest.fixture
def without_input(registry_config: PipelineConfig, database: Database, monkeypatch: pytest.MonkeyPatch) -> PipelineConfig:
    """The settings of a platform whose input directory was there and is not mounted any more."""
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    monkeypatch.setenv("PIPELINE_MIN_FREE_GIB", "0")
    registry_config.input_dir.rmdir()
    return registry_config


def test_ingest_status_and_alerts_say_so(without_input: PipelineConfig, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ingest", "status"]) == 0
    assert f"the input directory {without_input.input_dir} does not exist: no new file is found" in capsys.readouterr().err
    assert run(["ingest", "status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["input_trouble"] == "does not exist"
    assert run(["alerts"]) == 1
    assert "[input-unreadable/input]" in capsys.readouterr().out
    without_input.input_dir.mkdir()
    assert run(["ingest", "status", "--json"]) == 0
    shown = capsys.readouterr()
    assert (json.loads(shown.out)["input_trouble"], shown.err) == (None, "")


def test_every_sensor_goes_on_and_the_alert_is_sent(without_input: PipelineConfig) -> None:
    resource = PlatformResource()

    def tick(sensor: Any, instance: dg.DagsterInstance) -> Any:
        return sensor(dg.build_sensor_context(instance=instance, resources={"platform": resource}))

    with dg.DagsterInstance.ephemeral() as instance:
        paused = tick(sensors.raw_files, instance)
        assert paused.skip_message == f"paused: the input directory {without_input.input_dir} does not exist; work resumes automatically"
        assert "0 observations in progress" in tick(sensors.dead_runs, instance).skip_message
        assert list(tick(sensors.follow_up, instance))
        assert "input-unreadable/input" in tick(alerting.alerts, instance).cursor
