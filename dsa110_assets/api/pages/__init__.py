"""Pages for people under /ui/, rendered on the server. They show what the API answers, and link to the Dagster UI.

A page is a function in a module of its subject, a template in ``templates/`` and an entry in `PAGES` (`layout`).
Domain questions belong into `registry.queries` and `stages`; this package only arranges their answers.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Response
from fastapi.staticfiles import StaticFiles

from dsa110_assets.api.pages import (
    antennas,
    candidates,
    control_actions,
    control_panel,
    dashboard,
    images,
    layout,
    marks,
    mosaics,
    observations,
    search,
    shift,
    sign_in,
    sky_model,
    sources,
    viewer,
)

ROUTERS: tuple[APIRouter, ...] = (
    sign_in.router,
    dashboard.router,
    observations.router,
    marks.router,
    images.router,
    mosaics.router,
    sources.router,
    sky_model.router,
    candidates.router,
    antennas.router,
    viewer.router,
    search.router,
    control_panel.router,
    control_actions.router,
    shift.router,
)


def install(app: FastAPI) -> None:
    """Add the pages and their style sheets and scripts to an application."""
    for router in ROUTERS:
        app.include_router(router, include_in_schema=False)
    app.mount(layout.STATIC_URL, _Kept(directory=layout.STATIC), name="static")


class _Kept(StaticFiles):
    """Files whose address has the release's digest in it, so that browsers keep them for ever."""

    def file_response(self, *args: Any, **options: Any) -> Response:
        """Return a file with a header that lets browsers keep it."""
        answer = super().file_response(*args, **options)
        answer.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return answer
