"""A backup has the whole registry, and restoring it gives the same content."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry import photometry_partitions, provenance
from dsa110_assets.registry.backup import backup, restore
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.migrations import HEAD_REVISION
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-12T05:03:21"


@pytest.fixture
def empty_database(registry_url):
    """A second database on the test server, without tables."""
    administration = Database(registry_url)
    with administration.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE IF EXISTS restored WITH (FORCE)"))
        connection.execute(text("CREATE DATABASE restored"))
    fresh = Database(registry_url.replace("/postgres?", "/restored?"))
    yield fresh
    fresh.dispose()
    with administration.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("DROP DATABASE restored WITH (FORCE)"))
    administration.dispose()


def _fill(database: Database) -> None:
    with database.session() as session:
        add_observation(session, GROUP)
        upsert_qa_metric(session, "tile_image", GROUP, "noise", 1.25, passed=True)
        provenance.record_version(session, "tile_image", GROUP, inputs={"/a b": 3}, recipe=provenance.Recipe("s", "c"))
        photometry_partitions.ensure(session, 61100.0, 61100.0)
        session.execute(
            text(
                "INSERT INTO photometry (time_mjd, source_id, mosaic_name, flux_jy, flux_err_jy, noise_jy_per_beam, background_jy_per_beam, snr, is_limit) "
                "VALUES (61100.25, 7, 'm', 0.1, 0.01, 0.01, 'NaN', 10, false)"
            )
        )


def _content(database: Database) -> dict[str, list[str]]:
    """Every row of every table as text, in PostgreSQL's own format."""
    with database.session() as session:
        tables = session.scalars(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")).all()
        return {name: sorted(session.scalars(text(f'SELECT t::text FROM "{name}" t')).all()) for name in tables}


def test_a_restored_registry_has_the_same_content_and_schema(database, empty_database, tmp_path) -> None:
    _fill(database)
    path = tmp_path / "registry.dump"
    assert backup(database.url, path) == path.stat().st_size > 0
    restore(empty_database.url, path)
    content = _content(empty_database)
    assert content == _content(database)
    assert sum(map(len, content.values())) >= 5
    assert empty_database.revision() == HEAD_REVISION
    with empty_database.session() as session:  # identifiers continue
        provenance.record_version(session, "tile_image", GROUP, recipe=provenance.Recipe("s", "c"))


def test_a_registry_that_is_not_empty_is_replaced_only_on_request(database, empty_database, tmp_path) -> None:
    _fill(database)
    path = tmp_path / "registry.dump"
    backup(database.url, path)
    empty_database.migrate()
    with empty_database.session() as session:
        add_observation(session, "2026-01-01T00:00:00")
    before = _content(empty_database)
    with pytest.raises(NonRetriableError, match="not empty"):
        restore(empty_database.url, path)
    assert _content(empty_database) == before
    restore(empty_database.url, path, replace=True)
    assert _content(empty_database) == _content(database)


def test_a_broken_backup_changes_nothing(database, tmp_path) -> None:
    _fill(database)
    before = _content(database)
    path = tmp_path / "registry.dump"
    backup(database.url, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(NonRetriableError, match="pg_restore"):
        restore(database.url, path, replace=True)
    assert _content(database) == before
    with pytest.raises(NonRetriableError, match="does not exist"):
        restore(database.url, tmp_path / "none.dump", replace=True)
