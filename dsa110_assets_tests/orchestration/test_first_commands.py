"""Dagster's commands work in a fresh checkout without any environment, and leave no process behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dsa110_assets.cli.services import free_port, project_file
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry import server_use
from dsa110_assets.registry.server import embedded_server

READ_BY_DAGSTER = ("pyproject.toml", "dagster.yaml", "workspace.yaml")
BIN = Path(sys.executable).parent
START_LIMIT_S = 120.0
STOP_LIMIT_S = 30.0
MODULE = ("-m", "dsa110_assets.definitions")
ASSETS = {"measurement_set", "tile_image", "hourly_mosaic", "light_curves", "calibrator_catalog", "stale_products"}


@pytest.fixture(scope="module")
def checkout(server_directory: Path) -> Iterator[Path]:
    """The files that Dagster reads, as in a fresh clone."""
    root = server_directory / "checkout"
    root.mkdir()
    top = project_file(READ_BY_DAGSTER[0]).parent
    for name in READ_BY_DAGSTER:
        shutil.copyfile(top / name, root / name)
    shutil.copytree(top / "dsa110_assets", root / "dsa110_assets", ignore=shutil.ignore_patterns("__pycache__"))
    yield root
    _server(root).stop(immediate=True)


def _environment(root: Path) -> dict[str, str]:
    return {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": str(root.parent), "NO_COLOR": "1"}


def _run(root: Path, *command: str, status: int = 0, **environment: str) -> str:
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=root, env=_environment(root) | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == status, output[-4000:]
    return output


def _server(root: Path) -> Any:
    return embedded_server(PipelineConfig(_env_file=None, state_dir=root / "state"))


def _assert_server_stops(root: Path) -> None:
    """The code server of a command may run a moment longer than the command; it then stops the database."""
    limit = time.monotonic() + STOP_LIMIT_S
    while (address := _server(root).address()) is not None and time.monotonic() < limit:
        time.sleep(0.2)
    assert address is None
    assert not list(root.glob(".tmp_dagster_home_*"))


def test_dagster_definitions_validate(checkout: Path) -> None:
    assert "Validation successful for code location dsa110_assets" in _run(checkout, "dagster", "definitions", "validate")
    _assert_server_stops(checkout)


def test_dg_check_defs_and_dg_list_defs(checkout: Path) -> None:
    assert "All definitions loaded successfully" in _run(checkout, "dg", "check", "defs")
    listed, _ = json.JSONDecoder().raw_decode(_run(checkout, "dg", "list", "defs", "--json"))
    assert {one["asset_key"] for one in listed["assets"]} >= ASSETS


def test_dagster_asset_list(checkout: Path) -> None:
    assert set(_run(checkout, "dagster", "asset", "list", *MODULE).split()) >= ASSETS


def test_dagster_job_list_with_and_without_the_workspace_file(checkout: Path) -> None:
    for target in ([], ["-w", "workspace.yaml"]):
        jobs = _run(checkout, "dagster", "job", "list", *target)
        assert {"tile", "calibration", "references"} <= set(re.findall(r"^Job: (\w+)$", jobs, re.MULTILINE))
    _assert_server_stops(checkout)


def test_dagster_asset_materialize(checkout: Path) -> None:
    """One asset needs none of the telescope's files; the other names the file that it needs."""
    assert "RUN_SUCCESS" in _run(checkout, "dagster", "asset", "materialize", "--select", "stale_products", *MODULE)
    refused = _run(checkout, "dagster", "asset", "materialize", "--select", "calibrator_catalog", *MODULE, status=1)
    assert "PIPELINE_VLA_CALIBRATORS_FILE" in refused
    assert "set it to the catalog's source file" in refused
    _assert_server_stops(checkout)
    assert (checkout / "state" / "dagster" / "storage").is_dir(), "the output of the runs stays"


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_dagster_dev_shows_all_assets_and_the_runs_of_earlier_commands(checkout: Path, end: signal.Signals) -> None:
    """It also restarts its database, names what to set, ends on a signal, and leaves no server behind."""
    _run(checkout, "dg", "launch", "--assets", "stale_products")
    home = {"DAGSTER_HOME": str(checkout)} if end == signal.SIGTERM else {}
    with _dagster_dev(checkout, home, end) as port:
        nodes = _answer(port, "{ assetNodes { assetKey { path } } }", lambda data: data["assetNodes"])
        assert {node["assetKey"]["path"][-1] for node in nodes} >= ASSETS
        runs = _answer(port, "{ runsOrError { ... on Runs { results { status assetSelection { path } } } } }", _runs)
        assert {"status": "SUCCESS", "assetSelection": [{"path": ["stale_products"]}]} in runs
        server = _server(checkout).address()
        os.kill(server.pid, signal.SIGKILL)
        killed = time.time()
        assert "PIPELINE_INPUT_DIR is not set" in _answer(port, _TICKS.replace("AFTER", str(killed)), _last_reason)
        assert _server(checkout).address() not in (None, server), "the database runs again"
    _assert_server_stops(checkout)


@contextmanager
def _dagster_dev(root: Path, environment: dict[str, str], end: signal.Signals) -> Iterator[int]:
    """Run `dagster dev` during the block and end it by a signal; yield its port. A failure shows its output."""
    port = free_port()
    with (root / "dev.log").open("w+") as log:
        dev = subprocess.Popen(  # a test session in the background ignores SIGINT, and its children would too
            ["env", "--default-signal=INT", str(BIN / "dagster"), "dev", "-p", str(port)],
            cwd=root, env=_environment(root) | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        try:
            yield port
        finally:
            dev.send_signal(end)
            dev.wait(60)
            log.seek(0)
            print(log.read()[-6000:])


_TICKS = """{ sensorsOrError(repositorySelector: {repositoryLocationName: "dsa110_assets", repositoryName: "__repository__"}) {
  ... on Sensors { results { name sensorState { ticks(limit: 3, afterTimestamp: AFTER) { skipReason } } } } } }"""


def _last_reason(data: Any) -> str | None:
    ticks = next(one["sensorState"]["ticks"] for one in data["sensorsOrError"]["results"] if one["name"] == "raw_files")
    return next((tick["skipReason"] for tick in ticks if tick["skipReason"]), None)


def _runs(data: Any) -> Any:
    return data["runsOrError"]["results"]


def _answer(port: int, query: str, part: Any) -> Any:
    """Repeat a query to the UI's server until it returns something."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", json.dumps({"query": query}).encode(), {"Content-Type": "application/json"}
    )
    limit = time.monotonic() + START_LIMIT_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                found = part(json.load(reply)["data"])
            if found:
                return found
            last = "nothing yet"
        except (OSError, KeyError) as error:
            last = repr(error)
        assert time.monotonic() < limit, last
        time.sleep(1.0)


# --- who stops the server --------------------------------------------------------------------------------------------
_USE = "import sys, time; from pathlib import Path; from dsa110_assets.registry import server_use; "


def test_a_server_that_another_process_uses_is_not_stopped(server_directory: Path) -> None:
    data_dir = server_directory / "users" / "postgres"
    server_use.join(data_dir)
    other = subprocess.Popen(
        [sys.executable, "-c", f"{_USE} server_use.join(Path(sys.argv[1])); print('joined', flush=True); time.sleep(60)", str(data_dir)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout is not None
    assert other.stdout.readline() == "joined\n"
    assert not server_use.block_new_users(data_dir)
    other.kill()
    other.wait()
    server_use.join(data_dir)
    assert server_use.block_new_users(data_dir), "a killed process no longer uses the server"
    server_use.leave(data_dir)
    assert not server_use.block_new_users(data_dir), "a process that does not use the server cannot block new users"


def test_only_a_server_started_by_a_dagster_command_ends_when_unused(server_directory: Path) -> None:
    """A server that a `dsa110` command started runs until `dsa110 down`."""
    config = PipelineConfig(_env_file=None, state_dir=server_directory / "use")
    one = embedded_server(config)
    one.ensure()
    assert not one.stop_if_unused()
    assert one.address() is not None
    one.ensure(until_unused=True)
    assert not one.stop_if_unused(), "it was running already"
    assert one.stop()
    one.ensure(until_unused=True)
    assert one.stop_if_unused()
    assert one.address() is None
