"""What a row of the table of products says, and what can be asked of the table. The rows are in `table`.

Imports nothing but the standard library, because everything that Dagster loads reads it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from dsa110_assets.folders import Folder

DESCRIPTIONS = Path(__file__).with_name("descriptions")


class Level(StrEnum):
    """What one partition of a product is."""

    TILE = "tile"
    """An observation; its partition is a slot of five minutes."""
    HOUR = "hour"
    NIGHT = "night"
    WHOLE = "whole"
    """No partitions."""


@dataclass(frozen=True)
class Within:
    """Freshness: made again within so many hours."""

    warn_hours: float
    fail_hours: float


@dataclass(frozen=True)
class EachDay:
    """Freshness: made by a time of the day (cron, UTC), at most so many hours before it."""

    deadline_cron: str
    most_hours_before: float


@dataclass(frozen=True)
class Recipe:
    """What decides how a product comes out, apart from its inputs.

    ``modules``: domain modules that the stage calls, below the package; what they import counts too, and the engines among it.
    ``settings``: of the configuration that the stage reads. ``revision``: raised by hand when a change of the stage itself makes
    the product come out differently.
    """

    modules: tuple[str, ...]
    settings: tuple[str, ...] = ()
    revision: int = 1


@dataclass(frozen=True)
class Product:
    """One row.

    ``stage``: ``module:function`` that makes it; None where the platform reports it in another way. A stage takes the platform and a
    `TileRun` (tile), or date, hour and run (hour), date and run (night), the run (whole). ``is_asset``: False for what is made by command
    only. ``whole_nights_only``: its partitions end with yesterday. ``is_cumulative``: each night's holds all nights before, so that the
    newest is made last. ``source_setting``: the setting that names the file it is made from. ``retried``: by Dagster; tiles are repeated
    by the ingest queue. ``runtime_s``: expected, at full size. ``page``: of the documentation, on the method.
    """

    name: str
    level: Level
    group: str
    stage: str | None
    inputs: tuple[Product, ...] = ()
    recipe: Recipe | None = None
    job: str | None = None
    pool: str | None = None
    folder: Folder | None = None
    kinds: frozenset[str] = frozenset()
    freshness: Within | EachDay | None = None
    runtime_s: float | None = None
    retried: bool = True
    is_asset: bool = True
    whole_nights_only: bool = False
    is_cumulative: bool = False
    source_setting: str | None = None
    page: str = "developers/architecture"
    described_in: Path = field(default=DESCRIPTIONS, repr=False)

    @property
    def is_made(self) -> bool:
        """Whether it is an asset that a stage makes."""
        return self.is_asset and self.stage is not None

    def description(self) -> str:
        """What it is, for astronomers and operators; Markdown."""
        return (self.described_in / f"{self.name}.md").read_text(encoding="utf-8").strip()

    def function(self) -> Callable[..., Any]:
        """The stage; imported only when needed, because stages are heavy."""
        if self.stage is None:
            message = f"{self.name} is not made by a stage"
            raise LookupError(message)
        module, _, name = self.stage.partition(":")
        function: Callable[..., Any] = getattr(importlib.import_module(module), name)
        return function


class Table:
    """Rows by name, upstream first: a row's inputs are added before it."""

    def __init__(self) -> None:
        self._rows: dict[str, Product] = {}

    def add(self, row: Product) -> Product:
        """Add a row; returns it.

        Raises:
            ValueError: the name is taken, or an input is not in the table.
        """
        if row.name in self._rows:
            message = f"{row.name}: the table has a product of this name"
            raise ValueError(message)
        if missing := [one.name for one in row.inputs if self._rows.get(one.name) is not one]:
            message = f"{row.name}: inputs {missing} are not in the table; add them before it"
            raise ValueError(message)
        self._rows[row.name] = row
        return row

    @contextmanager
    def also(self, row: Product) -> Iterator[Product]:
        """The table with another row, for as long as the block lasts."""
        self.add(row)
        try:
            yield row
        finally:
            del self._rows[row.name]

    def __iter__(self) -> Iterator[Product]:
        return iter(tuple(self._rows.values()))

    def __getitem__(self, name: str) -> Product:
        return self._rows[name]

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def made(self, level: Level | None = None) -> tuple[str, ...]:
        """Names of the assets that stages make, upstream first; of one level, or of all."""
        return tuple(row.name for row in self if row.is_made and level in (None, row.level))

    def with_recipe(self) -> tuple[Product, ...]:
        """Products that can be out of date."""
        return tuple(row for row in self if row.recipe is not None)

    def jobs(self) -> dict[str, tuple[str, ...]]:
        """Assets by the job that makes them."""
        found: dict[str, tuple[str, ...]] = {}
        for row in self:
            if row.job is not None:
                found[row.job] = (*found.get(row.job, ()), row.name)
        return found
