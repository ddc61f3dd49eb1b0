"""Server-sent events: which subjects of the registry have changed. One query serves all listeners.

The watcher runs only while somebody listens. A stream ends by itself after some minutes, and at once when the server
stops (`serving`); browsers then connect again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, Callable

from fastapi.concurrency import run_in_threadpool

from dsa110_assets.errors import PipelineError

MOST_LISTENERS = 60
INTERVAL_S = 2.0
"""Between two looks at the registry."""
HEARTBEAT_S = 15.0
"""A stream without news has a comment as often, so that neither side takes it for dead."""
LONGEST_S = 900.0
_log = logging.getLogger("dsa110.api")
DOWN = "down"


class Events:
    """State of the registry's subjects, and those who listen for changes of it."""

    def __init__(self, find: Callable[[], dict[str, str]], *, interval_s: float = INTERVAL_S, heartbeat_s: float = HEARTBEAT_S) -> None:
        self._find = find
        self._interval_s = interval_s
        self._heartbeat_s = heartbeat_s
        self._listeners: set[asyncio.Event] = set()
        self._watcher: asyncio.Task[None] | None = None
        self._state: dict[str, str] | None = None
        self._closing = False

    @property
    def listeners(self) -> int:
        """Number of streams that are open."""
        return len(self._listeners)

    @property
    def is_full(self) -> bool:
        """Whether one more listener is refused."""
        return self._closing or len(self._listeners) >= MOST_LISTENERS

    def now(self) -> dict[str, str]:
        """Ask the registry: the mark of each subject, and whether the registry answers."""
        try:
            return {"registry": "up", **self._find()}
        except PipelineError:
            return {"registry": DOWN}

    async def stream(self) -> AsyncGenerator[str]:
        """Yield the state once, then whenever it changes, as text of server-sent events."""
        if self.is_full:
            return
        loop, news = asyncio.get_running_loop(), asyncio.Event()
        self._listeners.add(news)
        if self._watcher is None:
            self._watcher = asyncio.create_task(self._watch())
        sent: dict[str, str] | None = None
        ends = loop.time() + LONGEST_S
        try:
            yield "retry: 3000\n\n"
            while not self._closing and loop.time() < ends:
                if self._state is not None and self._state != sent:
                    sent = self._state
                    yield f"event: state\ndata: {json.dumps(sent)}\n\n"
                try:
                    await asyncio.wait_for(news.wait(), self._heartbeat_s)
                except TimeoutError:
                    yield ": alive\n\n"
                news.clear()
        finally:
            self._listeners.discard(news)
            if not self._listeners:
                self._stop_watching()

    def close(self) -> None:
        """End all streams; no new ones begin."""
        self._closing = True
        self._stop_watching()
        for one in self._listeners:
            one.set()

    async def _watch(self) -> None:
        while True:
            try:
                state = await run_in_threadpool(self.now)
            except Exception:  # the watcher must not end while anybody listens  # noqa: BLE001
                _log.exception("the registry cannot be asked for events")
                state = {"registry": DOWN}
            if state != self._state:
                self._state = state
                for one in self._listeners:
                    one.set()
            await asyncio.sleep(self._interval_s)

    def _stop_watching(self) -> None:
        if self._watcher is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                self._watcher.cancel()
        self._watcher, self._state = None, None
