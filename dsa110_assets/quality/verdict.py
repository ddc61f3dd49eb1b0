"""The verdict on one measurement. It imports little, because all code that reports quality imports it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dsa110_assets.common.figures import Row


class Outcome(StrEnum):
    """A verdict in words."""

    GOOD = "good"
    BAD = "bad"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Verdict:
    """The verdict on one measurement.

    ``name``: what was measured. ``passed``, ``value``: None if it could not be measured. ``low``, ``high``: limits,
    None for none. ``reason``: how it was measured, or why not.
    """

    name: str
    passed: bool | None
    value: float | None
    low: float | None
    high: float | None
    reason: str

    @property
    def outcome(self) -> Outcome:
        """``passed`` as a word."""
        return Outcome.NOT_MEASURED if self.passed is None else Outcome.GOOD if self.passed else Outcome.BAD

    @property
    def limit(self) -> tuple[float | None, float | None]:
        """The limits (low, high)."""
        return self.low, self.high

    def row(self) -> Row:
        """The measurement as a row of a table."""
        return {
            "metric": self.name,
            "value": self.value,
            "lowest": self.low,
            "highest": self.high,
            "verdict": self.outcome.value,
            "reason": self.reason,
        }

    @classmethod
    def judge(cls, name: str, value: float | None, low: float | None, high: float | None, reason: str) -> Verdict:
        """Compare a value with its limits. A missing or non-finite value is not measured, never a pass."""
        if value is None or not math.isfinite(value):
            return cls(name, None, None, low, high, reason or "cannot be measured")
        passed = (low is None or value >= low) and (high is None or value <= high)
        return cls(name, passed, float(value), low, high, reason)
