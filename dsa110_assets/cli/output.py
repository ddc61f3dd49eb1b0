"""How commands show results: tables for people, JSON and CSV for scripts. Nothing else belongs here."""

from __future__ import annotations

import csv
import ctypes
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from typing import Any


def emit_json(value: object) -> None:
    """Write a value as JSON to standard output; NaN and infinities become null, dates ISO text."""
    json.dump(_plain(value), sys.stdout, indent=1, default=str, allow_nan=False)
    sys.stdout.write("\n")


def emit_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as CSV with a header to standard output; None is empty, lists and dicts are JSON."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([json.dumps(_plain(cell), default=str) if isinstance(cell, (list, dict)) else cell for cell in row])


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, wrap: bool = False) -> None:
    """Write rows as a table; cells are folded only with ``wrap``, or when the terminal is too narrow."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=not wrap)
    for row in rows:
        table.add_row(*(Text("" if cell is None else str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:  # a pipe has no width
        console = Console(width=10_000)
    console.print(table)


@contextmanager
def libraries_write_to_stderr() -> Iterator[None]:
    """Send what compiled libraries print to standard output (radler's progress) to standard error, so that a script reads JSON only."""
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)  # what C's own buffer still holds
        os.dup2(saved, 1)
        os.close(saved)


def _plain(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return value
