"""What the server itself has read for a block of work: the same on every machine, unlike times."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from sqlalchemy import Engine, create_engine, make_url, text


class Work(NamedTuple):
    """What the server has read: rows and index entries, and buffers of 8 kB."""

    rows: int
    buffers: int


class WorkCounter:
    """Counts of the server for the registry's database. Sessions report when they end, so all are ended before reading.

    Counts of the database are read from another database, so that reading does not count.
    """

    def __init__(self, url: str) -> None:
        self.name = str(make_url(url).database)
        self._outside: Engine = create_engine(make_url(url).set(database="template1"), isolation_level="AUTOCOMMIT")
        self._inside: Engine = create_engine(url, isolation_level="AUTOCOMMIT")

    def work(self, ask: Callable[[], object]) -> Work:
        """Work of a question."""
        before = self._total()
        ask()
        after = self._total()
        return Work(after.rows - before.rows, after.buffers - before.buffers)

    def rows_by_table(self, ask: Callable[[], object]) -> Counter[str]:
        """Rows of each table that a question reads; partitions by month count as their table."""
        before = self._by_table()
        ask()
        return self._by_table() - before

    def close(self) -> None:
        """Close the connections."""
        self._inside.dispose()
        self._outside.dispose()

    def _total(self) -> Work:
        self._end_sessions()
        query = "SELECT tup_returned + tup_fetched, blks_hit + blks_read FROM pg_stat_database WHERE datname = :name"
        with self._outside.connect() as connection:
            return Work(*connection.execute(text(query), {"name": self.name}).one())

    def _by_table(self) -> Counter[str]:
        self._end_sessions()
        found: Counter[str] = Counter()
        with self._inside.connect() as connection:
            for table, rows in connection.execute(
                text("SELECT relname, seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables")
            ):
                found[re.sub(r"_\d{4}_\d{2}$", "", table)] += rows
        self._inside.dispose()
        return found

    def _end_sessions(self) -> None:
        others = "FROM pg_stat_activity WHERE datname = :name AND backend_type = 'client backend'"
        with self._outside.connect() as connection:
            deadline = time.monotonic() + 20
            while connection.execute(text(f"SELECT count(pg_terminate_backend(pid)) {others}"), {"name": self.name}).scalar_one():
                assert time.monotonic() < deadline
                time.sleep(0.005)
