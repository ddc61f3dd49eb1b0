"""The verdicts on tiles, which decide whether mosaics take them: of the checks, or a person's mark; judging again.

Mosaics, planning and every place that shows a verdict take it from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, exists, func, not_, or_, select
from sqlalchemy.orm import Session

from dsa110_assets.calibration.select import Rung
from dsa110_assets.errors import NonRetriableError
from dsa110_assets.quality import gate
from dsa110_assets.quality.verdict import Verdict
from dsa110_assets.registry.queries import marks
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.queries.quality import qa_metrics_of, upsert_qa_metric
from dsa110_assets.registry.schema import CalibrationApplied, GroupState, ImageRow, IngestGroup, Mark, MarkDecision, MarkKind, QaMetric
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.table import TILE_IMAGE
from dsa110_assets.times import mjd_to_datetime

PRODUCT = TILE_IMAGE.name
NEWEST_TILES = 300
"""About a day of images, among which `newest_good` looks."""
MARKED_BAD = "a person's mark"
"""Stands among the bad checks of a tile that a person has marked."""
OWN_TABLES_WITHIN = timedelta(days=1)
"""How long a refused tile with borrowed tables is provisional; nearer tables come within a day, or not at all."""


def verdicts(session: Session, group_ids: Iterable[str]) -> dict[str, gate.TileVerdict]:
    """The verdicts on the tiles of observations; observations without an image are left out."""
    wanted = list(group_ids)
    imaged = list(session.scalars(select(ImageRow.group_id).where(ImageRow.group_id.in_(wanted))))
    judged = checks_of(session, imaged)
    provisional = _provisional(session, imaged)
    decided = marks.valid(session, MarkKind.TILE, imaged)
    return {
        group_id: _marked(gate.verdict_on(judged[group_id], provisional=group_id in provisional), decided.get(group_id))
        for group_id in wanted
        if group_id in judged
    }


def _marked(verdict: gate.TileVerdict, mark: Mark | None) -> gate.TileVerdict:
    """The verdict that counts: a person's mark replaces that of the checks."""
    if mark is None:
        return verdict
    if mark.decision == MarkDecision.GOOD:
        return gate.TileVerdict(gate.TileWord.GOOD, unmeasured=verdict.unmeasured)
    reason = f"{mark.marked_by} marked it bad: {mark.reason}"
    step = f"nothing, unless the mark is wrong: `dsa110 mark remove tile {mark.group_id} --by NAME`"
    return gate.TileVerdict(gate.TileWord.REFUSED, reason, step, (MARKED_BAD,))


def verdict_on(session: Session, group_id: str, checks: Sequence[Verdict]) -> gate.TileVerdict:
    """The verdict on a tile from its new checks, with a person's mark on it."""
    verdict = gate.verdict_on(checks, provisional=is_provisional(session, group_id))
    return _marked(verdict, marks.valid(session, MarkKind.TILE, [group_id]).get(group_id))


def checks_of(session: Session, group_ids: Iterable[str]) -> dict[str, list[Verdict]]:
    """The checks of each tile, recorded when its image was made or last judged."""
    return {group_id: [Verdict(*row) for row in rows] for group_id, rows in qa_metrics_of(session, PRODUCT, group_ids).items()}


def is_provisional(session: Session, group_id: str) -> bool:
    """Whether tables of its own night may still replace the borrowed tables of an observation."""
    return group_id in _provisional(session, [group_id])


def _provisional(session: Session, group_ids: Sequence[str]) -> set[str]:
    query = select(CalibrationApplied.group_id).where(
        CalibrationApplied.group_id.in_(group_ids),
        CalibrationApplied.rung == Rung.BORROWED,
        CalibrationApplied.applied_at > now() - OWN_TABLES_WITHIN,
    )
    return set(session.scalars(query))


def refused_tiles(session: Session, group_ids: Iterable[str]) -> dict[str, str]:
    """Observations whose tile is not good, and why."""
    return {group_id: verdict.line() for group_id, verdict in verdicts(session, group_ids).items() if not verdict.is_good}


def good_tiles(session: Session, group_ids: Iterable[str]) -> list[str]:
    """The observations whose tile is good, in the same order."""
    wanted = list(group_ids)
    judged, decided = checks_of(session, wanted), marks.valid(session, MarkKind.TILE, wanted)
    return [group_id for group_id in wanted if _marked(gate.verdict_on(judged[group_id]), decided.get(group_id)).is_good]


def not_good(session: Session, *, completed_after: datetime, limit: int) -> dict[str, gate.TileVerdict]:
    """Verdicts on observations completed since a time whose tile is not good, newest first, at most ``limit``."""
    recent = (  # materialized: else all observations may be read in their order until enough are found
        select(IngestGroup.group_id)
        .where(IngestGroup.state == GroupState.COMPLETED, IngestGroup.completed_at > completed_after)
        .cte("recent")
        .prefix_with("MATERIALIZED")
    )
    query = (
        select(ImageRow.group_id)
        .join(recent, recent.c.group_id == ImageRow.group_id)
        .where(_is_not_good())
        .order_by(ImageRow.group_id.desc())
        .limit(limit)
    )
    return verdicts(session, session.scalars(query).all())


def newest_good(session: Session) -> datetime | None:
    """Middle of the newest observation whose tile is good; None if none of the newest `NEWEST_TILES` is."""
    newest = select(ImageRow.group_id, ImageRow.mid_mjd).order_by(ImageRow.mid_mjd.desc()).limit(NEWEST_TILES).cte("newest")
    query = (
        select(newest.c.mid_mjd)
        .join(ImageRow, ImageRow.group_id == newest.c.group_id)
        .where(not_(_is_not_good()))
        .order_by(newest.c.mid_mjd.desc())
        .limit(1)
    )
    found = session.scalar(query)
    return None if found is None else mjd_to_datetime(found)


def _is_not_good() -> ColumnElement[bool]:
    """`verdicts` as SQL: a mark; else a check refuses the tile, or a check that every image has is missing."""
    own = (QaMetric.product == PRODUCT) & (QaMetric.key == ImageRow.group_id)
    always = QaMetric.metric.in_(gate.ALWAYS_MEASURABLE)
    refuses = exists().where(own, or_(QaMetric.passed.is_(False), QaMetric.passed.is_(None) & always))
    n_always = select(func.count()).where(own, always).scalar_subquery()
    decision = marks.decision_on(MarkKind.TILE, ImageRow.group_id)
    return func.coalesce(decision == MarkDecision.BAD, or_(refuses, n_always < len(gate.ALWAYS_MEASURABLE)))


def imaged_between(platform: Platform, first_night: date, last_night: date) -> list[str]:
    """Observations with an image in a range of nights (UTC dates, both included), in order of time."""
    query = (
        select(ImageRow.group_id)
        .join(IngestGroup, IngestGroup.group_id == ImageRow.group_id)
        .where(IngestGroup.night.between(first_night, last_night))
        .order_by(ImageRow.group_id)
    )
    with platform.database.session() as session:
        return list(session.scalars(query))


def judge_again(platform: Platform, group_id: str) -> gate.TileVerdict:
    """Judge an existing image by the current limits and catalog, and record the new verdict.

    Raises:
        NonRetriableError: the observation has no image.
        ProductVerificationError: its files cannot be read.
    """
    from dsa110_assets.catalogs import sky
    from dsa110_assets.quality.image import FIELD_RADIUS_DEG, ImageLimits, judge_tile, read_tile
    from dsa110_assets.stages.products.references import reference_path

    with platform.database.session() as session:
        row = image_of(session, group_id)
    if row is None:
        raise NonRetriableError(group_id, "it has no image to judge", "make `tile_image` first")
    near = sky.cone(sky.load_reference(reference_path(platform)), row.ra_deg, row.dec_deg, FIELD_RADIUS_DEG)
    checks = judge_tile(read_tile(Path(row.directory), group_id), near, ImageLimits.from_config(platform.config))
    with platform.database.session() as session:
        for verdict in checks:
            upsert_qa_metric(
                session, PRODUCT, group_id, verdict.name, verdict.value,
                limit_low=verdict.low, limit_high=verdict.high, passed=verdict.passed, reason=verdict.reason,
            )  # fmt: skip
        return verdict_on(session, group_id, checks)
