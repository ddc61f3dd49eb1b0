"""Two records of a night against each other: which arrays differ, and by how much."""

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
    """``how``: by how much, in words. ``expected``: why it may differ; None where nobody said so."""

    product: str
    name: str
    how: str
    expected: str | None = None


@dataclass(frozen=True)
class Expected:
    """A difference that is meant: patterns of product and array, and the reason."""

    product: str
    name: str
    reason: str

    def covers(self, one: Difference) -> bool:
        """Whether it is about this difference."""
        return fnmatch.fnmatchcase(one.product, self.product) and fnmatch.fnmatchcase(one.name, self.name)


def read_expected(path: Path) -> list[Expected]:
    """A JSON list of ``{"product": ..., "name": ..., "reason": ...}``; patterns as in the shell."""
    return [Expected(one["product"], one["name"], one["reason"]) for one in json.loads(path.read_text())]


def differences(old: Record, new: Record, explain: Explain) -> Iterator[Difference]:
    """What is in one of two records only, and what is in both and not the same bit by bit."""
    for product in sorted(old.summaries.keys() | new.summaries.keys()):
        before, after = old.summaries.get(product), new.summaries.get(product)
        if before is None or after is None:
            yield Difference(product, "*", "is new" if before is None else "is missing")
            continue
        for name in sorted(before.keys() | after.keys()):
            one, other = before.get(name), after.get(name)
            if one is None or other is None:
                there = one or other
                assert there is not None
                yield Difference(product, name, f"{'is new' if one is None else 'is missing'}: {_shape(there)} {_values(there)}".rstrip())
            elif one.sha256 != other.sha256:
                yield Difference(product, name, explain(product, name, one, other))


def judged(found: Iterator[Difference], expected: list[Expected]) -> list[Difference]:
    """Differences with the reason of the first entry that covers each."""
    return [replace(one, expected=next((entry.reason for entry in expected if entry.covers(one)), None)) for one in found]


def by_summaries(_: str, __: str, one: Summary, other: Summary) -> str:
    """How two arrays differ, as far as their summaries tell."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return f"{_shape(one)} -> {_shape(other)}"
    if one.values is not None and other.values is not None:
        return f"{_values(one)} -> {_values(other)}"
    figures = [
        f"{label} {before!r} -> {after!r}" + (f" ({after - before:+.3g})" if before is not None and after is not None else "")
        for label in ("low", "high", "mean", "scatter")
        if (before := getattr(one, label)) != (after := getattr(other, label))
    ]
    return f"{_shape(one)}: {', '.join(figures) or 'least, largest, mean and scatter are the same'}"


def by_arrays(before: Saved, after: Saved) -> Explain:
    """How two arrays differ: how many values, the largest absolute and relative difference, and where."""

    def explain(product: str, name: str, one: Summary, other: Summary) -> str:
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            return f"{_shape(one)} -> {_shape(other)}"
        return f"{_shape(one)}: {_largest(before.array(product, name), after.array(product, name), _rows(after, product))}"

    return explain


def _rows(saved: Saved, product: str) -> np.ndarray | None:
    return saved.array(product, ROW_KEY) if ROW_KEY in saved.places[product] else None


def _largest(one: np.ndarray, other: np.ndarray, rows: np.ndarray | None) -> str:
    """In words; the arrays have one dtype and shape."""
    if one.ndim == 0:
        one, other = one.reshape(1), other.reshape(1)
    if one.dtype.kind == "U":
        differ = one != other
        worst = tuple(int(axis[0]) for axis in np.nonzero(differ))
        return f"{int(differ.sum())} of {one.size} differ, first{_place(worst, rows)}: {_excerpt(str(one[worst]), str(other[worst]))}"
    width = one.dtype.itemsize
    bits = [np.ascontiguousarray(array).view(np.uint8).reshape(*array.shape, width) for array in (one, other)]
    differ = (bits[0] != bits[1]).any(axis=-1)
    kind = np.complex128 if one.dtype.kind == "c" else np.longdouble if one.dtype.kind in "iu" else np.float64
    with np.errstate(invalid="ignore", over="ignore"):
        size = np.abs(one.astype(kind) - other.astype(kind))
    blank = ~np.isfinite(one) | ~np.isfinite(other)
    appeared = int((differ & (np.isfinite(one) != np.isfinite(other))).sum())
    size = np.where(differ & ~blank, size, -1)
    worst = tuple(int(i) for i in np.unravel_index(int(np.argmax(size)), size.shape))
    words = [f"{int(differ.sum())} of {one.size} differ"]
    if size[worst] >= 0:
        scale = np.maximum(np.abs(one), np.abs(other)).astype(np.longdouble)
        relative = np.divide(size, scale, out=np.zeros(size.shape, np.longdouble), where=(scale > 0) & (size > 0) & ~blank)
        words.append(
            f"by at most {float(size[worst]):.3g} absolute{_place(worst, rows)} ({one[worst]!s} -> {other[worst]!s}), {float(relative.max()):.3g} relative"
        )
    if appeared:
        words.append(f"{appeared} became blank, or were")
    return ", ".join(words)


def _place(index: tuple[int, ...], rows: np.ndarray | None) -> str:
    return f" in row {rows[index[0]]!s}" if rows is not None else f" at {list(index)}"


def _excerpt(one: str, other: str) -> str:
    """Two texts from a little before they part."""
    same = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    begin = max(0, same - 20)
    return f"{one[begin : same + 60]!r} -> {other[begin : same + 60]!r}"


def _shape(one: Summary) -> str:
    return f"{one.dtype}{list(one.shape)}"


def _values(one: Summary) -> str:
    return "" if one.values is None else str(one.values[0] if len(one.values) == 1 else list(one.values))
