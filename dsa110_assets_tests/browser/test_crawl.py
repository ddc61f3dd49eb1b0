"""Every page that can be reached from the dashboard, with its buttons and files; links into a running Dagster UI."""

from __future__ import annotations

import os
import re

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import ProductPaths, image_path
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.times import tile_partition
from dsa110_assets_tests.api.conftest import GROUPS, NIGHT, RA, dagster_ui, running, write_image
from dsa110_assets_tests.browser.crawl import Crawl, form_of

__all__ = ["dagster_ui", "running"]
TILE = "|".join(tile_partition(GROUPS[1]))
DAGSTER_MS = 60_000
"""A loaded machine takes its time to load the definitions and the 20 MB of the Dagster UI."""


@pytest.mark.timeout(900)
def test_every_page_that_is_linked_opens_without_an_error(pictured, browser: Browser) -> None:
    paths = ProductPaths.of(pictured.config)
    write_image(image_path(paths.image_dir(GROUPS[2]), GROUPS[2], "image-pb"))
    write_image(image_path(paths.mosaic_dir(NIGHT), NIGHT, "image"))
    with pictured.database.session() as session:
        row = image_of(session, GROUPS[2])
        assert row is not None
        row.ra_deg = RA  # where the file is
    crawl = Crawl(f"{pictured.url}/ui/dashboard", each=1, pictures=None)
    context = browser.new_context(viewport={"width": 1400, "height": 1000}, color_scheme="dark")
    mine = {"name": "dsa110_token", "value": pictured.token, "url": f"{pictured.url}/ui", "httpOnly": True, "sameSite": "Strict"}
    context.add_cookies([mine])  # type: ignore[list-item]
    try:
        crawl.run(context)
    finally:
        context.close()
    assert sorted(set(crawl.found)) == []
    assert len(crawl.visited) == len({form_of(one) for one in crawl.visited}) >= 35, "one page of each form"


@pytest.fixture
def leads(browser: Browser, running: PipelineConfig, dagster_ui: None):
    """Open a page of ours and follow its link to Dagster with this text; ``leads(path, text)`` gives Dagster's page."""
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    context.set_default_timeout(DAGSTER_MS)

    def follow(path: str, text: str) -> Page:
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{running.api_port}{path}", wait_until="load")
        page.locator("main a.outside", has_text=re.compile(rf"^{re.escape(text)}$")).first.click()
        page.wait_for_url(f"http://127.0.0.1:{running.dagster_port}/**", wait_until="load")
        return page

    yield follow
    context.close()


@pytest.mark.timeout(900)
def test_links_to_dagster_open_the_asset_the_partition_the_run_and_the_launchpad_with_its_fields_filled_in(
    running: PipelineConfig, leads
) -> None:
    asset = leads("/ui/images", "tile_image")
    expect(asset.get_by_text("tile_image").first).to_be_visible(timeout=DAGSTER_MS)
    partition = leads(f"/ui/images/{GROUPS[1]}", f"tile_image {TILE}")
    for key in tile_partition(GROUPS[1]):
        expect(partition.get_by_text(key).first).to_be_visible(timeout=DAGSTER_MS)
    headers = {"Authorization": f"Bearer {os.environ['PIPELINE_API_TOKEN']}"}
    task = {"queue": "dsa110-pipeline", "task_type": "hour", "payload": {"night": "2026-03-01", "hour": 5}, "priority": 1}
    made = httpx2.post(f"http://127.0.0.1:{running.api_port}/api/absurd/tasks", json=task, headers=headers, timeout=120)
    assert made.status_code in (200, 201, 202), made.text
    run_id = made.json()["id"]
    run = leads("/ui/control-panel", f"run {run_id[:8]}")
    expect(run.get_by_text(run_id[:8]).first).to_be_visible(timeout=DAGSTER_MS)
    launchpad = leads(f"/ui/control-panel?observation={GROUPS[1]}&night=2026-03-01", "Another reference antenna")
    expect(launchpad.locator(".CodeMirror")).to_contain_text("refant", timeout=DAGSTER_MS)
    expect(launchpad.locator(".CodeMirror")).to_contain_text("2026-03-01")
    tagged = leads("/ui/control-panel?night=2026-03-01", "Night 2026-03-01: nightly mosaic")
    expect(tagged.get_by_text("2026-03-01").first).to_be_visible(timeout=DAGSTER_MS)
