"""Open alerts with what people answered. An acknowledged alert stays visible, and nothing is sent about it.

A person acknowledges an alert as long as it lasts, or until a time (snooze). If it is still open when the time is over,
or if the person takes the answer back, it is sent again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.registry.queries import alerts as queries
from dsa110_assets.registry.schema import AlertAcknowledgement
from dsa110_assets.stages.operations.alert_table import KINDS, Alert, FoundBy, line_of
from dsa110_assets.stages.operations.alerts import conditions
from dsa110_assets.stages.platform import Platform

OF_DAGSTER = tuple(kind.name for kind in KINDS.values() if kind.found_by is FoundBy.DAGSTER)
"""Kinds that only the sensor `alerts` can find; others read its records."""
SENSOR_LOOKED = timedelta(minutes=10)
"""Older records of the sensor are not shown: it may be switched off."""
LONGEST_SNOOZE = timedelta(days=30)
_LONGEST_REASON = 1000


@dataclass(frozen=True)
class Answer:
    """What a person answered to an alert. ``until`` None: as long as it lasts."""

    person: str
    reason: str
    until: datetime | None
    made_at: datetime


@dataclass(frozen=True)
class OpenAlert:
    """An open alert. ``since``: when the platform first reported it; None before its sensor has looked."""

    key: str
    level: str
    title: str
    next_step: str
    page: str
    since: datetime | None
    acknowledged: Answer | None

    def line(self) -> str:
        """Return the alert in one line, with who answered."""
        text = line_of(self.level, self.title, self.next_step)
        if (answer := self.acknowledged) is None:
            return text
        until = "" if answer.until is None else f" until {answer.until:%Y-%m-%d %H:%M} UTC"
        return f"quiet ({answer.person}{until}: {answer.reason}): {text}"


def open_alerts(session: Session, present: Sequence[Alert], now: datetime) -> list[OpenAlert]:
    """Return what is open: ``present`` (`alerts.conditions`), and what the sensor has found in Dagster.

    What nobody has answered comes first, then errors before warnings.
    """
    records = {one.key: one for one in queries.open_records(session)}
    answers = queries.acknowledgements(session, now)
    here = {one.key for one in present}
    recorded = [
        one
        for one in records.values()
        if one.key.partition("/")[0] in OF_DAGSTER and one.seen_at > now - SENSOR_LOOKED and one.key not in here
    ]
    found = [
        OpenAlert(
            one.key,
            one.level,
            one.title,
            one.next_step,
            one.page,
            records[one.key].opened_at if one.key in records else None,
            _answer(answers.get(one.key)),
        )
        for one in (*present, *recorded)
    ]
    return sorted(found, key=lambda one: (one.acknowledged is not None, one.level != "error"))


def record(session: Session, present: Sequence[Alert], now: datetime) -> set[str]:
    """Record what is open now, for the sensor; return the keys about which nothing is sent."""
    quiet = set(queries.acknowledgements(session, now))
    rows = [{"key": one.key, "level": one.level, "title": one.title, "next_step": one.next_step, "page": one.page} for one in present]
    queries.record_open(session, list({row["key"]: row for row in rows}.values()), now)
    queries.end_acknowledgements(session, [one.key for one in present], now)
    return quiet


def acknowledge(platform: Platform, key: str, *, person: str, reason: str, until: datetime | None, now: datetime) -> None:
    """Make an open alert quiet, as long as it lasts or until a time.

    Raises:
        NotFoundError: no open alert has this key.
        InvalidRequestError: no reason, no name, or a time that is past or too far away.
    """
    if not reason.strip() or len(reason) > _LONGEST_REASON or not person.strip():
        raise InvalidRequestError("acknowledgement", f"needs a name and a reason of at most {_LONGEST_REASON} characters", "say why")
    if until is not None and not now < until <= now + LONGEST_SNOOZE:
        raise InvalidRequestError(
            f"time {until:%Y-%m-%d %H:%M}", f"is not within the next {LONGEST_SNOOZE.days} days", "leave it out for as long as it lasts"
        )
    present = conditions(platform, now)
    with platform.database.session() as session:
        if key not in {one.key for one in open_alerts(session, present, now)}:
            raise NotFoundError(f"alert {key}", "is not open", "list open alerts: `dsa110 alerts` or /api/alerts")
        queries.acknowledge(session, key, person=person.strip(), reason=reason.strip(), until=until)


def take_back(session: Session, key: str) -> None:
    """End the answer to an alert: it is sent again if it is open.

    Raises:
        NotFoundError: nobody has answered it.
    """
    if not queries.end_acknowledgement(session, key):
        raise NotFoundError(f"acknowledgement of {key}", "there is none", "list open alerts: `dsa110 alerts` or /api/alerts")


def _answer(row: AlertAcknowledgement | None) -> Answer | None:
    return None if row is None else Answer(row.person, row.reason, row.until, row.made_at)
