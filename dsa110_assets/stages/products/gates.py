"""Which tiles may be used: the verdicts on their images, and judging an image again.

One answer for mosaics, for what is asked of them (`planning`), and for the checks in the Dagster UI. What does not belong here: measuring (`quality.image`), what a
verdict leads to (`quality.gate`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sqlalchemy.orm import Session

from dsa110_assets.catalogs import sky
from dsa110_assets.errors import NonRetriableError
from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.queries.quality import qa_metrics, upsert_qa_metric, verdicts_of
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import reference_path
from dsa110_assets.stages.table import TILE_IMAGE

PRODUCT = TILE_IMAGE.name


def refused_tiles(session: Session, group_ids: Iterable[str]) -> dict[str, str]:
    """Observations whose image must not be used, and why."""
    verdicts = verdicts_of(session, PRODUCT, group_ids)
    return {group_id: reason for group_id, judged in verdicts.items() if (reason := gate.refusal(judged)) is not None}


def good_tiles(session: Session, group_ids: Iterable[str]) -> list[str]:
    """Those of the observations whose image may be used, in the same order."""
    groups = list(group_ids)
    refused = refused_tiles(session, groups)
    return [group_id for group_id in groups if group_id not in refused]


def tile_verdicts(platform: Platform, group_id: str) -> list[Verdict]:
    """The verdicts that were recorded when the image was made, or last judged."""
    with platform.database.session() as session:
        rows = qa_metrics(session, PRODUCT, group_id)
    return [Verdict(row.metric, row.passed, row.value, row.limit_low, row.limit_high, row.reason) for row in rows.values()]


def judge_again(platform: Platform, group_id: str) -> list[Verdict]:
    """Measure an image that exists against today's limits and catalogue, and record the verdicts.

    Raises:
        NonRetriableError: the observation has no image.
        ProductVerificationError: its files cannot be read.
    """
    from dsa110_assets.quality.image import FIELD_RADIUS_DEG, ImageLimits, judge_tile, read_tile

    with platform.database.session() as session:
        row = image_of(session, group_id)
    if row is None:
        raise NonRetriableError(group_id, "it has no image to judge", "make `tile_image` first")
    near = sky.cone(sky.load_reference(reference_path(platform)), row.ra_deg, row.dec_deg, FIELD_RADIUS_DEG)
    verdicts = judge_tile(read_tile(Path(row.directory), group_id), near, ImageLimits.from_config(platform.config))
    with platform.database.session() as session:
        for verdict in verdicts:
            upsert_qa_metric(
                session, PRODUCT, group_id, verdict.name, verdict.value,
                limit_low=verdict.low, limit_high=verdict.high, passed=verdict.passed, reason=verdict.reason,
            )  # fmt: skip
    return verdicts
