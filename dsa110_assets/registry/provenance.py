"""Versions of products: their inputs, code and configuration, and which products are stale.

`reference` names an input: its path, or ``<product>/<key>`` for a product that is only rows of the registry.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from pathlib import Path

from sqlalchemy import TextClause, func, insert, select, text, update
from sqlalchemy.orm import Session

import dsa110_assets
from dsa110_assets.registry.schema import ProductVersion


class StaleReason(StrEnum):
    """Why a product would come out differently today.

    `TABLES`: nearer calibration tables exist now, or those applied were refused. `MARKS`: a person has marked one of
    its tiles or antennas since. `INPUTS`: an input was made again and came out differently, or is stale itself.
    """

    CODE = "code"
    CONFIGURATION = "configuration"
    TABLES = "tables"
    MARKS = "marks"
    INPUTS = "inputs"


_CURRENT = """
    v.product = ANY(:products) AND (v.superseded_at IS NULL OR NOT EXISTS (
        SELECT FROM product_versions l WHERE l.product = v.product AND l.key = v.key AND l.version_id > v.version_id))
"""
"""Condition. Housekeeping may have removed the version that superseded one."""
_FITS = "(v.product, v.code_version, v.config_hash) IN (SELECT product, code, config FROM same)"
_OF_PEOPLE = f"""
    SELECT v.version_id, bool_or(a.other_tables) AS tables, bool_or(NOT a.other_tables) AS marks
    FROM (
        SELECT 'calibrated_ms' AS product, unnest(CAST(:other_tables AS text[])) AS key, true AS other_tables
        UNION ALL SELECT *, false FROM unnest(CAST(:marked_products AS text[]), CAST(:marked_keys AS text[]))
    ) a JOIN product_versions v USING (product, key) WHERE {_CURRENT} GROUP BY v.version_id
"""  # noqa: S608 - constants of this module
_STALE = text(f"""
WITH RECURSIVE recipes AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:products AS text[]), CAST(:codes AS text[]), CAST(:configs AS text[])) AS r(product, code, config)
), same(product, code, config) AS (
    SELECT product, code, config FROM recipes
    UNION
    SELECT a.product, a.from_code, a.from_config
    FROM same s JOIN accepted_recipes a ON a.product = s.product AND a.to_code = s.code AND a.to_config = s.config AND a.accepted
), apart AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:growing AS text[]), CAST(:lists AS text[])) AS g(product, list)
), current AS MATERIALIZED (
    SELECT v.version_id, v.product, {_FITS} AS fits FROM product_versions v WHERE {_CURRENT}
), outdated AS MATERIALIZED (  -- what current versions read that is not current; names of inputs are read for these alone
    SELECT e.version_id, e.version
    FROM (SELECT v.version_id, jsonb_path_query(v.inputs, '$.*')::bigint AS version FROM product_versions v WHERE {_CURRENT}) e
    WHERE NOT EXISTS (SELECT FROM current n WHERE n.version_id = e.version)
), named AS MATERIALIZED (
    SELECT v.version_id, v.product, o.version, i.key AS reference
    FROM outdated o JOIN product_versions v USING (version_id) CROSS JOIN jsonb_each_text(v.inputs) i WHERE i.value::bigint = o.version
), remade AS MATERIALIZED (
    SELECT DISTINCT ON (o.reference) o.reference, v.version_id, v.checksum, v.product
    FROM (SELECT DISTINCT reference FROM named) o
    JOIN product_versions v ON coalesce(v.path, v.product || '/' || v.key) = o.reference JOIN current USING (version_id)
    ORDER BY o.reference, v.version_id DESC
), replaced AS MATERIALIZED (
    SELECT e.version_id, n.version_id AS newest, n.product AS input,
        n.version_id > e.version AND n.checksum IS DISTINCT FROM coalesce(u.checksum, 'unknown') AS changed
    FROM named e JOIN remade n USING (reference) LEFT JOIN product_versions u ON u.version_id = e.version
    WHERE (e.product, n.product) NOT IN (SELECT product, list FROM apart)
), of_changed AS MATERIALIZED (
    SELECT version_id, array_agg(DISTINCT input) AS inputs FROM replaced WHERE changed GROUP BY version_id
), of_people AS MATERIALIZED ({_OF_PEOPLE}
), own AS MATERIALIZED (
    SELECT v.version_id, NOT {_FITS} AND v.code_version <> r.code AS code, NOT {_FITS} AND v.config_hash <> r.config AS config,
        i.version_id IS NOT NULL AS inputs, i.inputs AS changed_inputs, coalesce(p.tables, false) AS tables, coalesce(p.marks, false) AS marks
    FROM (
        SELECT version_id FROM current WHERE NOT fits UNION SELECT version_id FROM of_changed UNION SELECT version_id FROM of_people
    ) o JOIN product_versions v USING (version_id) JOIN recipes r USING (product)
    LEFT JOIN of_changed i USING (version_id) LEFT JOIN of_people p USING (version_id)
), first AS MATERIALIZED (
    SELECT version_id FROM own WHERE code OR config OR inputs OR tables OR marks
), edges AS MATERIALIZED (  -- to others; not computed if there is no first one
    SELECT e.version_id, e.version AS newest
    FROM (
        SELECT v.version_id, v.product, jsonb_path_query(v.inputs, '$.*')::bigint AS version FROM product_versions v
        WHERE {_CURRENT} AND NOT EXISTS (SELECT FROM first f WHERE f.version_id = v.version_id)
    ) e JOIN current n ON n.version_id = e.version
    WHERE e.product <> ALL(:growing) OR (e.product, n.product) NOT IN (SELECT product, list FROM apart)
    UNION ALL SELECT version_id, newest FROM replaced
), reached(version_id) AS (
    SELECT version_id FROM first
    UNION
    SELECT e.version_id FROM reached r JOIN edges e ON e.newest = r.version_id
)
SELECT v.product, v.key, v.version_id, v.path, v.created_at, v.code_version, v.config_hash, o.changed_inputs,
    array_remove(ARRAY[CASE WHEN o.code THEN '{StaleReason.CODE}' END, CASE WHEN o.config THEN '{StaleReason.CONFIGURATION}' END,
        CASE WHEN o.tables THEN '{StaleReason.TABLES}' END, CASE WHEN o.marks THEN '{StaleReason.MARKS}' END,
        CASE WHEN o.inputs OR (o.code OR o.config OR o.tables OR o.marks) IS NOT TRUE THEN '{StaleReason.INPUTS}' END], NULL) AS reasons
FROM reached JOIN product_versions v USING (version_id) LEFT JOIN own o USING (version_id)
ORDER BY v.product, v.key
""")  # noqa: S608 - constants of this module

_STALE_BY_PEOPLE = text(f"""
WITH RECURSIVE apart AS MATERIALIZED (
    SELECT * FROM unnest(CAST(:growing AS text[]), CAST(:lists AS text[])) AS g(product, list)
), of_people AS MATERIALIZED ({_OF_PEOPLE}
), reached(version_id, product, key) AS (
    SELECT version_id, product, key FROM of_people JOIN product_versions USING (version_id)
    UNION
    SELECT c.version_id, c.product, c.key
    FROM reached r JOIN product_versions i USING (product, key) CROSS JOIN LATERAL (  -- each version may have been read
        SELECT v.version_id, v.product, v.key FROM product_versions v
        WHERE v.inputs @> jsonb_build_object(coalesce(i.path, i.product || '/' || i.key), i.version_id) AND {_CURRENT}
        AND (v.product, i.product) NOT IN (SELECT product, list FROM apart)
        OFFSET 0
    ) c
)
SELECT v.product, v.key, v.version_id, v.path, v.created_at, v.code_version, v.config_hash, CAST(NULL AS text[]) AS changed_inputs,
    array_remove(ARRAY[CASE WHEN p.tables THEN '{StaleReason.TABLES}' END, CASE WHEN p.marks THEN '{StaleReason.MARKS}' END,
        CASE WHEN p.version_id IS NULL THEN '{StaleReason.INPUTS}' END], NULL) AS reasons
FROM reached JOIN LATERAL (SELECT * FROM product_versions WHERE version_id = reached.version_id OFFSET 0) v ON true
LEFT JOIN of_people p ON p.version_id = v.version_id
ORDER BY v.product, v.key
""")  # noqa: S608 - constants of this module
"""Reads what the marks reach, not the history: OFFSET 0 keeps the planner from a join of whole tables."""


@dataclass(frozen=True)
class Recipe:
    """What decides how a product comes out, apart from its inputs: versions of its code and of its settings."""

    code_version: str
    config_hash: str


@dataclass(frozen=True, slots=True)
class StaleProduct:
    """A product that would come out differently today.

    product: asset's name. key: observation, hour or night. version_id, path, made_at, recipe: of its current version.
    reasons: one or more. changed_inputs: products among its inputs that were made again and came out differently; none
    of them if its inputs are only stale themselves.
    """

    product: str
    key: str
    version_id: int
    path: str | None
    made_at: datetime
    reasons: tuple[StaleReason, ...]
    recipe: Recipe
    changed_inputs: tuple[str, ...] = ()


@cache
def release() -> str:
    """Release of the package, with the commit of a checkout: ``0.1.0+g0123456789ab``; ``.dirty`` if it was changed."""
    directory = Path(dsa110_assets.__file__).parent
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments], cwd=directory, env=environment, capture_output=True, text=True, check=False, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):  # no git, or a hung file system: use the version alone
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # an installed copy below an unrelated checkout is not part of it
    if git("ls-files", "--error-unmatch", "__init__.py") is None or (commit := git("rev-parse", "--short=12", "HEAD")) is None:
        return dsa110_assets.__version__
    dirty = ".dirty" if git("status", "--porcelain", "--untracked-files=no", "--", ".") else ""
    return f"{dsa110_assets.__version__}+g{commit}{dirty}"


def reference(product: str, key: str, path: str | None = None) -> str:
    """Name of a product as an input of other products."""
    return f"{product}/{key}" if path is None else str(path)


def record_version(
    session: Session,
    product: str,
    key: str,
    *,
    path: str | Path | None = None,
    inputs: Mapping[str, int] | None = None,
    recipe: Recipe,
    checksum: str | None = None,
    size_bytes: int | None = None,
    duration_s: float | None = None,
    peak_memory_mb: float | None = None,
    run_id: str | None = None,
) -> int:
    """Record a new version of a product, in the transaction that registers it. Return its ``version_id``.

    Args:
        session: open transaction.
        product: asset's name.
        key: observation, hour or night.
        path: file or directory; None for products that are rows only.
        inputs: `reference` of each input and the ``version_id`` that was read.
        recipe: recipe that made it.
        checksum: of its content (`content.checksum`).
        size_bytes: its size.
        duration_s: wall-clock time of its stage.
        peak_memory_mb: largest resident memory of its stage.
        run_id: Dagster's run, if a run made it.
    """
    row = insert(ProductVersion).values(
        product=product,
        key=key,
        path=None if path is None else str(path),
        inputs={name: int(version) for name, version in (inputs or {}).items()},
        code_version=recipe.code_version,
        config_hash=recipe.config_hash,
        release=release(),
        checksum=checksum,
        size_bytes=size_bytes,
        duration_s=duration_s,
        peak_memory_mb=peak_memory_mb,
        run_id=run_id,
    )
    version_id = session.execute(row.returning(ProductVersion.version_id)).scalar_one()
    earlier = (ProductVersion.product == product, ProductVersion.key == key, ProductVersion.version_id < version_id)
    session.execute(
        update(ProductVersion)
        .where(*earlier, ProductVersion.superseded_at.is_(None))
        .values(superseded_at=func.now())
        .execution_options(synchronize_session=False)
    )
    return version_id


def current_version(session: Session, product: str, key: str) -> ProductVersion | None:
    """Newest version of a product; None when it was never made."""
    return session.scalars(
        select(ProductVersion)
        .where(ProductVersion.product == product, ProductVersion.key == key)
        .order_by(ProductVersion.version_id.desc())
        .limit(1)
    ).one_or_none()


def stale(
    session: Session,
    today: Mapping[str, Recipe],
    *,
    other_tables: Collection[str] = (),
    marked: Collection[tuple[str, str]] = (),
    growing: Collection[tuple[str, str]] = (),
) -> list[StaleProduct]:
    """Products whose current version was made by another recipe than today's, or from inputs that are not current.

    A product made from a stale product is stale, too. An input that was made again with the same checksum has not
    changed. A recipe counts as today's if a person has accepted it (`accepted_recipes`), also in several steps.
    Products without a recipe in ``today`` are left out. ``other_tables``: observations that would get other calibration
    tables today (`queries.calibration.observations_with_other_tables`). ``growing``: pairs of a product and an input
    whose changes do not make it stale, because another stage adds what is new. ``marked``: (product, key) that come out
    differently because of people's marks.
    """
    recipes = {
        "codes": [recipe.code_version for recipe in today.values()],
        "configs": [recipe.config_hash for recipe in today.values()],
    }
    return _found(session, _STALE, recipes | _asked(today, other_tables, marked, growing))


def stale_by_people(
    session: Session,
    products: Collection[str],
    *,
    other_tables: Collection[str] = (),
    marked: Collection[tuple[str, str]] = (),
    growing: Collection[tuple[str, str]] = (),
) -> list[StaleProduct]:
    """Of ``products``: ``marked``, calibrated sets of ``other_tables``, and what was made from both; as in `stale`.

    The cost does not grow with history. Reasons: these two, and ``inputs`` for what was made from such products.
    """
    return _found(session, _STALE_BY_PEOPLE, _asked(products, other_tables, marked, growing))


def _asked(
    products: Collection[str],
    other_tables: Collection[str],
    marked: Collection[tuple[str, str]],
    growing: Collection[tuple[str, str]],
) -> dict[str, list[str]]:
    """Parameters of both statements."""
    return {
        "products": list(products),
        "other_tables": list(other_tables),
        "marked_products": [product for product, _ in marked],
        "marked_keys": [key for _, key in marked],
        "growing": [product for product, _ in growing],
        "lists": [name for _, name in growing],
    }


def _found(session: Session, statement: TextClause, asked: Mapping[str, list[str]]) -> list[StaleProduct]:
    """Rows of a statement; equal words and recipes are one object."""
    words: dict[tuple[str, ...], tuple[StaleReason, ...]] = {}
    made_by: dict[tuple[str, str], Recipe] = {}
    found: list[StaleProduct] = []
    rows = session.execute(statement, asked)
    for product, key, version_id, path, made_at, code, config, changed, reasons in rows.tuples():  # 300 000 after an upgrade
        why, recipe = tuple(reasons), (code, config)
        if why not in words:
            words[why] = tuple(StaleReason(reason) for reason in why)
        if recipe not in made_by:
            made_by[recipe] = Recipe(code, config)
        found.append(StaleProduct(product, key, version_id, path, made_at, words[why], made_by[recipe], tuple(changed or ())))
    return found
