"""The platform's figures at `/metrics`, for Prometheus: queue, products, quality of images, disks, alerts, Dagster.

They are found in parts. A part that cannot be found is left out, and `dsa110_part_found` says so; the others are there.
Each part is remembered for some seconds, so more scrapers do not mean more questions. Figures of requests are made by
`api.http`. The names of Dagster's figures are those of the public exporters, so that boards made for them fit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from dsa110_assets.api.access import Access, Remembered
from dsa110_assets.api.routes.operations import queue_of
from dsa110_assets.errors import PipelineError
from dsa110_assets.quality.gate import TILE_CHECKS, TileWord
from dsa110_assets.registry.provenance import release
from dsa110_assets.registry.queries import monitoring, today, workers
from dsa110_assets.registry.queries.quality import spread_of
from dsa110_assets.stages.operations import attention, disk
from dsa110_assets.stages.operations.alert_table import platform_kinds
from dsa110_assets.stages.operations.chain import chain
from dsa110_assets.stages.table import TABLE, TILE_IMAGE
from dsa110_assets.times import datetime_to_mjd, mjd_to_datetime

HEARTBEAT_LATE = timedelta(minutes=5)
"""A daemon's thread is called dead after this long without a heartbeat; they come every 30 s."""
MOST_ALERTS = 200
"""Alerts with a series of their own; `dsa110_open_alerts` counts all."""
LAST_DAY = timedelta(days=1)
_BACKFILLS = "__ASSET_JOB"
"""Dagster's name for the job of a backfill's runs."""
_OVERLAP = timedelta(minutes=10)
"""Ended runs are asked for so long before the last look: a transaction may become visible late."""
Labels = Sequence[str]
Samples = Iterable[tuple[Labels, float | None]]


def _gauge(name: str, text: str, labels: Labels, samples: Samples) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=labels)
    for values, number in samples:
        if number is not None:
            family.add_metric(values, number)
    return family


def _one(name: str, text: str, number: float | None) -> GaugeMetricFamily:
    return _gauge(name, text, (), [((), number)])


@dataclass(frozen=True)
class _Part:
    """A part of the figures: what finds it, for how many seconds it is remembered, whether it needs the registry."""

    name: str
    find: Callable[[], list[Metric]]
    remembered: Remembered[list[Metric]]
    needs_registry: bool = True


class PlatformMetrics(Collector):
    """All figures of the platform. Without the registry there are `dsa110_registry_up` 0, disks, and requests."""

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self._ended = _EndedRuns()
        self._parts = (
            _Part("queue", self._queue, Remembered(2.0)),
            _Part("alerts", self._alerts, Remembered(10.0)),
            _Part("products", self._products, Remembered(10.0)),
            _Part("quality", self._quality, Remembered(60.0)),
            _Part("dagster", self._dagster, Remembered(10.0)),
            _Part("workers", self._workers, Remembered(5.0)),
            _Part("disks", self._disks, Remembered(10.0), needs_registry=False),
            _Part("disk forecast", self._forecast, Remembered(60.0)),
        )

    @property
    def _opened(self) -> Access:
        return self._app.state.access

    def describe(self) -> Iterable[Metric]:
        """Tell a name without asking the registry."""
        return [GaugeMetricFamily("dsa110_registry_up", "Whether the registry answers.")]

    def collect(self) -> Iterator[Metric]:
        """Find all parts."""
        config = self._opened.config
        yield _gauge(
            "dsa110_info", "The release, and where people find pages and documentation.", ("release", "pages_url", "docs_url"),
            [((release(), config.pages_url, config.docs_url), 1)],
        )  # fmt: skip
        answers = self._registry_answers()
        yield _one("dsa110_registry_up", "Whether the registry answers.", float(answers))
        found: dict[str, bool] = {}
        for part in self._parts:
            metrics = self._of(part) if answers or not part.needs_registry else None
            found[part.name] = metrics is not None
            yield from metrics or ()
        yield _gauge(
            "dsa110_part_found", "Whether this part of the figures could be found.", ("part",),
            [((name,), float(ok)) for name, ok in found.items()],
        )  # fmt: skip

    def _registry_answers(self) -> bool:
        try:
            self._opened.ping()
        except PipelineError:
            return False
        return True

    def _of(self, part: _Part) -> list[Metric] | None:
        try:
            return part.remembered.get(part.find)
        except (PipelineError, SQLAlchemyError, OSError):  # one part does not hide the others; `dsa110_part_found` says which
            return None

    def _queue(self) -> list[Metric]:
        queue = queue_of(self._app)
        with self._opened.session() as session:
            stages = today.waiting_by_stage(session)
            delays = monitoring.delays(session, _now() - LAST_DAY)
        newest = None if queue.newest_start_mjd is None else mjd_to_datetime(queue.newest_start_mjd)
        return [
            _gauge(
                "dsa110_observations", "Observations by state; completed: those of the last day.", ("state",),
                [((state.value,), number) for state, number in queue.counts.items()],
            ),
            _gauge(
                "dsa110_unfinished_observations", "Observations that are not finished, by the stage that they have reached.", ("stage",),
                [((stage,), number) for stage, number in stages.items()],
            ),
            _gauge(
                "dsa110_pending_observations", "Observations that wait, by priority.", ("priority",),
                [(("live",), queue.n_live), (("backfill",), queue.n_backfill)],
            ),
            _one("dsa110_oldest_pending_seconds", "Longest wait of a live observation.", queue.oldest_pending_s or 0.0),
            _one("dsa110_expired_leases", "Observations whose run has not renewed its lease.", queue.n_expired),
            _one("dsa110_rejected_files", "Rejected raw files.", queue.n_rejected),
            _one("dsa110_last_file_timestamp_seconds", "When the newest raw file was recorded.", _seconds(queue.last_file_at)),
            _one("dsa110_newest_observation_timestamp_seconds", "Start of the newest observation.", _seconds(newest)),
            _quantiles(
                "dsa110_observation_delay_seconds", "From the end of an observation to its image, over the last day.", (),
                [] if delays is None else [((), delays)],
            ),
        ]  # fmt: skip

    def _alerts(self) -> list[Metric]:
        from dsa110_assets.stages.operations.alerts import conditions

        now = _now()
        present = self._app.state.alerts.get(lambda: conditions(self._opened.platform, now))
        with self._opened.session() as session:
            found = attention.open_alerts(session, present, now)
        delivered_by = self._opened.config.alert_delivery
        loud = [one for one in found if one.acknowledged is None]
        counts = {(kind, level): 0 for kind in platform_kinds() for level in ("warning", "error")}
        for one in loud:
            counts[one.key.partition("/")[0], one.level] += 1
        return [
            _gauge(
                "dsa110_open_alerts", "Open alerts that nobody has acknowledged, by kind and level.", ("kind", "level"),
                list(counts.items()),
            ),
            _one("dsa110_acknowledged_alerts", "Open alerts that somebody has acknowledged.", len(found) - len(loud)),
            _gauge(
                "dsa110_alert", f"1 for each open alert that nobody has acknowledged, {MOST_ALERTS} at most.",
                ("kind", "level", "key", "page", "delivered_by"),
                [((one.key.partition("/")[0], one.level, one.key, one.page, delivered_by), 1) for one in loud[:MOST_ALERTS]],
            ),
        ]  # fmt: skip

    def _products(self) -> list[Metric]:
        names = [row.name for row in TABLE.with_recipe()]
        with self._opened.session() as session:
            links = chain(session, _now())
            durations = monitoring.durations(session, names)
        return [
            _gauge(
                "dsa110_product_newest_timestamp_seconds", "When the newest version of a product was made.", ("product",),
                [((link.product,), _seconds(link.made_at)) for link in links],
            ),
            _gauge(
                "dsa110_products_made_last_day", "Versions of a product made in the last day.", ("product",),
                [((link.product,), link.made) for link in links],
            ),
            _quantiles(
                "dsa110_stage_duration_seconds", f"Time to make a product, over its last {monitoring.LAST_VERSIONS} versions.", ("product",),
                [((name,), values) for name, values in durations.items()],
            ),
        ]  # fmt: skip

    def _quality(self) -> list[Metric]:
        from dsa110_assets.stages.operations.tile_quality import quality_of_last_day
        from dsa110_assets.stages.products import gates

        now = _now()
        quality = quality_of_last_day(self._opened.platform, now)
        with self._opened.session() as session:
            spread = spread_of(session, TILE_IMAGE.name, quality.verdicts)
            factors = monitoring.epoch_factors(session, datetime_to_mjd(now - LAST_DAY))
            newest = gates.newest_good(session)
            flagged = monitoring.flagged_fraction(session, datetime_to_mjd(now - LAST_DAY))
        words = {word: sum(one.word == word for one in quality.verdicts.values()) for word in TileWord}
        spreads = [((name, figure), spread[name][figure]) for name in TILE_CHECKS if name in spread for figure in ("low", "median", "high")]
        return [
            _gauge(
                "dsa110_tile_check", "Value of a check over the images of the last day: 10, 50 and 90 percent.", ("check", "spread"), spreads
            ),
            _gauge(
                "dsa110_tile_check_bad", "Images of the last day that a check keeps out of mosaics.", ("check",),
                [((one.name,), len(one.bad)) for one in quality.checks],
            ),
            _gauge(
                "dsa110_tiles_last_day", "Images of the last day by verdict.", ("verdict",),
                [((word.value,), number) for word, number in words.items()],
            ),
            _one("dsa110_newest_good_image_timestamp_seconds", "Middle of the newest observation with a good image.", _seconds(newest)),
            _one("dsa110_flagged_fraction", "Median flagged fraction of the Measurement Sets of the last day.", flagged),
            _one("dsa110_epoch_factor", "Median factor of the epochs of the last day.", None if factors is None else factors[0]),
            _one("dsa110_epochs_last_day", "Epochs of the last day with a usable factor.", 0 if factors is None else factors[1]),
        ]  # fmt: skip

    def _dagster(self) -> list[Metric]:
        now = _now()
        with self._opened.history() as session:
            beats = monitoring.heartbeats(session)
            running = monitoring.active_runs(session)
            self._ended.add(monitoring.ended_runs(session, self._ended.since(now)), now)
        jobs = (*TABLE.jobs(), _BACKFILLS)
        active = {(job, status): 0 for job in jobs for status in monitoring.ACTIVE} | running
        ended = CounterMetricFamily("dagster_completed_runs", "Runs that have ended since the API began.", labels=("job_name", "status"))
        for key, number in ({(job, status): 0 for job in jobs for status in monitoring.ENDED} | self._ended.numbers).items():
            ended.add_metric(key, number)
        alive = [((name,), float(name in beats and now - beats[name] < HEARTBEAT_LATE)) for name in monitoring.DAEMONS]
        return [
            _gauge("dagster_active_runs", "Runs that have not ended.", ("job_name", "status"), list(active.items())),
            ended,
            _gauge("dagster_daemon_healthy", "Whether a thread of Dagster's daemon gave a recent heartbeat.", ("daemon_type",), alive),
            _gauge(
                "dagster_daemon_last_heartbeat_timestamp_seconds", "Last heartbeat of a thread of Dagster's daemon.", ("daemon_type",),
                [((name,), _seconds(beats.get(name))) for name in monitoring.DAEMONS],
            ),
        ]  # fmt: skip

    def _workers(self) -> list[Metric]:
        config = self._opened.config
        with self._opened.session() as session:
            found = workers.states(session)
            waiting = workers.waiting(session, config.worker_queue)
        silent = [one for one in found if one.silent_s > config.worker_lost_s]
        alive = [one for one in found if one not in silent]
        states = {"alive": len(alive), "silent": len(silent), "refuses": sum(one.refusal is not None for one in alive)}
        return [
            _gauge("dsa110_workers", "Workers on all hosts, by state.", ("state",), [((name,), number) for name, number in states.items()]),
            _one("dsa110_worker_slots", "Runs that the living workers may make at a time.", sum(one.slots for one in alive)),
            _one("dsa110_worker_runs", "Runs that workers make now.", sum(one.n_runs for one in found)),
            _one("dsa110_runs_waiting_for_worker", "Runs that wait for a worker.", waiting.number),
            _one("dsa110_longest_wait_for_worker_seconds", "Longest wait of a run for a worker.", waiting.oldest_s),
            _gauge(
                "dsa110_worker_beat_age_seconds", "Time since the last beat of a worker.", ("worker", "host"),
                [((one.worker, one.host), one.silent_s) for one in found],
            ),
        ]  # fmt: skip

    def _disks(self) -> list[Metric]:
        config = self._opened.config
        directories = {name: getattr(config, f"{name}_dir") for name in ("input", "output", "scratch", "state")}
        found = {name: shutil.disk_usage(path) for name, path in directories.items() if Path(path).exists()}
        return [
            _gauge(
                "dsa110_disk_free_bytes", "Free space of a directory's file system.", ("directory",),
                [((name,), usage.free) for name, usage in found.items()],
            ),
            _gauge(
                "dsa110_disk_size_bytes", "Size of a directory's file system.", ("directory",),
                [((name,), usage.total) for name, usage in found.items()],
            ),
            _one("dsa110_disk_reserve_bytes", "With less free space no new work begins.", config.min_free_gib * disk.GIB),
        ]  # fmt: skip

    def _forecast(self) -> list[Metric]:
        days = self._app.state.forecast.get(lambda: disk.forecast(self._opened.platform, _now()))
        return [
            _gauge(
                "dsa110_disk_full_days", "Days until products fill a disk at the present rate; a disk that they never fill is left out.",
                ("place",), [((str(place),), number) for place, number in days.items()],
            )
        ]  # fmt: skip


class _EndedRuns:
    """Counts each run that ends once. The first look counts none: they ended before this process began."""

    def __init__(self) -> None:
        self.numbers: dict[tuple[str, str], int] = {}
        self._known: dict[str, datetime] = {}
        self._looked: datetime | None = None

    def since(self, now: datetime) -> datetime:
        """From when on to ask for ended runs."""
        return (self._looked or now) - _OVERLAP

    def add(self, runs: Iterable[monitoring.EndedRun], now: datetime) -> None:
        """Count the runs that were not known."""
        is_first, since = self._looked is None, self.since(now)
        self._known = {run_id: seen for run_id, seen in self._known.items() if seen >= since}
        for run in runs:
            if run.run_id not in self._known and not is_first:
                key = run.job, run.status
                self.numbers[key] = self.numbers.get(key, 0) + 1
            self._known[run.run_id] = now
        self._looked = now


def _quantiles(name: str, text: str, labels: Labels, found: Iterable[tuple[Labels, Sequence[float]]]) -> GaugeMetricFamily:
    samples = [((*own, f"{q:g}"), value) for own, values in found for q, value in zip(monitoring.QUANTILES, values, strict=True)]
    return _gauge(name, text, (*labels, "quantile"), samples)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _now() -> datetime:
    return datetime.now(UTC)
