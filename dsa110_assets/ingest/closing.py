"""When an observation has all the subbands that it will get: ``collecting`` -> ``pending`` or ``failed``.

What does not belong here: booking files (`arrivals`), who works on a pending observation (`ledger`).
"""

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
    """Groups whose collecting has ended: ``pending`` may be leased, ``failed`` are incomplete."""

    pending: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


def close_ready_groups(session: Session, now: datetime, config: PipelineConfig, *, unread: Collection[datetime] = ()) -> Closed:
    """End the collecting of groups that are complete, or whose deadline has passed.

    The deadline is ``group_deadline_s`` after the group's first file. A group with at least ``min_subbands`` is then
    ``pending`` and its missing subbands are recorded; one with fewer is ``failed`` as incomplete. Groups that somebody has
    locked are left for the next call.

    Args:
        session: database session; the caller commits.
        now: time of the decision.
        config: numbers of subbands and the deadline.
        unread: times in the names of files that the scan has listed and not opened yet; they keep groups near them open.
    """
    query = select(IngestGroup).where(IngestGroup.state == GroupState.COLLECTING).order_by(IngestGroup.start_mjd.desc())
    candidates = [
        group
        for group in session.scalars(query.with_for_update(skip_locked=True).execution_options(populate_existing=True))
        if group.n_subbands >= config.expected_subbands or now - group.first_seen_at >= timedelta(seconds=config.group_deadline_s)
    ]
    present = accepted_subbands(session, [group.group_id for group in candidates])
    unread_mjd = sorted(datetime_to_mjd(stamp) for stamp in unread)
    pending: list[str] = []
    failed: list[str] = []
    for group in candidates:
        have = present.get(group.group_id, set())
        missing = sorted(set(range(config.expected_subbands)) - have)
        if missing and _any_near(unread_mjd, group.start_mjd):
            continue
        group.n_subbands, group.missing_subbands = len(have), missing
        group.updated_at = now
        if len(have) >= min(config.min_subbands, config.expected_subbands):
            set_pending(group, now)
            pending.append(group.group_id)
        else:
            error = IncompleteGroupError(
                group.group_id,
                f"incomplete: {len(have)} of {config.expected_subbands} subbands after {config.group_deadline_s:.0f} s, missing {missing}",
                f"a late subband reopens it; `dsa110 ingest retry {group.group_id}` processes what is there",
            )
            set_failed(group, now, error)
            failed.append(group.group_id)
    session.flush()
    return Closed(tuple(pending), tuple(failed))


def _any_near(sorted_mjd: list[float], mjd: float) -> bool:
    jitter = NAME_JITTER_S / 86_400.0
    first = bisect_left(sorted_mjd, mjd - jitter)
    return first < len(sorted_mjd) and sorted_mjd[first] <= mjd + jitter
