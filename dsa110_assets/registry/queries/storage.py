"""Parts of products on disk (`stored_parts`): recorded at registration, due for removal, retired."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from sqlalchemy import Row, select, text, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from dsa110_assets.registry.schema import GroupState, StoredPart

_ENDED = f"('{GroupState.COMPLETED}', '{GroupState.FAILED}')"
_COLUMNS = "p.product, p.key, p.rule, p.path, p.size_bytes, p.made_at"
_DUE = text(f"""
SELECT {_COLUMNS} FROM stored_parts p
WHERE p.rule = :rule AND p.made_at < :before AND p.retired_at IS NULL AND p.problem IS NULL
    AND coalesce((SELECT g.state FROM ingest_queue g WHERE g.group_id = p.key), '{GroupState.COMPLETED}') IN {_ENDED}
ORDER BY p.made_at
""")  # noqa: S608 - constants of the schema
"""One look into the queue for each part; with a join the planner may read all of it."""
_MARKED = text(f"SELECT {_COLUMNS} FROM stored_parts p WHERE p.problem IS NOT NULL ORDER BY p.rule, p.made_at")  # noqa: S608
_LOCK = text(f"""
SELECT p.product FROM stored_parts p
WHERE p.product = :product AND p.key = :key AND p.rule = :rule AND p.made_at = :made_at AND p.retired_at IS NULL
    AND NOT EXISTS (SELECT FROM ingest_queue g WHERE g.group_id = p.key AND g.state NOT IN {_ENDED})
FOR UPDATE SKIP LOCKED
""")  # noqa: S608
_LOCK_OBSERVATION = text("SELECT group_id FROM ingest_queue WHERE group_id = :key FOR SHARE SKIP LOCKED")
_RETIRED = text("""
SELECT asked.product, asked.key FROM unnest(CAST(:products AS text[]), CAST(:keys AS text[])) AS asked(product, key)
CROSS JOIN LATERAL (
    SELECT bool_and(p.retired_at IS NOT NULL) AS whole, bool_or(p.retired_at IS NOT NULL AND p.rule = ANY(CAST(:rules AS text[]))) AS part
    FROM stored_parts p WHERE p.product = asked.product AND p.key = asked.key
) stored WHERE stored.whole OR stored.part
""")
_DAILY = text("""
SELECT CAST(made_at AT TIME ZONE 'UTC' AS date) AS day, sum(size_bytes)::bigint AS size
FROM stored_parts WHERE rule = :rule AND made_at > :since AND retired_at IS NULL AND problem IS NULL GROUP BY 1
""")


@dataclass(frozen=True)
class PartOnDisk:
    """A part of a product. ``path``: of the product. ``made_at``: of the version that was seen."""

    product: str
    key: str
    rule: str
    path: str
    size_bytes: int
    made_at: datetime


def record_parts(session: Session, product: str, key: str, path: str, sizes: Mapping[str, int]) -> None:
    """Record the parts of a product that was made, with their sizes (bytes) by rule; retired ones are there again."""
    for rule, size in sizes.items():
        row = insert(StoredPart).values(product=product, key=key, rule=rule, path=path, size_bytes=size)
        fresh = {"path": path, "size_bytes": size, "made_at": text("now()"), "retired_at": None, "problem": None}
        session.execute(row.on_conflict_do_update(index_elements=["product", "key", "rule"], set_=fresh))


def parts_due(session: Session, rule: str, before: datetime) -> list[PartOnDisk]:
    """Parts of a rule made before a time, oldest first; without those of observations that are being processed."""
    return [_part(row) for row in session.execute(_DUE, {"rule": rule, "before": before})]


def parts_with_problems(session: Session) -> list[PartOnDisk]:
    """Parts that could not be removed."""
    return [_part(row) for row in session.execute(_MARKED)]


def lock_part(session: Session, part: PartOnDisk) -> bool:
    """Lock a part until the transaction ends. False if it was made again, or if its observation is being processed.

    The observation cannot be leased meanwhile.
    """
    session.execute(_LOCK_OBSERVATION, {"key": part.key})
    values = {"product": part.product, "key": part.key, "rule": part.rule, "made_at": part.made_at}
    return session.execute(_LOCK, values).first() is not None


def mark_part(session: Session, part: PartOnDisk, *, retired_at: datetime | None = None, problem: str | None = None) -> None:
    """Record that a part was removed, or why it could not be."""
    where = (StoredPart.product == part.product, StoredPart.key == part.key, StoredPart.rule == part.rule)
    session.execute(update(StoredPart).where(*where).values(retired_at=retired_at, problem=problem))


def retired(session: Session, products: Sequence[tuple[str, str]], rules: Collection[str] = ()) -> set[tuple[str, str]]:
    """Those of these (product, key) that retention has removed: all parts, or one of ``rules``."""
    names, keys = [product for product, _ in products], [key for _, key in products]
    rows = session.execute(_RETIRED, {"products": names, "keys": keys, "rules": list(rules)})
    return {(row.product, row.key) for row in rows}


def retired_paths(session: Session, paths: Collection[str]) -> set[str]:
    """Those of these product paths of which retention has removed a part."""
    query = select(StoredPart.path).where(StoredPart.path.in_(list(paths)), StoredPart.retired_at.is_not(None))
    return set(session.scalars(query))


def bytes_by_day(session: Session, rule: str, since: datetime) -> dict[date, int]:
    """Bytes of a rule's parts on disk by the UTC date on which they were made."""
    return {row.day: int(row.size) for row in session.execute(_DAILY, {"rule": rule, "since": since})}


def _part(row: Row[tuple[str, str, str, str, int, datetime]]) -> PartOnDisk:
    return PartOnDisk(*row)
