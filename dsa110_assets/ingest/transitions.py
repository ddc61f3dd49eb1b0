"""Changes of state of one row of the queue, without asking whether they are due: that is for `arrivals`, `closing`, `ledger`.

The caller holds the row's lock. What does not belong here: queries for rows, decisions.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage


def set_pending(group: IngestGroup, not_before: datetime) -> None:
    """The group may be leased, from a time on."""
    group.state = GroupState.PENDING.value
    group.pending_at = not_before


def set_failed(group: IngestGroup, now: datetime, error: BaseException | str) -> None:
    """The group's attempt, or its collecting, has failed with an error for people to read."""
    group.state = GroupState.FAILED.value
    group.error = str(error)
    group.error_type = "error" if isinstance(error, str) else type(error).__name__
    group.updated_at = now


def release(group: IngestGroup, now: datetime) -> None:
    """Nobody holds the group any more; the caller sets the next state."""
    group.lease_owner = group.lease_expires_at = None
    group.updated_at = now


def reopen(group: IngestGroup, n_accepted: int) -> None:
    """Send a group back to ``collecting`` because it has more, or other, subbands than its last attempt used."""
    group.state = GroupState.COLLECTING.value
    group.stage = TileStage.RAW.value
    group.n_subbands = n_accepted
    group.reopen = False
    group.failures = 0
    group.error = group.error_type = None
    group.lease_owner = group.lease_expires_at = None


def accepted_subbands(session: Session, group_ids: Iterable[str]) -> dict[str, set[int]]:
    """Subbands of which each group has an accepted file on disk; groups without any are absent."""
    query = select(SubbandFile.group_id, func.array_agg(SubbandFile.subband)).where(
        SubbandFile.group_id.in_(list(group_ids)), SubbandFile.state == FileState.ACCEPTED, SubbandFile.subband.is_not(None)
    )
    found = session.execute(query.group_by(SubbandFile.group_id)).tuples()
    return {group_id: {subband for subband in subbands if subband is not None} for group_id, subbands in found if group_id}
