"""The search page in a browser: by the box of every page, by keyboard, on a phone."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe

from dsa110_assets_tests.api.conftest import DEC, GROUPS, RA


def test_a_position_is_searched_with_the_key_of_every_page_and_becomes_a_target(site, visit, picture) -> None:
    page = visit("/ui/images", signed_in=True)
    page.keyboard.press("/")
    page.keyboard.type(f"{RA + 0.3} {DEC}")
    page.keyboard.press("Enter")
    page.wait_for_url("**/ui/search?**")
    page.wait_for_load_state("networkidle")
    assert page.locator(f'td a[href="/ui/images/{GROUPS[1]}"]').count() == 1
    picture(page, "search")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    page.on("dialog", lambda dialog: dialog.accept())
    page.fill("main input[name=name]", "my target")
    page.click("text=Add, measured back in time")
    page.wait_for_url("**/ui/search?q=my**")
    assert "my target" in page.inner_text("main")


def test_the_search_page_fits_on_a_phone(site, visit, picture) -> None:
    page = visit(f"/ui/search?q={RA}+{DEC}", width=390, height=800)
    picture(page, "phone_search")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
