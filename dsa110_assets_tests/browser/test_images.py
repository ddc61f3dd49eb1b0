"""Galleries, one image and one mosaic in a browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from dsa110_assets.common.previews import png_of_pixels
from dsa110_assets.registry import queries
from dsa110_assets.registry.schema import ProductVersion
from dsa110_assets_tests.api.conftest import DEC, GROUPS, HOUR, RA


def accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.fixture
def pictured(site):
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


def test_a_person_finds_an_image_and_cuts_out_a_position(pictured, visit, picture) -> None:
    page = visit("/ui/images")
    picture(page, "images")
    accessible(page)
    page.select_option("select[name=verdict]", "good")
    page.click("text=Filter")
    assert page.locator(".card").count() == 2
    page.click(f'.card[href="/ui/images/{GROUPS[1]}"]')
    assert page.locator("img.large").evaluate("one => one.complete && one.naturalWidth") == 300
    page.fill("input[name=position]", f"{RA} {DEC}")
    page.click("text=Cut out")
    page.wait_for_load_state("networkidle")
    assert page.locator("img.cutout").evaluate("one => one.naturalWidth") == 45
    picture(page, "image")
    accessible(page)


def test_one_mosaic_and_the_form_for_another(pictured, visit, picture) -> None:
    page = visit("/ui/mosaics", signed_in=True)
    picture(page, "mosaics")
    accessible(page)
    page.click(f'.card[href="/ui/mosaics/{HOUR}"]')
    picture(page, "mosaic")
    accessible(page)
    page.goto(page.url.replace(HOUR, "new"))
    page.fill("input[name=name]", "mine")
    page.fill("input[name=since]", "2026-03-01T05:00")
    page.fill("input[name=until]", "2026-03-01T06:00")
    page.click("text=Show its tiles >> nth=0")
    page.wait_for_load_state("networkidle")
    assert "2 tiles at declination" in page.inner_text("main")
    picture(page, "mosaic_new")
    accessible(page)


@pytest.mark.parametrize("path", ["/ui/images", f"/ui/images/{GROUPS[1]}", "/ui/mosaics", f"/ui/mosaics/{HOUR}", "/ui/mosaics/new"])
def test_nothing_is_wider_than_a_phone(pictured, visit, picture, path: str) -> None:
    page = visit(path, width=390, height=800)
    picture(page, "phone" + path.replace("/", "_"))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
