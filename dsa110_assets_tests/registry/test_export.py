"""An export has the registry's tables, names and values at one moment, and is complete or absent."""

import json
import sqlite3
from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sqlalchemy import text

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry import queries
from dsa110_assets.registry.export import export
from dsa110_assets.registry.schema import Base, IngestGroup, View
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-01T05:10:00"
MOMENT = datetime(2026, 3, 1, 6, 0, 0, 123000, tzinfo=UTC)


@pytest.fixture
def filled(database):
    with database.session() as session:
        add_observation(session, GROUP).missing_subbands = [3, 7]
        add_observation(session, "2026-03-01T05:20:00").error = 'line one\nline "two", with a comma'
        session.flush()
        session.query(IngestGroup).update({"first_seen_at": MOMENT})
        queries.upsert_caltables(
            session, directory="/cal/a", group_id=GROUP, night="2026-03-01", calibrator="3C48", refant="103", mid_mjd=61100.1, valid_from_mjd=61099.0,
            valid_to_mjd=61101.0, pointing_dec_deg=16.0, accepted=False, reasons=["noisy, very", 'a "quote"'], quality={"snr": 1.5},
        )  # fmt: skip
        ids = queries.upsert_sources(session, pd.DataFrame({"name": ["a"], "ra_deg": [0.1], "dec_deg": [1 / 3]}), origin="nvss")
        rows = pd.DataFrame(
            {"source_id": ids, "flux_jy": 1e-3 / 3, "flux_err_jy": 0.1, "noise_jy_per_beam": 0.1, "background_jy_per_beam": 0.0, "snr": 1.0,
             "upper_limit_jy": np.nan, "is_limit": True}
        )  # fmt: skip
        for name, mjd in [("m1", 61100.5), ("m2", 61140.5)]:
            queries.replace_photometry(session, name, rows, time_mjd=mjd)
    return database


def test_known_queries_work_in_the_sqlite_copy(filled, tmp_path):
    counts = export(filled, tmp_path / "registry.sqlite3")
    assert set(counts) == {*Base.metadata.tables, *View.metadata.tables}
    with sqlite3.connect(tmp_path / "registry.sqlite3") as copy:
        rows = copy.execute(
            "SELECT group_id, state, missing_subbands, night, first_seen_at, error, lease_owner FROM ingest_queue ORDER BY group_id"
        ).fetchall()
        assert rows == [
            (GROUP, "completed", "[3,7]", "2026-03-01", "2026-03-01T06:00:00.123000Z", None, None),
            (
                "2026-03-01T05:20:00",
                "completed",
                "[]",
                "2026-03-01",
                "2026-03-01T06:00:00.123000Z",
                'line one\nline "two", with a comma',
                None,
            ),
        ]
        assert (
            copy.execute("SELECT flux_jy, upper_limit_jy, is_limit, flags FROM photometry ORDER BY time_mjd").fetchall()
            == [(1e-3 / 3, None, 1, "")] * 2
        )
        reasons, quality = copy.execute("SELECT reasons, quality FROM caltables").fetchone()
        assert json.loads(reasons) == ["noisy, very", 'a "quote"']
        assert json.loads(quality) == {"snr": 1.5}
        assert copy.execute("SELECT path FROM ms_index").fetchall() == []
        with pytest.raises(sqlite3.IntegrityError):
            copy.execute("INSERT INTO ingest_queue SELECT * FROM ingest_queue")


def test_parquet_keeps_types(filled, tmp_path):
    counts = export(filled, tmp_path / "copy")
    assert counts["photometry"] == 2
    assert {path.stem for path in (tmp_path / "copy").iterdir()} == {*Base.metadata.tables, *View.metadata.tables}
    observations = pq.read_table(tmp_path / "copy" / "ingest_queue.parquet").to_pylist()
    assert [row["night"] for row in observations] == [date(2026, 3, 1)] * 2
    assert observations[0]["first_seen_at"] == MOMENT
    fluxes = pq.read_table(tmp_path / "copy" / "photometry.parquet").to_pylist()
    assert [row["flux_jy"] for row in fluxes] == [1e-3 / 3] * 2
    assert [row["upper_limit_jy"] for row in fluxes] == [None, None]
    assert [row["is_limit"] for row in fluxes] == [True, True]
    assert pq.read_table(tmp_path / "copy" / "ms_index.parquet").num_rows == 0


def test_only_the_chosen_tables_are_exported_and_an_unknown_one_is_an_error(filled, tmp_path):
    assert export(filled, tmp_path / "some.db", tables=["sources"]) == {"sources": 1}
    with pytest.raises(NonRetriableError, match="choose from"):
        export(filled, tmp_path / "other.db", tables=["nonsense"])
    assert not (tmp_path / "other.db").exists()


def test_a_failed_export_leaves_the_old_one(filled, tmp_path):
    export(filled, tmp_path / "r.sqlite3")
    before = (tmp_path / "r.sqlite3").read_bytes()
    with filled.session() as session:
        session.execute(text("ALTER TABLE images RENAME TO images_gone"))
    try:
        with pytest.raises(Exception, match="images"):
            export(filled, tmp_path / "r.sqlite3")
    finally:
        with filled.session() as session:
            session.execute(text("ALTER TABLE images_gone RENAME TO images"))
    assert (tmp_path / "r.sqlite3").read_bytes() == before
