"""The form in which every report gives its results to people: named figures, and titled tables of rows.

Reports of the domain have up to three methods: ``figures()``, ``verdicts()`` and ``details()`` (tables).
"""

from __future__ import annotations

from collections.abc import Mapping

Figure = float | int | str | bool | None
"""A number or a word; None where there is none."""
Figures = dict[str, Figure]
"""Figures by name, with the unit in the name. Numbers become trends in the UI."""
Row = Mapping[str, Figure]
Details = dict[str, list[Row]]
"""Rows by the title of their table."""


def median(values: object) -> float | None:
    """Median of a column of numbers without its gaps; None for an empty one."""
    import numpy as np

    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    return float(np.median(numbers)) if numbers.size else None
