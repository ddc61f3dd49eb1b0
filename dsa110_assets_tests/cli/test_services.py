"""The supervisor: one for each state directory, what it restarts and tells, what it leaves when it is killed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from dsa110_assets.cli import services
from dsa110_assets.config import PROCESS_MARK, PipelineConfig
from dsa110_assets.errors import ConfigurationError
from dsa110_assets.stages.operations.services import (
    RESTARTS_KEPT,
    Restart,
    ServiceName,
    record_restart,
    restarts_since,
    running_pid,
    supervising,
    take_requests,
)

HOLD = """
import sys, time
from pathlib import Path
from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.operations.services import supervising
with supervising(PipelineConfig(state_dir=Path(sys.argv[1]))):
    print("alone", flush=True)
    time.sleep(600)
"""


def test_the_code_server_keeps_its_port_so_that_dagster_shows_earlier_ticks(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    config.dagster_home.mkdir(parents=True)
    assert services.code_server_port(config) is None
    port = services.workspace(config)
    assert services.workspace(config) == services.code_server_port(config) == port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        moved = services.workspace(config)
        assert moved != port, "another program has it"
    assert services.workspace(config) == services.code_server_port(config) == moved


def test_a_damaged_workspace_file_gives_a_free_port(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    config.dagster_home.mkdir(parents=True)
    for content in ("", "load_from: []", "load_from: [{grpc_server: {}}]", "{"):
        (config.dagster_home / "workspace.yaml").write_text(content)
        assert services.code_server_port(config) is None
        assert services.workspace(config) > 0


def test_a_port_that_is_bound_and_does_not_listen_is_in_use():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        assert services.why_not_bindable("127.0.0.1", port) == "is in use"
    assert services.why_not_bindable("127.0.0.1", port) is None


def test_one_supervisor_at_a_time_whoever_asks_meanwhile_and_none_after_it_was_killed(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    assert running_pid(config) is None
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "alone\n"
    try:
        assert running_pid(config) == holder.pid
        with pytest.raises(ConfigurationError, match=f"already running there .process {holder.pid}"), supervising(config):
            pass
        assert running_pid(config) == holder.pid, "who is refused leaves the other's name"
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert running_pid(config) is None
    with supervising(config):
        assert running_pid(config) == os.getpid()
    assert running_pid(config) is None


def test_each_service_that_ended_by_itself_is_told_with_how_and_is_recorded(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    members = [
        services.Service(ServiceName.DAEMON, [sys.executable, "-c", "import sys; sys.exit(3)"]),
        services.Service(ServiceName.WEBSERVER, [sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]),
        services.Service(ServiceName.API, [sys.executable, "-c", "import time; time.sleep(600)"]),
    ]
    supervisor = services.Supervisor(members, {}, tmp_path / "logs")
    supervisor.start()
    told: dict[str, str] = {}

    def tell(name: str, why: str) -> None:
        told[name] = why
        record_restart(config, Restart(name, datetime.now(UTC), why))

    began = datetime.now(UTC)
    try:
        supervisor.watch(lambda: len(told) == 2, 0.1, tell=tell)
    finally:
        supervisor.stop()
    assert told == {"daemon": "ended with code 3", "webserver": "was killed by signal 9"}
    assert {(one.name, one.why) for one in restarts_since(config, began)} == set(told.items())
    for _ in range(RESTARTS_KEPT):
        record_restart(config, Restart("api", began, "ended"))
    assert [one.name for one in restarts_since(config, began)] == ["api"] * RESTARTS_KEPT


def test_what_a_killed_supervisor_left_is_found_by_its_state_directory_and_ended_with_its_children(tmp_path: Path) -> None:
    config = PipelineConfig(state_dir=tmp_path)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    code = f"import subprocess, time; subprocess.Popen({sleep!r}, start_new_session=True); time.sleep(600)"
    mine = subprocess.Popen([sys.executable, "-c", code], env=os.environ | {PROCESS_MARK: str(tmp_path)}, start_new_session=True)
    other = subprocess.Popen(sleep, env=os.environ | {PROCESS_MARK: str(tmp_path / "another")})
    try:
        while len(services.left_behind(config)) < 2:
            time.sleep(0.05)
        assert services.end_left_behind(config) == 2
        assert services.left_behind(config) == []
        assert other.poll() is None, "it belongs to another state directory"
    finally:
        for process in (mine, other):
            process.kill()
            process.wait()


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
