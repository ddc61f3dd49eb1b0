"""The server process: uvicorn with limits, whose open streams end as soon as it is asked to stop."""

from __future__ import annotations

import asyncio
import gc
import socket

import uvicorn
from fastapi import FastAPI

from dsa110_assets.config import PipelineConfig

SETTLED_AFTER_S = (20.0, 120.0, 900.0)
"""When after the start modules count as loaded; the first requests load most of them."""


def settle() -> None:
    """Let the garbage collector leave alone what is loaded now.

    A full collection looks at the 300 000 objects of all modules. It stopped every request for 0.2 s, and took a third
    of the CPU time.
    """
    gc.collect()
    gc.freeze()


class Server(uvicorn.Server):
    """uvicorn waits for all open answers before it stops; a stream of events would keep it waiting."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open the port; settle later."""
        await super().startup(sockets)
        for delay_s in SETTLED_AFTER_S:
            asyncio.get_running_loop().call_later(delay_s, settle)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the streams, let other requests finish, then stop."""
        self._app.state.events.close()
        await super().shutdown(sockets)


def server_of(app: FastAPI, config: PipelineConfig, *, port: int | None = None) -> Server:
    """Return a server for an application, on the configured address."""
    settings = uvicorn.Config(
        app,
        host=config.api_host,
        port=config.api_port if port is None else port,
        log_level="warning",
        timeout_graceful_shutdown=10,
        timeout_keep_alive=20,
        limit_concurrency=200,
        h11_max_incomplete_event_size=32 * 1024,
        server_header=False,
    )
    return Server(settings, app)
