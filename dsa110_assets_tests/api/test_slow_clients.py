"""Clients that send slowly, nothing, or without end are closed, and others are answered. Over real connections."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dsa110_assets.api.app import create_app
from dsa110_assets.api.serving import MOST_HEADER_BYTES, server_of
from dsa110_assets_tests.api.conftest import Served

LIMIT_S = 1.5
POST = "POST /api/targets HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"


@pytest.fixture
def port(served: Served) -> Iterator[int]:
    """Port of the API, whose requests have 1.5 s to arrive."""
    server = server_of(create_app(served.config), served.config, port=0, limit_s=LIMIT_S)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < limit, "the server did not start"
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(15)
    assert not thread.is_alive()


def _asked(port: int, sent: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(sent.encode())
    return connection


def _rest(connection: socket.socket) -> str:
    """All that the server still sends, until it closes the connection."""
    content = b""
    while block := connection.recv(65536):
        content += block
    return content.decode()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param("", id="nothing"),
        pytest.param("GET /api/health/live HT", id="half a line"),
        pytest.param("GET /api/health/live HTTP/1.1\r\nHost: here\r\n", id="headers without an end"),
        pytest.param(POST + "Content-Length: 100\r\n\r\n{", id="a body that does not come"),
        pytest.param(POST + "Transfer-Encoding: chunked\r\n\r\n5\r\n{", id="a chunk that does not come"),
    ],
)
def test_a_request_that_does_not_arrive_in_time_is_closed_with_a_reason(port: int, sent: str) -> None:
    began = time.monotonic()
    with _asked(port, sent) as connection:
        answer = _rest(connection)
    assert LIMIT_S - 0.1 < time.monotonic() - began < LIMIT_S + 3
    assert answer.startswith("HTTP/1.1 408 ")
    assert "within 1.5 s" in answer


def test_one_byte_now_and_then_does_not_hold_a_connection(port: int) -> None:
    began = time.monotonic()
    with _asked(port, "GET /api/health/live HTTP/1.1\r\nX: ") as connection:
        connection.settimeout(0.1)
        answer = b""
        while time.monotonic() - began < LIMIT_S + 3:
            try:
                connection.sendall(b"x")
                answer = connection.recv(100)
                break
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_second_request_on_a_connection_has_the_same_limit(port: int) -> None:
    with _asked(port, "GET /api/nothing HTTP/1.1\r\nHost: here\r\n\r\n") as connection:
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        time.sleep(LIMIT_S + 0.5)  # a connection that rests between requests stays open
        connection.sendall(b"GET /api/nothing HT")
        assert "HTTP/1.1 408 " in _rest(connection)


def test_headers_without_end_are_refused_before_they_fill_the_memory(port: int) -> None:
    with _asked(port, "GET /api/health/live HTTP/1.1\r\nX: " + "x" * (MOST_HEADER_BYTES + 1)) as connection:
        assert _rest(connection).startswith("HTTP/1.1 431 ")


def test_a_crowd_of_slow_clients_keeps_nobody_out_for_longer_than_the_limit(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(220):  # more than the connections that are served at a time
            stack.enter_context(_asked(port, "GET /api/health/live HT"))
        deadline = time.monotonic() + LIMIT_S + 10
        while True:
            with _asked(port, "GET /api/nothing HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n") as connection:
                answer = _rest(connection)
            if answer.startswith("HTTP/1.1 404 "):
                break
            assert answer.startswith("HTTP/1.1 503 ")
            assert time.monotonic() < deadline
            time.sleep(0.1)
