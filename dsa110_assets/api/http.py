"""Middleware: request metrics by route, entity tags, and limits and headers for every answer."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dsa110_assets.api.problems import problem

MOST_BODY_BYTES = 64 * 1024
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 10.0)
_PAGES = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; frame-ancestors 'none'"
)
"""Policy of HTML pages: nothing from elsewhere. Swagger's page and mkdocs' pages have scripts inside."""


class RequestMetrics:
    """The three metrics of requests, labeled by route template, so that their number does not grow with the data."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        labels = ("method", "route")
        self.total = Counter("http_requests", "HTTP requests.", (*labels, "status"), registry=registry)
        self.duration = Histogram(
            "http_request_duration_seconds", "Duration of HTTP requests.", labels, buckets=_BUCKETS, registry=registry
        )
        self.running = Gauge("http_requests_in_progress", "HTTP requests in progress.", ("method",), registry=registry)


class Observed:
    """Outermost middleware: counts and times every request."""

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH") else "other"
        status, is_stream = 500, False
        began = time.perf_counter()

        async def observe(message: Message) -> None:
            nonlocal status, is_stream
            if message["type"] == "http.response.start":
                status = message["status"]
                is_stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            await send(message)

        running = self._metrics.running.labels(method)
        running.inc()
        try:
            await self._app(scope, receive, observe)
        finally:
            running.dec()
            route = getattr(scope.get("route"), "path", None) or "none"
            self._metrics.total.labels(method, route, str(status)).inc()
            if not is_stream:  # its duration is how long somebody looked at a page
                self._metrics.duration.labels(method, route).observe(time.perf_counter() - began)


class Guarded:
    """Refuses large bodies, and adds security headers; a policy for HTML pages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = b""
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            more = True
            while more:  # bodies are small, so they are read at once; a route never sees half of one
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                body += message.get("body", b"")
                more = message.get("more_body", False)
                if len(body) > MOST_BODY_BYTES:
                    answer = problem(
                        413,
                        "TooLarge",
                        f"a request has at most {MOST_BODY_BYTES} bytes",
                        next_step="send less",
                        headers={"Connection": "close"},
                    )
                    await answer(scope, receive, send)
                    return
        sent = False

        async def replay() -> Message:
            nonlocal sent
            if sent or scope["method"] in ("GET", "HEAD", "OPTIONS"):
                return await receive()
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def add_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Referrer-Policy", "same-origin")
                html = headers.get("content-type", "").startswith("text/html")
                headers.setdefault("Content-Security-Policy", _PAGES if html else "default-src 'none'; frame-ancestors 'none'")
                if scope["path"].startswith("/api"):
                    headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, replay, add_headers)


class Tagged:
    """Adds an entity tag to JSON answers, and answers 304 to a client that has the same content."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        asked = Headers(scope=scope).get("if-none-match", "")
        start: Message | None = None
        body = bytearray()

        async def hold(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                content = Headers(raw=message["headers"])
                held = message["status"] == 200 and content.get("content-type", "").startswith("application/json") and "etag" not in content
                if held:
                    start = message
                    return
            if start is None:
                await send(message)
                return
            body.extend(message.get("body", b""))
            if message.get("more_body", False):
                return
            await _send_tagged(start, bytes(body), asked, send)

        await self._app(scope, receive, hold)


async def _send_tagged(start: Message, body: bytes, asked: str, send: Send) -> None:
    tag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    headers = MutableHeaders(scope=start)
    headers["ETag"] = tag
    known = asked.strip() == "*" or tag in [one.strip().removeprefix("W/") for one in asked.split(",")]
    if known:
        del headers["content-length"]
        await send({**start, "status": 304, "headers": headers.raw})
        await send({"type": "http.response.body", "body": b""})
        return
    await send(start)
    await send({"type": "http.response.body", "body": body})


def installed(app: Any, metrics: RequestMetrics) -> None:
    """Add the middleware to a FastAPI application, the outermost last."""
    app.add_middleware(Tagged)
    app.add_middleware(Guarded)
    app.add_middleware(Observed, metrics=metrics)
