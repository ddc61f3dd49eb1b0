"""The server process: uvicorn with limits, whose open streams end as soon as it is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import socket
from functools import partial
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from dsa110_assets.api import memory, warming
from dsa110_assets.config import PipelineConfig

SETTLED_AFTER_S = (20.0, 120.0, 900.0)
"""When after the start modules count as loaded; the first requests load most of them."""

REQUEST_LIMIT_S = 10.0
"""Time for a request to arrive whole, headers and body. A connection that sends none is closed after as long."""
MOST_HEADER_BYTES = 32 * 1024


def settle() -> None:
    """Let the garbage collector leave alone what is loaded now.

    A full collection looks at the 300 000 objects of all modules. It stopped every request for 0.2 s, and took a third
    of the CPU time.
    """
    gc.collect()
    gc.freeze()


class BoundedProtocol(HttpToolsProtocol):
    """HTTP with a limit for the time and for the headers of a request; uvicorn's parser has neither.

    Without them, as many slow clients as there may be connections keep everybody else out, and one client fills the
    memory with a header. How long an answer takes to be read is not limited: a file of 64 MB goes over slow lines too.
    """

    def __init__(self, *args: Any, limit_s: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limit_s = limit_s
        self._waiting: asyncio.TimerHandle | None = None
        self._header_bytes = 0
        self._in_headers = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what arrived, unless the headers are too long."""
        super().data_received(data)
        self._header_bytes += len(data)
        if self._in_headers and self._header_bytes > MOST_HEADER_BYTES and not self.transport.is_closing():
            self._refuse(431, "Request Header Fields Too Large", f"the headers of a request have at most {MOST_HEADER_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Wait for the rest of a request."""
        self._in_headers, self._header_bytes = True, 0
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Start the answer; the body may still be on its way."""
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is here."""
        self._stop_waiting()
        super().on_message_complete()

    def _wait(self) -> None:
        if self._waiting is None:
            self._waiting = self.loop.call_later(self._limit_s, self._late)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _late(self) -> None:
        self._waiting = None
        if not self.transport.is_closing():
            self._refuse(408, "Request Timeout", f"a request arrives within {self._limit_s:g} s")

    def _refuse(self, status: int, phrase: str, reason: str) -> None:
        self._stop_waiting()
        current: RequestResponseCycle | None = getattr(self, "cycle", None)  # None before the first request
        if current is not None and current.response_started and not current.response_complete:
            self.transport.close()  # an answer is under way; another one in the middle of it would be read as its content
            return
        body = reason.encode()
        head = f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\nconnection: close"
        self.transport.write(head.encode() + b"\r\n\r\n" + body)
        self.transport.close()


class Server(uvicorn.Server):
    """uvicorn waits for all open answers before it stops; a stream of events would keep it waiting."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, prepare: bool) -> None:
        super().__init__(config)
        self._app = app
        self._prepare = prepare
        self._asking: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port when modules are loaded; prepare the first answers, and settle, later."""
        if self._prepare:
            memory.bound_arenas()
            warming.load_modules()
            self._app.state.preparing = True
        await super().startup(sockets)
        if self._prepare:
            self._asking = asyncio.create_task(warming.ask(self._app))
        for delay_s in SETTLED_AFTER_S:
            asyncio.get_running_loop().call_later(delay_s, settle)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, let other requests finish, then stop."""
        if self._asking is not None:
            self._asking.cancel()
        self._app.state.events.close()
        await super().shutdown(sockets)


def server_of(
    app: FastAPI, config: PipelineConfig, *, port: int | None = None, limit_s: float = REQUEST_LIMIT_S, prepare: bool = False
) -> Server:
    """Return a server for an application.

    Args:
        app: the application.
        config: address and port.
        port: another port; 0 for a free one.
        limit_s: time for a request to arrive.
        prepare: prepare the first answers before they are asked for (`warming`).
    """
    settings = uvicorn.Config(
        app,
        host=config.api_host,
        port=config.api_port if port is None else port,
        log_level="warning",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=20,
        limit_concurrency=200,
        http=partial(BoundedProtocol, limit_s=limit_s),  # pyright: ignore[reportArgumentType]
        server_header=False,
    )
    return Server(settings, app, prepare=prepare)
