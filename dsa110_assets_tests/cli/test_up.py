"""`dsa110 up` and `dsa110 down` as an operator uses them: killed, started twice, stopped early. Nothing is left."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from dsa110_assets.cli.services import free_port, left_behind
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.server import embedded_server
from dsa110_assets.stages.operations.services import last_stop, restarts_since, running_pid
from dsa110_assets.times import mjd_to_datetime

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
COMMAND = [sys.executable, "-m", "dsa110_assets.cli.main"]
LONGEST_S = 180.0


class Place:
    """A state directory and the settings of its platform."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log = root / "up.log"
        self.config = PipelineConfig(
            input_dir=root / "incoming",
            output_dir=root / "ms",
            scratch_dir=root / "products",
            state_dir=root / "state",
            dagster_port=free_port(),
            api_port=free_port(),
        )
        self.config.input_dir.mkdir()

    @property
    def settings(self) -> Mapping[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "DAGSTER_"))}
        return kept | {f"PIPELINE_{name.upper()}": str(getattr(self.config, name)) for name in self.config.model_fields_set}

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("wb") as log:
            return subprocess.Popen([*COMMAND, "up"], env=dict(self.settings), stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments], env=dict(self.settings), capture_output=True, text=True, timeout=LONGEST_S, check=False
        )

    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def database_runs(self) -> bool:
        return embedded_server(self.config).address() is not None

    def is_empty(self) -> bool:
        return not left_behind(self.config) and not self.database_runs() and running_pid(self.config) is None


@pytest.fixture
def place() -> Iterator[Place]:
    one = Place(Path(tempfile.mkdtemp(prefix="dsa110-up-")))
    one.root.chmod(0o755)
    yield one
    one.run("down")
    shutil.rmtree(one.root)


def until(holds: Callable[[], bool], what: str, place: Place) -> None:
    limit = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < limit, f"{what}: {place.said()[-2000:]}"
        time.sleep(0.2)


def started(place: Place) -> bool:
    return "Dagster UI:" in place.said()


def daemons(place: Place) -> list[psutil.Process]:
    return [one for one in left_behind(place.config) if "dagster-daemon" in " ".join(one.cmdline())]


def test_a_killed_up_leaves_nothing_that_the_next_up_or_down_does_not_end(place: Place) -> None:
    first = place.start()
    until(lambda: started(place), "the first start", place)
    twice = place.run("up")
    assert (twice.returncode, "already running" in " ".join(twice.stderr.split())) == (2, True), twice.stderr
    first.kill()
    first.wait()
    before = daemons(place)
    assert len(before) == 1, "the services go on without a supervisor"

    second = place.start()
    until(lambda: started(place), "the start after a kill", place)
    assert "processes of a `dsa110 up` that was killed" in place.said()
    (daemon,) = daemons(place)
    assert not before[0].is_running()
    daemon.kill()
    until(lambda: "daemon was killed by signal 9 and was restarted" in place.said(), "the report of a restart", place)
    assert [one.name for one in restarts_since(place.config, mjd_to_datetime(0))] == ["daemon"]
    second.kill()
    second.wait()
    assert left_behind(place.config)

    down = place.run("down")
    assert down.returncode == 0, down.stderr
    assert place.is_empty()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_up_that_is_stopped_while_it_starts_leaves_no_process_and_no_database(place: Place, number: signal.Signals) -> None:
    up = place.start()
    until(place.database_runs, "the database", place)
    up.send_signal(number)
    assert up.wait(LONGEST_S) == 0, place.said()
    assert place.is_empty()
    assert last_stop(place.config) is not None


def test_up_that_is_interrupted_while_it_runs_leaves_no_process_and_no_database(place: Place) -> None:
    """The signal goes to the process alone, as from another program, and not to the terminal's whole group."""
    up = place.start()
    until(lambda: started(place), "the start", place)
    assert place.database_runs()
    up.send_signal(signal.SIGINT)
    assert up.wait(LONGEST_S) == 0, place.said()
    assert place.is_empty()
    assert last_stop(place.config) is not None


def test_up_on_a_port_that_is_bound_and_not_listening_ends_at_once_and_leaves_no_database(place: Place) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.config.api_port))
        refused = place.run("up")
    assert refused.returncode == 2
    assert f"port {place.config.api_port} is in use" in " ".join(refused.stderr.split())
    assert place.is_empty()
