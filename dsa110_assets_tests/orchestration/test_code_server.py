"""The real code server, with a job that reports in which process it ran."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from dsa110_assets.cli.services import free_port, port_is_open
from dsa110_assets.orchestration.running import RUN_NAME

LIMIT_S = 120.0
JOBS = """
import json, os, signal, sys
from pathlib import Path
import dagster as dg

@dg.op
def report():
    facts = {
        "pid": os.getpid(), "parent": os.getppid(), "name": Path("/proc/self/comm").read_text().strip(), "modules": sorted(sys.modules),
        "ignores_sigterm": signal.getsignal(signal.SIGTERM) == signal.SIG_IGN,
    }
    Path("staged.json").write_text(json.dumps(facts))
    os.rename("staged.json", "facts.json")

@dg.job(executor_def=dg.in_process_executor)
def report_job():
    report()

defs = dg.Definitions(jobs=[report_job])
"""

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, psutil.Process]]:
    folder = tmp_path
    (folder / "home").mkdir()
    (folder / "home" / "dagster.yaml").write_text(
        "telemetry: {enabled: false}\nrun_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"
    )
    (folder / "reporting_jobs.py").write_text(JOBS)
    port = free_port()
    (folder / "workspace.yaml").write_text(yaml.safe_dump({"load_from": [{"grpc_server": {"host": "127.0.0.1", "port": port}}]}))
    command = [sys.executable, "-m", "dsa110_assets.orchestration.code_server", "api", "grpc", "-m", "reporting_jobs", "-p", str(port)]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen([*command, "-h", "127.0.0.1"], cwd=folder, env=_environment(folder), stdout=log, stderr=log)
        try:
            _wait(lambda: process.poll() is not None or port_is_open(port))
            assert process.poll() is None, (folder / "server.log").read_text()
            yield folder, psutil.Process(process.pid)
        finally:
            process.kill()
            process.wait()


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "DAGSTER_HOME": str(folder / "home"), "PYTHONPATH": str(folder)}


def _wait(done: Callable[[], bool]) -> None:
    limit = time.monotonic() + LIMIT_S
    while not done():
        assert time.monotonic() < limit, f"waited for {LIMIT_S} s"
        time.sleep(0.1)


def _run(folder: Path) -> dict[str, Any]:
    """Launch the job, and return what its run reports."""
    (folder / "facts.json").unlink(missing_ok=True)
    command = [str(Path(sys.executable).with_name("dagster")), "job", "launch", "-w", "workspace.yaml", "-j", "report_job"]
    launched = subprocess.run(command, cwd=folder, env=_environment(folder), capture_output=True, text=True, check=False)
    assert launched.returncode == 0, launched.stderr
    _wait((folder / "facts.json").is_file)
    return json.loads((folder / "facts.json").read_text())


def _ignores(process: int, number: signal.Signals) -> bool:
    mask = next(line.split()[1] for line in Path(f"/proc/{process}/status").read_text().splitlines() if line.startswith("SigIgn"))
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_runs_are_forks_of_one_process_that_has_imported_their_code_and_is_replaced_when_it_dies(
    server: tuple[Path, psutil.Process],
) -> None:
    folder, process = server
    first = _run(folder)
    template = psutil.Process(first["parent"])
    assert template.ppid() == process.pid
    assert first["name"] == RUN_NAME, "ps and top must tell runs from other Python processes"
    assert {"dsa110_assets.definitions", "dsa110_assets.imaging.engine", "dsa110_assets.conversion.convert"} <= set(first["modules"])
    assert "casatools" not in first["modules"], "CASA belongs to child processes"

    threads = [Path(f"/proc/{template.pid}/task/{thread.id}/comm").read_text().strip() for thread in template.threads()]
    threads.remove(template.name())
    assert set(threads) <= {"jemalloc_bg_thd"}, "a fork has only one of the threads; pyarrow's allocator starts its own again"
    assert not template.net_connections()
    assert _ignores(template.pid, signal.SIGTERM), "a service manager stops the runs, whose end the template must see"
    assert not first["ignores_sigterm"], "a run must end when a service manager stops the platform"

    template.kill()
    second = _run(folder)
    assert second["parent"] != template.pid
    replacement = psutil.Process(second["parent"])
    process.kill()
    _wait(lambda: not replacement.is_running() or replacement.status() == psutil.STATUS_ZOMBIE)
