"""Server-sent events: one query for all listeners, a bound on them, and a server that stops in seconds."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import httpx2 as httpx
import pytest
from sqlalchemy import text

from dsa110_assets.api import events
from dsa110_assets.api.app import create_app
from dsa110_assets.api.events import Events
from dsa110_assets.api.serving import Server, server_of
from dsa110_assets.errors import RegistryError
from dsa110_assets.registry.queries import changes
from dsa110_assets.registry.schema import SubbandFile
from dsa110_assets_tests.api.conftest import Served
from dsa110_assets_tests.registry.statement_work import work_of

STREAM = {"Accept": "text/event-stream"}


class Registry:
    """Marks of a registry that counts how often it is asked."""

    def __init__(self) -> None:
        self.marks = {"observations": "1"}
        self.asked = 0
        self.fails = False

    def find(self) -> dict[str, str]:
        self.asked += 1
        if self.fails:
            raise RegistryError("registry", "does not answer", "wait")
        return dict(self.marks)


async def states(found: Events, number: int) -> list[dict[str, str]]:
    """The first states of a stream."""
    seen: list[dict[str, str]] = []
    async for chunk in found.stream():
        if "event: state" in chunk:
            seen.append(json.loads(chunk.partition("data: ")[2]))
            if len(seen) == number:
                break
    return seen


def test_a_change_reaches_each_listener_and_one_query_serves_them_all() -> None:
    registry = Registry()

    async def run() -> list[list[dict[str, str]]]:
        found = Events(registry.find, interval_s=0.05)
        listening = [asyncio.create_task(states(found, 2)) for _ in range(20)]
        await asyncio.sleep(0.3)
        asked = registry.asked
        assert asked <= 8, "as often as one listener would ask"
        registry.marks["observations"] = "2"
        seen = await asyncio.wait_for(asyncio.gather(*listening), 5)
        await asyncio.sleep(0.1)
        ended = registry.asked
        await asyncio.sleep(0.3)
        assert registry.asked == ended, "nobody listens, so nobody asks"
        return seen

    for seen in asyncio.run(run()):
        assert [one["observations"] for one in seen] == ["1", "2"]


def test_a_listener_learns_that_the_registry_is_down_and_up_again() -> None:
    registry = Registry()

    async def run() -> list[dict[str, str]]:
        found = Events(registry.find, interval_s=0.05)
        listening = asyncio.create_task(states(found, 3))
        await asyncio.sleep(0.2)
        registry.fails = True
        await asyncio.sleep(0.2)
        registry.fails = False
        return await asyncio.wait_for(listening, 5)

    assert [one["registry"] for one in asyncio.run(run())] == ["up", "down", "up"]


def test_a_quiet_stream_has_a_heart_beat() -> None:
    async def run() -> list[str]:
        found, seen = Events(Registry().find, heartbeat_s=0.1), []
        async for chunk in found.stream():
            seen.append(chunk)
            if chunk.startswith(":"):
                break
        return seen

    assert asyncio.run(asyncio.wait_for(run(), 5))[-1] == ": alive\n\n"


def test_more_listeners_than_the_bound_are_refused_and_ended_ones_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_LISTENERS", 3)

    async def run() -> None:
        found = Events(Registry().find, interval_s=0.05)
        streams = [found.stream() for _ in range(3)]
        for one in streams:
            await anext(one)
        assert found.is_full
        assert [chunk async for chunk in found.stream()] == []
        await streams[0].aclose()
        assert not found.is_full
        found.close()
        for one in streams[1:]:
            async for _ in one:
                pass
        assert found.listeners == 0

    asyncio.run(asyncio.wait_for(run(), 5))


def test_each_subject_has_another_mark_after_a_change_of_it(served: Served) -> None:
    before = served.get("/api/events").json()
    assert before["registry"] == "up"
    assert set(before) == {"registry", *changes.SUBJECTS}
    assert served.get("/api/events").json() == before
    with served.database.session() as session:
        session.add(SubbandFile(path="/in/x.hdf5", state="rejected", reason="name: odd", size_bytes=5, mtime_ns=1))
        session.execute(text("UPDATE ingest_queue SET state = 'pending' WHERE state = 'failed'"))
        session.execute(text("INSERT INTO shift_entries (person, text) VALUES ('J. Doe', 'rain')"))
        session.execute(text("INSERT INTO alerts (key, level, title, next_step) VALUES ('behind/live', 'warning', 'x', 'y')"))
    after = served.get("/api/events").json()
    assert {name for name in after if after[name] != before[name]} == {"observations", "files", "shift", "alerts"}


def test_the_query_of_events_reads_no_more_with_more_history(served: Served) -> None:
    small = work_of(served.database, changes.marks).rows
    with served.database.session() as session:
        session.execute(
            text(
                "INSERT INTO ingest_queue (group_id, state, start_mjd, mid_mjd, end_mjd, dec_deg, night, slot, completed_at) "
                "SELECT 'x' || i, 'completed', i, i, i, 16, '2026-01-01', '00:00', now() FROM generate_series(1, 5000) i"
            )
        )
        session.execute(
            text(
                "INSERT INTO product_versions (product, key, code_version, config_hash) "
                "SELECT 'tile_image', 'x' || i, 'c', 'h' FROM generate_series(1, 5000) i"
            )
        )
        session.execute(text("ANALYZE ingest_queue, product_versions"))
    assert work_of(served.database, changes.marks).rows < small + 40


@pytest.fixture
def running(served: Served) -> Iterator[tuple[Server, str, threading.Thread]]:
    """The API on a port, as `dsa110 api` serves it."""
    server = server_of(create_app(served.config), served.config, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < limit, "the server did not start"
        time.sleep(0.02)
    yield server, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", thread
    server.should_exit = True
    thread.join(15)


def test_a_server_with_listeners_stops_within_seconds(running: tuple[Server, str, threading.Thread]) -> None:
    server, url, thread = running
    ended: list[float] = []

    def listen() -> None:
        with httpx.Client(timeout=30) as client, client.stream("GET", f"{url}/api/events", headers=STREAM) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            for _ in answer.iter_lines():
                pass
        ended.append(time.monotonic())

    listeners = [threading.Thread(target=listen) for _ in range(5)]
    for one in listeners:
        one.start()
    limit = time.monotonic() + 10
    while server._app.state.events.listeners < 5:
        assert time.monotonic() < limit
        time.sleep(0.05)
    began = time.monotonic()
    server.should_exit = True
    thread.join(15)
    assert not thread.is_alive()
    assert time.monotonic() - began < 5
    for one in listeners:
        one.join(5)
    assert len(ended) == 5, "each stream ended as a whole answer"


def test_a_change_reaches_a_browser_over_http(served: Served, running: tuple[Server, str, threading.Thread]) -> None:
    _, url, _ = running
    with httpx.Client(timeout=20) as client, client.stream("GET", f"{url}/api/events", headers=STREAM) as answer:
        marks: list[str] = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                marks.append(json.loads(line.removeprefix("data: "))["files"])
                if len(marks) == 2:
                    break
                with served.database.session() as session:
                    session.add(
                        SubbandFile(
                            path="/in/late.hdf5",
                            state="rejected",
                            reason="name: odd",
                            size_bytes=5,
                            mtime_ns=1,
                            judged_at=datetime.now(UTC),
                        )
                    )
    assert marks[0] != marks[1]
    metrics = httpx.get(f"{url}/metrics").text
    assert 'http_requests_total{method="GET",route="/api/events",status="200"} 1.0' in metrics
    assert 'http_request_duration_seconds_count{method="GET",route="/api/events"}' not in metrics, "it is no slow request"
