"""How commands print results: tables for people, JSON and CSV for scripts."""

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
    """Print a value as JSON. NaN and infinities become null, dates become ISO text."""
    json.dump(_json_value(value), sys.stdout, indent=1, default=str, allow_nan=False)
    sys.stdout.write("\n")


def emit_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print rows as CSV with a header. None becomes an empty cell, lists and dicts become JSON."""
    plain = csv.writer(sys.stdout, lineterminator="\n")
    quoted = csv.writer(sys.stdout, lineterminator="\n", quoting=csv.QUOTE_ALL)  # the plain one leaves a carriage return bare
    plain.writerow(columns)
    for row in rows:
        cells = [json.dumps(_json_value(cell), default=str) if isinstance(cell, (list, dict)) else cell for cell in row]
        (quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain).writerow(cells)


def emit_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str | None = None, wrap: bool = False) -> None:
    """Print rows as a table. Cells fold only with ``wrap``, or if the terminal is too narrow."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=not wrap)
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    console = Console()
    if not console.is_terminal:  # a pipe has no width
        console = Console(width=10_000)
        if cells and not any("\n" in cell for row in cells for cell in row):  # one cell a column: three times as fast
            cells = [["\n".join(column) for column in zip(*cells, strict=True)]]
    for row in cells:
        table.add_row(*map(Text, row))
    console.print(table)


@contextmanager
def libraries_write_to_stderr() -> Iterator[None]:
    """Redirect what compiled libraries print, such as radler's progress, to standard error.

    A script that reads standard output then gets only the JSON.
    """
    sys.stdout.flush()
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        ctypes.CDLL(None).fflush(None)  # flush C's own buffer
        os.dup2(saved, 1)
        os.close(saved)


def _json_value(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(name): _json_value(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(entry) for entry in value]
    return value
