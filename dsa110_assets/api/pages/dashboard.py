"""The dashboard: what is wrong now, where the newest data are in the chain, and what needs a person."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from dsa110_assets.api.access import Opened
from dsa110_assets.api.pages.layout import page
from dsa110_assets.api.routes.operations import alerts, platform_status

router = APIRouter()


@router.get("/ui/dashboard")
def dashboard(request: Request, opened: Opened) -> Response:
    """Show the state of the platform."""
    return page(request, "dashboard.html", status_now=platform_status(opened, request), alerts=alerts(opened, request))
