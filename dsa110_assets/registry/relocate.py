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

from sqlalchemy import ColumnElement, and_, delete, exists, func, literal, not_, select, text, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

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
    ("state_dir", RefreshableCatalog.path),
)
ROOTS = ("input_dir", "output_dir", "scratch_dir", "state_dir")
"""Settings that name the directories of registered files."""


@dataclass(frozen=True)
class Relocation:
    """``rows``: number of paths to change, by ``table.column``. ``n_products``: products compared with their sizes.

    ``n_checksums``: products whose contents were compared. ``kept``: directories inside the old one whose files stay,
    because a setting still names them.
    """

    rows: dict[str, int]
    n_products: int
    n_checksums: int
    kept: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class _Move:
    """Paths below ``before`` go to ``after``, but not those below a directory in ``kept``."""

    before: str
    after: str
    kept: tuple[str, ...] = ()

    def takes(self, column: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
        return and_(_below(column, self.before), *(not_(_below(column, one)) for one in self.kept))

    def place_of(self, path: str) -> str:
        return self.after + path[len(self.before) :]

    def rows(self, session: Session) -> dict[str, int]:
        return {_name(column): n for column in PATHS if (n := session.scalar(select(func.count()).where(self.takes(column))) or 0)}


def _roots_that_stay(before: str, config: PipelineConfig) -> tuple[str, ...]:
    """Directories of settings inside the old one, which did not move with it.

    Raises:
        RelocationError: a setting still names the old directory, or one in it that is no longer there.
    """
    kept: list[str] = []
    for setting in ROOTS:
        root = getattr(config, setting).absolute()
        if not root.is_relative_to(before):
            continue
        if str(root) == before or not root.is_dir():
            raise RelocationError(f"PIPELINE_{setting.upper()}", f"still is {root}", "set it to the new directory first, then try again")
        kept.append(str(root))
    return tuple(kept)


def _registered_spelling(session: Session, directory: Path) -> str:
    """The spelling of a directory under which paths are registered: as given, or with its links resolved."""
    given, real = os.path.normpath(directory.absolute()), str(real_path(directory))
    return real if given != real and not _Move(given, given).rows(session) else given


def relocate(
    session: Session,
    old: Path,
    new: Path,
    config: PipelineConfig,
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
        config: settings that name the new directories. Directories of settings inside ``old`` stay where they are.
        agrees: whether a version's files say what was registered (`stages.provenance.contents.agrees`).
        thorough: compare the contents of all products with their checksums, not only of the newest `SAMPLED`.
        dry_run: compare and count, and change nothing.

    Raises:
        RelocationError: nothing is registered below ``old``, a setting still names it, or a file is missing or another
            one at its new place.
    """
    before, after = _registered_spelling(session, old), os.path.normpath(new.absolute())
    if before == after:
        raise RelocationError(new, "is the same directory", "give the directory in which the files lie now")
    if not new.is_dir():
        raise RelocationError(new, "is no directory", "move the files first, then give their new directory")
    move = _Move(before, after, _roots_that_stay(before, config))
    rows = move.rows(session)
    if not rows:
        raise RelocationError(old, "holds no registered file", "`dsa110 preflight` names the directories of the registry")
    current = _current_products(session, move)
    _compare(current, move)
    savepoint = session.begin_nested()
    try:
        _change(session, rows, move)
    except IntegrityError as error:
        raise RelocationError(
            new,
            f"holds files that are registered there already ({str(error.orig).strip().splitlines()[-1]})",
            "`dsa110 db check` lists what is registered twice; remove the newer products, then try again",
        ) from error
    session.expire_all()
    checked = [row for row in (current if thorough else current[:SAMPLED]) if row.checksum is not None and Path(str(row.path)).exists()]
    for row in checked:
        if not agrees(session, row):
            raise RelocationError(row.path, f"is not what was registered as {row.product} {row.key} (other contents)", "restore the file")
    if dry_run:
        savepoint.rollback()
    else:
        savepoint.commit()
    return Relocation(rows, len(current), len(checked), move.kept)


def _change(session: Session, rows: Iterable[str], move: _Move) -> None:
    # a scan that ran between the move and this command has booked the same raw files again, at their new places
    was = aliased(SubbandFile)
    session.execute(
        delete(SubbandFile)
        .where(_below(SubbandFile.path, move.after))
        .where(exists().where(move.takes(was.path), literal(move.after) + func.substr(was.path, len(move.before) + 1) == SubbandFile.path))
        .execution_options(synchronize_session=False)
    )
    session.execute(text("ALTER TABLE calibration_applied DROP CONSTRAINT fk_calibration_applied_caltable_directory"))
    for column in PATHS:
        if _name(column) in rows:
            moved = literal(move.after) + func.substr(column, len(move.before) + 1)
            session.execute(
                update(column.class_.__table__)
                .where(move.takes(column))
                .values({column.key: moved})
                .execution_options(synchronize_session=False)
            )
    kept = [f"{one}/" for one in move.kept]
    session.execute(_CHANGE_INPUTS, {"old": f"{move.before}/", "new": f"{move.after}/", "kept": kept})
    session.execute(
        text(
            "ALTER TABLE calibration_applied ADD CONSTRAINT fk_calibration_applied_caltable_directory "
            "FOREIGN KEY (caltable_directory) REFERENCES caltables (directory)"
        )
    )


_CHANGE_INPUTS = text(
    """
    UPDATE product_versions SET inputs = (
        SELECT jsonb_object_agg(
            CASE WHEN starts_with(one.key, :old) AND NOT EXISTS (SELECT FROM unnest(CAST(:kept AS text[])) AS k WHERE starts_with(one.key, k))
                THEN :new || substr(one.key, length(:old) + 1) ELSE one.key END,
            one.value)
        FROM jsonb_each(inputs) AS one)
    WHERE EXISTS (SELECT FROM jsonb_object_keys(inputs) AS name WHERE starts_with(name, :old))
    """
)
"""Inputs are named by product and key, or by path."""


def _current_products(session: Session, move: _Move) -> Sequence[ProductVersion]:
    """Newest version of each product below a directory, newest first."""
    newest = (
        select(func.max(ProductVersion.version_id))
        .where(move.takes(ProductVersion.path))
        .group_by(ProductVersion.product, ProductVersion.key)
    )
    return session.scalars(
        select(ProductVersion).where(ProductVersion.version_id.in_(newest)).order_by(ProductVersion.version_id.desc())
    ).all()


def _compare(current: Iterable[ProductVersion], move: _Move) -> None:
    for row in current:
        was, place = Path(str(row.path)), Path(move.place_of(str(row.path)))
        if not place.exists():
            if was.exists():  # what was cleaned away before is missing at both places
                raise RelocationError(place, f"is missing; {was} is still there", "move the rest of the files, then try again")
        elif row.size_bytes is not None and size_bytes(place) != row.size_bytes:
            raise RelocationError(place, f"has {size_bytes(place)} bytes, registered are {row.size_bytes}", "copy the file again")


def _below(column: InstrumentedAttribute[Any], directory: str) -> ColumnElement[bool]:
    return (column == directory) | column.startswith(f"{directory}/", autoescape=True)


def _name(column: InstrumentedAttribute[Any]) -> str:
    return f"{column.class_.__tablename__}.{column.key}"
