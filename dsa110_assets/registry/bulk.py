"""Generic reading and writing of tables: upserts of single rows, and data frames through PostgreSQL's COPY.

`benchmarks/registry_bulk.py` compares them with SQLAlchemy's bulk INSERT (COPY is about 9 times as fast) and with
`pandas.read_sql`.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Select, Table, func, text
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.schema import Base

if TYPE_CHECKING:
    import pandas as pd

_CHUNK_ROWS = 500_000
_IN_MEMORY_BYTES = 256 << 20


def table_of(row: type[Base]) -> Table:
    """Table of a mapped class."""
    table = row.__table__
    assert isinstance(table, Table)
    return table


def upsert(session: Session, row: type[Base], values: Mapping[str, Any], *, refresh: Iterable[str] = ()) -> None:
    """Insert a row, or update the row with the same primary key.

    NaN becomes NULL. ``refresh``: columns to set to now().
    """
    table = table_of(row)
    clean = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in values.items()}
    statement = insert(table).values(**clean)
    keys = {column.name for column in table.primary_key}
    changes = {name: statement.excluded[name] for name in clean if name not in keys} | {name: func.now() for name in refresh}
    session.flush()
    session.execute(statement.on_conflict_do_update(index_elements=sorted(keys), set_=changes))
    loaded = session.identity_map.get(identity_key(row, tuple(clean[column.name] for column in table.primary_key)))
    if loaded is not None:  # the session has the row in memory as it was
        session.refresh(loaded)


def copy_rows(session: Session, table: str, frame: Any, columns: Sequence[str]) -> int:
    """Append the columns of a data frame to a table with COPY. NaN and None become NULL. Return the number of rows.

    ``frame`` is a pandas DataFrame. Its stubs type most results as a frame or a series, hence `Any`.

    Raises:
        NonRetriableError: the frame lacks a column.
    """
    import pyarrow as pa
    import pyarrow.csv

    if missing := [name for name in columns if name not in frame.columns]:
        raise NonRetriableError(table, f"the rows have no {', '.join(missing)}", "add every column that the table needs")
    names = ", ".join(f'"{name}"' for name in columns)
    with _cursor(session) as cursor:
        for first in range(0, len(frame), _CHUNK_ROWS):
            chunk = pa.Table.from_pandas(frame.iloc[first : first + _CHUNK_ROWS][list(columns)], preserve_index=False)
            rows = io.BytesIO()
            pyarrow.csv.write_csv(chunk, rows, pyarrow.csv.WriteOptions(include_header=False))
            rows.seek(0)
            cursor.copy_expert(f"COPY {table} ({names}) FROM STDIN (FORMAT csv)", rows)
    return len(frame)


def upsert_rows(session: Session, row: type[Base], frame: Any, columns: Sequence[str]) -> int:
    """Insert rows, or update the rows with the same primary keys, for many rows; as `copy_rows` otherwise.

    The values of a column of arrays are text (`array_texts`).
    """
    table = table_of(row)
    keys = [column.name for column in table.primary_key]
    names = ", ".join(columns)
    changes = ", ".join(f"{name} = excluded.{name}" for name in columns if name not in keys)
    session.execute(text(f"CREATE TEMPORARY TABLE IF NOT EXISTS incoming_{table.name} (LIKE {table.name}) ON COMMIT DROP"))
    session.execute(text(f"TRUNCATE incoming_{table.name}"))
    number = copy_rows(session, f"incoming_{table.name}", frame, columns)
    session.execute(
        text(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM incoming_{table.name} "  # noqa: S608 - names of the schema
            f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {changes}"
        )
    )
    return number


def array_texts(offsets: Any, values: Any) -> Any:
    """PostgreSQL's text of arrays of numbers: array i is ``values[offsets[i]:offsets[i + 1]]``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pc.cast(pa.array(values), pa.string()))
    return pc.binary_join_element_wise("{", pc.binary_join(lists, ","), "}", "").to_numpy(zero_copy_only=False)


def arrays_of(texts: Any) -> tuple[Any, Any]:
    """Offsets and values of arrays of numbers, none of them empty, from PostgreSQL's text."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pc.split_pattern(pc.utf8_trim(pa.array(texts, pa.string()), "{}"), ",")
    values = pc.cast(pc.list_flatten(lists), pa.float64()).to_numpy(zero_copy_only=False)
    return np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy(zero_copy_only=False))]).astype(np.int64), values


def read_frame(session: Session, statement: Select[Any]) -> pd.DataFrame:
    """Rows of a statement as a data frame; NULL becomes NaN or None. For results of up to some ten thousand rows."""
    import pandas as pd

    frame = pd.read_sql(statement, session.connection())
    # a column of numbers that are all NULL arrives as objects, which VOTable calls text, and which crash its writer
    numbers = [column.name for column in statement.selected_columns if column.type.python_type is float]
    return frame.astype(dict.fromkeys(numbers, float))


def read_frame_bulk(session: Session, statement: Select[Any], *, categories: Sequence[str] = ()) -> pd.DataFrame:
    """Rows of a statement as a data frame through COPY, for millions of rows.

    Columns in ``categories`` become categorical. Parameters are written into the statement as literals. Values from
    outside must therefore be numbers, dates, or names that SQLAlchemy can quote.
    """
    import pyarrow as pa
    import pyarrow.csv

    types: dict[str, Any] = {}
    for column in statement.selected_columns:
        kind = column.type.python_type
        types[column.name] = (
            pa.dictionary(pa.int32(), pa.string())
            if column.name in categories
            else {float: pa.float64(), int: pa.int64(), bool: pa.bool_(), str: pa.string()}.get(kind, pa.string())
        )
    query = statement.compile(dialect=postgresql.dialect(), compile_kwargs={"literal_binds": True})
    with tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as answer:
        with _cursor(session) as cursor:
            cursor.copy_expert(f"COPY ({query}) TO STDOUT (FORMAT csv, HEADER)", answer)
        answer.seek(0)
        table = pyarrow.csv.read_csv(
            answer,
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=types,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
                null_values=[""],
            ),
        )
    return table.to_pandas()


def _cursor(session: Session) -> Any:
    """Cursor of the driver inside the session's transaction."""
    session.flush()
    connection = session.connection().connection.dbapi_connection
    assert connection is not None
    return connection.cursor()
