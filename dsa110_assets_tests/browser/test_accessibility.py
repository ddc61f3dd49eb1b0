"""Axe finds nothing on any page, dark or light, on a phone or a wide screen; nothing is wider than the phone."""

from __future__ import annotations

import pytest

from dsa110_assets_tests.browser.accessibility import violations
from dsa110_assets_tests.browser.test_antennas import give_antennas
from dsa110_assets_tests.pages import places


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize("width", [390, 1400])
def test_every_page_can_be_used_by_everybody(visit, pictured, scheme: str, width: int) -> None:
    site = pictured
    give_antennas(site)
    places.write_log(site.config)
    page = visit("/ui/sign-in", width=width)  # signed out, as everybody begins
    wrong = {"/ui/sign-in, signed out": violations(page)}
    page = visit("/ui/shift", signed_in=True, width=width, scheme=scheme)
    for address in (*places.addresses(places.PAGES, site.sources), *places.MISSING):
        page.goto(f"{site.url}{address}", wait_until="networkidle")
        if "viewer?" in address:
            page.wait_for_selector("#sky[data-ready=yes]")
        wrong[address] = violations(page)
        if page.evaluate("document.documentElement.scrollWidth") > width:
            wrong[address].append("is wider than the screen")
    site.errors[:] = [one for one in site.errors if not any(address in one for address in places.MISSING)]
    assert {address: some for address, some in wrong.items() if some} == {}


def test_a_part_can_be_read_while_it_loads(visit, site) -> None:
    page = visit("/ui/sign-in", signed_in=True)
    waiting = []
    page.route("**/ui/control-panel/stale", lambda route: waiting.append(route))  # noqa: PLW0108 -- playwright cannot call a builtin method
    page.goto(f"{site.url}/ui/control-panel", wait_until="load")
    page.locator(".htmx-request").get_by_text("Looking ...").wait_for()
    page.wait_for_timeout(500)
    assert violations(page) == []
    assert waiting
    waiting[0].continue_()
    page.get_by_text("Looking ...").wait_for(state="detached")
