"""Changes of state of one row of the queue. `arrivals`, `closing` and `ledger` lock the row and decide when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import FileState, GroupState, IngestGroup, SubbandFile, TileStage


def set_pending(observation: IngestGroup, not_before: datetime) -> None:
    """Allow leases of the observation from ``not_before``."""
    observation.state = GroupState.PENDING.value
    observation.pending_at = not_before


def set_failed(observation: IngestGroup, now: datetime, error: BaseException | str) -> None:
    """Record that the observation's attempt or collecting has failed. People read the error."""
    observation.state = GroupState.FAILED.value
    observation.error = str(error)
    observation.error_type = "error" if isinstance(error, str) else type(error).__name__
    observation.updated_at = now


def release(observation: IngestGroup, now: datetime) -> None:
    """Remove the lease. The caller sets the next state."""
    observation.lease_owner = observation.lease_expires_at = None
    observation.updated_at = now


def reopen(observation: IngestGroup, n_accepted: int) -> None:
    """Send an observation back to ``collecting``, because it has more or other subbands than its last attempt used."""
    observation.state = GroupState.COLLECTING.value
    observation.stage = TileStage.RAW.value
    observation.n_subbands = n_accepted
    observation.reopen = False
    observation.failures = 0
    observation.error = observation.error_type = None
    observation.lease_owner = observation.lease_expires_at = None


def accepted_subbands(session: Session, group_ids: Iterable[str]) -> dict[str, set[int]]:
    """Subbands with an accepted file on disk, for each observation that has any."""
    query = select(SubbandFile.group_id, func.array_agg(SubbandFile.subband)).where(
        SubbandFile.group_id.in_(list(group_ids)), SubbandFile.state == FileState.ACCEPTED, SubbandFile.subband.is_not(None)
    )
    found = session.execute(query.group_by(SubbandFile.group_id)).tuples()
    return {group_id: {subband for subband in subbands if subband is not None} for group_id, subbands in found if group_id}
