"""Antennas and marks in a browser, accessible."""

from __future__ import annotations

from sqlalchemy import update

from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.schema import CaltableRow
from dsa110_assets_tests.api.conftest import GROUPS
from dsa110_assets_tests.browser.accessibility import violations


def give_antennas(site) -> None:
    """Figures of 103 antennas, of which five are dead, for the solution of the small registry."""
    good = {"flagged": 0.1, "amplitude": [1.0, 0.9], "phase_deg": [0.0, 12.5], "bandpass_scatter": 0.03}
    dead = {"flagged": 1.0, "amplitude": [None, None], "phase_deg": [None, None], "bandpass_scatter": None}
    with site.database.session() as session:
        session.execute(update(CaltableRow).values(quality={"antennas": {str(n): dead if n % 20 == 0 else good for n in range(1, 104)}}))


def test_antennas_are_accessible_and_fit_a_phone(visit, picture, site) -> None:
    give_antennas(site)
    page = visit("/ui/antennas")
    assert violations(page) == []
    picture(page, "antennas")
    assert visit("/ui/antennas", width=390, height=800).evaluate("document.documentElement.scrollWidth") <= 390


def test_an_antenna_is_marked_after_its_page_has_said_what_that_makes_again(visit, picture, site) -> None:
    give_antennas(site)
    with site.database.session() as session:
        record_version(
            session, "measurement_set", GROUPS[1], path=f"/ms/{GROUPS[1]}.ms", recipe=Recipe("code", "settings"), duration_s=30.0
        )
    page = visit("/ui/antennas/24", signed_in=True)
    page.get_by_role("link", name="mark it as bad").click()
    page.get_by_label("From (UTC)").fill("2026-03-01T05:00")
    page.get_by_label("Reason").fill("a warm receiver")
    page.get_by_role("button", name="Show what it would make again").click()
    page.get_by_role("button", name="Mark as bad").wait_for()
    assert "measurement_set" in page.inner_text("main")
    assert violations(page) == []
    picture(page, "antenna_mark_plan")
    page.get_by_role("button", name="Mark as bad").click()
    page.get_by_text("to be made again").first.wait_for()
    page.get_by_role("link", name="Remove the mark on antenna 24").click()
    page.get_by_role("button", name="Remove the mark").wait_for()
    assert violations(page) == []
    page.get_by_role("button", name="Remove the mark").click()
    page.get_by_text("No antenna is marked.").wait_for()


def test_a_tile_is_marked_and_the_page_says_what_comes_out_differently(visit, picture) -> None:
    page = visit(f"/ui/observations/{GROUPS[1]}", signed_in=True)
    page.get_by_label("Reason").fill("a satellite")
    page.get_by_role("button", name="Show what it would make again").click()
    page.get_by_role("button", name="Mark", exact=True).wait_for()
    assert "hourly_mosaic" in page.inner_text("main")
    assert violations(page) == []
    picture(page, "mark_plan")
    page.get_by_role("button", name="Mark", exact=True).click()
    page.get_by_text("1 to be made again").wait_for()
    assert violations(page) == []
    picture(page, "marked")
    page.get_by_role("link", name="All marks, and what they make again").click()
    page.get_by_role("link", name="What is to be made again").click()
    page.get_by_role("button", name="Start the backfill").wait_for()
    assert "hourly_mosaic" in page.inner_text("main")
    assert violations(page) == []
    picture(page, "marks_again")
