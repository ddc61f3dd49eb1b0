"""Fixtures with a real registry: one embedded server for each test process, emptied before each test that uses it.

Most tests need `database`. `registry_config` is a configuration with that database and with directories under the
test's temporary one. `add_observation` puts an observation into `ingest_queue`, to which other rows refer.
"""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Table, text
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry import photometry_partitions
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import Base, GroupState, IngestGroup, TileStage
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets.times import datetime_to_mjd, group_time, tile_partition

__all__ = ["TEST_SETTINGS", "Contents", "add_observation", "database", "empty", "registry_config", "registry_url", "server_directory"]

TEST_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "autovacuum": "off",  # it would decide by chance what queries read
}


@pytest.fixture(scope="session")
def server_directory() -> Iterator[Path]:
    """Short, world-searchable directory for servers. Pytest's directories have mode 0700 and long paths."""
    directory = Path(tempfile.mkdtemp(prefix="dsa110-test-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def registry_url(server_directory: Path) -> Iterator[str]:
    """URL of a migrated registry on a server of this test process."""
    server = EmbeddedServer(server_directory / "postgres", settings=TEST_SETTINGS)
    address = server.ensure()
    migrated = Database(address.url("postgres"))
    migrated.migrate()
    migrated.dispose()
    yield address.url("postgres")
    server.stop(immediate=True)  # its data are thrown away


@pytest.fixture
def database(registry_url: str) -> Iterator[Database]:
    """An empty registry of the current schema."""
    empty(registry_url)
    fresh = Database(registry_url)
    yield fresh
    fresh.dispose()


@pytest.fixture
def registry_config(database: Database, tmp_path: Path) -> PipelineConfig:
    """A configuration of existing directories under ``tmp_path`` whose registry is `database`."""
    for name in ("incoming", "ms", "scratch", "state"):
        (tmp_path / name).mkdir()
    return PipelineConfig(
        input_dir=tmp_path / "incoming",
        output_dir=tmp_path / "ms",
        scratch_dir=tmp_path / "scratch",
        state_dir=tmp_path / "state",
        database_url=SecretStr(database.url),
    )


def empty(url: str) -> None:
    """End other sessions. Remove all rows and all partitions of photometry; numbers start at 1 again.

    Small tables are deleted from, which takes a tenth of the time that TRUNCATE takes. Tables that are large, or
    whose statistics a test has gathered, are truncated: they would change the plans of the next test's queries.
    """
    fresh = Database(url)
    names = [table.name for table in Base.metadata.sorted_tables]
    with fresh.session() as session:
        session.execute(
            text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        )
        for name in session.scalars(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'photometry'::regclass")
        ).all():
            session.execute(text(f"DROP TABLE {name}"))
        large = session.scalars(
            text("SELECT relname FROM pg_class WHERE relname = ANY(:names) AND (reltuples >= 0 OR pg_relation_size(oid) > 65536)"),
            {"names": names},
        ).all()
        if large:
            session.execute(text(f"TRUNCATE {', '.join(large)} CASCADE"))
        filled = session.scalars(text(" UNION ALL ".join(f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {name})" for name in names))).all()
        session.execute(text("SET LOCAL session_replication_role = replica"))  # the order of the tables does not matter
        for name in filled:
            session.execute(text(f"DELETE FROM {name}"))
        session.execute(text("SELECT setval(oid, 1, false) FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace"))
    fresh.dispose()


@dataclass(frozen=True)
class Contents:
    """All rows of a registry, for an empty one. ``tables``: as text, by name. ``sequences``: their values."""

    tables: dict[str, str]
    sequences: dict[str, int]

    @classmethod
    def of(cls, database: Database) -> Contents:
        """Read all tables."""
        tables: dict[str, str] = {}
        with _cursor(database) as cursor:
            for table in Base.metadata.sorted_tables:
                text_of = io.StringIO()
                cursor.copy_expert(f"COPY (SELECT {_columns(table)} FROM {table.name}) TO STDOUT", text_of)
                if text_of.getvalue():
                    tables[table.name] = text_of.getvalue()
            cursor.execute("SELECT schemaname || '.' || sequencename, last_value FROM pg_sequences WHERE last_value IS NOT NULL")
            return cls(tables, dict(cursor.fetchall()))

    def moved(self, old: str, new: str) -> Contents:
        """The same, with another directory in all paths."""
        return Contents({name: rows.replace(old, new) for name, rows in self.tables.items()}, self.sequences)

    def put(self, database: Database, *, photometry_mjd: float) -> None:
        """Write all rows; photometry is of one month."""
        with database.session() as session:
            photometry_partitions.ensure(session, photometry_mjd, photometry_mjd)
        with _cursor(database) as cursor:
            cursor.execute("SET LOCAL session_replication_role = replica")  # the order of the tables does not matter
            for name, rows in self.tables.items():
                cursor.copy_expert(f"COPY {name} ({_columns(Base.metadata.tables[name])}) FROM STDIN", io.StringIO(rows))
            for name, value in self.sequences.items():
                cursor.execute("SELECT setval(%s::regclass, %s)", (name, value))


def _columns(table: Table) -> str:
    return ", ".join(column.name for column in table.columns if column.computed is None)


@contextmanager
def _cursor(database: Database) -> Iterator[Any]:
    connection = database.engine.raw_connection()
    try:
        yield connection.cursor()
        connection.commit()
    finally:
        connection.close()


def add_observation(
    session: Session, group_id: str, *, state: GroupState = GroupState.COMPLETED, stage: TileStage = TileStage.IMAGED, dec_deg: float = 16.0
) -> IngestGroup:
    """Put an observation of 309 s with all 16 subbands into the queue."""
    start_mjd = datetime_to_mjd(group_time(group_id))
    night, slot = tile_partition(group_id)
    row = IngestGroup(
        group_id=group_id,
        state=state.value,
        stage=stage.value,
        start_mjd=start_mjd,
        mid_mjd=start_mjd + 154.5 / 86400,
        end_mjd=start_mjd + 309.0 / 86400,
        dec_deg=dec_deg,
        night=group_time(night + "T00:00:00").date(),
        slot=slot,
        n_subbands=16,
    )
    session.add(row)
    session.flush()
    return row
