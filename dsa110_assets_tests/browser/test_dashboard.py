"""The dashboard in a browser: it answers what is wrong, keeps itself up to date, and works for everybody."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from sqlalchemy import text

from dsa110_assets.registry.schema import SubbandFile


def refuse(site, *names: str) -> None:
    with site.database.session() as session:
        for name in names:
            session.add(SubbandFile(path=f"/in/{name}", state="rejected", reason="content: no header", size_bytes=5, mtime_ns=1))


def test_the_dashboard_says_what_needs_a_person(visit, picture) -> None:
    page = visit("/ui/dashboard")
    assert page.title() == "Dashboard · DSA-110"
    assert "observation 2026-03-01T05:15:36 failed" in page.inner_text("main")
    picture(page, "dashboard")


def test_a_refused_file_appears_by_itself_with_name_and_reason(visit, site, picture) -> None:
    page = visit("/ui/dashboard")
    page.wait_for_selector("#live.good")
    refuse(site, "2026-03-01T05:20:45_sb03.hdf5", "2026-03-01T05:25:54_sb00.hdf5")
    page.wait_for_selector("text=2026-03-01T05:20:45_sb03.hdf5", timeout=15_000)
    assert "content: no header" in page.inner_text("[data-part=attention]")
    page.click("text=2 content")
    assert "2026-03-01T05:25:54_sb00.hdf5" in page.inner_text("main")
    picture(page, "refused_files")


def test_a_person_acknowledges_an_alert_and_what_they_type_is_not_lost(visit, site, picture) -> None:
    page = visit("/ui/dashboard", signed_in=True)
    page.wait_for_selector("#live.good")
    first = page.locator("[data-part=attention] .alerts > li").first
    first.locator("summary").click()
    first.locator("input[name=reason]").fill("the disk is being replaced")
    refuse(site, "new.hdf5")
    page.wait_for_timeout(4000)
    assert first.locator("input[name=reason]").input_value() == "the disk is being replaced"
    first.locator("select").select_option("8")
    picture(page, "dashboard_acknowledge")
    first.locator("button").click()
    page.wait_for_selector("text=1 acknowledged")
    assert "J. Doe" in page.inner_text(".alerts.quiet")
    assert "the disk is being replaced" in page.inner_text(".alerts.quiet")


def test_a_hidden_page_holds_no_connection(visit, site) -> None:
    page = visit("/ui/dashboard")
    page.wait_for_selector("#live.good")
    asked = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/api/events") else None)
    page.evaluate("Object.defineProperty(document, 'hidden', {value: true, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    refuse(site, "unseen.hdf5")
    page.wait_for_timeout(3500)
    assert "unseen.hdf5" not in page.inner_text("main")
    page.evaluate("Object.defineProperty(document, 'hidden', {value: false, configurable: true})")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector("text=unseen.hdf5", timeout=15_000)
    assert len(asked) == 1


def test_the_dashboard_works_for_a_screen_reader_and_on_a_phone(visit, site, picture) -> None:
    refuse(site, "2026-03-01T05:20:45_sb03.hdf5")
    page = visit("/ui/dashboard", signed_in=True, width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "dashboard_phone")
    for address in ("/ui/dashboard", "/ui/refused-files"):
        page = visit(address, signed_in=True)
        assert Axe().run(page).response["violations"] == []


def test_an_empty_registry_has_a_readable_dashboard(visit, site, picture) -> None:
    with site.database.session() as session:
        session.execute(text("TRUNCATE ingest_queue, subband_files, sources, product_versions, qa_metrics, mosaics CASCADE"))
    page = visit("/ui/dashboard")
    assert "Nothing needs a person." in page.inner_text("main")
    picture(page, "dashboard_empty")
