"""The morning report: one night in figures, for those who take over. It reads a night's rows and the open queue."""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy.orm import Session

from dsa110_assets.errors import InvalidRequestError
from dsa110_assets.ingest import status
from dsa110_assets.quality.gate import TileWord, count_bad_checks
from dsa110_assets.registry.queries import alerts as alert_queries
from dsa110_assets.registry.queries import antenna_marks, events, pages, shift, today
from dsa110_assets.registry.queries.quality import qa_metrics_of
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.operations.alert_table import Alert
from dsa110_assets.stages.operations.alerts import conditions
from dsa110_assets.stages.operations.attention import OpenAlert, open_alerts
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.table import TILE_IMAGE
from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime

GAP_S = 60.0
"""A longer pause between two observations is a gap."""
MOST_LINES = 30
"""Largest number of lines of a list of the report; the totals count all."""
_FIRST_YEAR, _LAST_YEAR = 2000, 2200
FIGURES = ("noise_over_thermal", "flux_ratio_to_catalog", "position_offset_arcsec")


@dataclass(frozen=True)
class Gap:
    """A time without observations, UTC."""

    since: datetime
    until: datetime
    minutes: float


@dataclass(frozen=True)
class Lost:
    """An observation that failed or is incomplete, and why."""

    group_id: str
    state: str
    reason: str


@dataclass(frozen=True)
class Observed:
    """What was observed. ``hours``: on the sky, of ``possible_hours`` until now or the night's end."""

    observations: int
    hours: float
    possible_hours: float
    by_state: dict[str, int]
    declinations_deg: list[float]
    gaps: list[Gap]
    n_gaps: int


@dataclass(frozen=True)
class Losses:
    """What was lost: failed and incomplete observations, and raw files that were refused in this night."""

    n_failed: int
    n_incomplete: int
    observations: list[Lost]
    refused_files: list[dict[str, Any]]


@dataclass(frozen=True)
class Quality:
    """Verdicts on the tiles, why tiles were refused, and medians of their figures.

    ``bad_antennas``: marks of people for a part of the night.
    """

    good: int
    refused: int
    not_measured: int
    causes: str
    medians: dict[str, float | None]
    tables: list[dict[str, Any]]
    mosaics: list[dict[str, Any]]
    bad_antennas: list[dict[str, Any]]


@dataclass(frozen=True)
class Waiting:
    """What waits for a person or for the platform, now."""

    pending: int
    awaiting_calibration: int
    oldest_wait_h: float | None
    unlabeled_candidates: int
    open_alerts: list[OpenAlert]


@dataclass(frozen=True)
class Report:
    """One night in figures. ``is_over``: the night has ended. ``alerts``: those that appeared in it."""

    night: date
    made_at: datetime
    is_over: bool
    observed: Observed
    lost: Losses
    quality: Quality
    candidates: list[dict[str, Any]]
    alerts: list[dict[str, Any]]
    entries: list[dict[str, Any]]
    waiting: Waiting


def last_night(now: datetime) -> date:
    """The last night that is over: yesterday, UTC."""
    return (now - timedelta(days=1)).date()


def report(platform: Platform, night: date, now: datetime, present: list[Alert] | None = None) -> Report:
    """Return the report of a night. ``present``: what there is to alert of now; None finds it.

    Raises:
        InvalidRequestError: the night is centuries away.
    """
    if not _FIRST_YEAR <= night.year <= _LAST_YEAR:
        raise InvalidRequestError(f"night {night}", "is centuries away", f"give one of the years {_FIRST_YEAR} to {_LAST_YEAR}")
    first = datetime.combine(night, time(), UTC)
    until = first + timedelta(days=1)
    present = conditions(platform, now) if present is None else present
    with platform.database.session() as session:
        observations = today.observations_of_night(session, night)
        candidates = events.candidates(session, night=night, min_score=None, label=None, unlabeled=False, after=None, limit=MOST_LINES).rows
        opened = alert_queries.opened_between(session, first, until)
        return Report(
            night=night,
            made_at=now,
            is_over=now >= until,
            observed=_observed(observations, first, min(until, now)),
            lost=_lost(session, observations, first, until),
            quality=_quality(session, night, observations),
            candidates=candidates,
            alerts=[
                {"key": one.key, "level": one.level, "title": one.title, "opened_at": one.opened_at, "passed_at": one.passed_at}
                for one in opened[:MOST_LINES]
            ],
            entries=shift.entries_of_night(session, night, first, until),
            waiting=_waiting(session, open_alerts(session, present, now), candidates, now),
        )


def _observed(observations: list[IngestGroup], first: datetime, until: datetime) -> Observed:
    gaps: list[Gap] = []
    end = first
    for one in observations:
        begin = mjd_to_datetime(one.start_mjd)
        if (begin - end).total_seconds() > GAP_S:
            gaps.append(_gap(end, begin))
        end = max(end, mjd_to_datetime(one.end_mjd))
    if (until - end).total_seconds() > GAP_S:
        gaps.append(_gap(end, until))
    return Observed(
        observations=len(observations),
        hours=sum(one.end_mjd - one.start_mjd for one in observations) * 24.0,
        possible_hours=max((until - first) / timedelta(hours=1), 0.0),
        by_state=dict(Counter(one.state for one in observations)),
        declinations_deg=sorted({round(one.dec_deg, 1) for one in observations}),
        gaps=sorted(gaps, key=lambda one: -one.minutes)[:MOST_LINES],
        n_gaps=len(gaps),
    )


def _gap(since: datetime, until: datetime) -> Gap:
    return Gap(since, until, round((until - since) / timedelta(minutes=1), 1))


def _lost(session: Session, observations: list[IngestGroup], first: datetime, until: datetime) -> Losses:
    failed = [one for one in observations if one.state == GroupState.FAILED]
    incomplete = [one for one in observations if one.missing_subbands and one.state != GroupState.FAILED]
    lines = [Lost(one.group_id, one.state, " ".join((one.error or "no reason was recorded").split())[:300]) for one in failed]
    lines += [
        Lost(one.group_id, one.state, "subbands are missing: " + ", ".join(f"{n:02d}" for n in one.missing_subbands)) for one in incomplete
    ]
    files = today.refused_files(session, since=first, until=until, limit=MOST_LINES).rows
    return Losses(len(failed), len(incomplete), lines[:MOST_LINES], files)


def _quality(session: Session, night: date, observations: list[IngestGroup]) -> Quality:
    imaged = [one.group_id for one in observations]
    judged = list(gates.verdicts(session, imaged).values())
    words = Counter(one.word for one in judged)
    values: dict[str, list[float]] = {name: [] for name in FIGURES}
    for rows in qa_metrics_of(session, TILE_IMAGE.name, imaged).values():
        for row in rows:
            if row.metric in values and row.value is not None:
                values[row.metric].append(row.value)
    tables = pages.calibrations(session, since=night, until=night, accepted=None, after=None, limit=MOST_LINES).rows
    first_mjd = datetime_to_mjd(datetime.combine(night, time(), UTC))
    mosaics = pages.mosaics(session, since_mjd=first_mjd, until_mjd=first_mjd + 1.0, kind=None, after=None, limit=MOST_LINES).rows
    return Quality(
        good=words[TileWord.GOOD],
        refused=words[TileWord.REFUSED],
        not_measured=len(judged) - words[TileWord.GOOD] - words[TileWord.REFUSED],
        causes=count_bad_checks(one for one in judged if not one.is_good),
        medians={name: statistics.median(found) if found else None for name, found in values.items()},
        tables=[{name: one[name] for name in ("group_id", "calibrator", "accepted", "reasons")} for one in tables],
        mosaics=[{name: one[name] for name in ("name", "kind", "n_tiles", "noise_jy_per_beam")} for one in mosaics],
        bad_antennas=antenna_marks.between(session, first_mjd, first_mjd + 1.0),
    )


def _waiting(session: Session, alerts: list[OpenAlert], candidates: list[dict[str, Any]], now: datetime) -> Waiting:
    backlog = status.backlog(session, now)
    stages = today.waiting_by_stage(session)
    return Waiting(
        pending=backlog.counts.get(GroupState.PENDING, 0),
        awaiting_calibration=stages.get("awaiting_calibration", 0),
        oldest_wait_h=None if backlog.oldest_pending_s is None else backlog.oldest_pending_s / 3600.0,
        unlabeled_candidates=sum(one["label"] is None for one in candidates),
        open_alerts=alerts[:MOST_LINES],
    )
