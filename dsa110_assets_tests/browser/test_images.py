"""Galleries, one image and one mosaic in a browser."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from dsa110_assets_tests.api.conftest import DEC, GROUPS, HOUR, RA


def accessible(page: Page) -> None:
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


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
