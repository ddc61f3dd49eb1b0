"""Compare two records of a night: which arrays differ, and by how much."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dsa110_assets_tests.same.contents import ROW_KEY
from dsa110_assets_tests.same.record import Record, Saved, Summary

Explain = Callable[[str, str, Summary, Summary], str]


@dataclass(frozen=True)
class Difference:
    """A difference of two arrays. ``how``: its size, in words. ``expected``: the reason; None if it is not expected."""

    product: str
    name: str
    how: str
    expected: str | None = None


@dataclass(frozen=True)
class Expected:
    """An expected difference: patterns of product and array, and the reason."""

    product: str
    name: str
    reason: str

    def covers(self, difference: Difference) -> bool:
        """Whether the patterns match a difference."""
        return fnmatch.fnmatchcase(difference.product, self.product) and fnmatch.fnmatchcase(difference.name, self.name)


def read_expected(path: Path) -> list[Expected]:
    """Read a JSON list of ``{"product": ..., "name": ..., "reason": ...}`` with patterns as in the shell."""
    return [Expected(entry["product"], entry["name"], entry["reason"]) for entry in json.loads(path.read_text())]


def differences(old: Record, new: Record, explain: Explain) -> Iterator[Difference]:
    """Yield what only one of two records has, and what is not bit-identical in both."""
    for product in sorted(old.summaries.keys() | new.summaries.keys()):
        before, after = old.summaries.get(product), new.summaries.get(product)
        if before is None or after is None:
            yield Difference(product, "*", "is new" if before is None else "is missing")
            continue
        for name in sorted(before.keys() | after.keys()):
            a, b = before.get(name), after.get(name)
            if a is None or b is None:
                present = a or b
                assert present is not None
                change = "is new" if a is None else "is missing"
                yield Difference(product, name, f"{change}: {_shape(present)} {_values(present)}".rstrip())
            elif a.sha256 != b.sha256:
                yield Difference(product, name, explain(product, name, a, b))


def with_reasons(found: Iterator[Difference], expected: list[Expected]) -> list[Difference]:
    """Differences with the reason of the first entry that covers each."""
    return [
        replace(difference, expected=next((entry.reason for entry in expected if entry.covers(difference)), None)) for difference in found
    ]


def by_summaries(_: str, __: str, a: Summary, b: Summary) -> str:
    """How two arrays differ, from their summaries."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return f"{_shape(a)} -> {_shape(b)}"
    if a.values is not None and b.values is not None:
        return f"{_values(a)} -> {_values(b)}"
    figures = [
        f"{label} {before!r} -> {after!r}" + (f" ({after - before:+.3g})" if before is not None and after is not None else "")
        for label in ("low", "high", "mean", "scatter")
        if (before := getattr(a, label)) != (after := getattr(b, label))
    ]
    return f"{_shape(a)}: {', '.join(figures) or 'minimum, maximum, mean and scatter are the same'}"


def by_arrays(before: Saved, after: Saved) -> Explain:
    """How two arrays differ: the number of values, the largest absolute and relative difference, and its place."""

    def explain(product: str, name: str, a: Summary, b: Summary) -> str:
        if (a.dtype, a.shape) != (b.dtype, b.shape):
            return f"{_shape(a)} -> {_shape(b)}"
        return f"{_shape(a)}: {_largest(before.array(product, name), after.array(product, name), _rows(after, product))}"

    return explain


def _rows(saved: Saved, product: str) -> np.ndarray | None:
    return saved.array(product, ROW_KEY) if ROW_KEY in saved.files[product] else None


def _largest(a: np.ndarray, b: np.ndarray, rows: np.ndarray | None) -> str:
    """Differences of two arrays of one dtype and shape, in words."""
    if a.ndim == 0:
        a, b = a.reshape(1), b.reshape(1)
    if a.dtype.kind == "U":
        differ = a != b
        worst = tuple(int(axis[0]) for axis in np.nonzero(differ))
        return f"{int(differ.sum())} of {a.size} differ, first{_place(worst, rows)}: {_excerpt(str(a[worst]), str(b[worst]))}"
    width = a.dtype.itemsize
    bits = [np.ascontiguousarray(array).view(np.uint8).reshape(*array.shape, width) for array in (a, b)]
    differ = (bits[0] != bits[1]).any(axis=-1)
    kind = np.complex128 if a.dtype.kind == "c" else np.longdouble if a.dtype.kind in "iu" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(a.astype(kind) - b.astype(kind))
    blank = ~np.isfinite(a) | ~np.isfinite(b)
    n_changed_blanks = int((differ & (np.isfinite(a) != np.isfinite(b))).sum())
    size = np.where(differ & ~blank, size, -1)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(size)), size.shape))
    words = [f"{int(differ.sum())} of {a.size} differ"]
    if size[worst] >= 0:
        scale = np.maximum(np.abs(a), np.abs(b)).astype(np.longdouble)
        relative = np.divide(size, scale, out=np.zeros(size.shape, np.longdouble), where=(scale > 0) & (size > 0) & ~blank)
        words.append(
            f"by at most {float(size[worst]):.3g} absolute{_place(worst, rows)} ({a[worst]!s} -> {b[worst]!s}), {float(relative.max()):.3g} relative"
        )
    if n_changed_blanks:
        words.append(f"{n_changed_blanks} became blank, or were")
    return ", ".join(words)


def _place(index: tuple[int, ...], rows: np.ndarray | None) -> str:
    return f" in row {rows[index[0]]!s}" if rows is not None else f" at {list(index)}"


def _excerpt(a: str, b: str) -> str:
    """Two texts near their first difference."""
    same = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    begin = max(0, same - 20)
    return f"{a[begin : same + 60]!r} -> {b[begin : same + 60]!r}"


def _shape(summary: Summary) -> str:
    return f"{summary.dtype}{list(summary.shape)}"


def _values(summary: Summary) -> str:
    return "" if summary.values is None else str(summary.values[0] if len(summary.values) == 1 else list(summary.values))
