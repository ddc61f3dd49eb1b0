"""Alerts: conditions of the platform that need a person, and their delivery to the log and a webhook.

Each alert has a key; it is sent once when it appears and once when it has passed (`changes`). `alert_table` has the
words of each kind, as the playbook does. Freshness and failed runs are added by `orchestration.alerting`.
"""

from __future__ import annotations

import json
import logging
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from dsa110_assets.common import earth_rotation
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import AlertNotDeliveredError, ConfigurationError, DiskFullError, InputUnreadableError, RunDeletedError
from dsa110_assets.files import why_not_listable
from dsa110_assets.ingest import status
from dsa110_assets.quality.gate import TileVerdict, count_bad_checks
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.labels import is_labeled
from dsa110_assets.registry.queries.quality import median_of_completed
from dsa110_assets.registry.schema import CandidateEvent, GroupState, IngestGroup, Source, TileStage
from dsa110_assets.stages.operations import alert_table as kinds
from dsa110_assets.stages.operations import disk, services
from dsa110_assets.stages.operations.alert_table import Alert
from dsa110_assets.stages.pages import page_of
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Age
from dsa110_assets.stages.queue.work import LONGEST_WAIT
from dsa110_assets.stages.table import RAW_SUBBANDS, TILE_IMAGE
from dsa110_assets.times import mjd_to_datetime

RECENT = timedelta(days=2)
"""Older failures are not reported."""
FLUX_RATIO = "flux_ratio_to_catalog"
FEWEST_TILES = 12
"""An hour of tiles, without which the median of their fluxes says little."""
MOST_LINES = 10
MOST_REFUSED = 1000
MOST_EVENTS = 50
RESTARTS_COUNT = timedelta(hours=1)
OFTEN = 3
"""A service that ends by itself so often within an hour has a lasting fault."""
_log = logging.getLogger("dsa110.alerts")


def conditions(platform: Platform, now: datetime) -> list[Alert]:
    """Return the present conditions of disk and registry that need a person."""
    found: list[Alert] = []
    if (why := disk.shortage(platform.config)) is not None:
        found.append(kinds.DISK_LOW.alert("products", why=why))
    for place, days in disk.forecast(platform, now).items():
        if days <= platform.config.alert_disk_days:
            found.append(kinds.DISK_FILLS.alert(str(place), place=place, days=days))
    with platform.database.session() as session:
        found += _failed(session, now)
        found += _waiting(session, now)
        found += _stuck(session, now)
        found += _held_up(session)
        found += _refused_tiles(session, now)
        found += _new_candidates(session, now, platform.config)
        found += _flux_scale(session, now, platform.config)
        found += _workers(session, platform.config)
        backlog = status.backlog(session, now)
        rejected = status.rejected_by_kind(session)
    if (waited := backlog.oldest_pending_s or 0.0) > platform.config.alert_backlog_s:
        found.append(kinds.BEHIND.alert("live", number=backlog.n_live, hours=waited / 3600))
    policy, last = RAW_SUBBANDS.freshness, backlog.last_file_at
    if last is not None and policy is not None and policy.age_of(last, now) in (Age.LATE, Age.OVERDUE):
        found.append(kinds.NO_DATA.alert("input", hours=(now - last) / timedelta(hours=1)))
    for kind, number in rejected.items():
        page = f"/ui/refused-files?{urlencode({'kind': kind})}"
        found.append(kinds.FILES_REFUSED.alert(kind, page=page, number=number, reason=kind))
    found += _outside(platform.config, now)
    return found


def _outside(config: PipelineConfig, now: datetime) -> list[Alert]:
    """Conditions of what the platform depends on: the input directory, the table of the Earth's rotation."""
    found: list[Alert] = []
    if (why := why_not_listable(config.input_dir)) is not None:
        found.append(kinds.INPUT_UNREADABLE.alert("input", directory=config.input_dir, why=why))
    found += _restarted(config, now)
    if (why := earth_rotation.why_not_known(now)) is not None:
        level = "error" if now > earth_rotation.table_end() else "warning"
        found.append(kinds.EARTH_ROTATION.alert("table", level=level, why=why, refresh=earth_rotation.REFRESH))
    return found


def _restarted(config: PipelineConfig, now: datetime) -> list[Alert]:
    """One alert for each service that has ended by itself in the last hour."""
    ended: dict[str, list[services.Restart]] = {}
    for one in services.restarts_since(config, now - RESTARTS_COUNT):
        ended.setdefault(one.name, []).append(one)
    return [
        kinds.SERVICE_RESTARTED.alert(
            f"{name}/often" if len(times) >= OFTEN else f"{name}/once",
            level="error" if len(times) >= OFTEN else "warning",
            page="/ui/control-panel",
            service=name,
            number=len(times),
            last=f"{times[-1].at:%H:%M}",
            why=times[-1].why,
        )
        for name, times in sorted(ended.items())
    ]


def _workers(session: Session, config: PipelineConfig) -> list[Alert]:
    """One alert for each worker that gives no sign of life, or that takes no run."""
    found: list[Alert] = []
    for one in workers.states(session):
        page, minutes = "/ui/control-panel#workers", one.silent_s / 60
        if one.silent_s > config.worker_lost_s:
            alert = kinds.WORKER_SILENT.alert(one.worker, page=page, worker=one.worker, host=one.host, minutes=minutes, slots=one.slots)
        elif one.refusal is not None:
            alert = kinds.WORKER_REFUSES.alert(one.worker, page=page, worker=one.worker, host=one.host, why=one.refusal)
        else:
            continue
        found.append(alert)
    return found


def _held_up(session: Session) -> list[Alert]:
    """One alert for each cause of the machine's that observations wait for, and one for each deleted run."""
    waits = select(IngestGroup).where(
        IngestGroup.state.in_((GroupState.PENDING, GroupState.IN_PROGRESS)),
        IngestGroup.error_type.in_([DiskFullError.__name__, InputUnreadableError.__name__, RunDeletedError.__name__]),
    )
    held: dict[str, list[IngestGroup]] = {}
    for group in session.scalars(waits.order_by(IngestGroup.updated_at).limit(MOST_REFUSED)):
        held.setdefault(str(group.error_type), []).append(group)
    found = [
        kinds.RUN_DELETED.alert(f"{group.group_id}/{group.attempt}", page=f"/ui/observations/{group.group_id}", group_id=group.group_id)
        for group in held.pop(RunDeletedError.__name__, [])
    ]
    return found + [
        kinds.HELD_UP.alert(kind, number=len(groups), error=" ".join((groups[-1].error or "").split())[:300])
        for kind, groups in sorted(held.items())
    ]


def _failed(session: Session, now: datetime) -> list[Alert]:
    query = select(IngestGroup).where(IngestGroup.state == GroupState.FAILED, IngestGroup.updated_at > now - RECENT)
    return [
        kinds.OBSERVATION_FAILED.alert(
            f"{group.group_id}/{group.attempt}",
            page=f"/ui/observations/{group.group_id}",
            group_id=group.group_id,
            error_type=group.error_type,
            error=" ".join((group.error or "").split())[:300],
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
    return [kinds.WAITING_FOR_CALIBRATION.alert(night, night=night, number=number) for night, number in sorted(nights.items())]


def _stuck(session: Session, now: datetime) -> list[Alert]:
    """One alert for each ended night with observations whose state has not changed for as long as they hold it."""
    query = select(IngestGroup.night, func.count(), func.min(IngestGroup.group_id)).where(
        IngestGroup.state.in_((GroupState.COLLECTING, GroupState.PENDING, GroupState.IN_PROGRESS)),
        IngestGroup.stage != TileStage.AWAITING_CALIBRATION,
        IngestGroup.updated_at < now - LONGEST_WAIT,
        IngestGroup.night < (now - LONGEST_WAIT).date(),
    )
    return [
        kinds.STUCK.alert(night.isoformat(), night=night.isoformat(), number=number, hours=LONGEST_WAIT / timedelta(hours=1), first=first)
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
        kinds.TILES_REFUSED.alert(
            night,
            page=f"/ui/shift/report?night={night}",
            night=night,
            number=len(refused),
            causes=count_bad_checks(refused),
            step=Counter(one.next_step for one in refused).most_common(1)[0][0],
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
        kinds.NEW_CANDIDATE.alert(
            str(event.event_id),
            page=f"/ui/sources/{event.source_id}",
            source=name,
            event_kind=event.kind,
            percent=abs(100 * event.depth),
            moment=f"{mjd_to_datetime(event.peak_mjd):%Y-%m-%d %H:%M}",
            score=event.score,
            event_id=event.event_id,
            source_id=event.source_id,
            pages_url=config.pages_url.rstrip("/"),
            ui_url=config.ui_url.rstrip("/"),
            night=event.first_night,
        )
        for event, name in session.execute(query)
    ]


def _flux_scale(session: Session, now: datetime, config: PipelineConfig) -> list[Alert]:
    """One alert if the fluxes of the last day as a whole are off the catalog's, though each tile may be good."""
    ratio, tiles = median_of_completed(session, TILE_IMAGE.name, FLUX_RATIO, now - timedelta(days=1))
    if ratio is None or tiles < FEWEST_TILES or abs(ratio - 1) <= config.alert_flux_scale:
        return []
    return [kinds.FLUX_SCALE.alert("tiles", page=f"/ui/{page_of(TILE_IMAGE.name)}", percent=100 * (ratio - 1), tiles=tiles)]


def changes(before: Mapping[str, str], alerts: Iterable[Alert]) -> tuple[list[Alert], list[str]]:
    """Return the alerts that appeared since ``before`` (titles by key), and the titles of those that passed."""
    present = {alert.key: alert for alert in alerts}
    passed = [title for key, title in before.items() if key not in present and not _is_news(key)]
    return [alert for key, alert in present.items() if key not in before], passed


def _is_news(key: str) -> bool:
    """Whether a condition does not pass: nothing is sent when it is no longer new."""
    kind = kinds.KINDS.get(key.partition("/")[0])  # None: of another release
    return kind is not None and kind.severity is kinds.Severity.NEWS


def deliver(config: PipelineConfig, new: Sequence[Alert], passed: Sequence[str]) -> None:
    """Write to the log, and to the webhook, if one is set and it delivers, as one message in Slack's format.

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
    if config.alert_webhook_url is None or config.alert_delivery != "webhook":
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
