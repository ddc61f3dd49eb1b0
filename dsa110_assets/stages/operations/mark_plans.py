"""What a mark would make stale, found before anybody makes it."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import marks
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.schema import CaltableRow, MarkDecision, MarkKind
from dsa110_assets.stages.operations.marks import consequences, no_mark
from dsa110_assets.stages.operations.staleness import stale_products
from dsa110_assets.stages.platform import Platform


@dataclass(frozen=True)
class Expected:
    """What a mark would make stale, before it is made.

    ``products``: (product, key), with what is made from them; without those that other marks have made stale already.
    ``without_tiles``: see `Consequences`.
    """

    products: tuple[tuple[str, str], ...]
    without_tiles: tuple[str, ...] = ()


def expected(platform: Platform, kind: MarkKind, group_id: str, decision: MarkDecision | None) -> Expected:
    """What a mark would make stale, or, without a decision, its removal. The registry stays as it is.

    Raises:
        NotFoundError: the observation has no image, no solution, or no mark to remove.
        UnknownGroupError: there is no such observation.
    """

    def stale() -> list[tuple[str, str]]:
        return [(one.product, one.key) for one in stale_products(session, platform.config, only_marked=True)]

    with platform.database.session() as session:
        observation(session, group_id)
        if not _exists(session, kind, group_id):
            raise NotFoundError(f"{kind} of {group_id}", "there is nothing to mark", f"look at it: `dsa110 ingest status {group_id}`")
        before = set(stale())
        if decision is not None:
            marks.put(session, kind, group_id, decision, reason="tried", person="nobody")
        elif not marks.take_away(session, kind, group_id, person="nobody"):
            raise no_mark(kind, group_id)
        session.flush()
        session.expire_all()
        found = tuple(one for one in stale() if one not in before)
        without = consequences(session, platform.config, kind, group_id).without_tiles
        session.rollback()
    return Expected(found, without)


def _exists(session: Session, kind: MarkKind, group_id: str) -> bool:
    if kind is MarkKind.TILE:
        return image_of(session, group_id) is not None
    return session.scalars(select(CaltableRow.group_id).where(CaltableRow.group_id == group_id).limit(1)).first() is not None
