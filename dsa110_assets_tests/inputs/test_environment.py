"""The environment of a process changes nothing in the registry: a connection brings its own settings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.backup import check_archive

HOSTILE = {
    "PGCLIENTENCODING": "LATIN1",
    "PGTZ": "Pacific/Kiritimati",
    "PGDATESTYLE": "SQL, DMY",
    "PGOPTIONS": "-c search_path=pg_catalog -c statement_timeout=1 -c default_transaction_read_only=on -c timezone=Asia/Kathmandu",
    "LC_ALL": "C",
    "TZ": "Pacific/Kiritimati",
    "PGAPPNAME": "x",
}
_PROGRAM = """
import sys
import pandas as pd
from sqlalchemy import text
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.sources import source_table, upsert_sources
name = "\\u2605\\u03b1 Lyr\\u00e9"
with Database(sys.argv[1]).session() as session:
    upsert_sources(session, pd.DataFrame({"name": [name], "ra_deg": [1.0], "dec_deg": [2.0]}), origin="monitored")
    session.execute(text("SELECT pg_sleep(0.05)"))
    assert source_table(session)["name"].tolist() == [name]
    assert session.scalar(text("SHOW timezone")) == "UTC", session.scalar(text("SHOW timezone"))
"""


def test_hostile_settings_of_the_environment_change_no_name_time_or_limit(database):
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", _PROGRAM, database.url],
        env={**os.environ, **HOSTILE},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with database.session() as session:
        from dsa110_assets.registry.queries.sources import source_table

        assert source_table(session)["name"].tolist() == ["★α Lyré"]


@pytest.mark.parametrize("content", [b"", b"hello", b"PGDM"])
def test_what_is_no_backup_is_refused_for_good_before_anything_is_dropped(tmp_path, content):
    (tmp_path / "x.dump").write_bytes(content)
    with pytest.raises(NonRetriableError, match="is no backup"):
        check_archive(tmp_path / "x.dump")
