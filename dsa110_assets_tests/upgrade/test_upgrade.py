"""A registry with work in progress goes to a newer release and back, and loses nothing.

`make upgrade` also lets the platform carry on. The backup was recorded from a platform at work (`recorded`). The newer
release is `newer`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

import dsa110_assets
from dsa110_assets.cli.main import run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.server import dagster_url
from dsa110_assets_tests.upgrade.newer import NEXT, make_newer
from dsa110_assets_tests.upgrade.recorded import DAMAGED, REGISTRY, contents


@pytest.fixture(scope="module")
def newer_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Directory with the package of a newer release."""
    root = tmp_path_factory.mktemp("newer")
    here = Path(dsa110_assets.__file__).parent
    shutil.copytree(here, root / "dsa110_assets", ignore=shutil.ignore_patterns("static", "__pycache__"))
    for name in ("dagster.yaml", "workspace.yaml"):
        shutil.copy(here.parent / name, root)
    make_newer(root)
    return root


def test_the_recorded_platform_was_at_work(config: PipelineConfig) -> None:
    database = Database.connect(config, migrate=False)
    with database.session() as session:
        leased = session.execute(text("SELECT group_id, run_id FROM ingest_queue WHERE state = 'in_progress'")).tuples().all()
        half_made = set(session.scalars(text("SELECT group_id FROM ms_index WHERE kind = 'calibrated'")))
        collecting = session.scalar(text("SELECT count(*) FROM ingest_queue WHERE state = 'collecting'"))
        mosaics = session.scalar(text("SELECT count(*) FROM mosaics"))
        alert = session.scalar(text("SELECT count(*) FROM alerts WHERE passed_at IS NULL AND key LIKE 'files-refused%'"))
        refused = session.scalars(text("SELECT path FROM subband_files WHERE state = 'rejected'")).all()
    assert len(leased) > 1
    assert half_made & {group_id for group_id, _ in leased}
    assert (collecting, mosaics, alert, [Path(one).name for one in refused]) == (1, 0, 1, [DAMAGED])
    engine = create_engine(dagster_url(config))
    with engine.connect() as connection:
        started = set(connection.scalars(text("SELECT run_id FROM runs WHERE status = 'STARTED'")))
    engine.dispose()
    assert {run_id for _, run_id in leased} <= started


def test_an_upgrade_with_work_in_progress_and_the_way_back_lose_nothing(
    config: PipelineConfig, newer_release: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The steps are those of deploy/README.md."""
    url, history = Database.connect(config, migrate=False).url, dagster_url(config)
    recorded = contents(url)
    assert run(["prepare"]) == 0, "the upgrade from the recorded release to this one"
    assert contents(url, recorded[0])[1] == recorded[1]
    columns, rows = contents(url)
    history_before = contents(history)

    backup = tmp_path / "before.dump"
    assert run(["db", "backup", str(backup)]) == 0
    command = [sys.executable, "-m", "dsa110_assets.cli.main", "prepare"]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(newer_release)}, cwd=tmp_path, check=True)
    newer, newer_rows = contents(url)
    assert contents(url, columns)[1] == rows
    assert set(newer) - set(columns) == {"of_the_newer_release"}
    assert len(newer_rows["of_the_newer_release"]) == 3

    capfd.readouterr()
    assert run(["prepare"]) == 2, "the older code has to refuse the newer schema"
    refusal = capfd.readouterr().err
    assert NEXT in refusal
    assert "dsa110 db restore FILE --replace" in refusal
    assert run(["db", "restore", str(backup), "--replace"]) == 0
    assert contents(url) == (columns, rows)
    assert contents(history) == history_before
    assert run(["prepare"]) == 0, "the older code goes on"
    assert contents(url) == (columns, rows)


def test_a_backup_is_of_the_schema_that_it_finds(config: PipelineConfig, tmp_path: Path) -> None:
    """A person may make the backup after `git pull`; it must not be the upgrade."""
    database = Database.connect(config, migrate=False)
    with database.session() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0025'"))
    assert run(["db", "backup", str(tmp_path / "old.dump"), "--no-history"]) == 0
    assert database.revision() == "0025"
    assert REGISTRY.stat().st_size < 1 << 20
