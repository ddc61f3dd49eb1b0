"""The files under deploy/: settings and commands exist, systemd accepts the units and finds them hardened."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from dsa110_assets.cli import service
from dsa110_assets.cli.main import app, run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration.cluster.worker import ORDERLY_END_S
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import WorkerRow
from dsa110_assets.registry.server import embedded_server, ensure_server, stop_server
from dsa110_assets.stages.operations.services import ServiceName, last_stop, restarts_since
from dsa110_assets.times import mjd_to_datetime

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("systemd/*.service"))
COMMANDS = {one.name for one in app.registered_commands} | {one.name for one in app.registered_groups}
LARGEST_EXPOSURE = 3.0
GUIDE_UNITS = {"contimg-api", "contimg-stream", "contimg-docs", "contimg-absurd-worker", "dsa110-contimg-dashboard"}
"""Units that the earlier pipeline's guide names."""


def value(unit: Path, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), flags=re.MULTILINE)


CLIENTS = {"api_token"}
"""Settings of a person who asks the API, not of the installation."""


def of_an_installation() -> set[str]:
    """Settings of places, addresses and the machine: not what products contain, nor how long they stay.

    In the model they are those before the first ``keep_``, and all paths, secrets and servers.
    """
    fields = PipelineConfig.model_fields
    before = list(fields)[: next(number for number, name in enumerate(fields) if name.startswith("keep_"))]
    places = {name for name, field in fields.items() if re.search(r"\b(Path|SecretStr)\b", str(field.annotation)) or "server" in name}
    return (set(before) | places) - CLIENTS


def test_the_example_of_settings_names_every_setting_of_an_installation_with_its_default() -> None:
    lines = re.findall(r"^(#? ?)PIPELINE_(\w+)=(.*)$", (DEPLOY / "systemd/platform.env.example").read_text(), flags=re.MULTILINE)
    assert {name.lower() for _, name, _ in lines} == of_an_installation()
    assert {"database_url", "alert_delivery", "carta_folder"} <= of_an_installation()
    plain = PipelineConfig(_env_file=None)  # pyright: ignore[reportCallIssue]
    for comment, name, given in lines:
        default = PipelineConfig.model_fields[name.lower()].get_default()
        if comment and isinstance(default, (int, float, str)) and default != "":
            assert type(default)(given) == default, name
        assert PipelineConfig.model_validate(plain.model_dump() | {name.lower(): given}), name


@pytest.mark.parametrize("command", ["prepare", "service database --ended", "service daemon"])
def test_services_start_before_the_disk_of_the_raw_files_is_mounted(
    database: Database, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Pages and alerts then say what is missing. A unit that only restarts says it in the journal alone."""
    became: list[str] = []
    monkeypatch.setattr(os, "execve", lambda program, command, environment: became.append(program))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    for name in ("output", "scratch", "state"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(tmp_path / name))
    monkeypatch.setenv("PIPELINE_INPUT_DIR", str(tmp_path / "not-mounted"))
    assert run(["prepare"]) == 0
    assert run(command.split()) == 0
    assert len(became) == (command == "service daemon")
    assert not (tmp_path / "not-mounted").exists()


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_each_unit_starts_commands_that_exist(unit: Path) -> None:
    commands = re.findall(r"/dsa110 ([a-z-]+)(?: ([a-z-]+))?", "\n".join(value(unit, r"Exec\w+")))
    assert commands
    for command, argument in commands:
        assert command in COMMANDS
        if command == "service":
            assert argument in list(service.Runnable)
            assert unit.stem == f"dsa110-{argument}"


def test_there_is_a_unit_for_each_service_and_all_but_the_database_are_prepared_and_wait_for_it() -> None:
    assert list(service.Runnable) == ["database", *ServiceName]
    started = {unit.stem: unit for unit in UNITS if any("/dsa110 service " in one for one in value(unit, "ExecStart"))}
    assert set(started) == {f"dsa110-{name}" for name in service.Runnable}
    wanted = " ".join(value(DEPLOY / "systemd/dsa110.target", "Wants")).split()
    assert {name.removesuffix(".service") for name in wanted if name.endswith(".service")} == set(started)
    for name, unit in started.items():
        if name != "dsa110-database":
            assert [one.partition(" ")[2] for one in value(unit, "ExecStartPre")] == ["prepare"]
            also = ["dsa110-code-server.service"] if name == "dsa110-daemon" else []  # it launches runs there
            assert value(unit, "Wants")[0].split() == ["dsa110-database.service", *also]
            assert set(value(unit, "Wants")[0].split()) <= set(value(unit, "After")[0].split())
            assert value(unit, "PartOf") == also
            assert not {"Requires", "BindsTo"} & set(re.findall(r"^(\w+)=", unit.read_text(), re.MULTILINE)), (
                "a start that fails once would end this unit for good, though the other one is started again"
            )


def test_the_unit_of_the_worker_needs_nothing_of_the_platforms_machine_and_lets_runs_end() -> None:
    unit = DEPLOY / "systemd/dsa110-worker.service"
    (command,) = value(unit, "ExecStart")
    assert command.endswith("/dsa110 worker --concurrency 4")
    assert "TMPDIR=/var/tmp" in command
    assert value(unit, "ExecStartPre") == value(unit, "Requires") == []
    assert value(unit, "KillMode") == ["mixed"], "the worker interrupts its runs"
    assert int(value(unit, "TimeoutStopSec")[0]) >= 60 > 2 * ORDERLY_END_S
    assert value(unit, "WantedBy") == ["multi-user.target"], "the target would start the platform there"
    assert value(unit, "Alias") == ["contimg-absurd-worker.service"]


@pytest.mark.parametrize("later_s", [0.0, 6.0], ids=["as soon as it has joined", "later"])
def test_the_command_of_the_workers_unit_runs_a_worker_until_sigterm(database: Database, tmp_path: Path, later_s: float) -> None:
    """As it is written, with this checkout's program. No broker answers, and the worker gives beats without it."""
    (line,) = value(DEPLOY / "systemd/dsa110-worker.service", "ExecStart")
    settings = {f"PIPELINE_{name.upper()}_DIR": str(tmp_path / name) for name in ("input", "output", "scratch", "state")}
    for directory in settings.values():
        Path(directory).mkdir()
    settings |= {"PIPELINE_DATABASE_URL": database.url, "PIPELINE_BROKER_URL": "redis://127.0.0.1:1/0", "PIPELINE_PROFILE": "distributed"}
    environment = {name: text for name, text in os.environ.items() if not name.startswith("PYTEST_")} | settings
    program = str(Path(sys.executable).with_name("dsa110"))
    subprocess.run([program, "prepare"], env=environment, check=True)
    command = line.replace("/opt/dsa110/.venv/bin/dsa110", program).split()
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as worker:
        try:
            deadline = time.monotonic() + 120.0
            while not (found := _worker_slots(database)) and worker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.2)
            assert found == [4]
            time.sleep(later_s)
            worker.terminate()
            assert worker.wait(60) == 0
            assert _worker_slots(database) == [], "it has recorded its orderly end"
        finally:
            worker.kill()


def _worker_slots(database: Database) -> list[int]:
    with database.session() as session:
        return list(session.scalars(select(WorkerRow.slots).where(WorkerRow.stopped_at.is_(None))))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_what_all_units_share_overrides_nothing_of_a_unit(unit: Path) -> None:
    def keys(path: Path) -> set[str]:
        return set(re.findall(r"^(\w+)=", path.read_text(), flags=re.MULTILINE))

    shared = keys(DEPLOY / "systemd/dsa110-.service.d/common.conf")
    assert {"User", "CacheDirectory", "Environment", "ReadWritePaths"} <= shared
    assert shared & keys(unit) <= {"PartOf"}, "which adds up"


def test_the_names_of_the_earlier_units_are_aliases() -> None:
    aliases = {name.removesuffix(".service") for unit in UNITS for line in value(unit, "Alias") for name in line.split()}
    assert aliases == GUIDE_UNITS


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root directory with the units installed as deploy/README.md says, and systemd's own."""
    if shutil.which("systemd-analyze") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("systemd is missing: `make extras` installs it")
        pytest.skip("systemd is not installed: `make extras` installs it")
    root = tmp_path_factory.mktemp("root")
    own = root / "etc/systemd/system"
    shutil.copytree(DEPLOY / "systemd", own)
    shutil.copytree("/lib/systemd/system", root / "lib/systemd/system", symlinks=True, ignore_dangling_symlinks=True)
    for program in ("opt/dsa110/.venv/bin/dsa110", "bin/sh", "usr/bin/find", "usr/bin/env"):
        (root / program).parent.mkdir(parents=True, exist_ok=True)
        (root / program).write_text("#!/bin/sh\n")
        (root / program).chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\ndsa110:x:990:990::/opt/dsa110:/bin/sh\n")
    return root


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_finds_each_unit_hardened(installed: Path, unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", f"--root={installed}", unit.name]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    exposure = re.search(r"exposure level for \S+ ([\d.]+)", shown.stdout)
    assert exposure is not None, shown.stderr
    assert float(exposure[1]) < LARGEST_EXPOSURE, shown.stdout


def test_systemd_accepts_the_units(installed: Path) -> None:
    names = [path.name for path in DEPLOY.glob("systemd/dsa110*") if path.is_file()]
    assert len(names) == len(UNITS) + 2
    shown = subprocess.run(["systemd-analyze", "verify", f"--root={installed}", *names], capture_output=True, text=True, check=False)
    ours = [line for line in (shown.stdout + shown.stderr).splitlines() if "dsa110" in line]
    assert (shown.returncode, ours) == (0, [])
    (installed / "etc/systemd/system/dsa110-api.service").write_text("[Service]\nExecStart=relative\n")
    command = ["systemd-analyze", "verify", f"--root={installed}", "dsa110-api.service"]
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0, "it accepts everything"
    shutil.copy(DEPLOY / "systemd/dsa110-api.service", installed / "etc/systemd/system")


@pytest.fixture
def own_state(monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineConfig]:
    """Settings with an embedded server of their own, whose directories everybody may enter."""
    root = Path(tempfile.mkdtemp(prefix="dsa110-unit-"))
    root.chmod(0o755)
    for name in ("input", "output", "scratch", "state"):
        (root / name).mkdir()
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(root / name))
    monkeypatch.delenv("PIPELINE_DATABASE_URL", raising=False)
    config = PipelineConfig.from_env()
    yield config
    stop_server(config)
    shutil.rmtree(root)


def test_the_databases_unit_runs_a_server_of_its_own_and_not_one_that_a_command_has_started(own_state: PipelineConfig) -> None:
    """`make services` saw it: such a server belongs to no unit, and lost its memory when the last unit stopped."""
    ensure_server(own_state)
    before = embedded_server(own_state).address()
    with subprocess.Popen(
        [sys.executable, "-m", "dsa110_assets.cli.main", "service", "database"], stdout=subprocess.PIPE, text=True
    ) as unit:
        assert unit.stdout is not None
        try:
            assert "another command" in unit.stdout.readline()
            assert str(own_state.state_dir / "postgres/log") in unit.stdout.readline()
            now = embedded_server(own_state).address()
        finally:
            unit.terminate()
        assert unit.wait(60) == 0
    assert before is not None
    assert now is not None
    assert now.pid != before.pid
    assert embedded_server(own_state).address() is None


def test_neither_preflight_nor_a_units_preparation_starts_a_database_for_the_units(
    own_state: PipelineConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["preflight", "--for", "systemd", "--no-casa"])
    assert "embedded, answered" in capsys.readouterr().out
    assert embedded_server(own_state).address() is None
    monkeypatch.setattr(service, "DATABASE_LIMIT_S", 0.5)
    monkeypatch.setenv("SYSTEMD_EXEC_PID", str(os.getpid()))
    assert run(["prepare"]) != 0
    assert "dsa110 service database" in capsys.readouterr().err
    assert embedded_server(own_state).address() is None
    monkeypatch.setenv("SYSTEMD_EXEC_PID", "1")
    assert run(["prepare"]) == 0, "without systemd it starts the server"


@pytest.mark.parametrize(("name", "result", "stops", "restarts"), [
    ("code-server", "success", True, []), ("daemon", "success", False, []), ("daemon", "signal", False, [("daemon", "killed KILL")]),
])  # fmt: skip
def test_a_unit_records_how_its_service_ended(
    registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch, name: str, result: str, stops: bool, restarts: list[tuple[str, str]]
) -> None:
    registry_config.state_dir.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(registry_config.state_dir))
    for variable, given in {"SERVICE_RESULT": result, "EXIT_CODE": "killed", "EXIT_STATUS": "KILL"}.items():
        monkeypatch.setenv(variable, given)
    assert run(["service", name, "--ended"]) == 0
    assert (last_stop(registry_config) is not None) == stops
    assert [(one.name, one.why) for one in restarts_since(registry_config, mjd_to_datetime(0))] == restarts


def test_the_backup_unit_keeps_new_backups_and_removes_those_older_than_a_month(tmp_path: Path) -> None:
    """Its two commands as they are, by the shell, with a program in place of the installed one."""
    unit = DEPLOY / "systemd/dsa110-backup.service"
    program = tmp_path / "dsa110"
    program.write_text('#!/bin/sh\necho "$@" > "$3"\ntouch "$3.dagster"\n')
    program.chmod(0o755)
    old, of_dagster = (tmp_path / f"registry-2026-01-01T160000.dump{end}" for end in ("", ".dagster"))
    other = tmp_path / "notes"
    for path in (old, of_dagster, other):
        path.touch()
        os.utime(path, (0, 0))
    for line in (*value(unit, "ExecStart"), *value(unit, "ExecStartPost")):
        command = (
            line.replace("%%", "%").replace("/opt/dsa110/.venv/bin/dsa110", str(program)).replace("${DSA110_BACKUP_DIR}", str(tmp_path))
        )
        if not command.startswith("/bin/sh"):
            command = command.replace("registry-*", "'registry-*'")  # systemd expands no patterns
        subprocess.run(command, shell=True, check=True, env=os.environ | {"DSA110_BACKUP_DIR": str(tmp_path)})
    made, made_of_dagster = sorted(tmp_path.glob("registry-*"))
    assert not {old, of_dagster} & {made, made_of_dagster}
    assert made.read_text() == f"db backup {made}\n"
    assert other.exists()
