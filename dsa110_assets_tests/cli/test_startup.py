"""Commands that show something start fast: they do not import what takes seconds. Imports are counted, not seconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry import queries
from dsa110_assets.registry.database import Database
from dsa110_assets_tests.registry_fixture import add_observation

HEAVY = {"astropy", "casacore", "dagster", "h5py", "matplotlib", "numba", "pandas", "pyarrow", "scipy"}
CHECK = """
import json, sys
from dsa110_assets.cli.main import run
code = run(sys.argv[1:])
sys.stderr.write("\\n" + json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


@pytest.mark.parametrize(
    ("command", "allowed"),
    [
        ("--help", set[str]()),
        ("ingest status", set[str]()),
        ("ingest status 2026-03-01T05:10:11", set[str]()),
        ("ingest status --refused", set[str]()),
        ("alerts", set[str]()),
        ("db status", set[str]()),
        ("config show", set[str]()),
        ("lightcurve epochs", set[str]()),
        ("lightcurve show NAME", set[str]()),
        ("catalogs list", {"pyarrow"}),
    ],
)
def test_a_command_that_shows_something_imports_nothing_heavy(
    database: Database, registry_config: PipelineConfig, command: str, allowed: set[str]
) -> None:
    with database.session() as session:
        add_observation(session, "2026-03-01T05:10:11")
        queries.upsert_sources(session, pd.DataFrame({"name": ["NAME"], "ra_deg": [10.0], "dec_deg": [16.0]}), origin="nvss")
    catalogs = ProductPaths.of(registry_config).catalogs_dir
    catalogs.mkdir(parents=True)
    pd.DataFrame({"dec_deg": [16.0], "flux_jy": [0.5]}).to_parquet(catalogs / "nvss.parquet")
    settings = {name: str(getattr(registry_config, name)) for name in ("input_dir", "output_dir", "scratch_dir", "state_dir")}
    environment = (
        os.environ | {f"PIPELINE_{name.upper()}": value for name, value in settings.items()} | {"PIPELINE_DATABASE_URL": database.url}
    )
    shown = subprocess.run(
        [sys.executable, "-c", CHECK, *command.split()], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    code, imported = json.loads(shown.stderr.splitlines()[-1])
    assert code == 0, shown.stderr
    assert not (HEAVY - allowed).intersection(imported)
    if command == "--help":
        assert not {"numpy", "pydantic", "sqlalchemy"}.intersection(imported)
