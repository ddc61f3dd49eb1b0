"""LST and MJD beside each time, by a switch that touch and keyboard reach."""

from __future__ import annotations

import httpx2
import pytest
from astropy.time import Time

from dsa110_assets_tests.api.conftest import GROUPS
from dsa110_assets_tests.browser.accessibility import violations


def test_a_switch_shows_lst_and_mjd_as_text_and_the_browser_keeps_it(visit, site) -> None:
    page = visit("/ui/observations?day=2026-03-01", width=390)
    row = page.locator("tr", has=page.get_by_role("link", name=GROUPS[1], exact=True))
    seen = []
    for _ in range(4):
        shown = row.inner_text()
        seen.append((page.inner_text("#times"), "LST " in shown, "MJD " in shown))
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.get_by_role("button", name="Times:").click()
    assert seen == [
        ("Times: UTC", False, False),
        ("Times: UTC, LST", True, False),
        ("Times: UTC, MJD", False, True),
        ("Times: UTC, LST, MJD", True, True),
    ]
    assert page.inner_text("#times") == "Times: UTC"
    page.keyboard.press("t")
    page.keyboard.press("t")
    page.keyboard.press("t")
    page.goto(f"{site.url}/ui/observations?day=2026-03-01", wait_until="networkidle")
    when = Time(GROUPS[1])
    when.delta_ut1_utc = 0.0
    hours = when.sidereal_time("mean", longitude=-118.28).hour
    assert f"{GROUPS[1]} LST {int(hours):02d}:{int(hours % 1 * 60):02d} MJD {when.mjd:.4f}" in row.inner_text()
    page.keyboard.press("?")
    assert "LST, MJD or both beside every time" in page.inner_text("#keys")


def test_the_timeline_and_the_light_curve_follow_the_switch(visit, site) -> None:
    page = visit("/ui/observations?day=2026-03-01")
    slot = page.get_by_role("link", name=f"{GROUPS[1]}: completed, image good")
    empty = page.locator("span[data-mjd]").first
    hour, month = (page.locator("th[scope=row]", has_text=text) for text in ("05 h", "Mar 2026"))
    when = Time(GROUPS[1])
    when.delta_ut1_utc = 0.0
    hours = when.sidereal_time("mean", longitude=-118.28).hour
    lst, mjd = f", LST {int(hours):02d}:{int(hours % 1 * 60):02d}", f", MJD {when.mjd:.4f}"
    for also in ("", lst, mjd, lst + mjd):
        title = slot.get_attribute("title")
        assert title.endswith(f"image good{also}")
        assert [word in empty.get_attribute("title") for word in ("LST", "MJD")] == [bool(also) and lst in also, mjd in also]
        assert ["LST" in hour.inner_text(), "MJD 61100.2083" in hour.inner_text()] == [bool(also) and lst in also, mjd in also]
        assert ("MJD 61100" in month.inner_text()) == (mjd in also)
        page.get_by_role("button", name="Times:").click()
    assert slot.get_attribute("title").endswith("image good"), "nothing is added twice"
    page.goto(f"{site.url}/ui/sources/{site.sources[0]}", wait_until="networkidle")
    page.wait_for_selector("#curve[data-ready]")
    page.focus("#curve")
    page.keyboard.press("ArrowRight")
    hint = page.locator("#curve-hint")
    seen = []
    for _ in range(4):
        shown = hint.inner_text()
        seen.append((" UTC" in shown, "LST " in shown, "MJD 61100.2100" in shown))
        page.get_by_role("button", name="Times:").click()
    assert seen == [(True, False, False), (True, True, False), (True, False, True), (True, True, True)]


@pytest.mark.parametrize("value", ["lst%20mjd", "%22%3E%3Cscript%3E", "x" * 3000])
def test_a_strange_choice_counts_as_none(site, value: str) -> None:
    answer = httpx2.get(f"{site.url}/ui/marks", headers={"Cookie": f"dsa110_times={value}"}, trust_env=False)
    assert answer.status_code == 200
    assert f'data-times="{"lst mjd" if value == "lst%20mjd" else "utc"}"' in answer.text
