"""An alert is delivered once when a condition appears, and once when it has passed."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import SecretStr

from dsa110_assets.common import earth_rotation
from dsa110_assets.errors import AlertNotDeliveredError
from dsa110_assets.quality import gate
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import CalibrationApplied, GroupState, IngestGroup, TileStage
from dsa110_assets.stages.operations import alerts, disk, services
from dsa110_assets.stages.operations.alert_table import KINDS, Alert
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.queue import intake
from dsa110_assets_tests.registry_fixture import add_observation
from dsa110_assets_tests.stages.test_gates import add_image, borrow_tables

NOW = datetime(2026, 3, 12, 12, 0, tzinfo=UTC)
GROUP = "2026-03-12T05:03:21"


class Webhook:
    """A local HTTP server that returns a given status and records what it receives."""

    def __init__(self) -> None:
        self.answer = 200
        self.received: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                assert self.headers["Content-Type"] == "application/json"
                if outer.answer == 200:
                    outer.received.append(json.loads(body))
                self.send_response(outer.answer)
                self.end_headers()

            def log_message(self, *_arguments: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/services/secret-token"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def webhook():
    one = Webhook()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config.model_copy(update={"min_free_gib": 0.0}))


def _with(platform: Platform, **settings: object) -> Platform:
    return Platform(platform.config.model_copy(update=settings), platform.paths, platform.database)


def test_a_platform_without_problems_has_no_alerts(platform) -> None:
    assert alerts.conditions(platform, NOW) == []


def test_each_condition_is_reported_with_cause_and_next_step(platform) -> None:
    with platform.database.session() as session:
        failed = add_observation(session, GROUP, state=GroupState.FAILED)
        failed.error, failed.error_type, failed.updated_at = "tile: all data are flagged. look at the flags", "ImagingError", NOW
        waits = add_observation(session, "2026-03-10T05:03:21", state=GroupState.PENDING, stage=TileStage.AWAITING_CALIBRATION)
        waits.updated_at = NOW - timedelta(days=2)
        late = add_observation(session, "2026-03-12T05:08:30", state=GroupState.PENDING, stage=TileStage.RAW)
        late.pending_at = NOW - timedelta(hours=3)
    found = {alert.key.partition("/")[0]: alert for alert in alerts.conditions(_with(platform, min_free_gib=1e9), NOW)}
    assert set(found) == {"disk-low", "observation-failed", "waiting-for-calibration", "behind"}
    assert set(found) <= set(KINDS)
    assert "all data are flagged" in found["observation-failed"].title
    assert all(alert.next_step for alert in found.values())


def test_an_input_directory_that_cannot_be_listed_is_an_alert(platform, tmp_path: Path) -> None:
    (found,) = alerts.conditions(_with(platform, input_dir=tmp_path / "unmounted"), NOW)
    assert (found.key, found.level) == ("input-unreadable/input", "error")
    assert "unmounted does not exist" in found.title


@pytest.mark.parametrize(("days", "level"), [(61, None), (59, "warning"), (-1, "error")])
def test_the_end_of_the_earth_rotation_table_is_announced_two_months_before(platform, days: int, level: str | None) -> None:
    found = alerts.conditions(platform, earth_rotation.table_end() - timedelta(days=days))
    assert [(one.key, one.level) for one in found] == ([] if level is None else [("earth-rotation/table", level)])


@pytest.mark.parametrize(("hours", "found"), [(1.9, []), (2.1, ["no-data/input"]), (48, ["no-data/input"])])
def test_an_input_that_falls_silent_is_an_alert(platform, hours: float, found: list[str]) -> None:
    with platform.database.session() as session:
        add_observation(session, GROUP).last_file_at = NOW - timedelta(hours=hours)
    assert [one.key for one in alerts.conditions(platform, NOW)] == found


@pytest.mark.parametrize(
    ("ratios", "percent"),
    [
        ([0.94] * 12, "-6.0 %"),
        ([1.06] * 20, "+6.0 %"),
        ([0.96] * 12, None),
        ([0.94] * 11, None),
        ([0.99] * 8 + [0.5] * 7, None),
    ],
    ids=["five percent low", "high", "within", "too few tiles", "some bad tiles"],
)
def test_a_flux_scale_that_drifts_is_an_alert_though_each_tile_is_good(
    platform, tmp_path, ratios: list[float], percent: str | None
) -> None:
    for number, ratio in enumerate(ratios):
        group_id = f"2026-03-12T{number // 12:02d}:{number % 12 * 5:02d}:00"
        _refused(platform, tmp_path, group_id)
        with platform.database.session() as session:
            upsert_qa_metric(session, "tile_image", group_id, "flux_ratio_to_catalog", ratio, passed=True)
    found = [one.title for one in alerts.conditions(platform, NOW) if one.key == "flux-scale/tiles"]
    assert (percent is None) == (found == [])
    assert percent is None or percent in found[0]


@pytest.mark.parametrize(
    ("times", "key", "level"), [(1, "service-restarted/daemon/once", "warning"), (3, "service-restarted/daemon/often", "error")]
)
def test_a_service_that_ended_by_itself_is_an_alert_for_an_hour(platform, times: int, key: str, level: str) -> None:
    for number in range(times):
        services.record_restart(platform.config, services.Restart("daemon", NOW + timedelta(minutes=number), "was killed by signal 9"))
    (found,) = alerts.conditions(platform, NOW + timedelta(minutes=10))
    assert (found.key, found.level) == (key, level)
    assert "was killed by signal 9" in found.title
    assert alerts.conditions(platform, NOW + timedelta(minutes=70)) == []


def test_observations_that_wait_for_the_machine_are_one_alert_for_each_cause(platform) -> None:
    with platform.database.session() as session:
        for group_id, error_type in ((GROUP, "DiskFullError"), ("2026-03-12T05:08:30", "DiskFullError"), ("2026-03-12T05:13:39", "X")):
            group = add_observation(session, group_id, state=GroupState.PENDING, stage=TileStage.RAW)
            group.error_type, group.error, group.pending_at = error_type, "the disk is full (42 bytes free)", NOW
    (found,) = alerts.conditions(platform, NOW)
    assert (found.key, found.level) == ("held-up/DiskFullError", "error")
    assert found.title == "2 observations wait: the disk is full (42 bytes free)"


def _refused(platform: Platform, directory: Path, group_id: str, *bad: str, borrowed: bool = False) -> None:
    add_image(platform.database, group_id, directory / group_id)
    if borrowed:
        borrow_tables(platform.database, group_id)
    with platform.database.session() as session:
        for name in bad:
            upsert_qa_metric(session, "tile_image", group_id, name, 9.0, limit_high=2.0, passed=False, reason="measured")
        group = session.get_one(IngestGroup, group_id)
        group.state, group.completed_at = GroupState.COMPLETED, NOW - timedelta(hours=1)


def test_refused_tiles_are_one_alert_a_night_with_their_causes_and_a_next_step(platform, tmp_path) -> None:
    _refused(platform, tmp_path, "2026-03-12T05:03:21", "noise_over_thermal")
    _refused(platform, tmp_path, "2026-03-12T05:08:30", "noise_over_thermal", "flux_ratio_to_catalog")
    _refused(platform, tmp_path, "2026-03-12T05:13:39")
    _refused(platform, tmp_path, "2026-03-11T05:03:21", "position_offset_arcsec")
    first, second = alerts.conditions(platform, NOW)
    assert (first.key, first.title) == ("tiles-refused/2026-03-11", "mosaics leave out 1 of the tiles of 2026-03-11: astrometry (1)")
    assert second.title == "mosaics leave out 2 of the tiles of 2026-03-12: noise (2), flux scale (1)"
    assert second.next_step == gate.TILE_CHECKS["noise_over_thermal"].next_step + "; `dsa110 ingest status --refused` lists them"
    later = NOW + alerts.RECENT
    assert alerts.conditions(platform, later) == [], "older tiles are not reported"


def test_a_provisional_refusal_is_no_alert(platform, tmp_path) -> None:
    _refused(platform, tmp_path, GROUP, "flux_ratio_to_catalog", borrowed=True)
    assert alerts.conditions(platform, NOW) == []
    with platform.database.session() as session:
        session.get_one(CalibrationApplied, GROUP).applied_at -= gates.OWN_TABLES_WITHIN
    (alert,) = alerts.conditions(platform, NOW)
    assert alert.key == "tiles-refused/2026-03-12"


def test_an_alert_is_sent_once_and_its_end_once(platform, webhook) -> None:
    config = platform.config.model_copy(update={"alert_webhook_url": SecretStr(webhook.url)})
    one = Alert("behind/live", "warning", "3 observations wait", "look at the runs")
    new, passed = alerts.changes({}, [one])
    alerts.deliver(config, new, passed)
    assert webhook.received == [{"text": "DSA-110 pipeline\nwarning: 3 observations wait -> look at the runs"}]
    assert alerts.changes({one.key: one.title}, [one]) == ([], [])
    new, passed = alerts.changes({one.key: one.title}, [])
    alerts.deliver(config, new, passed)
    assert webhook.received[1:] == [{"text": "DSA-110 pipeline\npassed: 3 observations wait"}]
    alerts.deliver(config, [], [])
    assert len(webhook.received) == 2


def test_only_one_of_webhook_and_prometheus_delivers(platform, webhook, caplog) -> None:
    """With Prometheus the log still has the alert, and the webhook gets nothing. /metrics says who delivers."""
    config = platform.config.model_copy(update={"alert_webhook_url": SecretStr(webhook.url), "alert_delivery": "prometheus"})
    alerts.deliver(config, [Alert("behind/live", "error", "3 observations wait", "look at the runs")], [])
    assert webhook.received == []
    assert "3 observations wait" in caplog.text
    assert 'delivered_by="prometheus"' in KINDS["behind"].rule.expression
    assert config.alert_delivery == "prometheus" != platform.config.alert_delivery


def test_a_flood_is_one_message_of_bounded_length(platform, webhook) -> None:
    config = platform.config.model_copy(update={"alert_webhook_url": SecretStr(webhook.url)})
    alerts.deliver(config, [Alert(f"run-failed/{n}", "error", f"run {n} failed", "look") for n in range(200)], [])
    (message,) = webhook.received
    assert len(message["text"].splitlines()) == 2 + alerts.MOST_LINES
    assert message["text"].endswith("and 190 more")


def test_the_error_of_a_webhook_contains_no_secret(platform, webhook) -> None:
    webhook.answer = 500
    config = platform.config.model_copy(update={"alert_webhook_url": SecretStr(webhook.url)})
    with pytest.raises(AlertNotDeliveredError) as refused:
        alerts.deliver(config, [Alert("behind/live", "warning", "x", "y")], [])
    assert "500" in str(refused.value)
    assert "secret-token" not in str(refused.value)


def test_no_new_work_begins_on_a_nearly_full_disk(platform) -> None:
    """Files are still recorded, nothing is leased, and the reason names the next step."""
    assert disk.shortage(platform.config) is None
    full = _with(platform, min_free_gib=1e9, vla_calibrators_file=None)
    with platform.database.session() as session:
        from dsa110_assets.registry.queries.quality import upsert_reference_catalog

        for name in ("calibrator_catalog", "nvss_catalog"):
            upsert_reference_catalog(session, name=name, path=f"/{name}", origin="test", n_rows=1)
        add_observation(session, GROUP, state=GroupState.PENDING, stage=TileStage.RAW)
    report = intake.tick(full, most=5)
    assert report.works == ()
    assert "PIPELINE_MIN_FREE_GIB" in report.summary
    assert "dsa110 clean" in report.summary
    assert len(intake.tick(platform, most=5).works) == 1
