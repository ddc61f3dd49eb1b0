"""The code server listens where Dagster knows it from the last start."""

from __future__ import annotations

import socket
from pathlib import Path

from dsa110_assets.cli import services
from dsa110_assets.config import PipelineConfig


def test_the_code_server_keeps_its_port_so_that_dagster_shows_earlier_ticks(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    port = services.code_server_port(config)
    config.dagster_home.mkdir(parents=True)
    services.workspace(config, port)
    assert services.code_server_port(config) == port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        assert services.code_server_port(config) != port, "another program has it"
    assert services.code_server_port(config) == port


def test_a_damaged_workspace_file_gives_a_free_port(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    config.dagster_home.mkdir(parents=True)
    for content in ("", "load_from: []", "load_from: [{grpc_server: {}}]", "{"):
        (config.dagster_home / "workspace.yaml").write_text(content)
        assert services.code_server_port(config) > 0
