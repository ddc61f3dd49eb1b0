"""One line of `dsa110 preflight`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dsa110_assets.errors import PipelineError


@dataclass(frozen=True)
class Finding:
    """One line of the report. ``next_step``: what to do; empty if nothing."""

    subject: str
    verdict: Literal["ok", "warning", "failed"]
    found: str
    next_step: str = ""

    @classmethod
    def of_error(cls, subject: str, error: PipelineError) -> Finding:
        """A check that failed with a typed error, which has cause and next step."""
        return cls(subject, "failed", f"{error.subject}: {error.cause}", error.next_step)
