"""Observations in a browser: from the timeline to one observation, by keyboard, on a phone, accessible."""

from __future__ import annotations

from dsa110_assets_tests.api.conftest import GROUPS
from dsa110_assets_tests.browser.accessibility import violations


def test_from_a_slot_of_the_timeline_to_its_observation_and_the_next_one(visit, picture) -> None:
    page = visit("/ui/observations")
    assert violations(page) == []
    picture(page, "observations")
    page.get_by_role("link", name=f"{GROUPS[1]}: completed, image good").click()
    page.wait_for_url(f"**/ui/observations/{GROUPS[1]}")
    assert "dynamic range" in page.inner_text("main")
    page.get_by_role("link", name=f"{GROUPS[2]} →").click()
    page.wait_for_url(f"**/ui/observations/{GROUPS[2]}")
    assert "refused" in page.inner_text("main")


def test_one_observation_is_accessible_and_says_before_it_makes_again(visit, picture) -> None:
    page = visit(f"/ui/observations/{GROUPS[2]}", signed_in=True)
    assert violations(page) == []
    picture(page, "observation")
    page.get_by_label("Make again from").select_option("hourly_mosaic")
    page.get_by_role("button", name="Show what would be made").click()
    page.wait_for_url("**/again?start=hourly_mosaic")
    assert "2026-03-01|05" in page.inner_text("main")
    assert page.get_by_role("button", name="Start the backfill").is_visible()
    assert violations(page) == []
    picture(page, "observation_again")


def test_observations_fit_a_phone(visit, picture) -> None:
    for name, path in (("observations", "/ui/observations"), ("observation", f"/ui/observations/{GROUPS[1]}")):
        page = visit(path, width=390, height=800)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        picture(page, f"{name}_phone")
