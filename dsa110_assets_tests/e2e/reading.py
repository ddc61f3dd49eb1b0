"""Which settings each stage reads, recorded while it runs: truth for what `stages.provenance.recipes` declares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.products import calibrator, hour, night, references, tile

STAGES = {
    "measurement_set": (tile, "make_measurement_set"),
    "calibration_tables": (calibrator, "solve_night"),
    "calibrated_ms": (tile, "calibrate"),
    "tile_image": (tile, "make_image"),
    "hourly_mosaic": (hour, "make_mosaic"),
    "source_catalog": (hour, "find_sources"),
    "forced_photometry": (hour, "measure"),
    "light_curves": (night, "update_light_curves"),
    "variability_metrics": (night, "update_metrics"),
    "ese_candidates": (night, "rank_candidates"),
    "calibrator_catalog": (references, "refresh_calibrators"),
    "nvss_catalog": (references, "refresh_nvss"),
    "monitored_sources": (references, "refresh_monitored"),
}
READ: dict[str, set[str]] = {product: set() for product in STAGES}
_making: list[str | None] = [None]


class WatchedConfig(PipelineConfig):
    """A configuration that remembers which stage has read which of its settings."""

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
    """Attribute what is read to the stage that runs; what a stage does for others afterwards (sending back what is outdated) is not its own."""
    with pytest.MonkeyPatch.context() as patch:
        for product, (module, name) in STAGES.items():
            patch.setattr(module, name, _within(product, getattr(module, name)))
        patch.setattr(tile, "recalibrate_outdated", _within(None, tile.recalibrate_outdated))
        yield
