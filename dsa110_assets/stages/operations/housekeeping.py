"""Removal by rules: staging left by crashes, model columns, old Measurement Sets, run logs and versions.

Raw files, current products and their history are never touched. A person decides about unregistered products
(`dsa110 db check`). A removal is planned first and carried out as planned, so a dry run lists the same.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

from sqlalchemy import delete, select, text
from sqlalchemy.orm import Session

from dsa110_assets import publication, staging
from dsa110_assets.common.measurement_sets import open_table
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.schema import GroupState, ImageRow, IngestGroup, MeasurementSetRow, ProductVersion
from dsa110_assets.stages.platform import Platform

Rule = Literal["staging", "model_columns", "measurement_sets", "run_logs", "versions"]
RULES: tuple[Rule, ...] = ("staging", "model_columns", "measurement_sets", "run_logs", "versions")
MODEL_COLUMNS = ("MODEL_DATA", "CORRECTED_DATA")
_DAY_S = 86400.0

_SUPERSEDED = text("""
SELECT v.version_id FROM product_versions v
WHERE v.created_at < :before
    AND EXISTS (SELECT FROM product_versions n WHERE n.product = v.product AND n.key = v.key AND n.version_id > v.version_id)
    AND NOT EXISTS (
        SELECT FROM product_versions u, jsonb_each_text(u.inputs) i WHERE i.value::bigint = v.version_id AND u.version_id <> v.version_id
    )
""")
"""Replaced versions that are not an input of another version in the registry."""


@dataclass(frozen=True)
class Removal:
    """One removal. ``what``: a path, or rows in words. ``size_bytes``: space that it frees, 0 if unknown."""

    rule: Rule
    what: str
    size_bytes: int
    reason: str


def plan(platform: Platform, now: datetime, *, thorough: bool = False) -> list[Removal]:
    """Return what the rules remove at this time.

    ``thorough``: also walk all product folders for staging that is not in the journal, as older releases left it.
    """
    config = platform.config
    found = [*_staging(platform, thorough=thorough), *_run_logs(config)]
    with platform.database.session() as session:
        found += _model_columns(session, config, now)
        if config.keep_measurement_sets_days:
            found += _measurement_sets(session, config, now)
        superseded = _superseded(session, config, now)
    if superseded:
        found.append(
            Removal("versions", f"{len(superseded)} superseded versions", 0, f"older than {config.keep_versions_days:g} days, and unused")
        )
    return found


def carry_out(platform: Platform, removals: list[Removal], now: datetime) -> int:
    """Remove what was planned; return the freed bytes. It is no error if something no longer exists."""
    remove: dict[Rule, Callable[[Removal], None]] = {
        "staging": lambda one: staging.remove_staged(Path(one.what)),
        "run_logs": lambda one: shutil.rmtree(one.what, ignore_errors=True),
        "model_columns": lambda one: _drop_columns(Path(one.what)),
        "measurement_sets": lambda one: _remove_measurement_set(platform, Path(one.what)),
        "versions": lambda one: _forget_versions(platform, now),
    }
    for one in removals:
        remove[one.rule](one)
    staging.sweep(platform.paths.staging_journal)
    return sum(one.size_bytes for one in removals)


# --- files ----------------------------------------------------------------------------------------------------------
def _staging(platform: Platform, *, thorough: bool) -> Iterator[Removal]:
    journal = platform.paths.staging_journal
    left = staging.left_by_crashes(journal)
    for place in left:
        yield Removal("staging", str(place), publication.size_bytes(place), "left by a crash")
    if not thorough:
        return
    limit = time.time() - platform.config.keep_staging_hours * 3600
    known = {*left, *staging.in_use(journal)}
    for root in platform.paths.staging_roots():
        for place in publication.staged_products(root):
            if place not in known and publication.newest_change(place) < limit:
                reason = f"not in the journal, older than {platform.config.keep_staging_hours:g} h"
                yield Removal("staging", str(place), publication.size_bytes(place), reason)


def _run_logs(config: PipelineConfig) -> Iterator[Removal]:
    limit = time.time() - config.keep_run_logs_days * _DAY_S
    outputs = config.run_output_dir
    for folder in sorted(outputs.iterdir()) if outputs.is_dir() else []:
        if (folder / "compute_logs").is_dir() and publication.newest_change(folder) < limit:
            yield Removal(
                "run_logs", str(folder), publication.size_bytes(folder), f"output of a run, older than {config.keep_run_logs_days:g} days"
            )


# --- Measurement Sets -----------------------------------------------------------------------------------------------
def _model_columns(session: Session, config: PipelineConfig, now: datetime) -> Iterator[Removal]:
    before = now - timedelta(days=config.keep_model_columns_days)
    for path in session.scalars(
        select(MeasurementSetRow.path).where(MeasurementSetRow.created_at < before).order_by(MeasurementSetRow.path)
    ):
        columns = _columns_of(Path(path))
        if columns:
            reason = f"{' and '.join(columns)}, older than {config.keep_model_columns_days:g} days; no stage reads them"
            yield Removal("model_columns", path, _size_of_columns(Path(path), columns), reason)


def _columns_of(path: Path) -> list[str]:
    if not path.is_dir():
        return []
    with open_table(path) as main:
        return [name for name in MODEL_COLUMNS if name in main.colnames()]


def _size_of_columns(path: Path, columns: list[str]) -> int:
    """Size of the columns, whose values are complex numbers of eight bytes."""
    with open_table(path) as main:
        if not main.nrows():
            return 0
        return sum(main.nrows() * main.getcell(name, 0).size * 8 for name in columns if main.iscelldefined(name, 0))


def _drop_columns(path: Path) -> None:
    if columns := _columns_of(path):
        with open_table(path, writable=True) as main:
            main.removecols(columns)


def _measurement_sets(session: Session, config: PipelineConfig, now: datetime) -> Iterator[Removal]:
    """Measurement Sets of completed observations with an image."""
    before = now - timedelta(days=config.keep_measurement_sets_days)
    query = (
        select(MeasurementSetRow)
        .join(IngestGroup, IngestGroup.group_id == MeasurementSetRow.group_id)
        .join(ImageRow, ImageRow.group_id == MeasurementSetRow.group_id)
        .where(
            IngestGroup.state == GroupState.COMPLETED,
            MeasurementSetRow.created_at < before,
            ImageRow.created_at > MeasurementSetRow.created_at,
        )
        .order_by(MeasurementSetRow.path)
    )
    for row in session.scalars(query):
        yield Removal("measurement_sets", row.path, row.size_bytes, f"imaged, older than {config.keep_measurement_sets_days:g} days")


def _remove_measurement_set(platform: Platform, path: Path) -> None:
    """Remove the row first: a crash in between leaves an unregistered directory, which `dsa110 db check` finds."""
    with platform.database.session() as session:
        session.execute(delete(MeasurementSetRow).where(MeasurementSetRow.path == str(path)))
    shutil.rmtree(path, ignore_errors=True)


# --- rows -----------------------------------------------------------------------------------------------------------
def _superseded(session: Session, config: PipelineConfig, now: datetime) -> list[int]:
    return list(session.scalars(_SUPERSEDED, {"before": now - timedelta(days=config.keep_versions_days)}))


def _forget_versions(platform: Platform, now: datetime) -> None:
    with platform.database.session() as session:
        session.execute(delete(ProductVersion).where(ProductVersion.version_id.in_(_superseded(session, platform.config, now))))
