"""Records which settings each stage reads, to check what the table of products declares."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.products import tile
from dsa110_assets.stages.table import INJECTION_RECOVERY, NIGHTLY_MOSAIC, TABLE

STAGES = [
    row for row in TABLE if row.is_made and row.recipe is not None and row not in (NIGHTLY_MOSAIC, INJECTION_RECOVERY)
]  # these two run by schedule
READ: dict[str, set[str]] = {row.name: set() for row in STAGES}
_making: list[str | None] = [None]


class WatchedConfig(PipelineConfig):
    """A configuration that records which stage reads which setting."""

    def __getattribute__(self, name: str) -> Any:
        product = _making[-1]
        if product is not None and name in PipelineConfig.model_fields:
            READ[product].add(name)
        return super().__getattribute__(name)


def _within(product: str | None, function: Callable[..., Any]) -> Callable[..., Any]:
    def watched(*arguments: Any, **options: Any) -> Any:
        _making.append(product)
        try:
            return function(*arguments, **options)
        finally:
            _making.pop()

    return watched


@contextmanager
def watched_stages() -> Iterator[None]:
    """Attribute each reading to the running stage, except while it returns outdated observations to the queue."""
    with pytest.MonkeyPatch.context() as patch:
        for row in STAGES:
            module, _, name = str(row.stage).partition(":")
            patch.setattr(importlib.import_module(module), name, _within(row.name, row.function()))
        patch.setattr(tile, "recalibrate_outdated", _within(None, tile.recalibrate_outdated))
        yield
