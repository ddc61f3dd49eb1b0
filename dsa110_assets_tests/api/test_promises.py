"""Pages, entity tags, lists without files, growth with history, and answers while the database restarts."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime

import httpx2
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.api import serving
from dsa110_assets.api.access import Remembered
from dsa110_assets.api.app import create_app
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import RegistryError
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import alerts, events, pages, people, population, shift, today
from dsa110_assets.registry.server import embedded_server, ensure_alive
from dsa110_assets.stages.operations import staleness
from dsa110_assets.stages.operations.chain import chain
from dsa110_assets.stages.platform import Platform
from dsa110_assets_tests.api.conftest import GROUPS, Served
from dsa110_assets_tests.registry.statement_work import work_of

LISTS = (
    "/api/data/observations", "/api/data/images", "/api/data/mosaics", "/api/sources", "/api/sources?sort=eta", "/api/sources?sort=flux",
    "/api/candidates", "/api/calibrations", "/api/quality/tile_image", "/api/products/tile_image/versions", "/api/data/images?sort=noise",
    "/api/data/observations?order=asc", "/api/data/images?order=asc", "/api/data/images?sort=noise&order=desc",
    "/api/data/mosaics?order=asc", "/api/data/mosaics?sort=noise", "/api/data/mosaics?sort=noise&order=desc", "/api/candidates?sort=score",
    "/api/candidates?sort=time&order=asc", "/api/calibrations?order=asc", "/api/quality/tile_image?order=asc", "/api/sources?order=desc",
    "/api/sources?sort=eta&order=asc", "/api/sources?sort=flux&order=asc&max_flux_jy=0.25",
)  # fmt: skip


@pytest.mark.parametrize("url", LISTS)
def test_pages_of_one_row_give_the_same_rows_as_one_page(served: Served, url: str) -> None:
    whole = served.get(url).json()
    assert whole["next"] is None
    rows, following = [], f"{url}{'&' if '?' in url else '?'}limit=1"
    while following is not None:
        page = served.get(following).json()
        assert len(page["items"]) <= 1
        rows += page["items"]
        following = page["next"]
    assert rows == whole["items"]
    assert rows


def test_an_unchanged_answer_is_304(served: Served) -> None:
    first = served.get("/api/data/images")
    again = served.client.get("/api/data/images", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    with served.database.session() as session:
        session.execute(text("UPDATE images SET noise_jy_per_beam = 2"))
    assert served.client.get("/api/data/images", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


def test_lists_and_details_open_no_file_of_a_product(served: Served) -> None:
    """Every file of a product is replaced by a directory, which nothing can read."""
    folder = ProductPaths.of(served.config).scratch_dir
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        path.unlink()
        path.mkdir()
    for url in (*LISTS, f"/api/data/images/{GROUPS[1]}", f"/api/data/observations/{GROUPS[1]}", "/api/status", "/api/stale", "/api/alerts"):
        served.get(url)


def history(session: Session, nights: int) -> None:
    """Rows of so many nights of 24 observations, 24 mosaics and 240 sources."""
    session.execute(
        text("""
        INSERT INTO ingest_queue (group_id, state, start_mjd, mid_mjd, end_mjd, dec_deg, night, slot, completed_at, last_file_at, calibrator)
        SELECT to_char(t, 'YYYY-MM-DD"T"HH24:MI:SS'), CASE WHEN i % 240 = 7 THEN 'failed' ELSE 'completed' END, 61000 + i / 24.0,
            61000 + i / 24.0, 61000 + i / 24.0, 16, t::date, to_char(t, 'HH24:MI'), t, t, CASE WHEN i % 24 = 3 THEN '0834+555' END
        FROM generate_series(0, :n - 1) i, LATERAL (SELECT timestamp '2026-01-01' + i * interval '1 hour' AS t) x"""),
        {"n": nights * 24},
    )
    for statement in (
        "INSERT INTO images SELECT '/i/' || group_id, group_id, mid_mjd, (extract(hour from completed_at) * 15)::float, 16, 16, "
        "1e-3 * (1 + random()), 1e-3, 1, 40, 30, 0 FROM ingest_queue",
        "INSERT INTO mosaics SELECT 'hourly_' || substr(group_id, 1, 13), 'hourly', '/m', mid_mjd, mid_mjd, mid_mjd, 0, 16, 12, 1e-3 "
        "FROM ingest_queue",
        "INSERT INTO caltables SELECT '/c/' || group_id, group_id, night, '0834+555', '103', mid_mjd, mid_mjd, mid_mjd, 16, true, '{}', '{}' "
        "FROM ingest_queue",
        "INSERT INTO qa_metrics SELECT 'tile_image', group_id, m, 1, 0, 2, true, '' FROM ingest_queue, unnest(ARRAY['a', 'b', 'c']) m",
        "INSERT INTO product_versions (product, key, inputs, code_version, config_hash, created_at) "
        "SELECT 'tile_image', group_id, '{}', 'c', 'h', completed_at FROM ingest_queue",
        "INSERT INTO subband_files (path, state, reason, size_bytes, mtime_ns, judged_at) "
        "SELECT '/in/' || group_id, 'rejected', 'content: odd', 1, 1, completed_at FROM ingest_queue",
        "INSERT INTO calibration_applied SELECT group_id, '/c/' || group_id, 'same-night', 0, completed_at FROM ingest_queue",
        "INSERT INTO shift_entries (person, text, night, written_at) SELECT 'J. Doe', 'rain', night, completed_at FROM ingest_queue",
        "INSERT INTO alerts (key, level, title, next_step, opened_at, seen_at, passed_at) "
        "SELECT 'behind/live', 'warning', 'x', 'y', completed_at, completed_at, completed_at FROM ingest_queue",
        "INSERT INTO api_actions (person, action, subject, details, done_at) "
        "SELECT 'J. Doe', 'retry', group_id, '{}', completed_at FROM ingest_queue",
        "INSERT INTO sources (name, ra_deg, dec_deg, origin) SELECT 'S' || i, i * 1.5, 16, 'nvss' FROM generate_series(1, 240) i",
        "INSERT INTO variability SELECT source_id, n, 5, 0.1, random() * 10, random(), 1, 1, 1, 1, random() * 9 "
        "FROM sources, (SELECT DISTINCT night AS n FROM ingest_queue) x",
        "INSERT INTO candidate_events (source_id, kind, peak_mjd, first_mjd, last_mjd, depth, score, first_night) "
        "SELECT source_id, 'dip', 61000, 61000, 61000, 1, 9, '2026-01-01' FROM sources WHERE source_id <= 5",
        "INSERT INTO ese_candidates (source_id, night, event_id, rank, score, epoch_mjd, depth, false_alarm_probability, reasons) "
        "SELECT e.source_id, n, e.event_id, e.source_id, 9, 61000, 1, 0, '' "
        "FROM candidate_events e, (SELECT DISTINCT night AS n FROM ingest_queue) x",
    ):
        session.execute(text(statement))


def newest_day(session: Session) -> float:
    """MJD one day before the end of the newest observation."""
    newest = today.newest_observation(session)
    assert newest is not None
    return newest["end_mjd"] - 1.0


NEAR = (45.0, 16.0, 0.5)
ANY = pages.SourceFilter()
QUERIES: dict[str, Callable[[Session], object]] = {
    "observations": lambda s: pages.observations(s, since=None, until=None, state=None, calibrator=None, after=None, limit=10),
    "failed observations": lambda s: pages.observations(s, since=None, until=None, state="failed", calibrator=None, after=None, limit=2),
    "of a calibrator": lambda s: pages.observations(s, since=None, until=None, state=None, calibrator="0834+555", after=None, limit=2),
    "observations far back": lambda s: pages.observations(
        s, since=None, until=None, state=None, calibrator=None, after=("2026-01-02T00:00:00",), limit=10
    ),
    "images": lambda s: pages.images(s, since=None, until=None, near=None, noise_max=None, sort="time", after=None, limit=10),
    "least noisy images": lambda s: pages.images(s, since=None, until=None, near=None, noise_max=None, sort="noise", after=None, limit=10),
    "images near a position": lambda s: pages.images(
        s, since=None, until=None, near=NEAR, noise_max=None, sort="time", after=None, limit=2
    ),
    "mosaics": lambda s: pages.mosaics(s, since_mjd=None, until_mjd=None, kind=None, after=None, limit=10),
    "hourly mosaics": lambda s: pages.mosaics(s, since_mjd=None, until_mjd=None, kind="hourly", after=None, limit=10),
    "sources": lambda s: pages.sources(s, ANY, sort="number", after=None, limit=10),
    "sources by eta": lambda s: pages.sources(s, ANY, sort="eta", after=None, limit=10),
    "sources by V": lambda s: pages.sources(s, ANY, sort="v", after=None, limit=10),
    "sources by score": lambda s: pages.sources(s, ANY, sort="score", after=None, limit=10),
    "bright sources": lambda s: pages.sources(s, ANY, sort="flux", after=None, limit=10),
    "sources near a position": lambda s: pages.sources(s, pages.SourceFilter(near=NEAR), sort="number", after=None, limit=10),
    "sources of a name": lambda s: pages.sources(s, pages.SourceFilter(name="S1"), sort="number", after=None, limit=10),
    "candidates": lambda s: events.candidates(s, night=None, min_score=None, label=None, unlabeled=True, after=None, limit=10),
    "bins of eta and V": lambda s: population.eta_v_cells(s, date(2026, 1, 20)),
    "outliers": lambda s: population.outliers(s, date(2026, 1, 20), min_score=5.0),
    "sources on the sky": population.sky_cells,
    "calibrations": lambda s: pages.calibrations(s, since=None, until=None, accepted=None, after=None, limit=2),
    "calibrations of a night": lambda s: pages.calibrations(
        s, since=date(2026, 1, 2), until=date(2026, 1, 2), accepted=None, after=None, limit=10
    ),
    "trend of a figure": lambda s: pages.quality(s, "tile_image", metric="b", since=None, until=None, after=None, limit=10),
    "refused files": lambda s: today.refused_files(s, limit=10),
    "actions": lambda s: people.actions(s, person=None, action=None, after=None, limit=10),
    "dashboard: chain": lambda s: chain(s, today.newest_raw(s, datetime.now(UTC)).made_at or datetime.now(UTC)),
    "dashboard: queue": today.waiting_by_stage,
    "dashboard: sky": lambda s: today.covered(s, newest_day(s) - 2.0, newest_day(s), 2.0),
    "dashboard: calibrations": lambda s: today.calibrations_in_use(s, newest_day(s)),
    "dashboard: candidates": lambda s: today.newest_events(s, 5.0, 8),
    "observations of a night": lambda s: today.observations_of_night(s, date(2026, 1, 2)),
    "entries of the shift": lambda s: shift.entries(s, limit=10),
    "entries of a night": lambda s: shift.entries_of_night(
        s, date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)
    ),
    "alerts of a night": lambda s: alerts.opened_between(s, datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC)),
    "open alerts": alerts.open_records,
    "versions": lambda s: pages.versions(s, "tile_image", key=None, after=None, limit=10),
}


def test_no_list_takes_longer_with_more_history(database: Database) -> None:
    from dsa110_assets_tests.registry_fixture import empty

    work: dict[int, dict[str, int]] = {}
    for nights in (20, 80):
        empty(database.url)
        with database.session() as session:
            history(session, nights)
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("ANALYZE"))
        work[nights] = {name: work_of(database, query).rows for name, query in QUERIES.items()}
    grown = {name: (work[20][name], rows) for name, rows in work[80].items() if rows > 1.5 * work[20][name] + 40}
    assert grown == {}


def test_answers_are_503_while_the_database_restarts_and_come_back(registry_config: PipelineConfig, server_directory) -> None:
    config = registry_config.model_copy(update={"database_url": None, "state_dir": server_directory / "restarting", "dagster_port": 1})
    Database.connect(config).dispose()
    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        assert client.get("/api/ready").status_code == 200
        assert client.get("/api/data/observations").status_code == 200
        embedded_server(config).stop(immediate=True)
        began = time.monotonic()
        for url in ("/api/data/observations", "/api/ready", "/api/status", "/api/sources/1/lightcurve"):
            answer = client.get(url)
            assert answer.status_code == 503, answer.text
            assert answer.headers["Retry-After"] == "2"
            assert "`dsa110 db status`" in answer.json()["next_step"]
            assert "postgresql" not in answer.text
        assert time.monotonic() - began < 10
        assert client.get("/api/health").status_code == 200
        assert "dsa110_registry_up 0.0" in client.get("/metrics").text
        assert ensure_alive(config)
        assert client.get("/api/data/observations").status_code == 200
        assert client.get("/api/ready").status_code == 200
    embedded_server(config).stop(immediate=True)


def test_an_old_value_is_given_while_the_new_one_is_found() -> None:
    value = Remembered[int](0.05, grace_s=60.0)
    began, may_end = threading.Event(), threading.Event()

    def slow() -> int:
        began.set()
        assert may_end.wait(20)
        return 2

    assert value.get(lambda: 1) == 1
    time.sleep(0.1)
    assert value.get(slow) == 1
    assert began.wait(20)
    assert value.get(slow) == 1, "it is found once"
    may_end.set()
    deadline = time.monotonic() + 20
    while value.get(lambda: 2) != 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_error_while_the_new_value_is_found_leaves_the_old_one() -> None:
    value = Remembered[int](0.01, grace_s=60.0)

    def fails() -> int:
        raise RegistryError("registry", "is gone", "wait")

    assert value.get(lambda: 1) == 1
    time.sleep(0.05)
    assert value.get(fails) == 1
    time.sleep(0.05)
    assert value.get(fails) == 1
    with pytest.raises(RegistryError):
        Remembered[int](0.01).get(fails)


def test_the_garbage_collector_leaves_loaded_modules_alone(registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SETTLED_AFTER_S", (0.0,))
    server = serving.server_of(create_app(registry_config), registry_config, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    gc.unfreeze()
    try:
        thread.start()
        deadline = time.monotonic() + 60
        while gc.get_freeze_count() < 10_000:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        server.should_exit = True
        thread.join(20)
        gc.unfreeze()


def test_who_asks_for_stale_products_after_a_start_does_not_wait(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is not ready before it has found them; it answers meanwhile; the first who asks gets what was found."""
    found, may_end = staleness.stale_partitions, threading.Event()
    asked: list[float] = []

    def slow(platform: Platform) -> list[staleness.StalePartition]:
        asked.append(time.monotonic())
        if len(asked) == 1:
            raise RegistryError("registry", "is restarting", "wait")
        assert may_end.wait(60)
        return found(platform)

    monkeypatch.setattr(staleness, "stale_partitions", slow)
    server = serving.server_of(create_app(served.config), served.config, port=0, prepare=True)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not server.started or len(asked) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
        with httpx2.Client(base_url=url, trust_env=False, timeout=30) as client:
            assert client.get("/api/data/images").status_code == 200
            waiting = client.get("/api/ready")
            assert (waiting.status_code, "stale products" in waiting.text) == (503, True)
            may_end.set()
            while client.get("/api/ready").status_code != 200:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            first = client.get("/api/stale").json()
        assert len(asked) == 2, "it was found before anybody asked"
        assert first["total"] == len(first["items"]) > 0
        assert datetime.fromisoformat(first["found_at"]) <= datetime.now(UTC)
    finally:
        may_end.set()
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def test_a_list_of_stale_products_is_never_too_old_to_be_given(registry_config: PipelineConfig) -> None:
    """Who asks after a quiet night gets the list of the evening, with its time, and does not wait for the new one."""
    app = create_app(registry_config)
    app.state.stale.get(lambda: ["old"])
    app.state.stale._found_at -= 48 * 3600.0
    may_end = threading.Event()
    assert app.state.stale.get(lambda: ["new"] if may_end.wait(20) else []) == ["old"]
    assert app.state.stale.age_s > 47 * 3600.0
    may_end.set()
    deadline = time.monotonic() + 20
    while app.state.stale.get(lambda: ["new"]) != ["new"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_needs_a_list_of_today_waits_for_it(registry_config: PipelineConfig) -> None:
    """The plan of a backfill lists what its start makes, so it takes no list of the evening before."""
    app = create_app(registry_config)
    app.state.stale.get(lambda: ["old"])
    assert app.state.stale.get(lambda: ["new"], old_is_fine=False) == ["old"], "five minutes are as good as now"
    app.state.stale._found_at -= 3600.0
    assert app.state.stale.get(lambda: ["new"], old_is_fine=False) == ["new"]


def test_the_first_answers_are_prepared_when_the_api_starts(served: Served) -> None:
    """What pages need is loaded, and long lists are remembered, before anybody asks."""
    server = serving.server_of(create_app(served.config), served.config, port=0, prepare=True)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while server._asking is None or not server._asking.done():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert server._asking.exception() is None
        app = server._app
        assert app.state.stale.get(lambda: pytest.fail("was not remembered")) is not None
        asked = {one.labels["route"] for metric in app.state.registry.collect() if metric.name == "http_requests" for one in metric.samples}
        assert {"/ui/images/{group_id}", "/ui/sources/{source_id}", "/ui/mosaics/{name}", "/api/sources/{source_id}/lightcurve"} <= asked
    finally:
        server.should_exit = True
        thread.join(20)
    assert not thread.is_alive()
