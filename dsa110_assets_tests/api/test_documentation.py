"""The built documentation can be searched without a network, and the API serves it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dsa110_assets.api import documentation
from dsa110_assets.cli import main
from dsa110_assets.errors import NotFoundError


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as by the first start of the API."""
    folder = tmp_path_factory.mktemp("built") / "docs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(documentation, "built", lambda: folder)
        documentation.build()
    return folder


def test_a_search_finds_the_section_with_all_words(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = documentation.search("spawn_task mosaic_build", folder=built)
    assert hits[0].location.startswith("astronomers/api.html")
    assert documentation.search("qwertyuiop", folder=built) == []
    assert len(documentation.search("the", limit=3, folder=built)) == 3
    monkeypatch.setattr(documentation, "built", lambda: built)
    assert documentation.is_current()
    assert main.run(["docs", "search", "--json", "rejected", "files"]) == 0
    assert any("playbook" in hit["location"] for hit in json.loads(capsys.readouterr().out))
    assert main.run(["docs", "search", "qwertyuiop"]) == 1


def test_a_search_without_built_documentation_names_the_command(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="make docs"):
        documentation.search("mosaic", folder=tmp_path)


def test_the_api_serves_the_documentation(built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "built", lambda: built)
    app = FastAPI()
    documentation.install(app)
    client = TestClient(app)
    assert "DSA-110" in client.get("/docs/").text
    assert client.get("/docs/operators/playbook.html").status_code == 200
    assert client.get("/docs/search/search_index.json").status_code == 200
    assert client.get("/docs/../pyproject.toml").status_code == 404


def test_documentation_that_is_not_built_is_built_by_the_first_request(
    built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkdocs itself is replaced by a copy of what it has made for the other tests."""
    place = tmp_path / "build" / "docs"
    monkeypatch.setattr(documentation, "built", lambda: place)
    monkeypatch.setattr(documentation, "build", lambda: shutil.copytree(built, place))
    monkeypatch.setattr(documentation, "builder", documentation.Builder())
    app = FastAPI()
    documentation.install(app)
    client = TestClient(app)
    waiting = client.get("/docs/operators/playbook.html")
    assert waiting.status_code == 503
    assert "being built" in waiting.text
    assert waiting.headers["Refresh"] == "5"
    limit = time.monotonic() + 60
    while (answer := client.get("/docs/operators/playbook.html")).status_code != 200:
        assert time.monotonic() < limit
        time.sleep(0.1)
    assert "playbook" in answer.text


def test_documentation_that_cannot_be_built_says_why_and_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documentation, "_ROOT", tmp_path)
    monkeypatch.setattr(documentation, "builder", documentation.Builder())
    app = FastAPI()
    documentation.install(app)
    client = TestClient(app)
    limit = time.monotonic() + 30
    while "sources are not installed" not in (answer := client.get("/docs/")).text:
        assert answer.status_code == 503
        assert time.monotonic() < limit
        time.sleep(0.05)
    assert "make docs" in answer.text
