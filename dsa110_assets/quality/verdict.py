"""One judged measurement. Light on purpose: everything that reports quality imports it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from dsa110_assets.common.figures import Row


class Outcome(StrEnum):
    """What became of a judgement, as people read it."""

    GOOD = "good"
    BAD = "bad"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Verdict:
    """One judged measurement.

    ``name``: what was measured. ``passed``: None where it cannot be measured, and ``reason`` says why. ``value``: None then. ``low``, ``high``:
    limits, None for none. ``reason``: how it was measured, or why not.
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
        """(low, high)."""
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
        """Hold a value against its limits; a missing or non-finite value is no verdict, never a pass."""
        if value is None or not math.isfinite(value):
            return cls(name, None, None, low, high, reason or "cannot be measured")
        passed = (low is None or value >= low) and (high is None or value <= high)
        return cls(name, passed, float(value), low, high, reason)
