"""Figures at /metrics are those of the registry and of Dagster, each part by itself, at a cost that does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest
from dagster._daemon.types import DaemonHeartbeat
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text, update

from dsa110_assets.api.app import create_app
from dsa110_assets.api.metrics import HEARTBEAT_LATE, PlatformMetrics
from dsa110_assets.cli.services import project_file
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries import monitoring
from dsa110_assets.registry.schema import IngestGroup, MeasurementSetRow
from dsa110_assets.registry.server import dagster_url
from dsa110_assets.stages.operations.alert_table import platform_kinds
from dsa110_assets_tests.api.conftest import GROUPS, Served
from dsa110_assets_tests.orchestration.work_counter import WorkCounter

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(served: Served) -> Samples:
    """All samples of a new application, which remembers nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(served.client, "app", create_app(served.config))
        served.client._transport.app = served.client.app
        return samples(served.get("/metrics").text)


def samples(exposition: str) -> Samples:
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(exposition)
        for one in family.samples
    }


def at(found: Samples, name: str, **labels: str) -> float:
    return found[name, tuple(sorted(labels.items()))]


@pytest.fixture
def instance(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """Dagster's instance of the platform's `dagster.yaml`, without runs and heartbeats, on the registry's server."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", served.database.url)
    monkeypatch.setenv("PIPELINE_STATE_DIR", str(served.config.state_dir))
    home = tmp_path / "dagster-home"
    home.mkdir()
    (home / "dagster.yaml").write_text(project_file("dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(home)) as found:
        found.wipe_daemon_heartbeats()
        with Database(dagster_url(served.config)).session() as session:
            session.execute(text("DELETE FROM runs"))
        yield found


def test_figures_are_those_of_the_registry(served: Served) -> None:
    done = datetime.now(UTC)
    with served.database.session() as session:
        for group_id in GROUPS:
            row = session.get_one(IngestGroup, group_id)
            row.end_mjd = (done - timedelta(minutes=20)).timestamp() / 86400 + 40587
            row.completed_at, row.last_file_at = done, done
        session.execute(update(MeasurementSetRow).values(mid_mjd=row.end_mjd))
        record_version(session, "tile_image", GROUPS[0], inputs={}, recipe=Recipe("code", "settings"), duration_s=12.5)
    found = scrape(served)
    assert at(found, "dsa110_registry_up") == 1
    assert at(found, "dsa110_observations", state="failed") == 1
    assert at(found, "dsa110_observation_delay_seconds", quantile="0.5") == pytest.approx(1200, abs=1)
    assert at(found, "dsa110_stage_duration_seconds", product="tile_image", quantile="0.9") == 12.5
    assert at(found, "dsa110_last_file_timestamp_seconds") == pytest.approx(done.timestamp(), abs=0.01)
    assert at(found, "dsa110_tile_check", check="noise_over_thermal", spread="median") == 2
    assert at(found, "dsa110_tile_check_bad", check="dynamic_range") == 1
    assert at(found, "dsa110_tiles_last_day", verdict="good") == 2
    assert at(found, "dsa110_flagged_fraction") == pytest.approx(0.1)
    middle = datetime(2026, 3, 1, 5, 5, 18, tzinfo=UTC) + timedelta(seconds=154.5)
    assert at(found, "dsa110_newest_good_image_timestamp_seconds") == pytest.approx(middle.timestamp(), abs=0.01), "the third is refused"
    assert at(found, "dsa110_disk_size_bytes", directory="input") > at(found, "dsa110_disk_free_bytes", directory="input") > 0
    assert at(found, "dsa110_disk_reserve_bytes") == served.config.min_free_gib * 2**30


def test_open_alerts_are_counted_and_each_has_a_series_until_it_is_acknowledged(served: Served) -> None:
    found = scrape(served)
    assert {dict(labels)["kind"] for name, labels in found if name == "dsa110_open_alerts"} == set(platform_kinds())
    assert at(found, "dsa110_open_alerts", kind="observation-failed", level="error") == 1
    (key,) = [dict(labels)["key"] for name, labels in found if name == "dsa110_alert" and dict(labels)["kind"] == "observation-failed"]
    body = {"key": key, "reason": "known"}
    assert served.client.post("/api/alerts/acknowledge", json=body, headers=served.headers).status_code == 204
    found = scrape(served)
    assert at(found, "dsa110_open_alerts", kind="observation-failed", level="error") == 0
    assert at(found, "dsa110_acknowledged_alerts") == 1
    assert key not in [dict(labels).get("key") for _, labels in found]


def test_the_daemons_heartbeats_are_those_that_dagster_knows(served: Served, instance: dg.DagsterInstance) -> None:
    assert set(monitoring.DAEMONS) == set(instance.get_required_daemon_types())
    assert [at(scrape(served), "dagster_daemon_healthy", daemon_type=one) for one in monitoring.DAEMONS] == [0.0] * len(monitoring.DAEMONS)
    moment = datetime.now(UTC).timestamp()
    late = moment - HEARTBEAT_LATE.total_seconds() - 1
    for daemon, beat in (("SENSOR", moment), ("SCHEDULER", late)):
        instance.add_daemon_heartbeat(DaemonHeartbeat(beat, daemon, "a-daemon"))
    found = scrape(served)
    assert at(found, "dagster_daemon_healthy", daemon_type="SENSOR") == 1
    assert at(found, "dagster_daemon_healthy", daemon_type="SCHEDULER") == 0
    for daemon, one in instance.get_daemon_heartbeats().items():
        seen = at(found, "dagster_daemon_last_heartbeat_timestamp_seconds", daemon_type=daemon)
        assert seen == pytest.approx(one.timestamp, abs=1e-3)


def test_runs_are_those_that_dagster_counts_and_each_end_is_counted_once(served: Served, instance: dg.DagsterInstance) -> None:
    @dg.job(name="hour")
    def work() -> None:
        pass

    def new_run() -> dg.DagsterRun:
        return instance.create_run_for_job(work, status=dg.DagsterRunStatus.STARTED)

    collector = PlatformMetrics(served.client.app)

    def look() -> Samples:
        return {(one.name, tuple(sorted(one.labels.items()))): one.value for family in collector._dagster() for one in family.samples}

    before, first, second = new_run(), new_run(), new_run()
    instance.report_run_failed(before)
    metrics = look()
    assert at(metrics, "dagster_active_runs", job_name="hour", status="STARTED") == 2
    assert instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])) == 2
    assert at(metrics, "dagster_completed_runs_total", job_name="hour", status="FAILURE") == 0, "it ended before the first look"
    instance.report_run_failed(first)
    instance.report_run_canceled(second)
    look()
    metrics = look()
    assert at(metrics, "dagster_completed_runs_total", job_name="hour", status="FAILURE") == 1
    assert at(metrics, "dagster_completed_runs_total", job_name="hour", status="CANCELED") == 1
    assert at(metrics, "dagster_active_runs", job_name="hour", status="STARTED") == 0


def test_a_part_that_cannot_be_found_does_not_hide_the_others(served: Served, instance: dg.DagsterInstance) -> None:
    assert at(scrape(served), "dsa110_part_found", part="dagster") == 1
    with Database(dagster_url(served.config)).session() as session:
        session.execute(text("ALTER TABLE daemon_heartbeats RENAME TO gone"))
    try:
        found = scrape(served)
    finally:
        with Database(dagster_url(served.config)).session() as session:
            session.execute(text("ALTER TABLE gone RENAME TO daemon_heartbeats"))
    parts = {dict(labels)["part"]: value for (name, labels), value in found.items() if name == "dsa110_part_found"}
    assert [part for part, value in parts.items() if not value] == ["dagster"]
    assert len(parts) == 8


def test_what_is_asked_of_dagster_does_not_grow_with_its_history(served: Served, instance: dg.DagsterInstance) -> None:
    url = dagster_url(served.config)
    counter, work = WorkCounter(url), []
    for runs in (5_000, 20_000):
        database = Database(url)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(
                "INSERT INTO runs (run_id, pipeline_name, status, run_body, create_timestamp, update_timestamp) SELECT gen_random_uuid()::text, 'tile', "
                "(ARRAY['SUCCESS', 'FAILURE', 'CANCELED'])[1 + n % 3], repeat('x', 200), now() - interval '3 days', now() - interval '2 days' "
                "FROM generate_series(1, :runs) n"
            ), {"runs": runs})  # fmt: skip
            connection.execute(text("VACUUM ANALYZE runs"))
        database.dispose()
        work.append(counter.work(lambda: scrape(served)))
    counter.close()
    few, many = work
    assert many.rows < 1.1 * few.rows + 150, work
    assert many.buffers < 1.3 * few.buffers + 100, work
