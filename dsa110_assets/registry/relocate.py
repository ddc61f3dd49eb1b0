"""Roots of the registered files: where they lie, whether the settings agree, and how they move to another directory.

The registry holds absolute paths. When people move data to another disk, `relocate` changes all of them in one
transaction, after it has found the files at their new places.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, func, literal, select, text, update
from sqlalchemy.orm import InstrumentedAttribute, Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import RelocationError
from dsa110_assets.files import real_path
from dsa110_assets.publication import size_bytes
from dsa110_assets.registry.schema import (
    CalibrationApplied,
    CaltableRow,
    ImageRow,
    MeasurementSetRow,
    MosaicRow,
    ProductVersion,
    RefreshableCatalog,
    StoredPart,
    SubbandFile,
)

PATHS: tuple[InstrumentedAttribute[Any], ...] = (
    SubbandFile.path,
    MeasurementSetRow.path,
    CaltableRow.directory,
    CalibrationApplied.caltable_directory,
    ImageRow.directory,
    MosaicRow.directory,
    RefreshableCatalog.path,
    RefreshableCatalog.origin,
    ProductVersion.path,
    StoredPart.path,
)
"""All columns that hold paths. A test compares them with the schema."""
SAMPLED = 5
"""Products whose checksums are compared without ``thorough``: the newest ones."""
_PRODUCTS: tuple[tuple[str, InstrumentedAttribute[Any]], ...] = (
    ("output_dir", MeasurementSetRow.path),
    ("scratch_dir", ImageRow.directory),
    ("scratch_dir", CaltableRow.directory),
    ("input_dir", SubbandFile.path),
)


@dataclass(frozen=True)
class Relocation:
    """``rows``: number of paths to change, by ``table.column``. ``n_products``: products compared with their sizes.

    ``n_checksums``: products whose contents were compared.
    """

    rows: dict[str, int]
    n_products: int
    n_checksums: int


@dataclass(frozen=True)
class ForeignRoot:
    """A file outside the directory of its setting. ``registered``: the file. ``configured``: the directory."""

    setting: str
    registered: str
    configured: str


def foreign_roots(session: Session, config: PipelineConfig) -> list[ForeignRoot]:
    """Settings whose directory does not hold the newest registered file of its kind. One look at an index for each."""
    found: list[ForeignRoot] = []
    for setting, column in _PRODUCTS:
        root = str(getattr(config, setting).absolute())
        newest = session.scalar(select(column).order_by(column.desc()).limit(1))
        oldest = session.scalar(select(column).order_by(column).limit(1))
        outside = next((path for path in (newest, oldest) if path is not None and not Path(path).is_relative_to(root)), None)
        if outside is not None and not any(one.setting == setting for one in found):
            found.append(ForeignRoot(setting, outside, root))
    return found


def _rows_below(session: Session, directory: str) -> dict[str, int]:
    return {_name(column): n for column in PATHS if (n := session.scalar(select(func.count()).where(_below(column, directory))) or 0)}


def _registered_spelling(session: Session, directory: Path) -> str:
    """The spelling of a directory under which paths are registered: as given, or with its links resolved."""
    given, real = os.path.normpath(directory.absolute()), str(real_path(directory))
    return real if given != real and not _rows_below(session, given) else given


def relocate(
    session: Session,
    old: Path,
    new: Path,
    *,
    agrees: Callable[[Session, ProductVersion], bool],
    thorough: bool = False,
    dry_run: bool = False,
) -> Relocation:
    """Change all registered paths below a directory to another one; nothing on disk is touched.

    Args:
        session: transaction; the caller commits.
        old: directory in which the files lay.
        new: directory in which the same files lie now.
        agrees: whether a version's files say what was registered (`stages.provenance.contents.agrees`).
        thorough: compare the contents of all products with their checksums, not only of the newest `SAMPLED`.
        dry_run: compare and count, and change nothing.

    Raises:
        RelocationError: nothing is registered below ``old``, or a file is missing or another one at its new place.
    """
    before, after = _registered_spelling(session, old), os.path.normpath(new.absolute())
    if before == after:
        raise RelocationError(new, "is the same directory", "give the directory in which the files lie now")
    if not new.is_dir():
        raise RelocationError(new, "is no directory", "move the files first, then give their new directory")
    rows = _rows_below(session, before)
    if not rows:
        raise RelocationError(old, "holds no registered file", "`dsa110 preflight` names the directories of the registry")
    current = _current_products(session, before)
    _compare(current, before, after)
    savepoint = session.begin_nested()
    _change(session, rows, before, after)
    session.expire_all()
    checked = [row for row in (current if thorough else current[:SAMPLED]) if row.checksum is not None and Path(str(row.path)).exists()]
    for row in checked:
        if not agrees(session, row):
            raise RelocationError(row.path, f"is not what was registered as {row.product} {row.key} (other contents)", "restore the file")
    if dry_run:
        savepoint.rollback()
    else:
        savepoint.commit()
    return Relocation(rows, len(current), len(checked))


def _change(session: Session, rows: Iterable[str], before: str, after: str) -> None:
    session.execute(text("ALTER TABLE calibration_applied DROP CONSTRAINT fk_calibration_applied_caltable_directory"))
    for column in PATHS:
        if _name(column) in rows:
            moved = literal(after) + func.substr(column, len(before) + 1)
            session.execute(
                update(column.class_.__table__)
                .where(_below(column, before))
                .values({column.key: moved})
                .execution_options(synchronize_session=False)
            )
    session.execute(
        text(
            "UPDATE product_versions SET inputs = CAST(replace(CAST(inputs AS text), :old, :new) AS jsonb) "
            "WHERE position(:old in CAST(inputs AS text)) > 0"
        ),
        {"old": f'"{before}/', "new": f'"{after}/'},
    )
    session.execute(
        text(
            "ALTER TABLE calibration_applied ADD CONSTRAINT fk_calibration_applied_caltable_directory "
            "FOREIGN KEY (caltable_directory) REFERENCES caltables (directory)"
        )
    )


def _current_products(session: Session, before: str) -> Sequence[ProductVersion]:
    """Newest version of each product below a directory, newest first."""
    newest = (
        select(func.max(ProductVersion.version_id))
        .where(_below(ProductVersion.path, before))
        .group_by(ProductVersion.product, ProductVersion.key)
    )
    return session.scalars(
        select(ProductVersion).where(ProductVersion.version_id.in_(newest)).order_by(ProductVersion.version_id.desc())
    ).all()


def _compare(current: Iterable[ProductVersion], before: str, after: str) -> None:
    for row in current:
        was, place = Path(str(row.path)), Path(_moved(str(row.path), before, after))
        if not place.exists():
            if was.exists():  # what was cleaned away before is missing at both places
                raise RelocationError(place, f"is missing; {was} is still there", "move the rest of the files, then try again")
        elif row.size_bytes is not None and size_bytes(place) != row.size_bytes:
            raise RelocationError(place, f"has {size_bytes(place)} bytes, registered are {row.size_bytes}", "copy the file again")


def _below(column: InstrumentedAttribute[Any], directory: str) -> ColumnElement[bool]:
    return (column == directory) | column.startswith(f"{directory}/", autoescape=True)


def _moved(path: str, before: str, after: str) -> str:
    return after + path[len(before) :]


def _name(column: InstrumentedAttribute[Any]) -> str:
    return f"{column.class_.__tablename__}.{column.key}"
