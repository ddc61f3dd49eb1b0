"""The pages over the API's small registry in Debian's Chromium (`visit`)."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request

from dsa110_assets.api.app import create_app
from dsa110_assets.api.serving import server_of
from dsa110_assets.common.previews import png_of_pixels
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry import queries
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets_tests.api.conftest import GROUPS, HOUR, fill

CHROMIUM = shutil.which("chromium")
GRAPHICS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
"""Aladin Lite needs WebGL; Chromium has it in software with these."""


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict) -> dict:
    """Debian's Chromium instead of a downloaded one."""
    if CHROMIUM is None:
        if os.environ.get("CI") == "true":
            pytest.fail("Debian's package `chromium` is missing; CI installs it")
        pytest.skip("Debian's package `chromium` is not installed")
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": ["--no-sandbox", *GRAPHICS]}


@dataclass
class Site:
    """The pages at an address, and what a browser said about them."""

    url: str
    token: str
    database: Database
    sources: list[int]
    config: PipelineConfig
    errors: list[str] = field(default_factory=list)

    def check(self) -> None:
        """Fail if the console had an error, a request failed, or one left this machine."""
        assert not self.errors, self.errors


@pytest.fixture
def site(database: Database, registry_config: PipelineConfig) -> Iterator[Site]:
    """The pages over the small registry, served as in production; Dagster does not run."""
    config = registry_config.model_copy(update={"dagster_port": 1})
    sources, _ = fill(database, config)
    with database.session() as session:
        token = people.new_token(session, "J. Doe")
    server = server_of(create_app(config), config, port=0)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < limit, "the server did not start"
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Site(f"http://127.0.0.1:{port}", token, database, sources, config)
    finally:
        server.should_exit = True
        thread.join(10)


@pytest.fixture
def visit(site: Site, browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open pages in the browser: ``visit("/ui/dashboard", signed_in=True)``. At its end the console must be clean."""
    contexts = []

    def open_page(path: str, *, signed_in: bool = False, width: int = 1400, height: int = 1000, scheme: str = "dark") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(120_000)  # a loaded machine is slow
        if signed_in:
            context.add_cookies(
                [{"name": "dsa110_token", "value": site.token, "url": f"{site.url}/ui", "httpOnly": True, "sameSite": "Strict"}]
            )
        page = context.new_page()
        page.on("console", lambda message: _note(site, message))
        page.on("pageerror", lambda error: site.errors.append(f"script: {error}"))
        page.on("request", lambda request: _stay(site, request))
        page.goto(f"{site.url}{path}", wait_until="networkidle")
        return page

    yield open_page
    for context in contexts:
        context.close()
    site.check()


def _note(site: Site, message: ConsoleMessage) -> None:
    if message.type in ("error", "warning"):
        site.errors.append(f"console: {message.text} {message.location}")


def _stay(site: Site, request: Request) -> None:
    if not request.url.startswith((site.url, "data:", "blob:")):
        site.errors.append(f"a request left the machine: {request.url}")


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page, str], None]:
    """Keep a screenshot in the directory of ``DSA110_PICTURES``, for people to look at."""

    def keep(page: Page, name: str) -> None:
        if folder := os.environ.get("DSA110_PICTURES"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    return keep


@pytest.fixture
def pictured(site: Site) -> Site:
    """The small registry with real previews and limits."""
    noise = np.random.default_rng(1).normal(0.15, 0.04, (300, 300))
    noise[150:154, 150:154] = 1.0
    with site.database.session() as session:
        for product, key, name, names in (
            ("tile_image", GROUPS[1], GROUPS[1], ("-preview.png", "-preview-large.png")),
            ("hourly_mosaic", "2026-03-01T05", HOUR, ("-preview.png", "-preview-small.png")),
        ):
            version = session.query(ProductVersion).filter_by(product=product, key=key).one()
            for end in names:
                (Path(version.path) / f"{name}{end}").write_bytes(png_of_pixels(noise))
            version.created_at = version.created_at.replace(year=2030)
        for number, group_id in enumerate(GROUPS):
            queries.upsert_qa_metric(
                session, "tile_image", group_id, "noise_over_thermal", 1.1 + 0.3 * number, limit_low=0.8, limit_high=1.6,
                passed=number < 2, reason="as measured",
            )  # fmt: skip
    return site
