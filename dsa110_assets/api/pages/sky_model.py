"""The platform's own sky model: what images found beside the catalogs."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dsa110_assets.api.access import Opened
from dsa110_assets.api.answers import Cursor
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.routes import sky_model

router = APIRouter()


@router.get("/ui/sky-model")
def list_sky_model(request: Request, opened: Opened, cursor: Cursor = None) -> Response:
    """List the sources of the own sky model, the newest first."""
    return page(request, "sky_model.html", listed=sky_model.list_sky_model(opened, request, cursor=cursor))
