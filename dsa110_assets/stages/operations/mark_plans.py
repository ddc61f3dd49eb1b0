"""What a mark would make stale, found before anybody makes it.

The mark is made in a transaction that is taken back, so that a plan and the mark that follows it cannot differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import NotFoundError
from dsa110_assets.registry.queries import marks
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.queries.observations import observation
from dsa110_assets.registry.schema import CaltableRow, MarkDecision, MarkKind
from dsa110_assets.stages.operations.antenna_marks import put_mark, take_mark_away
from dsa110_assets.stages.operations.marks import Consequences, consequences, no_mark
from dsa110_assets.stages.operations.staleness import median_duration, stale_products
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.recipes import recipes

_NOBODY = "nobody"
"""Who makes a mark that is taken back."""


@dataclass(frozen=True)
class Expected:
    """What a mark would make stale, before it is made.

    ``products``: (product, key), upstream first, with what is made from them; without those that other marks have made
    stale already. ``total_s``: expected time to make all of them again, one after another (s); None if no time is
    known. ``settled``: number of products that marks have made stale and that would agree with them. ``without_tiles``,
    ``without_files``: see `Consequences`.
    """

    products: tuple[tuple[str, str], ...]
    total_s: float | None = None
    settled: int = 0
    without_tiles: tuple[str, ...] = ()
    without_files: tuple[str, ...] = ()

    def by_product(self) -> dict[str, list[str]]:
        """Keys of the products by name."""
        found: dict[str, list[str]] = {}
        for product, key in self.products:
            found.setdefault(product, []).append(key)
        return found


def expected(platform: Platform, kind: MarkKind, group_id: str, decision: MarkDecision | None) -> Expected:
    """What a mark would make stale, or, without a decision, its removal. The registry stays as it is.

    Raises:
        NotFoundError: the observation has no image, no solution, or no mark to remove.
        UnknownGroupError: there is no such observation.
    """

    def change(session: Session) -> Consequences:
        if decision is not None:
            marks.put(session, kind, group_id, decision, reason="tried", person=_NOBODY)
        elif not marks.take_away(session, kind, group_id, person=_NOBODY):
            raise no_mark(kind, group_id)
        session.flush()
        session.expire_all()
        return consequences(session, platform.config, kind, group_id)

    with platform.database.session() as session:
        observation(session, group_id)
        if not _exists(session, kind, group_id):
            raise NotFoundError(f"{kind} of {group_id}", "there is nothing to mark", f"look at it: `dsa110 ingest status {group_id}`")
    return _tried(platform, change)


def expected_of_antenna(platform: Platform, antenna: str, *, from_mjd: float, to_mjd: float | None) -> Expected:
    """What a mark on an antenna would make stale. The registry stays as it is.

    Raises:
        InvalidRequestError: the span ends before it begins.
        NotFoundError: no recent solution has an antenna of this name.
    """
    return _tried(platform, lambda session: put_mark(session, antenna, from_mjd=from_mjd, to_mjd=to_mjd, reason="tried", person=_NOBODY))


def expected_without_antenna_mark(platform: Platform, mark_id: int) -> Expected:
    """What would be stale without a mark on an antenna. The registry stays as it is.

    Raises:
        NotFoundError: there is no valid mark of this number.
    """
    return _tried(platform, lambda session: take_mark_away(session, mark_id, person=_NOBODY))


def _tried(platform: Platform, change: Callable[[Session], Consequences]) -> Expected:
    """Make a change, find what it has made stale, and take it back."""
    with platform.database.session() as session:
        before = dict.fromkeys(_stale(session, platform.config))
        found = change(session)
        session.flush()
        session.expire_all()
        after = dict.fromkeys(_stale(session, platform.config))
        products = tuple(one for one in after if one not in before)
        numbers = Counter(product for product, _ in products)
        known = [number * each_s for product, number in numbers.items() if (each_s := median_duration(session, product)) is not None]
        session.rollback()
    return Expected(
        products,
        total_s=sum(known) if known else None,
        settled=sum(one not in after for one in before),
        without_tiles=found.without_tiles,
        without_files=found.without_files,
    )


def _stale(session: Session, config: PipelineConfig) -> list[tuple[str, str]]:
    """Products (product, key) that marks have made stale, upstream first."""
    order = {name: number for number, name in enumerate(recipes(config))}
    found = [(one.product, one.key) for one in stale_products(session, config, only_marked=True)]
    return sorted(found, key=lambda one: (order[one[0]], one[1]))


def _exists(session: Session, kind: MarkKind, group_id: str) -> bool:
    if kind is MarkKind.TILE:
        return image_of(session, group_id) is not None
    return session.scalars(select(CaltableRow.group_id).where(CaltableRow.group_id == group_id).limit(1)).first() is not None
