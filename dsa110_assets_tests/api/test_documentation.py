"""The built documentation can be searched without a network, and the API serves it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from dsa110_assets.api import documentation
from dsa110_assets.cli import main
from dsa110_assets.errors import NotFoundError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built as `make docs` does."""
    import logging

    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    logging.getLogger("mkdocs").setLevel(logging.WARNING)
    folder = tmp_path_factory.mktemp("built") / "docs"
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder)))
    return folder


def test_a_search_finds_the_section_with_all_words(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hits = documentation.search("spawn_task mosaic_build", folder=built)
    assert hits[0].location.startswith("astronomers/api.html")
    assert documentation.search("qwertyuiop", folder=built) == []
    assert len(documentation.search("the", limit=3, folder=built)) == 3
    monkeypatch.setattr(documentation, "built", lambda: built)
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
