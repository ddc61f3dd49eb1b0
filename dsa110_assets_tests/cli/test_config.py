"""`dsa110 config show` prints each setting's value, its source and its meaning, and no password."""

import json
import os
from pathlib import Path
from typing import get_args

import pytest

from dsa110_assets.cli.main import run
from dsa110_assets.cli.preflight import check_names
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import ConfigurationError


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch, tmp_path):
    for name in PipelineConfig.model_fields:
        monkeypatch.delenv(f"PIPELINE_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def _shown(capsys):
    assert run(["config", "show", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return {row["variable"]: row for row in found["settings"]}, found["configuration_of_products"]


def test_every_setting_is_shown_with_a_meaning(capsys):
    rows, _ = _shown(capsys)
    assert list(rows) == [f"PIPELINE_{name.upper()}" for name in PipelineConfig.model_fields]
    assert all(row["meaning"] for row in rows.values())
    assert {row["source"] for row in rows.values()} == {"default"}


def test_the_source_is_the_one_that_won(capsys, monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("PIPELINE_MAX_WORKERS=7\nPIPELINE_MASK_RADIUS_ARCSEC=45\n")
    monkeypatch.setenv("PIPELINE_MAX_WORKERS", "9")
    rows, _ = _shown(capsys)
    assert (rows["PIPELINE_MAX_WORKERS"]["value"], rows["PIPELINE_MAX_WORKERS"]["source"]) == ("9", "environment")
    assert (rows["PIPELINE_MASK_RADIUS_ARCSEC"]["value"], rows["PIPELINE_MASK_RADIUS_ARCSEC"]["source"]) == ("45.0", ".env")


def test_settings_of_the_earlier_pipeline_keep_their_names_and_defaults(capsys):
    """Scripts of the earlier pipeline's users set these."""
    rows, _ = _shown(capsys)
    promised = {
        "INPUT_DIR": "/data/incoming", "OUTPUT_DIR": "/stage/dsa110-contimg/ms", "SCRATCH_DIR": "/stage/dsa110-contimg", "STATE_DIR": "state",
        "WRITER": "auto", "MAX_WORKERS": "4", "EXPECTED_SUBBANDS": "16", "CAL_BP_MINSNR": "3.0", "CAL_GAIN_SOLINT": "inf", "DEFAULT_REFANT": "103",
        "GRIDDER": "wgridder", "USE_NVSS_MASK": "True", "MASK_RADIUS_ARCSEC": "60.0",
    }  # fmt: skip
    assert {name: rows[f"PIPELINE_{name}"]["value"] for name in promised} == promised


def test_passwords_are_masked(capsys, monkeypatch):
    monkeypatch.setenv("PIPELINE_DATABASE_URL", "postgresql://me:secret@host/db")
    rows, _ = _shown(capsys)
    assert rows["PIPELINE_DATABASE_URL"]["value"] == "postgresql://me:***@host/db"
    assert run(["config", "show"]) == 0
    assert "secret" not in capsys.readouterr().out


def test_the_webhook_with_its_token_is_masked(capsys, monkeypatch):
    monkeypatch.setenv("PIPELINE_ALERT_WEBHOOK_URL", "https://hooks.example.org/services/T0/secret-token")
    rows, _ = _shown(capsys)
    assert rows["PIPELINE_ALERT_WEBHOOK_URL"]["value"] == "**********"
    assert run(["config", "show"]) == 0
    shown = capsys.readouterr().out
    assert "PIPELINE_ALERT_WEBHOOK_URL" in shown
    assert not {"secret-token", "hooks.example.org"} & set(shown.replace("/", " ").split())
    assert "secret-token" not in repr(PipelineConfig.from_env(validate_paths=False))


def test_a_products_hash_follows_the_settings_that_its_stage_reads_and_no_other(capsys, monkeypatch):
    _, before = _shown(capsys)
    monkeypatch.setenv("PIPELINE_MAX_WORKERS", "9")
    assert _shown(capsys)[1] == before
    monkeypatch.setenv("PIPELINE_BRIGGS_ROBUST", "0")
    after = _shown(capsys)[1]
    assert {name for name in before if before[name] != after[name]} == {"tile_image", "injection_recovery"}


@pytest.mark.parametrize(("name", "value"), [("MAX_WORKERS", "99"), ("GRIDDER", "magic"), ("CELL_ARCSEC", "wide")])
def test_a_wrong_value_is_one_message_that_names_the_variable(capsys, monkeypatch, name, value):
    monkeypatch.setenv(f"PIPELINE_{name}", value)
    assert run(["config", "show"]) == 2
    error = capsys.readouterr().err
    assert f"PIPELINE_{name}" in error
    assert value in error
    assert "Traceback" not in error


def test_addresses_follow_the_ports_unless_they_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIPELINE_DAGSTER_PORT", "3777")
    monkeypatch.setenv("PIPELINE_API_PORT", "3776")
    config = PipelineConfig.from_env(validate_paths=False)
    assert (config.ui_url, config.pages_url, config.docs_url) == (
        "http://127.0.0.1:3777", "http://127.0.0.1:3776/ui", "http://127.0.0.1:3776/docs",
    )  # fmt: skip
    monkeypatch.setenv("PIPELINE_UI_URL", "https://telescope.example.edu/dagster")
    assert PipelineConfig.from_env(validate_paths=False).ui_url == "https://telescope.example.edu/dagster"


@pytest.mark.timeout(60)
def test_an_env_file_that_is_a_pipe_is_refused_and_a_directory_is_none(tmp_path, capsys):
    (tmp_path / ".env").mkdir()
    assert run(["config", "show"]) == 0
    (tmp_path / ".env").rmdir()
    os.mkfifo(tmp_path / ".env")
    assert run(["config", "show"]) == 2
    assert "is a named pipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PIPELINE_MAX_WORKERS=3\nPIPELINE_API_HOST=caf\xe9\n", "line 2 is not UTF-8"),
        (b"# all right\nPIPELINE_MAX_WORKERS 3\n", "line 2 is no setting: PIPELINE_MAX_WORKERS 3"),
        (b"PIPELINE_API_HOST='127.0.0.1\n", "line 1 is no setting"),
        (b"PIPELINE_MAX_WORKERS=many\n", "PIPELINE_MAX_WORKERS"),
    ],
)
def test_an_env_file_with_a_line_that_is_no_setting_is_refused(tmp_path, capsys, content, reason):
    """Its library skips such lines: the platform would run with defaults."""
    (tmp_path / ".env").write_bytes(content)
    assert run(["config", "show"]) == 2
    assert reason in capsys.readouterr().err


def test_an_env_file_as_windows_and_shells_write_it_is_read(tmp_path, capsys):
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfPIPELINE_MAX_WORKERS=7\r\nexport PIPELINE_API_PORT='8001' # ours\r\n\r\n")
    rows, _ = _shown(capsys)
    assert (rows["PIPELINE_MAX_WORKERS"]["value"], rows["PIPELINE_API_PORT"]["value"]) == ("7", "8001")


def test_a_name_that_is_no_setting_is_said_with_the_one_that_was_meant(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PIPELINE_STATE_DIRR", "/data/state")
    (tmp_path / ".env").write_text("PIPELINE_MAX_WORKER=3\nOTHERS=1\n")
    assert run(["config", "show"]) == 0
    told = capsys.readouterr().err
    assert "PIPELINE_STATE_DIRR is no setting; did you mean PIPELINE_STATE_DIR?" in told
    assert "PIPELINE_MAX_WORKER is no setting; did you mean PIPELINE_MAX_WORKERS?" in told
    assert "OTHERS" not in told
    assert {one.found for one in check_names(PipelineConfig.from_env(validate_paths=False))} == {
        "PIPELINE_STATE_DIRR is no setting",
        "PIPELINE_MAX_WORKER is no setting",
    }


PATHS = [name for name, field in PipelineConfig.model_fields.items() if Path in (field.annotation, *get_args(field.annotation))]


@pytest.mark.parametrize("name", PATHS)
def test_a_home_is_written_out_in_every_path_and_an_empty_path_is_refused(monkeypatch, name):
    """Nobody does it in `.env` or in a unit of systemd: a directory named `~` was made."""
    variable = f"PIPELINE_{name.upper()}"
    monkeypatch.setenv("HOME", "/home/observer")
    monkeypatch.setenv(variable, "~/place")
    assert getattr(PipelineConfig.from_env(validate_paths=False), name) == Path("/home/observer/place")
    for odd in ("", "  ", "~nobody-of-this-name/place"):
        monkeypatch.setenv(variable, odd)
        with pytest.raises(ConfigurationError, match=variable):
            PipelineConfig.from_env(validate_paths=False)
