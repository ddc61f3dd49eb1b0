"""Files beside the code: citation, changes, editor settings, pre-commit hooks."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
import sys
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import yaml

import dsa110_assets
from dsa110_assets_tests.docs.named_commands import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_citation_is_valid_and_has_this_version() -> None:
    found: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    known = {"cff-version", "message", "title", "abstract", "type", "version", "license", "authors", "keywords", "date-released", "doi"}
    assert {"cff-version", "message", "title", "authors"} <= set(found) <= known
    assert found["cff-version"] == "1.2.0"
    assert found["type"] == "software"
    assert found["version"] == PROJECT["version"] == dsa110_assets.__version__
    assert found["license"] == PROJECT["license"]
    assert found["authors"]
    assert all(set(one) & {"name", "family-names"} for one in found["authors"])
    assert isinstance(found.get("date-released", date.today()), date)  # noqa: DTZ011


def test_the_changelog_begins_with_unreleased_changes_and_has_this_version() -> None:
    titles = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert titles[1] == PROJECT["version"]


def test_the_editor_settings_agree_with_the_formatter() -> None:
    found = configparser.ConfigParser()
    found.read_string("[top]\n" + (ROOT / ".editorconfig").read_text())
    assert found["top"]["root"] == "true"
    assert found["*"]["indent_size"] == "4"
    assert found["*.md"]["max_line_length"] == "120"


def test_pre_commit_hooks_are_valid_and_run_programs_of_the_environment() -> None:
    path = ROOT / ".pre-commit-config.yaml"
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", path], check=True, cwd=ROOT)
    repositories = yaml.safe_load(path.read_text())["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    for hook in repositories[0]["hooks"]:
        assert hook["language"] == "system"
        program, *_ = shlex.split(hook["entry"])
        assert program == "make" or (program.startswith(".venv/bin/") and (Path(sys.executable).parent / Path(program).name).is_file()), (
            hook["entry"]
        )
