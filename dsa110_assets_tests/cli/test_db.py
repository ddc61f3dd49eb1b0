"""`dsa110 db` replaces `sqlite3` on a file; a query cannot change anything."""

import csv
import io
import json
import re
import sqlite3
import subprocess
import sys

import pytest
from sqlalchemy import text

from dsa110_assets.cli.main import run
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-01T05:10:00"


@pytest.fixture
def registry(registry_config, database, monkeypatch, tmp_path):
    """The commands' environment, with two observations in the registry."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", registry_config.database_url.get_secret_value())
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(registry_config.state_dir))
    monkeypatch.chdir(tmp_path)
    with database.session() as session:
        add_observation(session, GROUP).missing_subbands = [3]
        add_observation(session, "2026-03-01T05:20:00")
    return database


def test_query_as_a_table(registry, capsys):
    assert run(["db", "query", "SELECT group_id, state, 'a%b [x]' AS odd FROM ingest_queue ORDER BY group_id"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if GROUP in line] == [[GROUP, "completed", "a%b", "[x]"]]


def test_query_as_a_table_reports_that_it_left_rows_out(registry, capsys):
    assert run(["db", "query", "SELECT generate_series(1, 5)", "--limit", "3"]) == 0
    shown = capsys.readouterr()
    assert "first 3 rows" in shown.err
    assert "4" not in shown.out


def test_query_as_json(registry, capsys):
    statement = (
        "SELECT group_id, missing_subbands, 'NaN'::float8 AS nothing, night, 2.50::numeric AS n FROM ingest_queue ORDER BY group_id LIMIT 1"
    )
    assert run(["db", "query", statement, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [
        {"group_id": GROUP, "missing_subbands": [3], "nothing": None, "night": "2026-03-01", "n": 2.5}
    ]


def test_query_as_csv(registry, capsys):
    assert run(["db", "query", "SELECT group_id, missing_subbands, error FROM ingest_queue ORDER BY group_id", "--csv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [["group_id", "missing_subbands", "error"], [GROUP, "[3]", ""], ["2026-03-01T05:20:00", "[]", ""]]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM ingest_queue",
        "COMMIT; DELETE FROM ingest_queue",
        "WITH gone AS (DELETE FROM ingest_queue RETURNING 1) SELECT * FROM gone",
        "DROP TABLE images",
    ],
)
def test_a_query_changes_nothing(registry, capsys, statement):
    assert run(["db", "query", statement]) == 2
    assert "read-only transaction" in capsys.readouterr().err
    with registry.session() as session:
        assert session.connection().exec_driver_sql("SELECT count(*) FROM ingest_queue").scalar_one() == 2


def test_a_wrong_query_is_explained(registry, capsys):
    assert run(["db", "query", "SELECT nonsense FROM ingest_queue"]) == 2
    error = capsys.readouterr().err
    assert 'column "nonsense" does not exist' in error
    assert "db status" in error


def test_shell_is_psql_on_the_registry(registry):
    done = subprocess.run(
        [sys.executable, "-m", "dsa110_assets.cli.main", "db", "shell", "--", "-At", "-c", "SELECT count(*) FROM ingest_queue"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr, done.returncode) == ("2\n", "", 0)


def test_export_for_a_laptop(registry, tmp_path, capsys):
    assert run(["db", "export", str(tmp_path / "copy.sqlite3"), "--table", "ingest_queue"]) == 0
    assert "2 rows in 1 tables" in capsys.readouterr().out
    with sqlite3.connect(tmp_path / "copy.sqlite3") as copy:
        assert copy.execute("SELECT group_id FROM ingest_queue ORDER BY 1").fetchall() == [(GROUP,), ("2026-03-01T05:20:00",)]


def test_status_names_schema_and_tables(registry, capsys):
    assert run(["db", "status", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["schema_is_current"] is True
    assert {"ingest_queue", "ms_index", "photometry"} <= {table["name"] for table in found["tables"]}
    assert not any(re.match(r"photometry_\d", table["name"]) for table in found["tables"]), "monthly partitions are one table"
    assert run(["db", "status"]) == 0
    assert "ingest_queue" in capsys.readouterr().out


def test_migrate_reports_what_it_did(registry, capsys):
    assert run(["db", "migrate"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_an_external_server_is_not_stopped(registry, capsys):
    assert run(["db", "stop"]) == 2
    assert "external server" in capsys.readouterr().err


def test_the_embedded_server_is_started_reported_and_stopped(server_directory, monkeypatch, tmp_path, capsys):
    state = server_directory / "cli"
    monkeypatch.delenv("PIPELINE_DATABASE_URL", raising=False)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(state))
    monkeypatch.chdir(tmp_path)
    assert run(["db", "status"]) == 1
    assert "db start" in capsys.readouterr().out
    assert not state.exists()  # `status` starts nothing
    try:
        assert run(["db", "start"]) == 0
        assert "dsa110" in capsys.readouterr().out
        assert run(["db", "query", "SELECT count(*) AS n FROM ms_index", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == [{"n": 0}]
        assert run(["db", "stop"]) == 0
        assert run(["db", "stop"]) == 0
        assert capsys.readouterr().out.splitlines() == ["stopped", "was not running"]
    finally:
        EmbeddedServer(state / "postgres").stop(immediate=True)


def test_a_backup_restores_observations_and_the_history_of_runs(registry, registry_config, tmp_path, capsys):
    """Both are deleted first: the observations from the registry, a run from Dagster's storage."""
    import dagster as dg

    from dsa110_assets.registry.server import dagster_url

    @dg.job
    def tile():
        """Stands for the tile's job."""

    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(f"storage:\n  postgres:\n    postgres_url: '{dagster_url(registry_config)}'\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        run_id = instance.create_run_for_job(tile, status=dg.DagsterRunStatus.SUCCESS).run_id
        assert run(["db", "backup", "registry.dump"]) == 0
        instance.delete_run(run_id)
        with registry.session() as session:
            session.execute(text("DELETE FROM ingest_queue"))
    assert run(["db", "restore", "registry.dump"]) == 2, "existing contents are dropped only with --replace"
    assert run(["db", "restore", "registry.dump", "--replace"]) == 0
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_run_by_id(run_id).is_success
    with registry.session() as session:
        assert session.scalar(text("SELECT count(*) FROM ingest_queue")) == 2
    (tmp_path / "registry.dump.dagster").unlink()
    capsys.readouterr()
    assert run(["db", "restore", "registry.dump", "--replace"]) == 0
    assert "Dagster keeps its present history" in capsys.readouterr().out
