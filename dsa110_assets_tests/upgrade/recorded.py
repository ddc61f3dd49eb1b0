"""The recorded platform at work: where it was, what it had, and how it is put back elsewhere. `record` made it."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from sqlalchemy import create_engine, select, text

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.backup import history_of, restore
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import SubbandFile
from dsa110_assets.registry.server import dagster_url, ensure_server
from dsa110_assets_tests.chaos.small_night import SmallNight

REGISTRY = Path(__file__).parent / "recorded_files" / "registry.dump"
"""Backup of the registry; Dagster's history is beside it."""
FILES = REGISTRY.with_name("files.tar.xz")
ROOT = Path("/srv/dsa110-recorded")
"""Where the recorded platform's directories were. Nobody has it, so the files move as well."""
NIGHT = SmallNight.of(3)
ARRIVING = 2
"""Observation of which only the first subbands had come."""
ARRIVED_SUBBANDS = range(5)
DAMAGED = "2026-03-02T00:00:00_sb00.hdf5"
"""A file that is no HDF5, so that an alert is open."""


def fill(config: PipelineConfig) -> None:
    """Restore the recorded databases into the empty server of a configuration, with the schema that they had."""
    restore(ensure_server(config), REGISTRY)
    restore(dagster_url(config), history_of(REGISTRY))


def unpack(root: Path, database: Database) -> None:
    """Put the files below a directory. Raw files get the registry's times, because archives keep no nanoseconds."""
    with tarfile.open(FILES) as archive:
        archive.extractall(root, filter="data")
    with database.session() as session:
        for path, mtime_ns in session.execute(select(SubbandFile.path, SubbandFile.mtime_ns)).tuples():
            os.utime(root / Path(path).relative_to(ROOT), ns=(mtime_ns, mtime_ns))


def contents(url: str, columns: dict[str, str] | None = None) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Columns, and all rows as text, of each table. ``columns``: only of these, as another release had them."""
    engine = create_engine(url)
    with engine.connect() as connection:
        of_tables = columns or dict(
            connection.execute(
                text(
                    "SELECT t.table_name, string_agg(quote_ident(c.column_name), ',' ORDER BY c.ordinal_position) "
                    "FROM information_schema.tables t JOIN information_schema.columns c USING (table_schema, table_name) "
                    "WHERE table_schema = 'public' AND table_type = 'BASE TABLE' AND table_name <> 'alembic_version' GROUP BY 1"
                )
            )
            .tuples()
            .all()
        )
        rows = {name: sorted(connection.scalars(text(f"SELECT row({these})::text FROM {name}")).all()) for name, these in of_tables.items()}
    engine.dispose()
    return of_tables, rows
