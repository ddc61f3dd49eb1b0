"""Dagster's storage uses the platform's server, starts it if necessary, and restarts it if it has died."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy.engine import make_url

from dsa110_assets.cli.services import project_file
from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration.storage import PlatformLogManager, PlatformStorage
from dsa110_assets.registry.server import EmbeddedServer, embedded_server


@pytest.fixture
def server(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EmbeddedServer]:
    """The embedded server of this environment, not started."""
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(server_directory / "dagsters"))
    monkeypatch.delenv("PIPELINE_DATABASE_URL", raising=False)
    one = embedded_server(PipelineConfig.from_env(validate_paths=False))
    yield one
    one.stop(immediate=True)


def test_an_instance_from_dagster_yaml_starts_the_server_and_restarts_it(server: EmbeddedServer, tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    assert server.address() is None
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.compute_log_manager, PlatformLogManager)
        instance.add_dynamic_partitions("nights", ["2026-03-01"])
        address = server.address()
        assert address is not None
        os.kill(address.pid, signal.SIGKILL)
        while Path(f"/proc/{address.pid}/cwd").exists():
            pass
        assert instance.get_dynamic_partitions("nights") == ["2026-03-01"]
        assert instance.get_runs() == []
    assert not (tmp_path / "history").exists(), "Dagster's home stays empty"
    assert server.stop_if_unused()


def test_the_output_of_runs_is_where_housekeeping_removes_it(server: EmbeddedServer) -> None:
    manager = PlatformLogManager.from_config_value(None, {})
    with manager.capture_logs(["a-run", "compute_logs", "a-step"]):
        pass
    config = PipelineConfig.from_env(validate_paths=False)
    assert [folder.name for folder in config.run_output_dir.iterdir()] == ["a-run"]


def test_an_external_server_is_used_and_never_stopped(
    registry_url: str, server: EmbeddedServer, server_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_DATABASE_URL", registry_url)
    storage = PlatformStorage.from_config_value(None, {})
    assert make_url(storage.postgres_url) == make_url(registry_url).set(database="dagster")
    assert not storage.run_storage.has_run("never-launched")  # it answers
    assert server.address() is None, "no embedded server was started"
