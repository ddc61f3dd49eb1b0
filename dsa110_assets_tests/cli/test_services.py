"""The code server listens where Dagster knows it from the last start."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path

import psutil

from dsa110_assets.cli import services
from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.operations.services import ServiceName, take_requests


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


def test_the_supervisor_restarts_the_service_that_was_asked_for_and_no_other(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    code = f"import subprocess, time; print(subprocess.Popen({sleep!r}).pid, flush=True); time.sleep(600)"
    with_run = [sys.executable, "-c", code]
    members = [
        services.Service(ServiceName.CODE_SERVER, with_run),
        services.Service(ServiceName.DAEMON, sleep),
        services.Service(ServiceName.API, sleep),
    ]
    supervisor = services.Supervisor(members, {}, tmp_path / "logs")
    supervisor.start()
    before = [member.process.pid for member in members if member.process]
    (tmp_path / "requests").mkdir()
    log = tmp_path / "logs" / "code-server.log"
    while not log.read_text().strip():
        time.sleep(0.05)
    run = psutil.Process(int(log.read_text()))
    for name in ("api", "code-server"):
        (tmp_path / "requests" / f"restart-{name}").touch()
    (tmp_path / "requests" / "restart-everything").touch()
    rounds = iter(range(3))
    try:
        supervisor.watch(lambda: next(rounds, None) is None, 0.1, restarts=lambda: take_requests(config))
        after = [member.process.pid for member in members if member.process]
        assert after[0] != before[0]
        assert run.is_running(), "a run of the code server goes on"
        assert after[1] == before[1]
        assert after[2] != before[2]
        assert not (tmp_path / "requests" / "restart-api").exists()
    finally:
        began = time.monotonic()
        supervisor.stop()
        run.kill()
    assert time.monotonic() - began < services.STOP_TIMEOUT_S
