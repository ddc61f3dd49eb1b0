"""The recorded platform's registry on a server of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.server import stop_server
from dsa110_assets_tests.upgrade.recorded import fill


@pytest.fixture
def config(server_directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineConfig]:
    """A configuration with a server of its own, filled from the recorded backup."""
    root = server_directory / "upgrade"
    for name in ("input", "output", "scratch", "state"):
        (root / name).mkdir(parents=True)
        monkeypatch.setenv(f"PIPELINE_{name.upper()}_DIR", str(root / name))
    monkeypatch.delenv("PIPELINE_DATABASE_URL", raising=False)
    found = PipelineConfig.from_env()
    fill(found)
    yield found
    stop_server(found)
    shutil.rmtree(root)
