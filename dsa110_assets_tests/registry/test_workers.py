"""The queue of runs for workers: each run is taken once, in order, by the right code, and only who counts publishes."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import text

from dsa110_assets import publication
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import LeaseLostError
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.queries.workers import Host
from dsa110_assets.registry.schema import RunWorker
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue import fence

QUEUE, VERSION = "dsa110-pipeline", "code-settings"
HERE, THERE = Host("host1", "boot1"), Host("host2", "boot2")


def request(database: Database, run_id: str, *, priority: int = 0, version: str = VERSION, preferred: str | None = None) -> None:
    with database.session() as session:
        workers.request(session, run_id, queue=QUEUE, version=version, priority=priority, group_id=None)
        session.get_one(RunWorker, run_id).preferred_host = preferred


def claim(database: Database, host: Host = HERE, version: str = VERSION) -> str | None:
    with database.session() as session:
        return workers.claim(session, worker=f"{host.name}:1", host=host, queue=QUEUE, version=version)


def age(database: Database, run_id: str, seconds: float) -> None:
    with database.session() as session:
        session.execute(
            text("UPDATE run_workers SET beat_at = now() - make_interval(secs => :s) WHERE run_id = :r"), {"s": seconds, "r": run_id}
        )


@pytest.fixture
def old_server(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server of the tests is younger than the silence that they need, so its start does not count here."""
    with_start = str(workers._GIVE_UP_SILENT)
    monkeypatch.setattr(workers, "_GIVE_UP_SILENT", text(with_start.replace("greatest(beat_at, pg_postmaster_start_time())", "beat_at")))


def test_the_highest_priority_is_first_then_the_host_of_the_data_then_the_longest_wait(database: Database) -> None:
    for run_id, priority, preferred in (
        ("late", 0, None),
        ("live", 10, None),
        ("mine", 0, "host1"),
        ("theirs", 0, "host2"),
        ("old", -5, "host1"),
    ):
        request(database, run_id, priority=priority, preferred=preferred)
    assert [claim(database) for _ in range(6)] == ["live", "mine", "late", "theirs", "old", None]


def test_a_run_of_other_code_or_settings_is_not_taken(database: Database) -> None:
    request(database, "run", version="other-settings")
    assert claim(database) is None
    with database.session() as session:
        assert workers.waiting(session, QUEUE).versions == {"other-settings"}
    assert claim(database, version="other-settings") == "run"


def test_many_workers_at_once_take_each_run_once(database: Database) -> None:
    for number in range(40):
        request(database, f"run-{number}")
    taken: list[str] = []

    def work() -> None:
        while (run_id := claim(database)) is not None:
            taken.append(run_id)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(taken) == sorted(f"run-{number}" for number in range(40))


@pytest.mark.usefixtures("old_server")
def test_a_silent_run_is_given_up_once_and_one_with_a_beat_is_not(database: Database) -> None:
    for run_id in ("silent", "beating", "waiting"):
        request(database, run_id)
    assert [claim(database), claim(database)] == ["silent", "beating"]
    age(database, "silent", 61)
    with database.session() as session:
        workers.beat(session, "host1:1", ["beating"], None)
        assert workers.give_up_silent(session, 60.0) == ["silent"]
        assert workers.give_up_silent(session, 60.0) == []
    with database.session() as session:
        assert workers.open_runs(session) == ["beating", "waiting"]
        (order,) = workers.beat(session, "host1:1", ["silent", "beating"], None)
        assert order.run_id == "silent"
        assert "host1 gave no sign of life for 61 s" in str(order.lost_why)


def test_while_the_database_was_away_nobody_was_silent(database: Database) -> None:
    """The server of the tests has just begun, so a beat before its start says nothing."""
    request(database, "run")
    claim(database)
    age(database, "run", 86400 * 365)
    with database.session() as session:
        up_s = session.scalar(text("SELECT extract(epoch FROM now() - pg_postmaster_start_time())"))
        assert up_s is not None
        assert workers.give_up_silent(session, float(up_s) + 60.0) == []


def test_a_run_that_waits_is_withdrawn_and_one_at_work_is_canceled_by_its_worker(database: Database) -> None:
    request(database, "waits")
    request(database, "works", priority=1)
    assert claim(database) == "works"
    with database.session() as session:
        assert workers.request_cancel(session, "works")
        assert not workers.request_cancel(session, "waits")
    assert claim(database) is None
    with database.session() as session:
        (order,) = workers.beat(session, "host1:1", ["works"], None)
    assert order.cancel
    assert order.lost_why is None


# --- the fence -----------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("old_server")
def test_a_run_that_was_given_up_moves_nothing_into_place_and_registers_nothing(
    database: Database, registry_config: PipelineConfig, tmp_path: Path
) -> None:
    platform = Platform.open(registry_config)
    request(database, "zombie")
    claim(database)
    product = tmp_path / "product"
    with fence.run_counts(platform, "zombie"):
        with publication.publish(product) as staged:
            staged.write_text("first")
        age(database, "zombie", 61)
        with database.session() as session:
            workers.give_up_silent(session, 60.0)
        with pytest.raises(LeaseLostError, match="was given up"), publication.publish(product) as staged:
            staged.write_text("second")
    assert product.read_text() == "first"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".staging")] == []
    with pytest.raises(LeaseLostError), database.session() as session:
        workers.hold(session, "zombie")


@pytest.mark.usefixtures("old_server")
def test_who_gives_a_run_up_waits_until_its_product_is_in_place(database: Database) -> None:
    request(database, "run")
    claim(database)
    age(database, "run", 61)
    gave_up_at: list[float] = []

    def give_up() -> None:
        with database.session() as session:
            workers.give_up_silent(session, 60.0)
        gave_up_at.append(time.monotonic())

    with database.session() as session:
        workers.hold(session, "run")
        other = threading.Thread(target=give_up)
        other.start()
        time.sleep(0.5)
        assert gave_up_at == []
        freed = time.monotonic()
    other.join()
    assert gave_up_at[0] >= freed


def test_a_run_on_one_machine_has_no_worker_and_publishes(database: Database, registry_config: PipelineConfig, tmp_path: Path) -> None:
    with fence.run_counts(Platform.open(registry_config), "by-hand"), publication.publish(tmp_path / "product") as staged:
        staged.write_text("made")
    assert (tmp_path / "product").read_text() == "made"


def test_a_connection_over_a_network_notices_in_half_a_minute_that_the_other_end_is_gone() -> None:
    from sqlalchemy import make_url

    from dsa110_assets.registry.server import _ending_dead_connections, address_text

    url = address_text(_ending_dead_connections(make_url("postgresql://me:pass+word@head/dsa110?options=-c%20work_mem%3D8MB")))
    given = psycopg2.extensions.parse_dsn(url)
    assert int(given["keepalives_idle"]) + int(given["keepalives_interval"]) * int(given["keepalives_count"]) <= 30
    assert given["options"].split(" -c ")[-1] == "work_mem=8MB"
    assert "tcp_keepalives_idle=10" in given["options"]
    assert given["password"] == "pass+word"
    local = make_url("postgresql:///dsa110?host=/run/postgresql")
    assert _ending_dead_connections(local) == local


def test_the_server_takes_the_settings_of_a_connection_over_a_network(database: Database) -> None:
    from sqlalchemy import make_url

    from dsa110_assets.registry.server import _KEEPALIVES, _ending_dead_connections

    options = _ending_dead_connections(make_url("postgresql://head/dsa110")).query["options"]
    dsn = make_url(database.url).set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(dsn, options=options)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_settings WHERE name IN ('tcp_keepalives_idle', 'tcp_user_timeout') AND source = 'client'")
        assert cursor.fetchone() == (2,), _KEEPALIVES
