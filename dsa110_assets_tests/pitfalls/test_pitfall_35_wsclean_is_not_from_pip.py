"""Pitfall 35: WSClean must be the imager; the package of this name on PyPI is a clipboard tool."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.wsclean import find_wsclean


def test_pitfall_35_a_clipboard_tool_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "wsclean"
    program.write_text("#!/bin/sh\necho 'wsclean 0.2: whitespace cleaned'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ImagingError, match="is not the imager"):
        find_wsclean()


def test_pitfall_35_a_program_that_cannot_start_is_refused(tmp_path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "wsclean"
    program.write_text("#!/nowhere/python\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ImagingError, match="does not run"):
        find_wsclean()


def test_pitfall_35_wsclean_is_not_a_python_dependency():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    names = [re.split(r"[<>=!~\[ ;]", d)[0].lower() for d in project["project"]["dependencies"]]
    assert "wsclean" not in names
    assert "ducc0" in names
