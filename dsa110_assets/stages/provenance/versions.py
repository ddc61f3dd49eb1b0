"""Registration of a published product: its version, and the versions of its inputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import content, publication
from dsa110_assets.registry.provenance import current_version, record_version, reference, release
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.queries.storage import record_parts
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets.stages.operations.retiring import sizes_of_parts
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance.contents import parts_of
from dsa110_assets.stages.provenance.recipes import recipe_of, record_recipe
from dsa110_assets.stages.provenance.recording import Measured, StageResult
from dsa110_assets.stages.table import TABLE


def register(
    session: Session,
    platform: Platform,
    result: StageResult,
    *,
    path: Path | None,
    inputs: Mapping[str, int],
    cost: Measured,
    run_id: str,
) -> StageResult:
    """Record the version and the verdicts of a product, and add version, recipe, time and size to the result's figures.

    The checksum is of the content: of the files at ``path``, and of the rows that this transaction and others before it
    have written (`contents.parts_of`). So write rows before.

    Raises:
        LeaseLostError: the run was given up, and another one makes the product.
    """
    workers.hold(session, run_id)
    size = publication.size_bytes(path) if path is not None else None
    recipe = recipe_of(result.product, platform.config)
    record_recipe(session, result.product, platform.config)
    said = parts_of(session, result.product, result.key, path)
    result.version_id = record_version(
        session,
        result.product,
        result.key,
        path=path,
        inputs=inputs,
        recipe=recipe,
        checksum=content.checksum(said) if said else None,
        size_bytes=size,
        duration_s=cost.duration_s,
        peak_memory_mb=cost.peak_memory_mb,
        run_id=run_id,
    )
    product = TABLE[result.product]
    if path is not None and product.parts:
        record_parts(session, result.product, result.key, str(path), sizes_of_parts(product, path))
    for verdict in result.verdicts:
        upsert_qa_metric(
            session,
            result.product,
            result.key,
            verdict.name,
            verdict.value,
            limit_low=verdict.low,
            limit_high=verdict.high,
            passed=verdict.passed,
            reason=verdict.reason,
        )
    result.figures = {
        "observation" if len(result.key) == 19 else "key": result.key,
        **result.figures,
        "duration_s": round(cost.duration_s, 2),
        "peak_memory_mb": round(cost.peak_memory_mb, 1),
        "code_version": recipe.code_version,
        "configuration": recipe.config_hash,
        "release": release(),
        "version": result.version_id,
    }
    if size is not None:
        result.figures["size_mb"] = round(size / 1e6, 2)
    if path is not None:
        result.paths = {"path": path, **result.paths}
    return result


def amend_content(session: Session, product: str, key: str) -> None:
    """Register the present content of a product whose rows another stage has added to; its version stays the same.

    So it agrees with what is registered, and nothing that was made from it becomes stale.
    """
    version = current_version(session, product, key)
    if version is not None and version.checksum is not None:
        path = None if version.path is None else Path(version.path)
        version.checksum = content.checksum(parts_of(session, product, key, path))


def versions_of(session: Session, product: str, keys: Iterable[str]) -> dict[str, int]:
    """Current versions of products, as ``inputs`` of another product; missing products are left out."""
    return {reference(product, key, path): version_id for key, path, version_id in _current(session, product, keys)}


def version_ids(session: Session, product: str, keys: Iterable[str]) -> dict[str, int]:
    """Current versions of products by key; missing products are left out."""
    return {key: version_id for key, _, version_id in _current(session, product, keys)}


def _current(session: Session, product: str, keys: Iterable[str]) -> Iterable[tuple[str, str | None, int]]:
    query = (
        select(ProductVersion.key, ProductVersion.path, ProductVersion.version_id)
        .distinct(ProductVersion.key)
        .where(ProductVersion.product == product, ProductVersion.key.in_(list(keys)))
        .order_by(ProductVersion.key, ProductVersion.version_id.desc())
    )
    return session.execute(query).tuples()


def provenance(platform: Platform, product: str, inputs: Mapping[str, int], **more: str) -> dict[str, str]:
    """Entries for headers and histories: release, recipe, and inputs with their versions."""
    recipe = recipe_of(product, platform.config)
    return {
        "DSACODE": f"{release()} {recipe.code_version}",
        "DSACONF": recipe.config_hash,
        "inputs": " ".join(f"{name}@{version}" for name, version in sorted(inputs.items())),
        **more,
    }
