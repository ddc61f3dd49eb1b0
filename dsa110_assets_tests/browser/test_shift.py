"""The shift's log and the morning report in a browser."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe

NIGHT = "2026-03-01"


def test_a_person_writes_an_entry_and_others_see_it_at_once(visit, picture) -> None:
    other = visit("/ui/shift")
    other.wait_for_timeout(3000)
    page = visit("/ui/shift", signed_in=True)
    page.fill("textarea", "Antenna 24 was restarted.\nIts gains should be looked at.")
    page.fill("input[name=night]", NIGHT)
    page.fill("input[name=group_id]", "2026-03-01T05:05:18")
    page.click("text=Write >> visible=true")
    page.wait_for_selector(".entry")
    assert "Antenna 24 was restarted." in page.inner_text(".entry")
    picture(page, "shift")
    other.wait_for_selector("text=Antenna 24 was restarted.", timeout=15_000)
    assert Axe().run(page).response["violations"] == []


def test_the_report_is_readable_on_a_screen_a_phone_and_on_paper(visit, picture) -> None:
    page = visit(f"/ui/shift/report?night={NIGHT}")
    assert "2 good" in page.inner_text("main")
    assert Axe().run(page).response["violations"] == []
    picture(page, "report")
    page.emulate_media(media="print")
    assert not page.is_visible("header")
    picture(page, "report_on_paper")
    phone = visit(f"/ui/shift/report?night={NIGHT}", width=390, height=800)
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
