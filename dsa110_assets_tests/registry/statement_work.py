"""How much the server reads to answer: rows that pass through the plans of a question's statements, and buffers.

Compare two sizes of history with it. Counts are exact where times are not, and node names say little: a small table is scanned anyway.
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
    """``rows``: through all nodes of all plans, those that a filter dropped included. ``buffers``: of 8 kB. ``statements``: number of them."""

    rows: int
    buffers: int
    statements: int


def work_of(database: Database, question: Callable[[Session], object]) -> Work:
    """Ask a question, then explain each SELECT that it sent."""
    with database.session() as session, _recorded(session.connection()) as statements:
        question(session)
    rows = buffers = 0
    with database.engine.connect() as connection:
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
    passed = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    return round(passed * plan["Actual Loops"]) + sum(_rows_of(part) for part in plan.get("Plans", ()))
