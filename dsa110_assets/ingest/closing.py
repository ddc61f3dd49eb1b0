"""The end of collecting subbands: ``collecting`` -> ``pending`` or ``failed``."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import IncompleteGroupError
from dsa110_assets.ingest.transitions import accepted_subbands, set_failed, set_pending
from dsa110_assets.products import NAME_JITTER_S
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.times import datetime_to_mjd


@dataclass(frozen=True)
class Closed:
    """Observations whose collecting has ended. ``pending`` may be leased; ``failed`` are incomplete."""

    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def close_ready_observations(session: Session, now: datetime, config: PipelineConfig, *, unread: Collection[datetime] = ()) -> Closed:
    """End the collecting of observations that are complete or past their deadline.

    The deadline is ``group_deadline_s`` after the observation's first file. An observation with at least
    ``min_subbands`` is then ``pending``, and its missing subbands are recorded. One with fewer is ``failed`` as
    incomplete. Observations that another transaction has locked wait for the next call.

    Args:
        session: database session; the caller commits.
        now: time of the decision.
        config: numbers of subbands and the deadline.
        unread: times in the names of files that were listed but not opened yet. Observations near them stay open.
    """
    query = select(IngestGroup).where(IngestGroup.state == GroupState.COLLECTING).order_by(IngestGroup.start_mjd.desc())
    candidates = [
        observation
        for observation in session.scalars(query.with_for_update(skip_locked=True).execution_options(populate_existing=True))
        if observation.n_subbands >= config.expected_subbands
        or now - observation.first_seen_at >= timedelta(seconds=config.group_deadline_s)
    ]
    present = accepted_subbands(session, [observation.group_id for observation in candidates])
    unread_mjd = sorted(datetime_to_mjd(stamp) for stamp in unread)
    pending: list[str] = []
    failed: list[str] = []
    for observation in candidates:
        have = present.get(observation.group_id, set())
        missing = sorted(set(range(config.expected_subbands)) - have)
        if missing and _any_near(unread_mjd, observation.start_mjd):
            continue
        observation.n_subbands, observation.missing_subbands = len(have), missing
        observation.updated_at = now
        if len(have) >= min(config.min_subbands, config.expected_subbands):
            set_pending(observation, now)
            pending.append(observation.group_id)
        else:
            error = IncompleteGroupError(
                observation.group_id,
                f"incomplete: {len(have)} of {config.expected_subbands} subbands after {config.group_deadline_s:.0f} s, missing {missing}",
                f"a late subband reopens it; `dsa110 ingest retry {observation.group_id}` processes what is there",
            )
            set_failed(observation, now, error)
            failed.append(observation.group_id)
    session.flush()
    return Closed(tuple(pending), tuple(failed))


def _any_near(sorted_mjd: list[float], mjd: float) -> bool:
    jitter = NAME_JITTER_S / 86_400.0
    first = bisect_left(sorted_mjd, mjd - jitter)
    return first < len(sorted_mjd) and sorted_mjd[first] <= mjd + jitter
