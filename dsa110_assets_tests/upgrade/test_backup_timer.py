"""What the timer runs makes a backup that an empty server can be filled from, and that agrees with the files."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.server import dagster_url, ensure_server, stop_server
from dsa110_assets_tests.cli.test_deployment import DEPLOY, value
from dsa110_assets_tests.upgrade.recorded import ROOT, contents, unpack

UNIT = DEPLOY / "systemd/dsa110-backup.service"
INSTALLED = "/opt/dsa110/.venv/bin/dsa110"


def carry_out(name: str, environment: dict[str, str]) -> None:
    """Run a command of the unit as systemd does, which splits it into words and replaces ``%%`` and ``${NAME}``."""
    (line,) = value(UNIT, name)
    assert INSTALLED in line or name == "ExecStartPost"
    words = [word.replace("%%", "%").replace("${DSA110_BACKUP_DIR}", environment["DSA110_BACKUP_DIR"]) for word in shlex.split(line)]
    program = str(Path(sys.executable).with_name("dsa110"))
    subprocess.run([word.replace(INSTALLED, program) for word in words], env=environment, check=True)


def test_the_timers_backup_fills_an_empty_server_and_agrees_with_the_files(
    config: PipelineConfig, server_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The source is a platform at work. Its files are put elsewhere, as on another machine."""
    assert (UNIT.with_suffix(".timer")).is_file(), "a timer starts the service of its name"
    assert run(["db", "migrate"]) == 0, "the recorded registry has the tables of an earlier release"
    before = contents(ensure_server(config)), contents(dagster_url(config))
    old = tmp_path / "registry-2026-01-01T160000.dump"
    old.touch()
    os.utime(old, (0, 0))
    environment = {name: text for name, text in os.environ.items() if name.startswith("PIPELINE_")}
    environment |= {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "DSA110_BACKUP_DIR": str(tmp_path)}
    carry_out("ExecStart", environment)
    carry_out("ExecStartPost", environment)
    registry, history = sorted(tmp_path.glob("registry-*"))
    assert history.name == f"{registry.name}.dagster"
    assert registry != old

    root = server_directory / "restored"
    for name in ("input", "output", "scratch", "state"):
        folder = root / {"input": "incoming", "output": "ms", "scratch": "products"}.get(name, name)
        folder.mkdir(parents=True)
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(folder))
    restored = PipelineConfig.from_env()
    try:
        assert run(["db", "restore", str(registry)]) == 0
        assert (contents(ensure_server(restored)), contents(dagster_url(restored))) == before
        unpack(root, Database.connect(restored))
        assert run(["db", "relocate", str(ROOT), str(root)]) == 0
        assert run(["db", "check", "--contents", "checksum"]) == 0
        next(root.glob("ms/*/*.ms/table.f1")).write_bytes(b"other")
        assert run(["db", "check", "--contents", "checksum"]) == 1, "the check finds nothing"
    finally:
        stop_server(restored)
