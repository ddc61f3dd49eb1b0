"""The files for Prometheus, Alertmanager and Grafana: valid, and each of their expressions finds its series.

The real Prometheus scrapes the API over the small registry, and the real node exporter. Grafana is in no package here:
its boards are checked as files and by their expressions, and nobody saw them drawn.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import httpx2
import pytest
import yaml
from dagster._daemon.types import DaemonHeartbeat
from sqlalchemy import update

from dsa110_assets.cli.services import free_port, project_file
from dsa110_assets.registry import queries
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries import monitoring
from dsa110_assets.registry.schema import EpochFactor, GroupState, MeasurementSetRow, StoredPart, TileStage
from dsa110_assets.stages.operations.alert_rules import words_of
from dsa110_assets.stages.operations.alert_table import KINDS, FoundBy, Severity
from dsa110_assets_tests.api.conftest import GROUPS, HOUR, fill, serving
from dsa110_assets_tests.deploy.conftest import DEPLOY, running_alertmanager, running_exporter, running_prometheus
from dsa110_assets_tests.docs.named_commands import ROOT
from dsa110_assets_tests.registry_fixture import add_observation
from dsa110_assets_tests.stages.test_alerts import Webhook

BOARDS = sorted((DEPLOY / "grafana/dashboards").glob("*.json"))
OPEN_ONLY = {kind.rule.value for kind in KINDS.values() if kind.found_by is not FoundBy.PROMETHEUS}
"""Expressions that have a series only while an alert is open; `test_alert_rules` opens each of them."""


def board(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def expressions() -> dict[str, str]:
    """All expressions of rules and boards, and where they stand. Of an alert: its value, without the comparison."""
    found = {kind.rule.value: f"alert {kind.name}" for kind in KINDS.values()}
    for group in yaml.safe_load((DEPLOY / "prometheus/recording.yml").read_text())["groups"]:
        found |= {rule["expr"]: f"record {rule['record']}" for rule in group["rules"]}
    for path in BOARDS:
        for panel in board(path)["panels"]:
            found |= {target["expr"]: f"{path.name}: {panel['title']}" for target in panel["targets"]}
    return found


@pytest.fixture
def platform(database, registry_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The port of an API over the small registry, with something of everything, and a daemon that lives."""
    config = registry_config.model_copy(update={"api_port": free_port(), "alert_delivery": "prometheus", "min_free_gib": 1.0})
    fill(database, config)
    now = datetime.now(UTC)
    today = now.timestamp() / 86400 + 40587
    with database.session() as session:
        session.execute(update(MeasurementSetRow).values(mid_mjd=today - 0.1))
        add_observation(session, "2026-03-01T06:00:00", state=GroupState.PENDING, stage=TileStage.RAW)
        queries.register_epoch(session, HOUR)
        session.execute(update(EpochFactor).values(time_mjd=today - 0.1, factor=1.01, factor_err=0.01, n_reference=9, usable=True))
        record_version(session, "tile_image", GROUPS[0], inputs={}, recipe=Recipe("code", "settings"), duration_s=12.5)
        size = shutil.disk_usage(config.scratch_dir).free // 10
        for age in range(1, 8):
            made = now - timedelta(days=age)
            session.add(StoredPart(product="hourly_mosaic", key=str(age), rule="hourly_images", path="/x", size_bytes=size, made_at=made))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(config.state_dir))
    home = tmp_path / "dagster-home"
    home.mkdir()
    (home / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.wipe_daemon_heartbeats()
        for name in monitoring.DAEMONS:
            instance.add_daemon_heartbeat(DaemonHeartbeat(now.timestamp(), name, "a-daemon"))
    with serving(config):
        yield config.api_port


@pytest.fixture
def prometheus(platform: int, programs: Callable[..., str], tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that scrapes the API and a node exporter each second."""
    del programs
    with running_exporter(tmp_path) as node, running_prometheus(tmp_path, {"dsa110": platform, "node": node}, every="1s") as url:
        yield url


def ask(url: str, expression: str) -> list[dict[str, Any]]:
    answer = httpx2.get(f"{url}/api/v1/query", params={"query": expression}, trust_env=False)
    assert answer.status_code == 200, (expression, answer.text)
    return answer.json()["data"]["result"]


def test_every_expression_of_rules_and_boards_finds_its_series(prometheus: str, platform: int) -> None:
    for _ in range(3):
        assert httpx2.get(f"http://127.0.0.1:{platform}/api/status", trust_env=False).status_code == 200
    missing = expressions()
    assert len(missing) > 70
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and set(missing) - OPEN_ONLY:
        time.sleep(0.5)
        missing = {one: where for one, where in missing.items() if not ask(prometheus, one)}
    assert {where for one, where in missing.items() if one not in OPEN_ONLY} == set()
    values = ask(prometheus, 'dsa110_tile_check{check="flux_ratio_to_catalog",spread="median"}')
    assert [float(one["value"][1]) for one in values] == [2.0], "figures arrive as the registry has them"
    active = httpx2.get(f"{prometheus}/api/v1/rules", trust_env=False).json()["data"]["groups"]
    health = {rule["name"]: rule["health"] for group in active for rule in group["rules"]}
    assert set(health.values()) == {"ok"}, health
    assert {"observation-failed", "new-candidate"} <= {
        rule["name"] for group in active for rule in group["rules"] if rule.get("state") in ("pending", "firing")
    }, "what is open in the small registry is an alert"


def test_the_files_are_valid(programs: Callable[..., str]) -> None:
    assert "SUCCESS" in programs("promtool", "check", "config", DEPLOY / "prometheus/prometheus.yml")
    assert "SUCCESS" in programs(
        "promtool", "check", "rules", "--lint-fatal", DEPLOY / "prometheus/alerts.yml", DEPLOY / "prometheus/recording.yml"
    )
    assert "SUCCESS" in programs("amtool", "check-config", DEPLOY / "alertmanager/alertmanager.yml")


def test_each_alert_has_somebody_who_is_told(programs: Callable[..., str]) -> None:
    receivers = {Severity.PAGE: "page", Severity.NOTICE: "chat", Severity.NEWS: "news"}
    for kind in KINDS.values():
        labels = (f"alertname={kind.name}", f"severity={kind.severity.value}")
        to = programs("amtool", "config", "routes", "test", f"--config.file={DEPLOY / 'alertmanager/alertmanager.yml'}", *labels)
        assert to.splitlines()[0] == receivers[kind.severity], kind.name
    called = {name for name, kind in KINDS.items() if kind.severity is Severity.PAGE}
    assert called >= {"daemon-dead", "disk-full-soon", "no-data", "flux-scale", "behind"}


def test_alertmanager_sends_what_happened_and_the_next_step_and_that_it_passed(programs: Callable[..., str], tmp_path: Path) -> None:
    del programs
    page, chat = Webhook(), Webhook()
    kind = KINDS["disk-full-soon"]
    words = {name: text.replace("{{ $labels.directory }}", "output") for name, text in words_of(kind).items()}
    alert = {"labels": {"alertname": kind.name, "severity": "page", "instance": "x"}, "annotations": words}
    with running_alertmanager(tmp_path, page.url, chat.url, group_wait="0s", group_interval="1s") as port:  # nobody waits for a test
        for ends in (datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC)):
            before = len(page.received)
            body = [{**alert, "endsAt": ends.isoformat()}]
            assert httpx2.post(f"http://127.0.0.1:{port}/api/v2/alerts", json=body, trust_env=False).status_code == 200
            deadline = time.monotonic() + 30
            while len(page.received) == before:
                assert time.monotonic() < deadline, (tmp_path / "alertmanager.log").read_text()
                time.sleep(0.1)
    fired, passed = (one["attachments"][0] for one in page.received)
    assert fired["title"] == "DSA-110 pipeline: disk-full-soon"
    assert "the disk of the directory output will be full within three days" in fired["text"]
    assert f"Next: {words['next_step']}" in fired["text"]
    assert passed["title"] == "DSA-110 pipeline: disk-full-soon passed"
    assert chat.received == []
    for webhook in (page, chat):
        webhook.server.shutdown()
        webhook.server.server_close()


def test_there_are_four_boards_with_complete_panels() -> None:
    assert [path.stem for path in BOARDS] == ["api", "machines", "pipeline", "quality"]
    sources = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/dsa110.yml").read_text())["datasources"]
    known = {(one["type"], one["uid"]) for one in sources}
    seen: set[str] = set()
    for path in BOARDS:
        found = board(path)
        assert found["uid"] not in seen
        seen.add(found["uid"])
        assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in found["panels"]:
            assert panel["title"]
            assert panel["description"].endswith((".", "`.")), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            place = panel["gridPos"]
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
            assert max(x for x, _ in cells) < 24
            assert not cells & taken, panel["title"]
            taken |= cells
            for one in (panel, *panel["targets"]):
                assert (one["datasource"]["type"], one["datasource"]["uid"]) in known
    quality = {target["expr"] for panel in board(DEPLOY / "grafana/dashboards/quality.json")["panels"] for target in panel["targets"]}
    for subject in ("noise_over_thermal", "flux_ratio_to_catalog", "position_offset_arcsec", "dsa110_flagged_fraction"):
        assert any(subject in one for one in quality), subject


def test_the_operators_page_names_every_figure_of_the_platform() -> None:
    page = (ROOT / "docs/operators/metrics.md").read_text()
    source = (ROOT / "dsa110_assets/api/metrics.py").read_text()
    figures = set(re.findall(r'"((?:dsa110|dagster)_\w+)",? *\n? *f?"', source))
    assert len(figures) > 30
    assert {one for one in figures if f"`{one}" not in page} == set()
    named = set(re.findall(r"`((?:dsa110|dagster)_\w+)`", page))
    assert {one.removesuffix("_total") for one in named} - {"dsa110_assets"} == figures
