"""Verdicts on products: measurements of `quality` against their limits."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dsa110_assets.stages.recording import Verdict


def judge_tile_image(
    directory: Path, name: str, reference: pd.DataFrame, noise_jy_per_beam: float, thermal_jy_per_beam: float, dynamic_range: float
) -> list[Verdict]:
    """Placeholder until quality lands."""
    return []
