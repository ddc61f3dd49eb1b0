"""`dsa110 preflight --for ROLE` finds what keeps a host from working with the others, or a unit from starting."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from dsa110_assets.cli import preflight_hosts, preflight_systemd
from dsa110_assets.cli.main import run
from dsa110_assets.cli.preflight_finding import Finding
from dsa110_assets.cli.services import free_port
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.workers import Host
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets.stages.operations.services import supervising
from dsa110_assets.stages.provenance.installed import installed
from dsa110_assets_tests.cli.test_deployment import DEPLOY


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a real Redis with a password."""
    program = shutil.which("redis-server")
    if program is None:
        if os.environ.get("CI") == "true":
            pytest.fail("redis-server is missing: `make extras` installs it")
        pytest.skip("redis-server is not installed: `make extras` installs it")
    port = free_port()
    place = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(place), "--requirepass", "secret"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        time.sleep(1.0)
        yield f"redis://:secret@127.0.0.1:{port}/0"
        server.terminate()


@pytest.fixture
def host(registry_config: PipelineConfig) -> PipelineConfig:
    """A host on which all is in place."""
    home = registry_config.dagster_home
    home.mkdir()
    (home / "dagster.yaml").touch()
    return registry_config.model_copy(update={"profile": "distributed"})


def check(found: Finding, verdict: str, *words: str) -> None:
    assert found.verdict == verdict, found
    for word in words:
        assert word in found.found + " " + found.next_step, found
    assert bool(found.next_step) == (verdict != "ok"), found


def test_the_broker_is_asked_with_its_password(host: PipelineConfig, redis: str) -> None:
    def of(url: str | None) -> Finding:
        return preflight_hosts.check_broker(host.model_copy(update={"broker_url": None if url is None else SecretStr(url)}))

    check(of(redis), "ok")
    assert "secret" not in of(redis).found
    check(of(redis.replace("secret", "wrong")), "failed", "PIPELINE_BROKER_URL", "assword")
    check(of("redis://127.0.0.1:1/0"), "failed", "127.0.0.1:1", "start Redis")
    check(of("nonsense://x"), "failed", "correct PIPELINE_BROKER_URL")
    check(of(None), "failed", "is not set")


@pytest.mark.parametrize(
    ("revision", "verdict", "step"),
    [(HEAD_REVISION, "ok", ""), ("0001", "failed", "dsa110 prepare"), ("9999", "failed", "install the platform's release")],
)
def test_the_schema_is_exactly_this_releases(host: PipelineConfig, database: Database, revision: str, verdict: str, step: str) -> None:
    """A worker must not migrate: the platform's machine does."""
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": revision})
    try:
        check(preflight_hosts.check_server(host), verdict, step)
        assert database.revision() == revision
    finally:
        with database.session() as session:
            session.execute(text("UPDATE alembic_version SET version_num = :one"), {"one": HEAD_REVISION})


def test_a_server_that_does_not_answer_or_is_not_named_is_a_failure(host: PipelineConfig) -> None:
    check(preflight_hosts.check_server(host.model_copy(update={"database_url": None})), "failed", "PIPELINE_DATABASE_URL is not set")
    dead = host.model_copy(update={"database_url": SecretStr("postgresql://me@127.0.0.1:1/x")})
    check(preflight_hosts.check_server(dead), "failed", "127.0.0.1")
    check(preflight_hosts.check_clock(dead), "failed", "127.0.0.1")


@pytest.mark.parametrize(("ahead_s", "verdict", "words"), [(0.0, "ok", ""), (8.0, "warning", "ahead"), (-400.0, "failed", "behind")])
def test_the_clock_is_compared_with_the_servers(
    host: PipelineConfig, monkeypatch: pytest.MonkeyPatch, ahead_s: float, verdict: str, words: str
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead_s)
    check(preflight_hosts.check_clock(host), verdict, words)


def test_shared_directories_rename_lock_and_hold_what_is_registered(host: PipelineConfig, database: Database, tmp_path: Path) -> None:
    def found() -> dict[str, Finding]:
        return {one.subject: one for one in preflight_hosts.check_shared(host)}

    assert {one.verdict for one in found().values()} == {"ok"}
    assert list(host.output_dir.iterdir()) == [], "nothing is left"
    elsewhere = tmp_path / "of-another-host"
    with database.session() as session:
        session.add(ProductVersion(product="tile_image", key="k", path=str(elsewhere), code_version="a", config_hash="b"))
    check(found()["shared files"], "failed", str(elsewhere), "mount")
    elsewhere.mkdir()
    check(found()["shared files"], "ok")
    (host.dagster_home / "dagster.yaml").unlink()
    check(found()["Dagster's home"], "failed", "dsa110 prepare")
    host.output_dir.rmdir()
    check(found()["shared output"], "failed", "mount")


def test_code_and_settings_are_those_of_the_platform(host: PipelineConfig, database: Database) -> None:
    check(preflight_hosts.check_version(host), "ok", "no run yet")
    check(preflight_hosts.check_workers(host), "warning", "dsa110 worker")
    with database.session() as session:
        workers.request(session, "r1", queue=host.worker_queue, version=str(installed(host)), priority=0, group_id=None)
        workers.join(session, "h:1", Host("h", "b"), pid=1, queue=host.worker_queue, slots=4, version=str(installed(host)))
    check(preflight_hosts.check_version(host), "ok", "as the platform's")
    check(preflight_hosts.check_workers(host), "ok", "1 with 4 slots")
    other = host.model_copy(update={"image_size": host.image_size + 16})
    check(preflight_hosts.check_version(other), "failed", "its settings are")
    check(preflight_hosts.check_workers(other), "failed", "h:1: its settings are")


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the units are installed, as deploy/README.md says."""
    units = tmp_path / "units"
    shutil.copytree(DEPLOY / "systemd", units, ignore=shutil.ignore_patterns("platform.env.example", "dsa110-worker.service"))
    monkeypatch.setattr(preflight_systemd, "UNITS", units)
    monkeypatch.setattr(preflight_systemd, "RULES", tmp_path)
    return units


def test_installed_units_are_compared_with_this_releases(root: Path, host: PipelineConfig) -> None:
    check(preflight_systemd.check_units(host), "ok")
    (root / "dsa110-api.service").write_text("[Service]\n")
    check(preflight_systemd.check_units(host), "warning", "dsa110-api.service", "systemctl edit")
    (root / "dsa110-.service.d/common.conf").unlink()
    check(preflight_systemd.check_units(host), "failed", "common.conf", "daemon-reload")


def test_directories_outside_what_the_units_may_write_are_found(root: Path, host: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    check(preflight_systemd.check_writable_paths(host), "failed", "PIPELINE_OUTPUT_DIR", "/stage")
    override = root / "dsa110-.service.d/local.conf"
    override.write_text(f"[Service]\nReadWritePaths={host.output_dir.parent}\n")
    check(preflight_systemd.check_writable_paths(host), "ok")
    monkeypatch.setenv("DSA110_BACKUP_DIR", "/backup")
    check(preflight_systemd.check_writable_paths(host), "failed", "DSA110_BACKUP_DIR")


def test_backups_supervisor_and_the_panels_rule(root: Path, host: PipelineConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DSA110_BACKUP_DIR", raising=False)
    check(preflight_systemd.check_backups(host), "failed", "is not set", "platform.env")
    monkeypatch.setenv("DSA110_BACKUP_DIR", str(tmp_path / "nowhere"))
    check(preflight_systemd.check_backups(host), "failed", "install -d")
    monkeypatch.setenv("DSA110_BACKUP_DIR", str(tmp_path))
    check(preflight_systemd.check_backups(host), "ok")
    check(preflight_systemd.check_supervisor(host), "ok")
    with supervising(host):
        check(preflight_systemd.check_supervisor(host), "failed", "dsa110 down")
    check(preflight_systemd.check_panel(host), "warning", "50-dsa110.rules", "/polkit")
    shutil.copy(DEPLOY / "polkit/50-dsa110.rules", tmp_path)
    check(preflight_systemd.check_panel(host), "ok")


def test_each_role_has_its_checks_and_distributed_is_a_head(
    host: PipelineConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(host, name)))
    assert host.database_url is not None
    monkeypatch.setenv("PIPELINE_DATABASE_URL", host.database_url.get_secret_value())

    def subjects(*arguments: str) -> set[str]:
        run(["preflight", "--no-casa", "--json", *arguments])
        report: dict[str, Any] = json.loads(capsys.readouterr().out)
        return {finding["subject"] for finding in report["findings"]}

    of = {role: subjects("--for", role) for role in ("machine", "systemd", "head", "worker")}
    assert {"broker", "clock", "shared files", "version", "local scratch"} <= of["worker"]
    assert not {"HTTP API", "machine", "units", "workers"} & of["worker"]
    assert {"broker", "workers", "HTTP API"} <= of["head"]
    assert {"units", "HTTP API", "machine"} <= of["systemd"]
    assert subjects() == of["machine"]
    monkeypatch.setenv("PIPELINE_PROFILE", "distributed")
    assert subjects() == of["head"]
