"""The chain from raw file to candidate: what was made last, when, and whether that is too long ago."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from dsa110_assets.registry.queries import today
from dsa110_assets.stages.product import Age
from dsa110_assets.stages.table import RAW_SUBBANDS, TABLE

LAST_DAY = timedelta(days=1)
_OWN_RECORDS = "operations"
"""Group of products about the platform itself; they are not in the chain."""


@dataclass(frozen=True)
class ChainLink:
    """A product of the chain.

    ``newest_key``: what was made last. ``made``: number in the last day. ``policy``: of freshness, in words.
    """

    product: str
    group: str
    newest_key: str | None
    made_at: datetime | None
    made: int
    age: Age
    policy: str


def chain(session: Session, now: datetime) -> list[ChainLink]:
    """Return all products with a freshness policy, upstream first."""
    rows = [row for row in TABLE if row.freshness is not None and row.group != _OWN_RECORDS]
    since = now - LAST_DAY
    newest = today.newest_of_products(session, [row.name for row in rows], since)
    newest[RAW_SUBBANDS.name] = today.newest_raw(session, since)
    return [
        ChainLink(
            row.name,
            row.group,
            newest[row.name].key,
            newest[row.name].made_at,
            newest[row.name].made,
            row.freshness.age_of(newest[row.name].made_at, now),
            row.freshness.words(),
        )
        for row in rows
        if row.freshness is not None
    ]
