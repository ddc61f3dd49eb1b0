"""Copies of the registry for a laptop: SQLite (the same tables and names) or Parquet (a file for each table).

A copy is consistent: all tables are read in one transaction. Backups of the server: `backup`.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import ARRAY, BigInteger, Boolean, Column, Date, DateTime, Float, Integer, Table, Text, cast, func, select, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.files import is_openable, refuse_replacing
from dsa110_assets.publication import publish
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import Base, View

if TYPE_CHECKING:
    import pyarrow as pa

SQLITE_SUFFIXES = (".sqlite3", ".sqlite", ".db")
_BLOCK_BYTES = 16 << 20
_IN_MEMORY_BYTES = 256 << 20


def export(
    database: Database, destination: Path, *, tables: Sequence[str] = (), progress: Callable[[str, int], None] = lambda _table, _rows: None
) -> dict[str, int]:
    """Write the registry to ``destination``. Return the number of rows of each table.

    Args:
        database: the registry.
        destination: a file ending in ``.sqlite3``, ``.sqlite`` or ``.db``. Any other name becomes a directory of
            Parquet files. It is replaced as a whole when the export is complete. Lists and JSON become JSON text; times
            are UTC, in SQLite as ISO text.
        tables: names of the tables to write; all by default.
        progress: called with a table's name and the number of rows written so far.

    Raises:
        NonRetriableError: a table does not exist.
        ConfigurationError: something else than an export is in the place of the new one.
    """
    known = {table.name: table for table in (*Base.metadata.sorted_tables, *View.metadata.sorted_tables)}
    if unknown := [name for name in tables if name not in known]:
        raise NonRetriableError(f"table {unknown[0]}", "is not in the registry", f"choose from {', '.join(sorted(known))}")
    chosen = [known[name] for name in tables] or list(known.values())
    as_sqlite = destination.suffix in SQLITE_SUFFIXES
    write = _write_sqlite if as_sqlite else _write_parquet
    refuse_replacing(destination, "an export of this kind", _is_sqlite if as_sqlite else _is_parquet)
    destination.absolute().parent.mkdir(parents=True, exist_ok=True)
    with publish(destination.absolute()) as staged:
        return write(database, staged, chosen, progress)


def _is_sqlite(path: Path) -> bool:
    if not is_openable(path):
        return False
    with path.open("rb") as stream:
        return stream.read(6) in (b"SQLite", b"")


def _is_parquet(path: Path) -> bool:
    return path.is_dir() and all(one.suffix == ".parquet" and one.is_file() for one in path.iterdir())


def _write_sqlite(database: Database, path: Path, tables: Sequence[Table], progress: Callable[[str, int], None]) -> dict[str, int]:
    counts: dict[str, int] = {}
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")  # the file is removed if this fails
        connection.execute("PRAGMA synchronous = OFF")
        for table, batches in _read(database, tables, times_as_text=True):
            columns = [f'"{column.name}" {_sqlite_type(column)}{"" if column.nullable else " NOT NULL"}' for column in table.columns]
            keys = ", ".join(f'"{column.name}"' for column in table.primary_key)
            connection.execute(f'CREATE TABLE "{table.name}" ({", ".join(columns)}, PRIMARY KEY ({keys}))')
            places = ", ".join("?" * len(table.columns))
            counts[table.name] = 0
            for batch in batches:
                rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
                connection.executemany(f'INSERT INTO "{table.name}" VALUES ({places})', rows)  # noqa: S608  # names of our own tables
                counts[table.name] += batch.num_rows
                progress(table.name, counts[table.name])
            for index in sorted(table.indexes, key=lambda index: str(index.name)):
                names = ", ".join(f'"{column.name}"' for column in index.columns)
                connection.execute(f'CREATE INDEX "{index.name}" ON "{table.name}" ({names})')
            connection.commit()
    return counts


def _write_parquet(database: Database, path: Path, tables: Sequence[Table], progress: Callable[[str, int], None]) -> dict[str, int]:
    import pyarrow.parquet as pq

    counts: dict[str, int] = {}
    path.mkdir()
    for table, batches in _read(database, tables, times_as_text=False):
        counts[table.name] = 0
        with pq.ParquetWriter(path / f"{table.name}.parquet", batches.schema, compression="zstd") as writer:
            for batch in batches:
                writer.write_batch(batch)
                counts[table.name] += batch.num_rows
                progress(table.name, counts[table.name])
    return counts


def _read(database: Database, tables: Sequence[Table], *, times_as_text: bool) -> Generator[tuple[Table, pa.RecordBatchReader]]:
    """Yield each table as a stream of record batches, all from one snapshot."""
    import pyarrow as pa
    import pyarrow.csv

    with database.session() as session:
        session.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
        session.execute(text("SET LOCAL timezone = 'UTC'"))
        driver: Any = session.connection().connection.dbapi_connection
        for table in tables:
            statement = select(*[_expression(column) for column in table.columns])
            query = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
            schema = pa.schema([(column.name, _arrow_type(column, times_as_text=times_as_text)) for column in table.columns])
            with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as stream:
                with driver.cursor() as cursor:
                    cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv)", stream)
                size = stream.tell()
                stream.seek(0)
                if size == 0:  # Arrow's reader refuses an empty stream
                    yield table, pa.RecordBatchReader.from_batches(schema, [])
                    continue
                yield (
                    table,
                    pyarrow.csv.open_csv(
                        stream,
                        read_options=pyarrow.csv.ReadOptions(column_names=schema.names, block_size=_BLOCK_BYTES),
                        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
                        convert_options=pyarrow.csv.ConvertOptions(
                            column_types=schema, strings_can_be_null=True, quoted_strings_can_be_null=False, null_values=[""],
                            true_values=["t"], false_values=["f"],
                        ),
                    ),
                )  # fmt: skip


def _expression(column: Column[Any]) -> Any:
    if isinstance(column.type, ARRAY):
        return cast(func.to_json(column), Text).label(column.name)
    if isinstance(column.type, JSONB):
        return cast(column, Text).label(column.name)
    if isinstance(column.type, DateTime):
        return func.to_char(column, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"').label(column.name)
    return column


def _arrow_type(column: Column[Any], *, times_as_text: bool) -> pa.DataType:
    import pyarrow as pa

    kinds: list[tuple[type, pa.DataType]] = [
        (Boolean, pa.bool_()),
        (Integer, pa.int64()),  # base class of the smaller and larger integers
        (Float, pa.float64()),
        (Date, pa.string() if times_as_text else pa.date32()),
        (DateTime, pa.string() if times_as_text else pa.timestamp("us", tz="UTC")),
    ]
    return next((arrow for kind, arrow in kinds if isinstance(column.type, kind)), pa.string())


def _sqlite_type(column: Column[Any]) -> str:
    if isinstance(column.type, (Boolean, Integer, BigInteger)):
        return "INTEGER"
    return "REAL" if isinstance(column.type, Float) else "TEXT"
