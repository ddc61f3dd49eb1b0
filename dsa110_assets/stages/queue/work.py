"""Work to request runs for, as plain values.

It imports only what is light, because everything that Dagster loads imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from dsa110_assets.ingest.timeline import SkippedSlot

LONGEST_WAIT = timedelta(hours=12)
"""Unfinished observations hold their hour and their night no longer than this.

It counts from the first tile, or the first photometry, that has not been used yet. What comes later is used by another
run, so a stuck observation costs itself and not the others.
"""


@dataclass(frozen=True)
class TileRun:
    """A run that works on an observation.

    ``attempt``: number that the sensor leased; None for a run of a person or a backfill, which leases the observation
    itself. ``final``: whether this stage is the last of the run and ends the attempt. ``is_cancelled``: returns whether
    a person has canceled the run; called when the run is interrupted.
    """

    group_id: str
    run_id: str
    attempt: int | None = None
    final: bool = True
    is_cancelled: Callable[[], bool] = field(default=lambda: False, compare=False)


@dataclass(frozen=True)
class TileWork:
    """An observation to process. ``stages``: assets to make. ``is_new``: its raw files are not reported yet.

    ``files``: its accepted raw files by subband, if ``is_new``. ``skipped``: slots since the observation before, at its
    first attempt.
    """

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
    files: tuple[tuple[int, str], ...] = ()
    skipped: tuple[SkippedSlot, ...] = ()


@dataclass(frozen=True)
class FollowUp:
    """A run to request: name of the job, partition (``night``, and ``hour`` if it has one), reason, and run key."""

    job: str
    run_key: str
    reason: str
    night: str | None = None
    hour: str | None = None
