"""The table of alerts: one row for each kind. Webhook, Prometheus' rules and the playbook take their words from here.

What the platform finds itself (`alerts.conditions`, `orchestration.alerting`) is sent to the webhook, or, with
PIPELINE_ALERT_DELIVERY=prometheus, by Prometheus, which reads it from `/metrics`; never by both. What only Prometheus
can find, such as a dead daemon, is always sent by Prometheus.

It imports only the standard library, because everything that Dagster loads imports it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Level = Literal["warning", "error"]


class Severity(StrEnum):
    """Who is told: somebody at once, at any hour; the chat; the chat, and nothing when it is over."""

    PAGE = "page"
    NOTICE = "notice"
    NEWS = "news"


class FoundBy(StrEnum):
    """Who finds an alert: the platform in registry and disks, the platform in Dagster, or Prometheus."""

    REGISTRY = "registry"
    DAGSTER = "dagster"
    PROMETHEUS = "prometheus"


@dataclass(frozen=True)
class Rule:
    """A rule of Prometheus: alert when ``value condition`` has held for ``lasts``."""

    value: str
    condition: str
    lasts: str

    @property
    def expression(self) -> str:
        """The rule's expression."""
        return f"{self.value} {self.condition}"


@dataclass(frozen=True)
class Alert:
    """One condition. ``key``: ``<kind>/<subject>``, the same as long as the condition lasts. ``page``: of ours."""

    key: str
    level: Level
    title: str
    next_step: str
    page: str = ""

    def line(self) -> str:
        """Return level, title and next step in one line."""
        return line_of(self.level, self.title, self.next_step)


def line_of(level: str, title: str, next_step: str) -> str:
    """Level, title and next step of an alert in one line."""
    return f"{'ERROR' if level == 'error' else 'warning'}: {title} -> {next_step}"


@dataclass(frozen=True)
class AlertKind:
    """A kind of alert.

    ``title``, ``next_step``: of one alert, with ``{names}`` of values. ``meaning``, ``what_to_do``: of the kind, as in
    the playbook. ``level``: unless the condition gives another one. ``own_rule``: of a kind that Prometheus finds.
    """

    name: str
    severity: Severity
    level: Level
    title: str
    next_step: str
    meaning: str
    what_to_do: str
    found_by: FoundBy = FoundBy.REGISTRY
    own_rule: Rule | None = None

    def alert(self, subject: str, *, level: Level | None = None, page: str = "", **values: object) -> Alert:
        """One alert of this kind."""
        return Alert(f"{self.name}/{subject}", level or self.level, self.title.format(**values), self.next_step.format(**values), page)

    @property
    def rule(self) -> Rule:
        """The rule of Prometheus. What the platform finds is an alert in Prometheus only if Prometheus delivers."""
        return self.own_rule or Rule(f'dsa110_alert{{kind="{self.name}",delivered_by="prometheus"}}', "== 1", "1m")

    @property
    def summary(self) -> str:
        """What Prometheus says about an alert, in its template language."""
        if self.found_by is FoundBy.PROMETHEUS:
            return re.sub(r"\{(\w+)\}", r"{{ $labels.\1 }}", self.title)
        return "{{ $labels.key }}: " + self.meaning


KINDS: dict[str, AlertKind] = {}
"""All kinds by name, the first word of an alert's key."""


def _add(kind: AlertKind) -> AlertKind:
    KINDS[kind.name] = kind
    return kind


def platform_kinds() -> list[str]:
    """Names of the kinds that the platform finds itself."""
    return [kind.name for kind in KINDS.values() if kind.found_by is not FoundBy.PROMETHEUS]


DISK_LOW = _add(
    AlertKind(
        "disk-low",
        Severity.PAGE,
        "error",
        "{why}",
        "`dsa110 clean --dry-run` lists what can be removed",
        "A file system of the products has less than `PIPELINE_MIN_FREE_GIB` free. No new work begins. Running work finishes, and new files "
        "are still recorded.",
        "`dsa110 clean --dry-run`, then `dsa110 clean`; keep products for fewer days (`PIPELINE_KEEP_MEASUREMENT_SETS_DAYS` first). Work "
        "resumes automatically.",
    )
)
DISK_FULL_SOON = _add(
    AlertKind(
        "disk-full-soon",
        Severity.PAGE,
        "error",
        "the disk of the directory {directory} will be full within three days, as it has filled over the last day",
        "",
        "At the rate of the last day, whoever writes, a file system will be down to `PIPELINE_MIN_FREE_GIB` within three days.",
        "Find what grows: raw files, products, logs, or another program. `dsa110 clean --dry-run` lists what can be removed; `disk-fills` "
        "and [capacity](capacity.md) are about products.",
        FoundBy.PROMETHEUS,
        Rule(
            "predict_linear(dsa110_disk_free_bytes[1d], 3 * 86400) - on (job, instance) group_left () dsa110_disk_reserve_bytes",
            "< 0 and dsa110_disk_free_bytes offset 12h",  # half a day of figures at least, else a burst of files is a trend
            "1h",
        ),
    )
)
DISK_FILLS = _add(
    AlertKind(
        "disk-fills",
        Severity.NOTICE,
        "warning",
        "the disk of {place} will be full in about {days} days at the present rate",
        "keep products for fewer days: `dsa110 config show`, PIPELINE_KEEP_*",
        "At the rate of the last week, and with what retention removes, a disk is full within `PIPELINE_ALERT_DISK_DAYS`.",
        "Keep products for fewer days, in the order of [capacity](capacity.md), or add disk. `dsa110 clean --dry-run` shows the days too.",
    )
)
OBSERVATION_FAILED = _add(
    AlertKind(
        "observation-failed",
        Severity.NOTICE,
        "error",
        "observation {group_id} failed ({error_type}): {error}",
        "`dsa110 ingest retry {group_id}` once the cause is fixed",
        "An observation failed and will not be retried automatically.",
        "Look up its error below. Once the cause is fixed, re-execute the run, or `dsa110 ingest retry OBSERVATION`.",
    )
)
BEHIND = _add(
    AlertKind(
        "behind",
        Severity.PAGE,
        "error",
        "{number} live observations are waiting, the oldest for {hours:.1f} h",
        "look at the runs in progress; the newest observations go first",
        "A live observation has waited longer than `PIPELINE_ALERT_BACKLOG_S`. The newest observations go first, so the backlog is old.",
        "Runs: is one stuck? Is a backfill in the way? Cancel it. If there are free cores, raise `PIPELINE_MAX_WORKERS`.",
    )
)
NO_DATA = _add(
    AlertKind(
        "no-data",
        Severity.PAGE,
        "error",
        "no raw file has arrived for {hours:.1f} h",
        "is the correlator writing? Is the sensor `raw_files` switched on?",
        "No raw file was recorded for two hours; the telescope observes all day. It needs at least one earlier file.",
        "Is the correlator writing into `PIPELINE_INPUT_DIR`? Is it mounted? Is Automation > `raw_files` switched on, and does it tick?",
    )
)
INPUT_UNREADABLE = _add(
    AlertKind(
        "input-unreadable",
        Severity.PAGE,
        "error",
        "the input directory {directory} {why}: no new file is found",
        "mount it or mend its permissions; PIPELINE_INPUT_DIR names it",
        "The directory of the raw files does not exist or cannot be read, so no new file is found. Files that arrive meanwhile are taken "
        "afterwards.",
        "Mount it, or mend its permissions. The watcher finds a directory that was replaced or mounted again by itself.",
    )
)
HELD_UP = _add(
    AlertKind(
        "held-up",
        Severity.PAGE,
        "error",
        "{number} observations wait: {error}",
        "make room, or mend the directory; they then go on by themselves",
        "Observations wait because a disk is full or the raw files cannot be read, as the alert says. They do not fail, and go on by "
        "themselves.",
        "Make room, or mend the directory.",
    )
)
RUN_DELETED = _add(
    AlertKind(
        "run-deleted",
        Severity.NOTICE,
        "warning",
        "the run of observation {group_id} was deleted while it was in progress; another run makes it",
        "nothing; to stop a run, terminate it and do not delete it",
        "The run of an observation was deleted in Dagster before the observation was made. Its slots are freed, and another run makes it.",
        "Nothing. To stop a run, terminate it and do not delete it.",
    )
)
SERVICE_RESTARTED = _add(
    AlertKind(
        "service-restarted",
        Severity.NOTICE,
        "warning",
        "within an hour {service} ended by itself and was restarted, {number} times; the last time at {last} UTC ({why})",
        "read the end of its log; look at memory and disk",
        "A service or the database ended by itself within the last hour, and was started again. With `often` in its key: three times or "
        "more.",
        "The end of its log (`/ui/control-panel`, `<state>/logs/`); memory (`dmesg`), disk.",
    )
)
FLUX_SCALE = _add(
    AlertKind(
        "flux-scale",
        Severity.PAGE,
        "error",
        "fluxes of the last day are {percent:+.1f} % off the catalog's: the median of {tiles} tiles",
        "look at the asset calibration_tables of the last nights",
        "The median of flux over catalog flux, over the tiles of the last day (12 at least), differs from 1 by more than "
        "`PIPELINE_ALERT_FLUX_SCALE`. Each tile by itself may still be good.",
        "Catalog > `calibration_tables`, the last nights: did the amplitudes move, are antennas missing, was another calibrator used? Mark a "
        "bad solution, and backfill the nights. Until then do not trust fluxes of these tiles.",
    )
)
EARTH_ROTATION = _add(
    AlertKind(
        "earth-rotation",
        Severity.NOTICE,
        "warning",
        "{why}",
        "{refresh}",
        "The table of the Earth's rotation ends within 60 days, or has ended. After its end right ascensions drift by up to 3 arcsec a year, "
        "and the verdict on positions says so.",
        "`.venv/bin/uv pip install --upgrade astropy-iers-data`; without a network, give it the file of a newer wheel. Restart. Products of "
        "times after the old end: make them again.",
    )
)
FILES_REFUSED = _add(
    AlertKind(
        "files-refused",
        Severity.NOTICE,
        "warning",
        "{number} raw files were rejected: {reason}",
        "`dsa110 ingest status` lists them with reasons",
        "Raw files were rejected; they stay where they are. One alert for each kind of reason.",
        "`dsa110 ingest status` lists them; the kinds are below.",
    )
)
TILES_REFUSED = _add(
    AlertKind(
        "tiles-refused",
        Severity.NOTICE,
        "warning",
        "mosaics leave out {number} of the tiles of {night}: {causes}",
        "{step}; `dsa110 ingest status --refused` lists them",
        "Mosaics leave out tiles of a night, and these will not be remade automatically. One alert for each night, with their number and "
        "causes.",
        "`dsa110 ingest status --refused` lists those of the last seven days with reasons (`--days` for more); see the verdicts below.",
    )
)
WAITING_FOR_CALIBRATION = _add(
    AlertKind(
        "waiting-for-calibration",
        Severity.NOTICE,
        "warning",
        "{number} observations of {night} have been waiting for calibration tables for a day",
        "look at the asset calibration_tables; materialize the night",
        "Observations have had no valid tables for a day: no calibrator was observed, or its solutions were refused.",
        "Catalog > `calibration_tables`, the night: reasons and plots. Fix the cause and materialize it, or raise `PIPELINE_CAL_BORROW_DAYS`.",
    )
)
STUCK = _add(
    AlertKind(
        "stuck",
        Severity.NOTICE,
        "warning",
        "{number} observations of {night} have been unfinished for {hours:.0f} h; hours and the night are made without them, and again once "
        "they come",
        "`dsa110 ingest status {first}` says what it waits for",
        "Observations of a night that has ended have not moved for 12 h. Its hours, light curves and candidates are made without them, and "
        "again when they come.",
        "`dsa110 ingest status`: a missing worker, a full queue, or a run that hangs. If an observation cannot be processed, move its raw "
        "files away.",
    )
)
NOT_FRESH = _add(
    AlertKind(
        "not-fresh",
        Severity.NOTICE,
        "warning",
        "{asset} has not been made for longer than its freshness policy allows ({state})",
        "look at the asset {asset} and what is upstream of it",
        "An asset has not been made for longer than its freshness policy allows.",
        "Look upstream for the first asset in the chain that is not fresh. For raw files there is `no-data`.",
        FoundBy.DAGSTER,
    )
)
RUN_FAILED = _add(
    AlertKind(
        "run-failed",
        Severity.NOTICE,
        "error",
        "{what} failed: {cause}",
        "open run {run} in the UI; re-execute it when the cause is gone",
        "A run failed after its retries. Runs of observations are not included.",
        'Open it: the error names the cause and the next step. Re-execute it once the cause is fixed. "its process died": out of memory, or '
        "killed.",
        FoundBy.DAGSTER,
    )
)
NEW_CANDIDATE = _add(
    AlertKind(
        "new-candidate",
        Severity.NEWS,
        "warning",
        "new candidate {source}: {event_kind} of {percent:.0f} % at {moment} UTC, score {score:.1f} (event {event_id})",
        "look at {pages_url}/sources/{source_id} or `dsa110 lightcurve show {source_id}`; how it was made: "
        "{ui_url}/assets/ese_candidates?partition={night}",
        "An event has become a candidate for an extreme scattering event, in an hour's quick look or in the ranking of a night. Sent once "
        "for each event, for two days after it was first seen.",
        "Follow the link to the source's page, or `dsa110 lightcurve show SOURCE --output FILE.png`. Look at neighboring sources in the same "
        "epoch first. A label of anybody on the event closes the alert: `dsa110 candidates label EVENT LABEL --by NAME`, or the page of "
        "candidates.",
    )
)
WORKER_SILENT = _add(
    AlertKind(
        "worker-silent",
        Severity.PAGE,
        "error",
        "worker {worker} has given no sign of life for {minutes:.0f} min",
        "look at host {host}: is it up, and does it reach the database? Start `dsa110 worker` there again, with {slots} slots",
        "A worker (`dsa110 worker`) on some host has given no beat for longer than `PIPELINE_WORKER_LOST_S`. Its runs were given up and are "
        "made elsewhere; what it may still do is not published.",
        "Is the host up, and does it reach PostgreSQL? Its log says why it gives no beat. Start the worker again: that closes the alert. If "
        "the host is gone for good, the worker is forgotten after 7 days; acknowledge the alert until then.",
    )
)
WORKER_REFUSES = _add(
    AlertKind(
        "worker-refuses",
        Severity.NOTICE,
        "warning",
        "worker {worker} takes no run: {why}",
        "bring code and settings of host {host} up to date, and restart its worker",
        "A worker has other code, other packages or other settings than the platform, so it takes no run.",
        "Install the same release on its host, with the same `PIPELINE_` settings and directories (`dsa110 config show` on both), and restart "
        "the worker. If the files of the platform's own host were changed, restart the platform.",
    )
)
API_DEAD = _add(
    AlertKind(
        "api-dead",
        Severity.PAGE,
        "error",
        "the API at {instance} does not answer",
        "",
        "Prometheus gets no figures from the API: it is down, or the machine is. Nothing else is known meanwhile.",
        "Is the machine up? `dsa110 up` and systemd restart the API; its log is `<state>/logs/api.log`, under systemd `journalctl -u "
        "dsa110-api`. `dsa110 preflight` says what is missing.",
        FoundBy.PROMETHEUS,
        Rule('up{job="dsa110"}', "== 0", "3m"),
    )
)
REGISTRY_DEAD = _add(
    AlertKind(
        "registry-dead",
        Severity.PAGE,
        "error",
        "the database of {instance} does not answer",
        "",
        "The API answers, but PostgreSQL does not. Nothing is processed.",
        "`dsa110 db status`. The embedded server is restarted by itself; if it cannot start, its log in `<state>/postgres` says why: a full "
        "disk, mostly.",
        FoundBy.PROMETHEUS,
        Rule("dsa110_registry_up", "== 0", "3m"),
    )
)
DAEMON_DEAD = _add(
    AlertKind(
        "daemon-dead",
        Severity.PAGE,
        "error",
        "Dagster's daemon of {instance} gives no heartbeat",
        "",
        "No thread of Dagster's daemon has given a heartbeat for five minutes. Nothing new begins, and the platform sends no alert itself.",
        "Is `dsa110 up` running? Its log is `<state>/logs/daemon.log`, under systemd `journalctl -u dsa110-daemon`. Restart the daemon on "
        "the control panel, or the platform. Files that arrive meanwhile are taken afterwards.",
        FoundBy.PROMETHEUS,
        Rule("max by (job, instance) (dagster_daemon_healthy)", "== 0", "2m"),
    )
)
DAEMON_HANGS = _add(
    AlertKind(
        "daemon-hangs",
        Severity.NOTICE,
        "error",
        "the thread {daemon_type} of Dagster's daemon gives no heartbeat",
        "",
        "One thread of Dagster's daemon has given no heartbeat for half an hour; the others do. `SENSOR`: nothing new begins. "
        "`QUEUED_RUN_COORDINATOR`: runs stay queued.",
        "Restart the daemon on the control panel. If it comes back, keep `<state>/logs/daemon.log`.",
        FoundBy.PROMETHEUS,
        Rule("dagster_daemon_healthy", "== 0", "30m"),
    )
)
FIGURES_MISSING = _add(
    AlertKind(
        "figures-missing",
        Severity.NOTICE,
        "warning",
        "the API cannot find a part of its figures: {part}",
        "",
        "A part of `/metrics` could not be found, so alerts and boards that use it are silent.",
        "`<state>/logs/api.log`. `dagster`: its database does not exist before the first `dsa110 up`. `disks`: a mount does not answer.",
        FoundBy.PROMETHEUS,
        Rule("dsa110_part_found", "== 0", "15m"),
    )
)
