"""The classes of the table of products; `table` has the rows.

It imports only the standard library, because everything that Dagster loads imports it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from dsa110_assets.folders import Folder
from dsa110_assets.stages.retention import Part

DESCRIPTIONS = Path(__file__).with_name("descriptions")


class Level(StrEnum):
    """Kind of partition of a product."""

    TILE = "tile"
    """One observation; its partition is a slot of five minutes."""
    HOUR = "hour"
    NIGHT = "night"
    WHOLE = "whole"
    """No partitions."""


class Age(StrEnum):
    """Age of a product by its freshness policy."""

    FRESH = "fresh"
    LATE = "late"
    OVERDUE = "overdue"
    NEVER = "never made"


@dataclass(frozen=True)
class Within:
    """Freshness: the product is made again within so many hours."""

    warn_hours: float
    fail_hours: float

    def age_of(self, made_at: datetime | None, now: datetime) -> Age:
        """Age of a product that was made last at a time."""
        if made_at is None:
            return Age.NEVER
        hours = (now - made_at) / timedelta(hours=1)
        return Age.OVERDUE if hours > self.fail_hours else Age.LATE if hours > self.warn_hours else Age.FRESH

    def words(self) -> str:
        """The policy in words."""
        return f"late after {self.warn_hours:g} h, overdue after {self.fail_hours:g} h"


@dataclass(frozen=True)
class EachDay:
    """Freshness: the product is made before a time of day (cron, UTC), at most so many hours before."""

    deadline_cron: str
    most_hours_before: float

    def age_of(self, made_at: datetime | None, now: datetime) -> Age:
        """Age of a product that was made last at a time: overdue if it missed the last deadline."""
        if made_at is None:
            return Age.NEVER
        minute, hour, *_ = self.deadline_cron.split()
        deadline = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
        deadline -= timedelta(days=deadline > now)
        return Age.FRESH if made_at >= deadline - timedelta(hours=self.most_hours_before) else Age.OVERDUE

    def words(self) -> str:
        """The policy in words."""
        minute, hour, *_ = self.deadline_cron.split()
        return f"due each day by {int(hour):02d}:{int(minute):02d} UTC"


@dataclass(frozen=True)
class Recipe:
    """Code and settings that decide the content of a product.

    ``modules``: domain modules that the stage calls, named below the package; modules and engines that they import
    count too. ``settings``: that the stage reads. ``revision``: increase it by hand when a change of the stage itself
    changes the product.
    """

    modules: tuple[str, ...]
    settings: tuple[str, ...] = ()
    revision: int = 1


@dataclass(frozen=True)
class Product:
    """One row of the table.

    ``stage``: ``module:function`` that makes the product; None if it is reported in another way. A stage takes the
    platform and a `TileRun` (tile), or date, hour and run (hour), date and run (night), or the run (whole).
    ``is_asset``: False if only a command makes it. ``whole_nights_only``: the partitions end with yesterday.
    ``is_cumulative``: the product of a night includes all nights before, so the newest night is made last.
    ``source_setting``: setting with the file from which it is made. ``rows``: ``module:function`` that reads its rows
    in the registry, as tables by name, from a session and a key. ``grows_with``: inputs whose
    changes do not make it stale, because another stage adds what is new. ``retried``: whether Dagster retries it; the
    ingest queue repeats tiles. ``runtime_s``: expected runtime at full size. ``page``: documentation of the method.
    ``parts``: what of its files is removed after which time; what no part names is kept forever.
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
    rows: str | None = None
    grows_with: tuple[Product, ...] = ()
    page: str = "developers/architecture"
    parts: tuple[Part, ...] = ()
    described_in: Path = field(default=DESCRIPTIONS, repr=False)

    @property
    def is_made(self) -> bool:
        """Whether the product is an asset that a stage makes."""
        return self.is_asset and self.stage is not None

    def description(self) -> str:
        """Return the description for astronomers and operators, in Markdown."""
        return (self.described_in / f"{self.name}.md").read_text(encoding="utf-8").strip()

    def function(self) -> Callable[..., Any]:
        """Import and return the stage. Its import is slow, so this happens only on demand."""
        if self.stage is None:
            message = f"{self.name} is not made by a stage"
            raise LookupError(message)
        return _imported(self.stage)

    def rows_function(self) -> Callable[..., Any] | None:
        """Import and return the function that reads its rows; None if the product is files only."""
        return None if self.rows is None else _imported(self.rows)


def _imported(name: str) -> Callable[..., Any]:
    """Function ``module:function``."""
    module, _, member = name.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), member)
    return function


class Table:
    """The rows by name, upstream first: the inputs of a row are added before it."""

    def __init__(self) -> None:
        self._rows: dict[str, Product] = {}

    def add(self, row: Product) -> Product:
        """Add a row and return it.

        Raises:
            ValueError: the table has a row of this name, or lacks an input.
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
        """Add a row for the duration of the block."""
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
        """Names of the assets that stages make, of one level or of all, upstream first."""
        return tuple(row.name for row in self if row.is_made and level in (None, row.level))

    def with_recipe(self) -> tuple[Product, ...]:
        """Products with a recipe; only these can be stale."""
        return tuple(row for row in self if row.recipe is not None)

    def growing(self) -> tuple[tuple[str, str], ...]:
        """Pairs of names: a product, and an input whose changes do not make it stale."""
        return tuple((row.name, one.name) for row in self for one in row.grows_with)

    def jobs(self) -> dict[str, tuple[str, ...]]:
        """Names of the assets by the job that makes them."""
        found: dict[str, tuple[str, ...]] = {}
        for row in self:
            if row.job is not None:
                found[row.job] = (*found.get(row.job, ()), row.name)
        return found
