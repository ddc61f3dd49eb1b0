"""What all pages share: navigation, templates, security policy, and links to the Dagster UI."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import jinja2
import yaml
from fastapi import Request
from fastapi.responses import HTMLResponse

from dsa110_assets.api.pages import formats
from dsa110_assets.api.pages.visitor import visitor
from dsa110_assets.config import PipelineConfig
from dsa110_assets.stages.pages import CODE_LOCATION, products_of
from dsa110_assets.times import tile_partition

STATIC = Path(__file__).parents[1] / "static"
TEMPLATES = Path(__file__).parents[1] / "templates"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""Scripts and data come from this server alone; no script stands inside a page."""
VIEWER_POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self' blob:; img-src 'self' data: blob:; "
    "connect-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
"""Aladin Lite compiles its WebAssembly, and reads images from addresses that it makes itself."""


@dataclass(frozen=True)
class Entry:
    """A page in the navigation; ``key``: what to press after G to go there."""

    address: str
    title: str
    key: str


PAGES = (
    Entry("/ui/dashboard", "Dashboard", "d"),
    Entry("/ui/observations", "Observations", "o"),
    Entry("/ui/images", "Images", "i"),
    Entry("/ui/mosaics", "Mosaics", "m"),
    Entry("/ui/sources", "Sources", "s"),
    Entry("/ui/candidates", "Candidates", "c"),
    Entry("/ui/antennas", "Antennas", "a"),
    Entry("/ui/viewer", "Viewer", "v"),
    Entry("/ui/shift", "Shift", "l"),
    Entry("/ui/control-panel", "Control panel", "p"),
)


TIMES = {"utc": "Times: UTC", "lst": "Times: UTC, LST", "mjd": "Times: UTC, MJD", "lst mjd": "Times: UTC, LST, MJD"}
"""What a page shows beside each time, and how its switch says so; a cookie of the browser keeps the choice."""
TIMES_COOKIE = "dsa110_times"


def _digest() -> str:
    """Digest of all style sheets and scripts, so that a browser takes the new ones after an upgrade."""
    found = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            found.update(path.relative_to(STATIC).as_posix().encode() + path.read_bytes())
    return found.hexdigest()[:12]


STATIC_URL = f"/ui/static/{_digest()}"


@cache
def _environment() -> jinja2.Environment:
    # all templates are kept as they were at the start: those of a newer release need its code
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters.update(formats.FILTERS)
    shared: dict[str, Any] = {
        "static": STATIC_URL,
        "navigation": PAGES,
        "asset_url": asset_url,
        "run_url": run_url,
        "launchpad_url": launchpad_url,
        "code_location": CODE_LOCATION,
        "address": address,
        "tile_key": lambda group_id: "|".join(tile_partition(group_id)),
        "NOTHING": formats.NOTHING,
    }
    environment.globals.update(shared)
    return environment


def load_templates() -> None:
    """Compile all templates, which takes half a second."""
    for name in _environment().list_templates(extensions=["html"]):
        _environment().get_template(name)


def page(request: Request, template: str, *, status: int = 200, policy: str = POLICY, **context: Any) -> HTMLResponse:
    """Render a template as a page, or as a part of one for htmx.

    Every template knows ``config``, ``person`` (who is signed in, or None), ``csrf``, ``now`` (UTC), ``here`` (path of
    the page) and the filters of `formats`. Names and texts of the data are escaped.
    """
    config: PipelineConfig = request.app.state.access.config
    known = visitor(request)
    chosen = unquote(request.cookies.get(TIMES_COOKIE, ""))
    times = chosen if chosen in TIMES else "utc"
    common = {
        "config": config,
        "person": known.person,
        "csrf": known.csrf,
        "now": datetime.now(UTC),
        "here": request.url.path,
        "here_with_query": _page_of(request),
        "search": True,
        "in_dagster": _in_dagster(config, request.url.path),
        "times": times,
        "shown_times": TIMES[times],
        "dagster": config.ui_url.rstrip("/"),
    }
    html = _environment().get_template(template).render(common | context)
    return HTMLResponse(html, status, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


def _page_of(request: Request) -> str:
    """Path and query of the page that a person sees; htmx says it with a request for a part."""
    seen = urlsplit(request.headers.get("HX-Current-URL", ""))
    path, query = (seen.path, seen.query) if seen.path.startswith("/ui/") else (request.url.path, request.url.query)
    return f"{path}?{query}" if query else path


def _in_dagster(config: PipelineConfig, path: str) -> list[tuple[str, str]]:
    """What a page of the navigation shows, in the Dagster UI: name and address."""
    if path not in {one.address for one in PAGES}:
        return []
    found = [(name, asset_url(config, name)) for name in products_of(path.rpartition("/")[2])]
    return found or [("runs", f"{config.ui_url.rstrip('/')}/runs")]


_SHORTEST_RELOAD_S = 5


def problem_page(request: Request, problem: Mapping[str, Any], headers: Mapping[str, str]) -> HTMLResponse:
    """Render problem details as a page; as a message above the page for a request of htmx."""
    part = "HX-Request" in request.headers
    passes = int(problem["status"]) == 503 and request.method == "GET" and "retry-after" in headers
    reload_s = max(int(headers["retry-after"]), _SHORTEST_RELOAD_S) if passes else None
    answer = page(
        request, "problem_part.html" if part else "problem.html", status=int(problem["status"]), problem=problem, reload_s=reload_s
    )
    if "retry-after" in headers:
        answer.headers["Retry-After"] = headers["retry-after"]
    if part:
        answer.headers["HX-Retarget"], answer.headers["HX-Reswap"] = "#messages", "innerHTML"
    return answer


def asset_url(config: PipelineConfig, asset: str, partition: str | None = None) -> str:
    """Address of an asset, or of one of its partitions, in the Dagster UI."""
    view = "?" + urlencode({"view": "partitions", "partition": partition}) if partition else ""
    return f"{config.ui_url.rstrip('/')}/assets/{quote(asset)}{view}"


def run_url(config: PipelineConfig, run_id: str) -> str:
    """Address of a run in the Dagster UI."""
    return f"{config.ui_url.rstrip('/')}/runs/{quote(run_id)}"


def launchpad_url(
    config: PipelineConfig, job: str, run_config: Mapping[str, Any] | None = None, tags: Mapping[str, str] | None = None
) -> str:
    """Address of Dagster's launchpad of a job, with configuration and tags (a partition is one) filled in."""
    query = [("mode", "default"), ("config", yaml.safe_dump(dict(run_config or {}), sort_keys=False) if run_config else "{}")]
    for number, (key, value) in enumerate((tags or {}).items()):
        query += [(f"tags[{number}][key]", key), (f"tags[{number}][value]", value)]
    return f"{config.ui_url.rstrip('/')}/locations/{CODE_LOCATION}/jobs/{quote(job)}/playground/setup?{urlencode(query)}"


def address(path: str, parameters: Mapping[str, Any] | None = None, **changed: Any) -> str:
    """An address with parameters; ``changed`` replaces some, and None or an empty text removes one."""
    chosen = {**(parameters or {}), **changed}
    given = {name: value for name, value in chosen.items() if value is not None and value is not False and value != ""}  # 0 is a position
    query = urlencode(given, doseq=True)
    return f"{path}?{query}" if query else path
