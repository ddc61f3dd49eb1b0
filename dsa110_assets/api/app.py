"""The FastAPI application: routes, errors, middleware, documentation."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio.to_thread
from fastapi import FastAPI
from fastapi.responses import RedirectResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector

import dsa110_assets
from dsa110_assets.api import documentation, http, metrics, pages, problems
from dsa110_assets.api.access import Access, Remembered
from dsa110_assets.api.events import Events
from dsa110_assets.api.routes import ROUTERS
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.queries import changes

THREADS = 20
"""Requests that are answered at a time; as many as the registry's connections (`registry.database`)."""
_DESCRIPTION = """Observations, images, mosaics, sources, light curves, candidates, calibrations, quality and provenance of the survey.

Lists come in pages: follow `next`. Whatever changes something needs a token (`dsa110 api token NAME`). Errors are
problem details (RFC 9457) with the next step. Fluxes are Jy at 1.4 GHz, angles degrees ICRS, times UTC."""


def create_app(config: PipelineConfig) -> FastAPI:
    """Return the application of a configuration. It opens the registry with the first request that needs it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        app.state.events.close()
        app.state.access.close()

    app = FastAPIOffline(
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
        static_url="/api/static",
        title="DSA-110 data platform",
        version=dsa110_assets.__version__,
        description=_DESCRIPTION,
        swagger_ui_oauth2_redirect_url="/api/docs/oauth2-redirect",
        lifespan=lifespan,
        responses=problems.DESCRIBED,
    )
    app.state.access = Access(config)
    app.state.events = Events(lambda: _marks(app))
    app.state.queue = Remembered[dict[str, object]](2.0)
    app.state.alerts = Remembered[list[object]](10.0)
    app.state.sky = Remembered[dict[str, object]](60.0)
    app.state.antennas = Remembered[tuple[object]](60.0, grace_s=600.0)
    app.state.forecast = Remembered[dict[object, int]](300.0)
    app.state.stale = Remembered[object](300.0, grace_s=math.inf)
    app.state.preparing = False
    app.state.registry = CollectorRegistry()
    ProcessCollector(registry=app.state.registry)
    PlatformCollector(registry=app.state.registry)
    app.state.registry.register(metrics.PlatformMetrics(app))
    problems.install(app)
    for router in ROUTERS:
        app.include_router(router)
    documentation.install(app)
    pages.install(app)

    @app.get("/", include_in_schema=False)
    @app.get("/ui", include_in_schema=False)
    @app.get("/ui/", include_in_schema=False)
    async def start() -> RedirectResponse:
        return RedirectResponse("/ui/dashboard")

    http.installed(app, http.RequestMetrics(app.state.registry))
    return app


def _marks(app: FastAPI) -> dict[str, str]:
    opened: Access = app.state.access
    with opened.session(limit_s=5) as session:
        return changes.marks(session)
