"""Compare the registry with the file system (pitfall 31).

A product is renamed into place and then registered, so a crash may leave an unregistered product. People may also have
removed or changed products by hand. A backfill repairs what this module finds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import content
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.products import ProductPaths
from dsa110_assets.publication import size_bytes
from dsa110_assets.registry.queries.storage import retired_paths
from dsa110_assets.registry.schema import CaltableRow, ImageRow, MeasurementSetRow, MosaicRow, ProductVersion, RefreshableCatalog
from dsa110_assets.staging import is_staging

SETTLING_S = 3600.0
"""Products younger than this may still be registered."""


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


def audit(
    session: Session,
    paths: ProductPaths,
    *,
    contents: Literal["none", "size", "checksum"] = "none",
    agrees: Callable[[Session, ProductVersion], bool] | None = None,
    settling_s: float = SETTLING_S,
) -> list[Disagreement]:
    """Compare the registry with the product directories. Return an empty list when they agree.

    Args:
        session: open transaction.
        paths: paths of the products.
        contents: also compare the sizes of current versions (walks through every product) or their contents (reads
            everything).
        agrees: with ``checksum``: whether a version says what was registered (`stages.provenance.contents.agrees`).
            None compares only files, so it is for products without rows of their own.
        settling_s: do not report unregistered products younger than this.
    """
    registered = {
        "ms_index": set(session.scalars(select(MeasurementSetRow.path))),
        "caltables": set(session.scalars(select(CaltableRow.directory))),
        "images": set(session.scalars(select(ImageRow.directory))),
        "mosaics": set(session.scalars(select(MosaicRow.directory))),
        "reference_catalogs": set(
            session.scalars(select(RefreshableCatalog.path).where(RefreshableCatalog.name != "monitored_sources"))
        ),  # rows only
    }
    missing = {path for known in registered.values() for path in known if not Path(path).exists()}
    missing -= retired_paths(session, missing)
    found = [
        Disagreement(Difference.MISSING, product, path, "make it again with `dsa110 backfill`, or restore it")
        for product, known in registered.items()
        for path in sorted(known & missing)
    ]
    youngest = time.time() - settling_s
    for product, path in _on_disk(paths):
        if str(path) not in registered[product] and path.stat().st_mtime < youngest:
            found.append(
                Disagreement(
                    Difference.UNREGISTERED, product, str(path), "make it again with `dsa110 backfill`, which registers it, or remove it"
                )
            )
    if contents != "none":
        found += _resized(session) if contents == "size" else _changed(session, agrees or _files_agree)
    return found


def _on_disk(paths: ProductPaths) -> Generator[tuple[str, Path]]:
    patterns = (
        ("ms_index", paths.output_dir, "*/*.ms"),
        ("caltables", paths.scratch_dir / "caltables", "*/*"),
        ("images", paths.scratch_dir / "images", "*/*"),
        ("mosaics", paths.scratch_dir / "mosaics", "*"),
    )
    for product, root, pattern in patterns:
        for path in sorted(root.glob(pattern)):
            if path.is_dir() and not (is_staging(path) or is_staging(path.parent)):
                yield product, path


def _resized(session: Session) -> list[Disagreement]:
    """Products whose files have another size than the registered one."""
    return [
        _difference(version, str(version.path), "size")
        for version in _current_files(session)
        if version.size_bytes is not None and size_bytes(Path(str(version.path))) != version.size_bytes
    ]


def _changed(session: Session, agrees: Callable[[Session, ProductVersion], bool]) -> list[Disagreement]:
    """Products that say something else than what was registered."""
    found: list[Disagreement] = []
    for version in [*_current_files(session), *_current_rows(session)]:
        name = version.path or f"{version.product}/{version.key}"
        try:
            if not agrees(session, version):
                found.append(_difference(version, name, "content"))
        except (ProductVerificationError, FileNotFoundError) as error:
            found.append(_difference(version, name, f"content ({error})"))
    return found


def _difference(version: ProductVersion, name: str, property_name: str) -> Disagreement:
    advice = f"its {property_name} differs from the registered one; make it again with `dsa110 backfill`"
    return Disagreement(Difference.CHANGED, version.product, name, advice)


def _current_files(session: Session) -> Generator[ProductVersion]:
    """Newest version of each path that is there whole; others are reported as missing, or retention removed a part."""
    newest_by_path = (
        select(ProductVersion)
        .where(ProductVersion.path.is_not(None))
        .distinct(ProductVersion.path)
        .order_by(ProductVersion.path, ProductVersion.version_id.desc())
    )
    versions = session.scalars(newest_by_path).all()
    reduced = retired_paths(session, [str(version.path) for version in versions])
    yield from (version for version in versions if Path(str(version.path)).exists() and version.path not in reduced)


def _current_rows(session: Session) -> Generator[ProductVersion]:
    """Newest version of each product that is rows of the registry only."""
    newest = select(ProductVersion).distinct(ProductVersion.product, ProductVersion.key)
    newest = newest.order_by(ProductVersion.product, ProductVersion.key, ProductVersion.version_id.desc())
    yield from session.scalars(newest.where(ProductVersion.path.is_(None), ProductVersion.checksum.is_not(None)))


def _files_agree(session: Session, version: ProductVersion) -> bool:
    del session
    return version.path is None or version.checksum is None or content.agrees(Path(version.path), version.checksum)
