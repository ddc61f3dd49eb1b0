"""`dsa110 preflight` finds what is wrong with a machine before the night begins."""

import json
import socket
import subprocess
import sys

import pytest

from dsa110_assets.cli import preflight
from dsa110_assets.cli.main import run


@pytest.fixture
def machine(registry_config, monkeypatch, tmp_path):
    """A machine on which everything is in place, and free ports."""
    values = {"INPUT_DIR": registry_config.input_dir, "OUTPUT_DIR": registry_config.output_dir, "SCRATCH_DIR": registry_config.scratch_dir,
              "STATE_DIR": registry_config.state_dir, "DATABASE_URL": registry_config.database_url.get_secret_value()}  # fmt: skip
    with socket.socket() as probe, socket.socket() as other:
        probe.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        values |= {"DAGSTER_PORT": probe.getsockname()[1], "API_PORT": other.getsockname()[1]}
    for name, value in values.items():
        monkeypatch.setenv(f"PIPELINE_{name}", str(value))
    for name in ("VLA_CALIBRATORS_FILE", "NVSS_FILE"):
        monkeypatch.delenv(f"PIPELINE_{name}", raising=False)
    catalogs = registry_config.state_dir / "catalogs"
    catalogs.mkdir()
    for name in ("vla_calibrators.sqlite3", "nvss.parquet"):
        (catalogs / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return values


def _findings(capsys, *, casa=False):
    code = run(["preflight", "--json", *([] if casa else ["--no-casa"])])
    report = json.loads(capsys.readouterr().out)
    assert report["ok"] == (code == 0)
    return {finding["subject"]: finding for finding in report["findings"]}


def test_a_machine_in_order_passes(machine, capsys):
    findings = _findings(capsys)
    assert {f["subject"] for f in findings.values() if f["verdict"] == "failed"} == set()
    assert run(["preflight", "--no-casa"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(findings)  # one line each


def test_each_problem_is_reported_with_a_next_step(machine, capsys, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PIPELINE_INPUT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("PIPELINE_OUTPUT_DIR", str(tmp_path / "file" / "ms"))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://me@127.0.0.1:1/x")
    monkeypatch.setenv("PIPELINE_GRIDDER", "wsclean")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "state" / "catalogs" / "nvss.parquet").unlink()
    findings = _findings(capsys)
    failed = {subject for subject, finding in findings.items() if finding["verdict"] == "failed"}
    assert failed == {"input directory", "output directory", "database", "imager", "reference sky"}
    assert all(findings[subject]["next_step"] for subject in failed)
    assert "PIPELINE_OUTPUT_DIR" in findings["output directory"]["next_step"]


def test_a_catalog_that_can_be_made_is_a_warning(machine, capsys, monkeypatch, tmp_path):
    (tmp_path / "state" / "catalogs" / "nvss.parquet").unlink()
    (tmp_path / "source.parquet").write_bytes(b"x")
    monkeypatch.setenv("PIPELINE_NVSS_FILE", str(tmp_path / "source.parquet"))
    finding = _findings(capsys)["reference sky"]
    assert finding["verdict"] == "warning"
    assert "catalogs refresh" in finding["next_step"]


def test_a_port_used_by_another_program_is_a_failure(machine, capsys):
    program = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        port = int(other.stdout.readline())
        found = preflight.check_port("Dagster UI", "PIPELINE_DAGSTER_PORT", "127.0.0.1", port)
        other.communicate("")
    assert found.verdict == "failed"
    assert str(other.pid) in found.found
    assert "PIPELINE_DAGSTER_PORT" in found.next_step
    assert preflight.check_port("Dagster UI", "PIPELINE_DAGSTER_PORT", "127.0.0.1", port).verdict == "ok"


def test_too_little_free_space_is_a_failure(machine, registry_config, monkeypatch):
    monkeypatch.setattr(preflight, "FAIL_BELOW_GIB", 10**9)
    found = preflight.check_writable("output", registry_config.output_dir)
    assert found.verdict == "failed"
    assert "GiB free" in found.found
    assert "free at least" in found.next_step
    assert list(registry_config.output_dir.iterdir()) == []  # the probe is gone


def test_casa_works_without_a_network():
    found = preflight.check_casa()
    assert found.verdict == "ok", found
    assert "casatools 6." in found.found


def test_a_broken_installation_of_casa_is_found(monkeypatch, tmp_path):
    (tmp_path / "casatools.py").write_text("raise ImportError('no data here')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = preflight.check_casa()
    assert found.verdict == "failed"
    assert "no data here" in found.found
