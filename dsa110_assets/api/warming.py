"""What makes the first requests after a start slow is done before they come: modules, templates, long lists.

The server asks itself. So what is loaded, compiled and remembered is what the pages need, without a list of it here.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import re
import time

import httpx2
from fastapi import FastAPI

from dsa110_assets.api.pages.layout import load_templates

ADDRESSES = (
    "/ui/dashboard",
    "/ui/observations",
    "/ui/images",
    "/ui/mosaics",
    "/ui/sources",
    "/ui/candidates",
    "/ui/shift/report",
    "/ui/viewer",
    "/api/sources/population",
    "/api/data/timeline",
)
"""What is asked first."""
LONGEST_PREPARATION_S = 180.0
_RETRY_S = 1.0
MOST_ASKED = 60
MODULES = (
    "astropy.io.fits",
    "astropy.io.votable",
    "pandas",
    "dsa110_assets.common.cut_outs",
    "dsa110_assets.common.previews",
    "dsa110_assets.photometry",
    "dsa110_assets.stages.operations.alerts",
    "dsa110_assets.stages.operations.backfill",
    "dsa110_assets.stages.operations.staleness",
    "dsa110_assets.stages.products.candidates",
    "dsa110_assets.stages.products.gates",
    "dsa110_assets.stages.products.mosaics",
)
_ITEM = re.compile(r'(?:href|src)="(/(?:ui/(?:observations|images|mosaics|sources|candidates)/|api/[^"]*(?:cutout|lightcurve))[^"]*)"')
_log = logging.getLogger("dsa110.api")


def load_modules() -> None:
    """Import what routes import when they need it, and compile the templates: some 2 s, before the port opens."""
    for name in MODULES:
        importlib.import_module(name)
    load_templates()


async def ask(app: FastAPI) -> None:
    """Ask for what is slow to find first; until it is there, `/api/ready` says so. Then ask for pages."""
    transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx2.AsyncClient(transport=transport, base_url="http://warming", timeout=120) as client:
        await asyncio.gather(_find_stale(app, client), _ask_pages(client))


async def _find_stale(app: FastAPI, client: httpx2.AsyncClient) -> None:
    """Find the list of stale products, seconds of work at a year; try again while the database does not answer."""
    began = time.monotonic()
    try:
        while not (await client.get("/api/stale?limit=1")).is_success:
            if time.monotonic() - began > LONGEST_PREPARATION_S:
                _log.warning("stale products were not found in %.0f s; the first who asks for them waits", LONGEST_PREPARATION_S)
                return
            await asyncio.sleep(_RETRY_S)
        _log.info("stale products were found in %.1f s", time.monotonic() - began)
    finally:
        app.state.preparing = False


async def _ask_pages(client: httpx2.AsyncClient) -> None:
    """Ask for each page, for the first item of each list, and for its cut-out. Failures do not matter."""
    began = time.monotonic()
    known: set[str] = set()
    waiting = list(ADDRESSES)
    while waiting and len(known) < MOST_ASKED:
        address = waiting.pop(0)
        answer = await client.get(address)
        for found in _ITEM.findall(answer.text if address.startswith("/ui/") else ""):
            kind = re.sub(r"[-+.:T\d]+", "#", found)
            if kind not in known:
                known.add(kind)
                waiting.insert(0, found.replace("&amp;", "&"))
    _log.info("%d kinds of answers were prepared in %.1f s", len(known) + len(ADDRESSES), time.monotonic() - began)
