"""What the dashboard shows of the newest day: products by age, sky, calibrations in use, events. Bounded in history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session, aliased

from dsa110_assets.registry.queries.labels import newest
from dsa110_assets.registry.queries.pages import Page, read_page
from dsa110_assets.registry.schema import (
    CalibrationApplied,
    CaltableRow,
    CandidateEvent,
    EventLabel,
    FileState,
    GroupState,
    ImageRow,
    IngestGroup,
    Source,
    SubbandFile,
)

REFUSED_FILE = (SubbandFile.path, SubbandFile.reason, SubbandFile.size_bytes, SubbandFile.first_seen_at, SubbandFile.judged_at)
MOST_EVENTS = 200
MOST_OBSERVATIONS = 2000
MOST_TABLES = 10
_NEWEST = text("""
SELECT asked.product, v.key, v.created_at, (
    SELECT count(*) FROM product_versions d WHERE d.product = asked.product AND d.created_at > :since
) AS made
FROM unnest(CAST(:products AS text[])) AS asked(product)
LEFT JOIN LATERAL (
    SELECT n.key, n.created_at FROM product_versions n WHERE n.product = asked.product ORDER BY n.created_at DESC LIMIT 1
) v ON true
""")


@dataclass(frozen=True)
class Newest:
    """The newest version of a product, and how many were made since a time. None: there is none."""

    key: str | None
    made_at: datetime | None
    made: int


def newest_of_products(session: Session, products: Sequence[str], since: datetime) -> dict[str, Newest]:
    """Newest version of each product, and number of versions made since a time."""
    rows = session.execute(_NEWEST, {"products": list(products), "since": since})
    return {row.product: Newest(row.key, row.created_at, row.made) for row in rows}


def newest_raw(session: Session, since: datetime) -> Newest:
    """The observation with the newest raw file, and how many observations got files since a time."""
    row = session.execute(
        select(IngestGroup.group_id, IngestGroup.last_file_at).order_by(IngestGroup.last_file_at.desc()).limit(1)
    ).one_or_none()
    number = session.scalar(select(func.count()).select_from(IngestGroup).where(IngestGroup.last_file_at > since)) or 0
    return Newest(None, None, 0) if row is None else Newest(row.group_id, row.last_file_at, number)


def newest_observation(session: Session) -> dict[str, Any] | None:
    """The observation with the latest start: where it points, and how far it got."""
    row = session.execute(
        select(IngestGroup.group_id, IngestGroup.start_mjd, IngestGroup.end_mjd, IngestGroup.dec_deg, IngestGroup.state, IngestGroup.stage)
        .order_by(IngestGroup.start_mjd.desc())
        .limit(1)
    ).mappings()
    return next((dict(one) for one in row), None)


def waiting_by_stage(session: Session) -> dict[str, int]:
    """Observations in the queue that are not finished, by the stage that they have reached."""
    states = (GroupState.COLLECTING, GroupState.PENDING, GroupState.IN_PROGRESS)
    query = select(IngestGroup.stage, func.count()).where(IngestGroup.state.in_(states)).group_by(IngestGroup.stage)
    return {str(stage): number for stage, number in session.execute(query).tuples()}


def covered(session: Session, since_mjd: float, day_mjd: float, step_deg: float) -> list[tuple[float, float, int, int]]:
    """Sky of the tile images since a time, in cells of ``step_deg``.

    Returns:
        RA and Dec of the cell's middle, number of images, number of them since ``day_mjd``.
    """
    ra, dec = func.floor(ImageRow.ra_deg / step_deg), func.floor(ImageRow.dec_deg / step_deg)
    query = (
        select(ra, dec, func.count(), func.count().filter(ImageRow.mid_mjd >= day_mjd))
        .where(ImageRow.mid_mjd >= since_mjd)
        .group_by(ra, dec)
    )
    return [((x + 0.5) * step_deg, (y + 0.5) * step_deg, n, day) for x, y, n, day in session.execute(query).tuples()]


def calibrations_in_use(session: Session, since_mjd: float) -> list[dict[str, Any]]:
    """Tables applied to observations since a time: number of observations, how they were chosen, newest use first."""
    applied = CalibrationApplied
    one = (applied.group_id == IngestGroup.group_id,)  # one look-up for each observation; a join may read all of history
    query = (
        select(select(applied.caltable_directory).where(*one).scalar_subquery(), select(applied.rung).where(*one).scalar_subquery())
        .where(IngestGroup.start_mjd >= since_mjd)
        .order_by(IngestGroup.start_mjd.desc())
        .limit(MOST_OBSERVATIONS)
    )
    rungs: dict[str, list[str]] = {}
    for directory, rung in session.execute(query).tuples():
        if directory:
            rungs.setdefault(directory, []).append(rung)
    used = list(rungs)[:MOST_TABLES]
    columns = (
        CaltableRow.directory, CaltableRow.group_id, CaltableRow.calibrator, CaltableRow.night, CaltableRow.mid_mjd, CaltableRow.refant,
        CaltableRow.accepted, CaltableRow.pointing_dec_deg,
    )  # fmt: skip
    rows = {row["directory"]: dict(row) for row in session.execute(select(*columns).where(CaltableRow.directory.in_(used))).mappings()}
    return [rows[name] | {"n_observations": len(rungs[name]), "rungs": sorted(set(rungs[name]))} for name in used if name in rows]


def newest_events(session: Session, min_score: float, limit: int) -> list[dict[str, Any]]:
    """Candidate events that were seen first most recently, with at least this score, among the newest `MOST_EVENTS`."""
    recent = aliased(CandidateEvent)
    among = select(recent.event_id).order_by(recent.first_seen_at.desc()).limit(MOST_EVENTS)
    query = (
        select(
            CandidateEvent.event_id, CandidateEvent.source_id, CandidateEvent.kind, CandidateEvent.peak_mjd, CandidateEvent.depth,
            CandidateEvent.score, CandidateEvent.first_night, CandidateEvent.first_seen_at, newest(EventLabel.label).label("label"),
            newest(EventLabel.comment).label("comment"), Source.name,
        )
        .join(Source, Source.source_id == CandidateEvent.source_id)
        .where(CandidateEvent.event_id.in_(among), CandidateEvent.score >= min_score)
        .order_by(CandidateEvent.first_seen_at.desc(), CandidateEvent.event_id.desc())
        .limit(limit)
    )  # fmt: skip
    return [dict(row) for row in session.execute(query).mappings()]


def refused_files(
    session: Session,
    *,
    kind: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    after: Sequence[Any] | None = None,
    limit: int,
) -> Page:
    """Rejected raw files, the newest decision first. ``kind``: of the reason. ``since``, ``until``: of the decision."""
    statement = select(*REFUSED_FILE).where(SubbandFile.state == FileState.REJECTED)
    if kind is not None:
        statement = statement.where(func.split_part(SubbandFile.reason, ":", 1) == kind)
    if since is not None:
        statement = statement.where(SubbandFile.judged_at >= since)
    if until is not None:
        statement = statement.where(SubbandFile.judged_at < until)
    return read_page(session, statement, (SubbandFile.judged_at, SubbandFile.path), after=after, limit=limit)


def observations_of_night(session: Session, night: date) -> list[IngestGroup]:
    """Observations of a night in order of time, at most `MOST_OBSERVATIONS`."""
    query = select(IngestGroup).where(IngestGroup.night == night).order_by(IngestGroup.start_mjd).limit(MOST_OBSERVATIONS)
    return list(session.scalars(query))
