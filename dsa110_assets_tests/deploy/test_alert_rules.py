"""Each alert of the table appears in Prometheus when its condition has lasted, and disappears with it.

Each condition is made by rows as they would come, backdated. What `/metrics` then says goes through the rules of
`deploy/prometheus/alerts.yml` in Prometheus' own test of rules, which runs through days in moments. No rule is
shortened.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from sqlalchemy import update

from dsa110_assets.api.access import Access, Remembered
from dsa110_assets.api.app import create_app
from dsa110_assets.api.metrics import PlatformMetrics
from dsa110_assets.cli.services import free_port, project_file
from dsa110_assets.common import earth_rotation
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import monitoring, workers
from dsa110_assets.registry.queries.labels import label_event
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import (
    CandidateEvent,
    GroupState,
    IngestGroup,
    QaMetric,
    Source,
    StoredPart,
    SubbandFile,
    TileStage,
    WorkerRow,
)
from dsa110_assets.stages.operations import attention, disk, services
from dsa110_assets.stages.operations.alert_rules import rules_file, words_of
from dsa110_assets.stages.operations.alert_table import KINDS, NOT_FRESH, RUN_FAILED, Alert, AlertKind, FoundBy, platform_kinds
from dsa110_assets_tests.docs.named_commands import ROOT
from dsa110_assets_tests.registry_fixture import add_observation, empty
from dsa110_assets_tests.stages.test_gates import add_image

RULES = ROOT / "deploy/prometheus/alerts.yml"
TARGET = {"instance": "127.0.0.1:8000", "job": "dsa110"}
NOW = datetime.now(UTC)
GROUP = f"{NOW - timedelta(days=2):%Y-%m-%d}T05:03:21"


@dataclass
class Place:
    """A platform in which conditions are made, and its `/metrics`."""

    database: Database
    config: PipelineConfig
    home: Path
    patch: pytest.MonkeyPatch
    group_id: str = GROUP

    @cached_property
    def app(self) -> Any:
        return create_app(self.config)

    def scrape(self, settings: dict[str, object], *, alerts_only: bool = False) -> dict[str, float]:
        """Samples as Prometheus keeps them, by series. Nothing is remembered from earlier."""
        state = self.app.state
        state.access = Access(self.config.model_copy(update=settings))
        state.alerts, state.forecast, state.queue = Remembered(1.0), Remembered(1.0), Remembered(1.0)
        registry = CollectorRegistry()
        collector = PlatformMetrics(self.app)
        if alerts_only:
            collector._parts = tuple(part for part in collector._parts if part.name == "alerts")
        registry.register(collector)
        text = generate_latest(registry).decode()
        state.access.close()
        return {
            series(one.name, {**one.labels, **TARGET}): one.value
            for family in text_string_to_metric_families(text)
            for one in family.samples
        }

    def change(self, **values: object) -> None:
        """Change the observation."""
        with self.database.session() as session:
            for name, value in values.items():
                setattr(session.get_one(IngestGroup, self.group_id), name, value)

    def add(self, state: GroupState = GroupState.COMPLETED, stage: TileStage = TileStage.IMAGED, **values: object) -> None:
        """Add the observation."""
        with self.database.session() as session:
            add_observation(session, self.group_id, state=state, stage=stage)
        self.change(**values)


def series(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()) if value)  # as Prometheus, which drops empty labels
    return f"{name}{{{inside}}}"


Provoked = Iterator[dict[str, object]]
"""Settings of the platform while the condition lasts, then when it has passed."""


def disk_low(_: Place) -> Provoked:
    yield {"min_free_gib": 1e9}
    yield {}


def disk_fills(place: Place) -> Provoked:
    """A week of products of which two more weeks do not fit; then they are kept for three days only."""
    free = shutil.disk_usage(place.config.scratch_dir).free - place.config.min_free_gib * disk.GIB
    with place.database.session() as session:
        for age in range(1, 8):
            made, size = NOW - timedelta(days=age), int(free / 9.5)
            session.add(StoredPart(product="hourly_mosaic", key=str(age), rule="hourly_images", path="/x", size_bytes=size, made_at=made))
    yield {}
    yield {"keep_hourly_images_days": 3.0}


def observation_failed(place: Place) -> Provoked:
    place.add(GroupState.FAILED, error="tile: all data are flagged", error_type="ImagingError")
    yield {}
    place.change(state=GroupState.COMPLETED.value)
    yield {}


def behind(place: Place) -> Provoked:
    place.add(GroupState.PENDING, TileStage.RAW, pending_at=NOW - timedelta(minutes=61))
    yield {}
    place.change(state=GroupState.COMPLETED.value)
    yield {}


def no_data(place: Place) -> Provoked:
    place.add(last_file_at=NOW - timedelta(minutes=121))
    yield {}
    place.change(last_file_at=NOW)
    yield {}


def input_unreadable(place: Place) -> Provoked:
    missing = place.home / "unmounted"
    yield {"input_dir": missing}
    missing.mkdir()
    yield {"input_dir": missing}


def flux_scale(place: Place) -> Provoked:
    """Twelve good tiles whose fluxes are 6 percent low; then they are made with a new solution."""
    for number in range(12):
        group_id = f"{GROUP[:11]}06:{5 * number:02d}:00"
        add_image(place.database, group_id, place.home / group_id)
        with place.database.session() as session:
            session.get_one(IngestGroup, group_id).completed_at = NOW - timedelta(hours=1)
            upsert_qa_metric(session, "tile_image", group_id, "flux_ratio_to_catalog", 0.94, passed=True)
    yield {}
    with place.database.session() as session:
        session.execute(update(QaMetric).where(QaMetric.metric == "flux_ratio_to_catalog").values(value=0.99))
    yield {}


def earth_rotation_ends(place: Place) -> Provoked:
    with place.patch.context() as patch:
        patch.setattr(earth_rotation, "table_end", lambda: NOW + timedelta(days=59))  # as an older table
        yield {}
    yield {}


def files_refused(place: Place) -> Provoked:
    path = "/in/notes.hdf5"
    with place.database.session() as session:
        session.add(SubbandFile(path=path, state="rejected", reason="name: no raw file", size_bytes=5, mtime_ns=1))
    yield {}
    with place.database.session() as session:
        session.get_one(SubbandFile, path).state = "gone"
    yield {}


def tiles_refused(place: Place) -> Provoked:
    add_image(place.database, GROUP, place.home / GROUP, bad="noise_over_thermal")
    place.change(completed_at=NOW - timedelta(hours=1))
    yield {}
    with place.database.session() as session:
        upsert_qa_metric(session, "tile_image", GROUP, "noise_over_thermal", 1.1, passed=True)
    yield {}


def waiting_for_calibration(place: Place) -> Provoked:
    place.add(GroupState.PENDING, TileStage.AWAITING_CALIBRATION, updated_at=NOW - timedelta(hours=25))
    yield {}
    place.change(stage=TileStage.CALIBRATED.value)
    yield {}


def stuck(place: Place) -> Provoked:
    place.add(GroupState.COLLECTING, TileStage.RAW, updated_at=NOW - timedelta(hours=13))
    yield {}
    place.change(state=GroupState.COMPLETED.value)
    yield {}


def held_up(place: Place) -> Provoked:
    place.add(GroupState.PENDING, error_type="DiskFullError", error="tile: the disk is full", pending_at=NOW)
    yield {}
    place.change(state=GroupState.COMPLETED.value)
    yield {}


def run_deleted(place: Place) -> Provoked:
    place.add(GroupState.PENDING, error_type="RunDeletedError", error="its run was deleted", pending_at=NOW)
    yield {}
    place.change(state=GroupState.COMPLETED.value)
    yield {}


def service_restarted(place: Place) -> Provoked:
    for age in (10, 61):  # minutes
        for kept in place.config.state_dir.glob("restarts*"):
            kept.unlink()
        services.record_restart(place.config, services.Restart("api", datetime.now(UTC) - timedelta(minutes=age), "exit code -9"))
        yield {}


def _recorded(place: Place, alert: Alert) -> Provoked:
    """What the sensor `alerts` finds in Dagster and records; `test_panel` makes the sensor find it."""
    for found in ([alert], []):
        with place.database.session() as session:
            attention.record(session, found, datetime.now(UTC))
        yield {}


def not_fresh(place: Place) -> Provoked:
    return _recorded(place, NOT_FRESH.alert("tile_image/error", level="error", page="/ui/images", asset="tile_image", state="fail"))


def run_failed(place: Place) -> Provoked:
    return _recorded(place, RUN_FAILED.alert("a-run", page="/ui/control-panel/runs/a-run/log", what="hour", cause="x", run="a-run"))


def new_candidate(place: Place) -> Provoked:
    with place.database.session() as session:
        source = Source(name="J0800+1600", ra_deg=120.0, dec_deg=16.0, origin="nvss")
        session.add(source)
        session.flush()
        event = CandidateEvent(
            source_id=source.source_id, kind="dip", peak_mjd=61_000, first_mjd=60_999, last_mjd=61_001, depth=0.5, score=6,
            first_night=date(2026, 3, 1),
        )  # fmt: skip
        session.add(event)
        session.flush()
        event_id = event.event_id
    yield {}
    with place.database.session() as session:
        label_event(session, event_id=event_id, person="J. Doe", label="ese", comment=None)
    yield {}


def add_worker(place: Place, **values: object) -> None:
    row = {"worker": "host7:4711", "host": "host7", "boot_id": "x", "pid": 4711, "queue": "dsa110-pipeline", "slots": 4, "version": "a-b"}
    with place.database.session() as session:
        session.add(WorkerRow(**row, **values))


def worker_silent(place: Place) -> Provoked:
    """A host is switched off; then its worker begins again."""
    add_worker(place, beat_at=datetime.now(UTC) - timedelta(seconds=61))
    yield {}
    with place.database.session() as session:
        workers.beat(session, "host7:4711", [], None)
    yield {}


def worker_refuses(place: Place) -> Provoked:
    add_worker(place, refusal="its code is 0123, the platform's is 4567")
    yield {}
    with place.database.session() as session:
        workers.beat(session, "host7:4711", [], None)
    yield {}


def registry_dead(_: Place) -> Provoked:
    yield {"database_url": SecretStr(f"postgresql://nobody@127.0.0.1:{free_port()}/none")}
    yield {}


def heartbeats(place: Place, late: dict[str, float]) -> None:
    with dg.DagsterInstance.from_config(str(place.home / "dagster-home")) as instance:
        instance.wipe_daemon_heartbeats()
        for name in monitoring.DAEMONS:
            instance.add_daemon_heartbeat(DaemonHeartbeat(datetime.now(UTC).timestamp() - late.get(name, 0.0), name, "a-daemon"))


def daemon_dead(place: Place) -> Provoked:
    heartbeats(place, dict.fromkeys(monitoring.DAEMONS, 301.0))
    yield {}
    heartbeats(place, {})
    yield {}


def daemon_hangs(place: Place) -> Provoked:
    heartbeats(place, {"SENSOR": 301.0})
    yield {}
    heartbeats(place, {})
    yield {}


def figures_missing(place: Place) -> Provoked:
    """A server on which Dagster has never run."""
    with place.patch.context() as patch:
        patch.setattr("dsa110_assets.registry.server.DAGSTER_DATABASE", "never-made")
        yield {}
    yield {}


PROVOKED: dict[str, Callable[[Place], Provoked]] = {
    "disk-low": disk_low,
    "disk-fills": disk_fills,
    "held-up": held_up,
    "observation-failed": observation_failed,
    "run-deleted": run_deleted,
    "service-restarted": service_restarted,
    "behind": behind,
    "no-data": no_data,
    "input-unreadable": input_unreadable,
    "flux-scale": flux_scale,
    "earth-rotation": earth_rotation_ends,
    "files-refused": files_refused,
    "tiles-refused": tiles_refused,
    "waiting-for-calibration": waiting_for_calibration,
    "stuck": stuck,
    "not-fresh": not_fresh,
    "run-failed": run_failed,
    "new-candidate": new_candidate,
    "worker-silent": worker_silent,
    "worker-refuses": worker_refuses,
    "registry-dead": registry_dead,
    "daemon-dead": daemon_dead,
    "daemon-hangs": daemon_hangs,
    "figures-missing": figures_missing,
}
BY_PROMETHEUS_ITSELF = {"api-dead", "disk-full-soon"}
"""Of the first Prometheus writes the series; the second is a change over days."""
QUIET, PASSED = 5, 10
"""Minutes before and after a condition."""


@pytest.fixture
def place(database: Database, registry_config: PipelineConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(registry_config.state_dir))
    home = tmp_path / "dagster-home"
    home.mkdir()
    (home / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    settings = {"alert_delivery": "prometheus", "min_free_gib": 1.0, "alert_disk_days": 14.0}
    one = Place(database, registry_config.model_copy(update=settings), tmp_path, monkeypatch)
    heartbeats(one, {})
    return one


def minutes(duration: str) -> int:
    return int(duration[:-1]) * {"m": 1, "h": 60}[duration[-1]]


def used_by(kind: AlertKind, samples: dict[str, float]) -> dict[str, float]:
    """Samples of the metrics that a rule names."""
    names = set(re.findall(r"\b(?:dsa110|dagster)_\w+", kind.rule.value))
    return {
        one: value
        for one, value in samples.items()
        if one.partition("{")[0] in names and ("kind=" not in one or f'kind="{kind.name}"' in one)
    }


def case(kind: AlertKind, lasting: dict[str, float], passed: dict[str, float]) -> tuple[dict[str, Any], set[str]]:
    """A test of a rule from what /metrics says while the condition lasts and afterwards; the series that differ."""
    lasts = minutes(kind.rule.lasts)
    told = lasts + 5
    values = {
        one: f"{_steady(passed.get(one), QUIET)} {_steady(lasting.get(one), told)} {_steady(passed.get(one), PASSED)}"
        for one in lasting | passed
    }
    bad = {one for one in lasting if lasting[one] != passed.get(one)}
    return _test(kind, values, "1m", bad, before=QUIET + lasts - 1, during=QUIET + lasts + 2, after=QUIET + told + 5), bad


def _steady(value: float | None, length: int) -> str:
    return " ".join(["stale" if value is None else repr(value)] * length)


def _test(kind: AlertKind, values: dict[str, str], interval: str, bad: set[str], *, before: int, during: int, after: int) -> dict[str, Any]:
    labels = [dict(re.findall(r'(\w+)="([^"]*)"', one)) for one in sorted(bad)]
    if kind.rule.value.startswith("max by"):
        labels = [TARGET]
    expected = [
        {
            "exp_labels": {**one, "severity": kind.severity.value},
            "exp_annotations": {
                name: re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found, one=one: one.get(found[1], ""), text)
                for name, text in words_of(kind).items()
            },
        }
        for one in labels
    ]
    return {
        "interval": interval,
        "input_series": [{"series": one, "values": text} for one, text in values.items()],
        "alert_rule_test": [
            {"eval_time": f"{minute}m", "alertname": kind.name, "exp_alerts": alerts}
            for minute, alerts in ((before, []), (during, expected), (after, []))
        ],
    }


def dead_api() -> dict[str, Any]:
    """The API does not answer, and answers again."""
    return case(KINDS["api-dead"], {series("up", TARGET): 0.0}, {series("up", TARGET): 1.0})[0]


def filling_disk(samples: dict[str, float]) -> dict[str, Any]:
    """A disk loses two fifths of its space in a day, after a quiet one, and is then cleaned."""
    free = next(one for one in samples if one.startswith("dsa110_disk_free_bytes") and 'directory="output"' in one)
    reserve = next(one for one in samples if one.startswith("dsa110_disk_reserve_bytes"))
    day, full = 24 * 12, 2e12  # a sample each five minutes
    values = {
        free: f"{full:.0f}+0x{day} {full:.0f}-{full / 2.5 / day:.0f}x{day} {full:.0f}+0x{2 * day}",
        reserve: f"{samples[reserve]:.0f}+0x{4 * day}",
    }
    hours = {"before": 24, "during": 47, "after": 94}
    return _test(KINDS["disk-full-soon"], values, "5m", {free}, **{when: 60 * hour for when, hour in hours.items()})


def passes(programs: Callable[..., str], file: Path, every: str, tests: list[dict[str, Any]]) -> bool:
    """Whether Prometheus' test of the rules succeeds."""
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": every, "tests": tests}, width=1000))
    return "SUCCESS" in programs("promtool", "test", "rules", file)


def test_each_alert_fires_when_its_condition_has_lasted_and_clears(place: Place, programs: Callable[..., str]) -> None:
    tests: list[dict[str, Any]] = []
    samples: dict[str, float] = {}
    for name, provoke in PROVOKED.items():
        empty(place.database.url)
        kind, states = KINDS[name], []
        for settings in provoke(place):
            samples = place.scrape(settings, alerts_only=kind.found_by is not FoundBy.PROMETHEUS)
            states.append(used_by(kind, samples))
        test, bad = case(kind, *states)
        assert bad, f"{name} was not provoked"
        tests.append(test)
    tests.append(dead_api())
    slow = filling_disk(samples)
    assert {test["alert_rule_test"][0]["alertname"] for test in (*tests, slow)} == set(KINDS)
    assert passes(programs, place.home / "minutes.yml", "1m", tests)
    assert passes(programs, place.home / "days.yml", "5m", [slow])


def test_every_kind_is_provoked() -> None:
    assert set(PROVOKED) | BY_PROMETHEUS_ITSELF == set(KINDS)
    assert not set(PROVOKED) & BY_PROMETHEUS_ITSELF


def test_the_rules_are_those_of_the_table() -> None:
    assert RULES.read_text() == rules_file(), "`make rules` writes the file"


def test_with_the_webhook_prometheus_has_no_alert_of_the_platform(place: Place) -> None:
    """Only one of the two delivers: the rules match what /metrics says with `prometheus`, and not with `webhook`."""
    place.add(GroupState.FAILED)
    matched = 'delivered_by="prometheus"'
    for delivery in ("webhook", "prometheus"):
        (found,) = [one for one in place.scrape({"alert_delivery": delivery}) if one.startswith("dsa110_alert{")]
        assert (matched in found) == (delivery == "prometheus")
    for name in platform_kinds():
        assert matched in KINDS[name].rule.expression
    assert all("dsa110_alert" not in kind.rule.value for kind in KINDS.values() if kind.found_by is FoundBy.PROMETHEUS)
