"""The checker: whether registry, disk and Dagster agree with each other and with the raw files.

Nothing may be lost, incomplete or doubled, and raw files must be unchanged. Each finding is a sentence.
`planted_faults` checks the checker: it plants faults into a finished platform and removes them again.
"""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from sqlalchemy import delete, select, text, update
from sqlalchemy.orm import Session

from dsa110_assets.conversion import verify_ms
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.orchestration.partitions import tile_key
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.audit import audit
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.schema import (
    FileState,
    GroupState,
    ImageRow,
    IngestGroup,
    MeasurementSetKind,
    MeasurementSetRow,
    MosaicTile,
    SubbandFile,
    TileStage,
)
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.provenance.contents import agrees
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import tile_partition
from dsa110_assets_tests.chaos.small_night import digests

Digests = Mapping[str, tuple[str, int, int]]


@dataclass(frozen=True)
class Night:
    """Expected content of a night. ``group_ids``: its observations. ``raw``: its raw files as they were written."""

    group_ids: frozenset[str]
    raw: Digests
    incoming: Path


def disagreements(session: Session, platform: Platform, instance: dg.DagsterInstance, night: Night) -> list[str]:
    """Everything that is wrong; an empty list when all agrees."""
    return [
        *_queue(session, night),
        *_products(session, platform.paths, night),
        *(
            f"{found.kind}: {found.product} {found.path}"
            for found in audit(platform.database, platform.paths, contents="checksum", agrees=agrees, settling_s=0.0)
        ),
        *_runs(session, instance, night),
        *_raw_files(night),
    ]


def _queue(session: Session, night: Night) -> Iterator[str]:
    rows = {row.group_id: row for row in session.scalars(select(IngestGroup).execution_options(populate_existing=True))}
    yield from (f"lost: {group_id} is not in the queue" for group_id in sorted(night.group_ids - set(rows)))
    yield from (f"unexpected: {group_id}" for group_id in sorted(set(rows) - night.group_ids))
    for group_id, row in sorted(rows.items()):
        if row.state != GroupState.COMPLETED or row.stage != TileStage.IMAGED:
            yield f"not done: {group_id} is {row.state} at {row.stage} ({row.error})"
    subbands = select(SubbandFile.group_id, SubbandFile.subband).where(SubbandFile.state == FileState.ACCEPTED)
    accepted = Counter(session.execute(subbands).tuples())
    yield from (f"twice: {n} accepted files of {key}" for key, n in accepted.items() if n > 1)
    yield from (f"lost: a subband of {group_id}" for group_id in sorted(rows) if sum(key[0] == group_id for key in accepted) != 16)


def _products(session: Session, paths: ProductPaths, night: Night) -> Iterator[str]:
    sets = Counter(session.execute(select(MeasurementSetRow.group_id, MeasurementSetRow.kind)).tuples())
    images = {row.group_id: row for row in session.scalars(select(ImageRow))}
    in_mosaics = session.execute(select(MosaicTile.mosaic_name, MosaicTile.group_id)).tuples().all()
    for group_id in sorted(night.group_ids):
        yield from (
            f"{sets[group_id, kind]} {kind} Measurement Sets of {group_id}" for kind in MeasurementSetKind if sets[group_id, kind] != 1
        )
        for path in (paths.measurement_set(group_id), paths.calibrated_ms(group_id)):
            yield from _incomplete_ms(path)
        if group_id not in images:
            yield f"lost: the image of {group_id}"
        else:
            yield from _incomplete_images(Path(images[group_id].directory))
        versions = [current_version(session, product, group_id) for product in TABLE.made(Level.TILE)]
        yield from (
            f"lost: no version of {name} of {group_id}"
            for name, version in zip(TABLE.made(Level.TILE), versions, strict=True)
            if version is None
        )
        for made_from, made in itertools.pairwise(versions):
            if made_from is not None and made is not None and made.version_id < made_from.version_id:
                yield f"old: {made.product} of {group_id} is older than its {made_from.product}"
        if group_id not in {tile for _, tile in in_mosaics}:
            yield f"lost: {group_id} is in no mosaic"
    on_disk = Counter(path.name for path in (paths.scratch_dir / "images").glob("*/*") if path.is_dir() and not path.name.startswith("."))
    yield from (f"twice: {n} image directories of {name}" for name, n in on_disk.items() if n > 1)
    doubled = session.execute(text("SELECT source_id, mosaic_name, count(*) FROM photometry GROUP BY 1, 2 HAVING count(*) > 1")).all()
    yield from (f"twice: source {row[0]} in {row[1]}" for row in doubled)


def _incomplete_ms(path: Path) -> Iterator[str]:
    try:
        verify_ms(path)
    except ProductVerificationError as error:
        yield f"half: {path} ({error.cause})"


def _incomplete_images(directory: Path) -> Iterator[str]:
    from astropy.io import fits

    for suffix in ("dirty", "psf", "model", "residual", "image", "image-pb", "pb", "weight"):
        path = directory / f"{directory.name}-{suffix}.fits"
        try:
            data: Any = fits.getdata(path)
            if not np.isfinite(data).any():
                yield f"half: {path} has no finite number"
        except (OSError, TypeError, ValueError) as error:
            yield f"half: {path} ({error})"


def _runs(session: Session, instance: dg.DagsterInstance, night: Night) -> Iterator[str]:
    records = instance.get_run_records()
    keys = Counter(record.dagster_run.tags.get("dagster/run_key") for record in records)
    yield from (f"twice: {n} runs of the key {key}" for key, n in keys.items() if key is not None and n > 1)
    spans: dict[str, list[tuple[float, float, str]]] = {}
    for record in records:
        run = record.dagster_run
        if not run.is_finished:
            yield f"not ended: run {run.run_id} ({run.job_name}) is {run.status.value}"
        group_id = run.tags.get(GROUP_TAG)
        if group_id is not None and record.start_time is not None and record.end_time is not None:
            spans.setdefault(group_id, []).append((record.start_time, record.end_time, run.run_id))
    for group_id, runs in spans.items():
        for (_, end, first), (start, _, second) in itertools.pairwise(sorted(runs)):
            if start < end - 1.0:
                yield f"twice: runs {first} and {second} worked on {group_id} at the same time"
    for asset in ("raw_subbands", *TABLE.made(Level.TILE)):
        made = {str(key) for key in instance.get_materialized_partitions(dg.AssetKey(asset))}
        for group_id in sorted(night.group_ids):
            if str(tile_key(*tile_partition(group_id))) not in made:
                yield f"missing in Dagster: {asset} of {group_id}"
    run_ids = {row.group_id: row.run_id for row in session.scalars(select(IngestGroup))}
    for group_id, run_id in run_ids.items():
        run = instance.get_run_by_id(str(run_id))
        if group_id in night.group_ids and (run is None or not run.is_success):
            yield f"{group_id} is completed by run {run_id}, which is {run.status.value if run else 'unknown'} in Dagster"


def _raw_files(night: Night) -> Iterator[str]:
    now = digests(night.incoming)
    yield from (f"raw file {name} was changed" for name, was in sorted(night.raw.items()) if now.get(name) != was)
    yield from (f"file {name} was left among the raw files" for name in sorted(set(now) - set(night.raw)))


# --- the check of the checker -----------------------------------------------------------------------------------------
def planted_faults(platform: Platform, instance: dg.DagsterInstance, night: Night) -> dict[str, bool]:
    """Plant each fault, run the checker, remove the fault. Return whether each was found."""
    group_id = min(night.group_ids)
    return {name: _is_found(platform, instance, night, plant, group_id) for name, plant in _FAULTS.items()}


Plant = Callable[[Session, Platform, str], Any]


def _is_found(platform: Platform, instance: dg.DagsterInstance, night: Night, plant: Plant, group_id: str) -> bool:
    with Session(platform.database.engine) as session:
        before = set(disagreements(session, platform, instance, night))
        with plant(session, platform, group_id):
            session.flush()
            found = set(disagreements(session, platform, instance, night)) - before
        session.rollback()
    return bool(found)


@contextmanager
def _unfinished_observation(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    change = update(IngestGroup).where(IngestGroup.group_id == group_id)
    session.execute(change.values(state=GroupState.PENDING.value, stage=TileStage.RAW.value))
    yield


@contextmanager
def _lost_image(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    session.execute(delete(ImageRow).where(ImageRow.group_id == group_id))
    yield


@contextmanager
def _half_image(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    path = platform.paths.image_dir(group_id) / f"{group_id}-image.fits"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    yield
    path.write_bytes(whole)


@contextmanager
def _half_measurement_set(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    path = max(platform.paths.measurement_set(group_id).glob("table.f*"), key=lambda file: file.stat().st_size)
    aside = path.with_name("aside")
    path.rename(aside)
    yield
    aside.rename(path)


@contextmanager
def _doubled_tile(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    directory = platform.paths.image_dir(group_id)
    double = directory.parent.parent / "2020-01-01" / group_id
    shutil.copytree(directory, double)
    yield
    shutil.rmtree(double.parent)


@contextmanager
def _unregistered(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    calibrated = MeasurementSetRow.kind == MeasurementSetKind.CALIBRATED
    session.execute(delete(MeasurementSetRow).where(MeasurementSetRow.group_id == group_id, calibrated))
    yield


@contextmanager
def _moved_raw_file(session: Session, platform: Platform, group_id: str) -> Iterator[None]:
    path = min(platform.config.input_dir.glob("*.hdf5"))
    aside = path.with_name("moved.hdf5")
    path.rename(aside)
    yield
    aside.rename(path)


_FAULTS: dict[str, Plant] = {
    "an unfinished observation": _unfinished_observation,
    "a lost image": _lost_image,
    "half an image": _half_image,
    "half a Measurement Set": _half_measurement_set,
    "a doubled tile": _doubled_tile,
    "an unregistered product": _unregistered,
    "a moved raw file": _moved_raw_file,
}
