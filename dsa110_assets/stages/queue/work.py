"""What there is to do, as plain values: passed from the stages to whoever asks for runs.

Imports nothing but the standard library, because everything that Dagster loads reads it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class TileRun:
    """Who works on which observation.

    ``attempt``: number that the sensor leased; None for a run that a person or a backfill started, which takes the lease
    itself. ``final``: this stage is the last one of its run, so the attempt ends with it. ``is_cancelled``: whether a person
    has cancelled the run; asked when it is interrupted.
    """

    group_id: str
    run_id: str
    attempt: int | None = None
    final: bool = True
    is_cancelled: Callable[[], bool] = field(default=lambda: False, compare=False)


@dataclass(frozen=True)
class TileWork:
    """An observation that a run shall process: ``stages`` are the assets to make, ``is_new`` whether its raw files are news."""

    group_id: str
    attempt: int
    run_key: str
    night: str
    slot: str
    stages: tuple[str, ...]
    n_subbands: int
    missing_subbands: tuple[int, ...]
    dec_deg: float
    start_mjd: float
    priority: int
    directory: str
    is_new: bool


@dataclass(frozen=True)
class FollowUp:
    """A run to ask for: ``job`` by name, its partition (``night``, and ``hour`` where it has one), why, and its run key."""

    job: str
    run_key: str
    reason: str
    night: str | None = None
    hour: str | None = None
