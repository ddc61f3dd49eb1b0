"""Compare the registry with the file system (pitfall 31).

A product is renamed into place and then registered, so a crash may leave an unregistered product. People may also have
removed or changed products by hand. A backfill repairs what this module finds.

Registry and disk are compared in parts: each part is a bounded number of rows or paths, in a transaction of its own. So
memory does not grow with the archive, and no transaction stays open while a disk is read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

from sqlalchemy import Select, func, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_assets import content
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.folders import Folder
from dsa110_assets.products import ProductPaths
from dsa110_assets.publication import size_bytes
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.storage import retired_paths
from dsa110_assets.registry.schema import CaltableRow, ImageRow, MeasurementSetRow, MosaicRow, ProductVersion, RefreshableCatalog
from dsa110_assets.staging import is_staging

SETTLING_S = 3600.0
"""Products younger than this may still be registered."""
PART = 5_000
"""Number of rows or paths that are compared at a time."""

Progress = Callable[[str, int, int], None]
"""Called after each part: what is compared, how many are done, and of how many."""


class Difference(StrEnum):
    """How registry and disk differ. `MISSING`: registered, not on disk. `UNREGISTERED`: on disk, not registered."""

    MISSING = "missing"
    UNREGISTERED = "unregistered"
    CHANGED = "changed"


@dataclass(frozen=True)
class Disagreement:
    """One difference between registry and disk.

    product: table or asset. path: file or directory. next_step: how to repair it.
    """

    kind: Difference
    product: str
    path: str
    next_step: str


class _Registered(NamedTuple):
    """Columns of a table that name a path. ``key``: its primary key, whose index serves both directions."""

    table: str
    key: Any
    path: Any


_REGISTERED = (
    _Registered("ms_index", MeasurementSetRow.path, MeasurementSetRow.path),
    _Registered("caltables", CaltableRow.directory, CaltableRow.directory),
    _Registered("images", ImageRow.directory, ImageRow.directory),
    _Registered("mosaics", MosaicRow.name, MosaicRow.directory),
    _Registered("reference_catalogs", RefreshableCatalog.name, RefreshableCatalog.path),
)


def audit(
    database: Database,
    paths: ProductPaths,
    *,
    contents: Literal["none", "size", "checksum"] = "none",
    agrees: Callable[[Session, ProductVersion], bool] | None = None,
    settling_s: float = SETTLING_S,
    progress: Progress | None = None,
) -> list[Disagreement]:
    """Compare the registry with the product directories. Return an empty list when they agree.

    Args:
        database: the registry.
        paths: paths of the products.
        contents: also compare the sizes of current versions (walks through every product) or their contents (reads
            everything).
        agrees: with ``checksum``: whether a version says what was registered (`stages.provenance.contents.agrees`).
            None compares only files, so it is for products without rows of their own.
        settling_s: do not report unregistered products younger than this.
        progress: called after each part.
    """
    show: Progress = progress or (lambda _what, _done, _total: None)
    found: list[Disagreement] = []
    plans = str(paths.mosaic_plans)
    for registered in _REGISTERED:
        found += _missing(database, registered, show)
    for registered, folder, depth in (
        (_REGISTERED[0], paths.folder(Folder.MEASUREMENT_SETS), 2),
        (_REGISTERED[1], paths.folder(Folder.CALIBRATION), 2),
        (_REGISTERED[2], paths.folder(Folder.IMAGES), 2),
        (_REGISTERED[3], paths.folder(Folder.MOSAICS), 1),
    ):
        directories = _products_in(str(folder), depth, without=plans)
        found += _unregistered(database, registered, directories, time.time() - settling_s, show)
    if contents != "none":
        differs = _resized if contents == "size" else _changed(agrees or _files_agree)
        found += _different(database, differs, show, with_rows=contents == "checksum")
    return sorted(found, key=lambda one: list(Difference).index(one.kind))


def _missing(database: Database, registered: _Registered, show: Progress) -> Generator[Disagreement]:
    """Registered products that are not on disk, without those that retention has removed."""
    statement = select(registered.key, registered.path)
    if registered.table == "reference_catalogs":
        statement = statement.where(registered.key != "monitored_sources")  # rows only
    for rows in _parts(database, f"registered in {registered.table}", statement, (registered.key,), show):
        missing = {str(path) for _, path in rows if not os.path.exists(path)}  # noqa: PTH110 - a hundred thousand Path objects are slow
        if missing:
            with database.session() as session:
                missing -= retired_paths(session, missing)
        for path in sorted(missing):
            yield Disagreement(Difference.MISSING, registered.table, path, "make it again with `dsa110 backfill`, or restore it")


def _unregistered(
    database: Database, registered: _Registered, on_disk: Iterator[str], youngest: float, show: Progress
) -> Generator[Disagreement]:
    """Products on disk that are older than ``youngest`` (seconds since 1970) and not registered."""
    advice = "make it again with `dsa110 backfill`, which registers it, or remove it"
    with database.session() as session:
        total = session.scalar(select(func.count()).select_from(registered.key.class_)) or 0
    done = 0
    while part := list(islice(on_disk, PART)):
        keys = part if registered.key is registered.path else [os.path.basename(path) for path in part]  # noqa: PTH119
        with database.session() as session:
            known = set(session.scalars(select(registered.path).where(registered.key.in_(keys))))
        yield from (
            Disagreement(Difference.UNREGISTERED, registered.table, path, advice)
            for path in part
            if path not in known and _is_older(path, youngest)
        )
        done += len(part)
        show(f"on disk for {registered.table}", done, max(done, total))


def _is_older(path: str, youngest: float) -> bool:
    try:
        return Path(path).stat().st_mtime < youngest
    except FileNotFoundError:  # it was removed meanwhile
        return False


def _products_in(folder: str, depth: int, *, without: str) -> Generator[str]:
    """Directories so deep below a folder, in order of their names. Text, because as many `Path` objects are slow."""
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entry.path for entry in entries if entry.is_dir() and not is_staging(entry.name) and entry.path != without)
    except FileNotFoundError:
        return
    for path in inside:
        if depth > 1:
            yield from _products_in(path, depth - 1, without=without)
        else:
            yield path


def _parts(
    database: Database, what: str, statement: Select[Any], order: Sequence[InstrumentedAttribute[Any]], show: Progress
) -> Generator[Sequence[Any]]:
    """Rows of a statement in the order of a unique key, in parts."""
    with database.session() as session:
        total = session.scalar(select(func.count()).select_from(statement.order_by(None).subquery())) or 0
    done, after = 0, None
    while done == 0 or after is not None:
        query = statement.order_by(*order).limit(PART)
        if after is not None:
            query = query.where(tuple_(*order) > tuple_(*after))
        with database.session() as session:
            rows = session.execute(query).all()
        yield rows
        done += len(rows)
        show(what, done, max(done, total))
        if len(rows) < PART:
            return
        after = tuple(getattr(rows[-1], str(column.key)) for column in order)


def _different(
    database: Database, differs: Callable[[Session, ProductVersion], str | None], show: Progress, *, with_rows: bool
) -> Generator[Disagreement]:
    """Current versions of products that are there whole, and differ; ``with_rows``: also of rows only.

    Missing ones are reported as such, and of a retired one a part is gone on purpose.
    """
    order = (ProductVersion.product, ProductVersion.key)
    current = select(*order, func.max(ProductVersion.version_id).label("version_id")).group_by(*order)
    for rows in _parts(database, "contents of products", current, order, show):
        query = select(ProductVersion).where(ProductVersion.version_id.in_([row.version_id for row in rows]))
        with database.session() as session:
            versions = session.scalars(query.order_by(*order)).all()
            reduced = retired_paths(session, [version.path for version in versions if version.path is not None])
        for version in versions:
            if version.path is None:
                if not with_rows or version.checksum is None:
                    continue
            elif version.path in reduced or not Path(version.path).exists():
                continue
            with database.session() as session:
                reason = differs(session, version)
            if reason is not None:
                name = version.path or f"{version.product}/{version.key}"
                advice = f"its {reason} differs from the registered one; make it again with `dsa110 backfill`"
                yield Disagreement(Difference.CHANGED, version.product, name, advice)


def _resized(_session: Session, version: ProductVersion) -> str | None:
    return None if version.size_bytes is None or size_bytes(Path(str(version.path))) == version.size_bytes else "size"


def _changed(agrees: Callable[[Session, ProductVersion], bool]) -> Callable[[Session, ProductVersion], str | None]:
    def differs(session: Session, version: ProductVersion) -> str | None:
        try:
            return None if agrees(session, version) else "content"
        except (ProductVerificationError, FileNotFoundError) as error:
            return f"content ({error})"

    return differs


def _files_agree(session: Session, version: ProductVersion) -> bool:
    del session
    return version.path is None or version.checksum is None or content.agrees(Path(version.path), version.checksum)
