"""Alerts: conditions of the platform that need a person, and their delivery to the log and a webhook.

Each alert has a key; it is sent once when it appears and once when it has passed (`changes`). The playbook
(`docs/operators/playbook.md`) explains what to do. Freshness and failed runs are added by `orchestration.alerting`.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from urllib.parse import urlencode

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.common import earth_rotation
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import AlertNotDeliveredError, ConfigurationError
from dsa110_assets.files import why_not_listable
from dsa110_assets.ingest import status
from dsa110_assets.quality.gate import TileVerdict, count_bad_checks
from dsa110_assets.registry.queries.labels import is_labeled
from dsa110_assets.registry.schema import CandidateEvent, GroupState, IngestGroup, Source, TileStage
from dsa110_assets.stages.operations import disk
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue.work import LONGEST_WAIT
from dsa110_assets.times import mjd_to_datetime

KINDS = (
    "disk-low", "disk-fills", "observation-failed", "behind", "files-refused", "tiles-refused", "waiting-for-calibration", "stuck", "not-fresh", "run-failed", "new-candidate",
    "input-unreadable", "earth-rotation",
)  # fmt: skip
"""First part of the keys; each is explained in the playbook."""
RECENT = timedelta(days=2)
"""Older failures are not reported."""
MOST_LINES = 10
MOST_REFUSED = 1000
MOST_EVENTS = 50
_NEWS = "new-candidate/"
"""Conditions that do not pass: nothing is sent when they are no longer new."""
_log = logging.getLogger("dsa110.alerts")


@dataclass(frozen=True)
class Alert:
    """One condition. ``key``: ``<kind>/<subject>``, the same as long as the condition lasts. ``page``: of ours."""

    key: str
    level: Literal["warning", "error"]
    title: str
    next_step: str
    page: str = ""

    def line(self) -> str:
        """Return level, title and next step in one line."""
        return line_of(self.level, self.title, self.next_step)


def line_of(level: str, title: str, next_step: str) -> str:
    """Level, title and next step of an alert in one line."""
    return f"{'ERROR' if level == 'error' else 'warning'}: {title} -> {next_step}"


def conditions(platform: Platform, now: datetime) -> list[Alert]:
    """Return the present conditions of disk and registry that need a person."""
    found: list[Alert] = []
    if (why := disk.shortage(platform.config)) is not None:
        found.append(Alert("disk-low/products", "error", why, "`dsa110 clean --dry-run` lists what can be removed"))
    for place, days in disk.forecast(platform, now).items():
        if days <= platform.config.alert_disk_days:
            title = f"the disk of {place} will be full in about {days} days at the present rate"
            found.append(
                Alert(f"disk-fills/{place}", "warning", title, "keep products for fewer days: `dsa110 config show`, PIPELINE_KEEP_*")
            )
    with platform.database.session() as session:
        found += _failed(session, now)
        found += _waiting(session, now)
        found += _stuck(session, now)
        found += _refused_tiles(session, now)
        found += _new_candidates(session, now, platform.config)
        backlog = status.backlog(session, now)
        rejected = status.rejected_by_kind(session)
    if (waited := backlog.oldest_pending_s or 0.0) > platform.config.alert_backlog_s:
        title = f"{backlog.n_live} live observations are waiting, the oldest for {waited / 3600:.1f} h"
        found.append(Alert("behind/live", "warning", title, "look at the runs in progress; the newest observations go first"))
    for kind, number in rejected.items():
        title = f"{number} raw files were rejected: {kind}"
        page = f"/ui/refused-files?{urlencode({'kind': kind})}"
        found.append(Alert(f"files-refused/{kind}", "warning", title, "`dsa110 ingest status` lists them with reasons", page))
    found += _outside(platform.config, now)
    return found


def _outside(config: PipelineConfig, now: datetime) -> list[Alert]:
    """Conditions of what the platform depends on: the input directory, the table of the Earth's rotation."""
    found: list[Alert] = []
    if (why := why_not_listable(config.input_dir)) is not None:
        title = f"the input directory {config.input_dir} {why}: no new file is found"
        found.append(Alert("input-unreadable/input", "error", title, "mount it or mend its permissions; PIPELINE_INPUT_DIR names it"))
    if (why := earth_rotation.why_not_known(now)) is not None:
        ended = now > earth_rotation.table_end()
        found.append(Alert("earth-rotation/table", "error" if ended else "warning", why, earth_rotation.REFRESH))
    return found


def _failed(session: Session, now: datetime) -> list[Alert]:
    query = select(IngestGroup).where(IngestGroup.state == GroupState.FAILED, IngestGroup.updated_at > now - RECENT)
    return [
        Alert(
            f"observation-failed/{group.group_id}/{group.attempt}",
            "error",
            f"observation {group.group_id} failed ({group.error_type}): {' '.join((group.error or '').split())[:300]}",
            f"`dsa110 ingest retry {group.group_id}` once the cause is fixed",
            f"/ui/observations/{group.group_id}",
        )
        for group in session.scalars(query.order_by(IngestGroup.group_id))
    ]


def _waiting(session: Session, now: datetime) -> list[Alert]:
    query = select(IngestGroup).where(
        IngestGroup.state == GroupState.PENDING,
        IngestGroup.stage == TileStage.AWAITING_CALIBRATION,
        IngestGroup.updated_at < now - timedelta(days=1),
    )
    nights: dict[str, int] = {}
    for group in session.scalars(query):
        nights[group.night.isoformat()] = nights.get(group.night.isoformat(), 0) + 1
    return [
        Alert(
            f"waiting-for-calibration/{night}",
            "warning",
            f"{number} observations of {night} have been waiting for calibration tables for a day",
            "look at the asset calibration_tables; materialize the night",
        )
        for night, number in sorted(nights.items())
    ]


def _stuck(session: Session, now: datetime) -> list[Alert]:
    """One alert for each ended night with observations whose state has not changed for as long as they hold it."""
    query = select(IngestGroup.night, func.count(), func.min(IngestGroup.group_id)).where(
        IngestGroup.state.in_((GroupState.COLLECTING, GroupState.PENDING, GroupState.IN_PROGRESS)),
        IngestGroup.stage != TileStage.AWAITING_CALIBRATION,
        IngestGroup.updated_at < now - LONGEST_WAIT,
        IngestGroup.night < (now - LONGEST_WAIT).date(),
    )
    return [
        Alert(
            f"stuck/{night.isoformat()}",
            "warning",
            f"{number} observations of {night.isoformat()} have been unfinished for {LONGEST_WAIT / timedelta(hours=1):.0f} h; "
            "hours and the night are made without them, and again once they come",
            f"`dsa110 ingest status {first}` says what it waits for",
        )
        for night, number, first in session.execute(query.group_by(IngestGroup.night).order_by(IngestGroup.night))
    ]


def _refused_tiles(session: Session, now: datetime) -> list[Alert]:
    """One alert for each night with refused tiles.

    Provisional ones are left out, because they are made again, and those that a person has marked.
    """
    from dsa110_assets.stages.products import gates  # imports the domain, which is too heavy for what Dagster loads

    nights: dict[str, list[TileVerdict]] = {}
    for group_id, verdict in gates.not_good(session, completed_after=now - RECENT, limit=MOST_REFUSED).items():
        if not verdict.provisional and gates.MARKED_BAD not in verdict.bad:
            nights.setdefault(group_id[:10], []).append(verdict)
    return [
        Alert(
            f"tiles-refused/{night}",
            "warning",
            f"mosaics leave out {len(refused)} of the tiles of {night}: {count_bad_checks(refused)}",
            f"{Counter(one.next_step for one in refused).most_common(1)[0][0]}; `dsa110 ingest status --refused` lists them",
            f"/ui/shift/report?night={night}",
        )
        for night, refused in sorted(nights.items())
    ]


def _new_candidates(session: Session, now: datetime, config: PipelineConfig) -> list[Alert]:
    """One alert for each event that became a candidate, unless a person has labeled it since."""
    query = (
        select(CandidateEvent, Source.name)
        .join(Source, Source.source_id == CandidateEvent.source_id)
        .where(CandidateEvent.first_seen_at > now - RECENT, ~is_labeled())
        .order_by(CandidateEvent.score.desc(), CandidateEvent.event_id)
        .limit(MOST_EVENTS)
    )
    return [
        Alert(
            f"new-candidate/{event.event_id}",
            "warning",
            f"new candidate {name}: {event.kind} of {abs(100 * event.depth):.0f} % at {mjd_to_datetime(event.peak_mjd):%Y-%m-%d %H:%M} UTC, "
            f"score {event.score:.1f} (event {event.event_id})",
            f"look at {config.pages_url.rstrip('/')}/sources/{event.source_id} or `dsa110 lightcurve show {event.source_id}`; "
            f"how it was made: {config.ui_url.rstrip('/')}/assets/ese_candidates?partition={event.first_night}",
            f"/ui/sources/{event.source_id}",
        )
        for event, name in session.execute(query)
    ]


def changes(before: Mapping[str, str], alerts: Iterable[Alert]) -> tuple[list[Alert], list[str]]:
    """Return the alerts that appeared since ``before`` (titles by key), and the titles of those that passed."""
    present = {alert.key: alert for alert in alerts}
    passed = [title for key, title in before.items() if key not in present and not key.startswith(_NEWS)]
    return [alert for key, alert in present.items() if key not in before], passed


def deliver(config: PipelineConfig, new: Sequence[Alert], passed: Sequence[str]) -> None:
    """Write to the log, and to the webhook if one is set, as one message in Slack's format.

    Raises:
        AlertNotDeliveredError: the webhook did not accept the message; the log has it.
    """
    lines = [alert.line() for alert in new] + [f"passed: {title}" for title in passed]
    if not lines:
        return
    for alert in new:
        _log.log(logging.ERROR if alert.level == "error" else logging.WARNING, alert.line())
    for title in passed:
        _log.info("passed: %s", title)
    if config.alert_webhook_url is None:
        return
    shown = lines[:MOST_LINES] + ([f"... and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])
    send(config.alert_webhook_url.get_secret_value(), "DSA-110 pipeline\n" + "\n".join(shown))


def send(url: str, text: str, timeout_s: float = 10.0) -> None:
    """POST a message as JSON, ``{"text": ...}``.

    Raises:
        AlertNotDeliveredError: no answer, or a status other than 2xx.
        ConfigurationError: not an http address.
    """
    host = url.partition("://")[2].partition("/")[0]  # the rest of the address is a secret
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError("PIPELINE_ALERT_WEBHOOK_URL", "is not an http address", "set it to the webhook's address")
    request = urllib.request.Request(url, json.dumps({"text": text}).encode(), {"Content-Type": "application/json"})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=timeout_s):  # noqa: S310
            return
    except (OSError, urllib.error.HTTPError) as error:
        raise AlertNotDeliveredError(
            f"webhook at {host}", f"did not accept the alert ({error})", "it is sent again; check PIPELINE_ALERT_WEBHOOK_URL"
        ) from error
