"""The server's work for queries: rows that pass through the plans of their statements, and buffers.

Use it to compare two sizes of history. Counts are exact; times are not. Names of nodes do not help, because a small
table is scanned anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from dsa110_assets.registry.database import Database


@dataclass(frozen=True)
class Work:
    """Work of the server.

    ``rows``: through all nodes of all plans, including rows that a filter dropped. ``buffers``: of 8 kB.
    ``statements``: number of them.
    """

    rows: int
    buffers: int
    statements: int


def work_of(database: Database, query: Callable[[Session], object]) -> Work:
    """Run a query, then explain each SELECT that it sent."""
    with database.session() as session, _recorded(session.connection()) as statements:
        query(session)
    rows = buffers = 0
    with database.engine.connect() as connection:
        # whether an index spares a visit to the table depends on when vacuum last ran
        connection.exec_driver_sql("SET LOCAL enable_indexonlyscan = off")
        for statement, parameters in statements:
            explained = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters)
            plan = explained.scalar_one()[0]["Plan"]
            rows += _rows_of(plan)
            buffers += plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        connection.rollback()
    return Work(rows, buffers, len(statements))


@contextmanager
def _recorded(connection: Connection) -> Iterator[list[tuple[str, Any]]]:
    statements: list[tuple[str, Any]] = []

    def record(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.lstrip().startswith(("SELECT", "WITH")):
            statements.append((statement, parameters))

    event.listen(connection, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(connection, "before_cursor_execute", record)


def _rows_of(plan: dict[str, Any]) -> int:
    """Rows of a node and of those below it. A bitmap's rows are counted where the table is read, as with an index."""
    if plan["Node Type"] == "Bitmap Index Scan":
        return 0
    passed = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    return round(passed * plan["Actual Loops"]) + sum(_rows_of(part) for part in plan.get("Plans", ()))
