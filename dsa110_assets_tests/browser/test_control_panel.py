"""The control panel in a browser, while Dagster is down and while it answers."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe

from dsa110_assets_tests.pages.test_control_panel import asked

__all__ = ["asked"]


def test_the_panel_says_what_does_not_answer_and_retries_a_failed_observation(visit, picture) -> None:
    page = visit("/ui/control-panel", signed_in=True)
    for part in ("switches", "runs", "backfills"):
        assert "503" in page.inner_text(f"[hx-get='/ui/control-panel/{part}']"), part
    picture(page, "control-panel")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("button[title^='process 2026-03-01T05:15:36 again']")
    page.wait_for_load_state("networkidle")
    assert "2026-03-01T05:15:36 waits in the queue" in page.inner_text("[role=status].message")
    page.fill("input[name=first_night]", "2026-03-01")
    page.click("form[action='/ui/control-panel/backfill'] button")
    assert "Nothing has been started" in page.inner_text("main")
    picture(page, "control-panel-backfill")
    page.goto(page.url.split("/ui/")[0] + "/ui/control-panel/solve?night=2026-03-01&refant=104")
    assert "2026-03-01T05:00:09: 0834+555" in page.inner_text("main")
    picture(page, "control-panel-solve")


def test_a_question_that_is_declined_changes_nothing(visit) -> None:
    page = visit("/ui/control-panel", signed_in=True)
    page.on("dialog", lambda dialog: dialog.dismiss())
    page.click("button[title^='process 2026-03-01T05:15:36 again']")
    page.click("text=Retry all of these")
    page.wait_for_timeout(300)
    assert "waits in the queue" not in page.inner_text("main")
    assert "2026-03-01T05:15:36" in page.inner_text("main")


def test_the_panel_can_be_used_by_everybody(visit, picture) -> None:
    for width in (1400, 390):
        page = visit("/ui/control-panel", signed_in=True, width=width)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    picture(page, "control-panel-phone")


def test_each_action_first_says_what_it_will_do(visit, site) -> None:
    """Retry, a trial with its settings against the defaults; a mark on an antenna by a page. All are declined."""
    page = visit("/ui/control-panel", signed_in=True)
    questions: list[str] = []

    def decline(dialog) -> None:
        questions.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", decline)
    page.click("button[title^='process 2026-03-01T05:15:36 again']")
    page.fill("input[name=observation]", "2026-03-01T05:05:18")
    page.get_by_role("button", name="Make the trial image").click()
    page.fill("input[name=niter]", "7")
    page.get_by_role("button", name="Make the trial image").click()
    page.goto(f"{site.url}/ui/antennas")
    page.fill("input[name=antenna]", "24")
    page.fill("input[name=since]", "2026-03-01T05:00")
    page.fill("input[name=reason]", "warm")
    page.get_by_role("button", name="Show what it would make again").click()
    assert "Mark as bad" in page.inner_text("main")
    assert "antenna 24" in page.inner_text("main").lower()
    page.get_by_role("link", name="Do not").click()
    page.wait_for_url("**/ui/antennas*")
    assert [one.split("\n")[0].split("?")[0] for one in questions] == [
        "Process 2026-03-01T05:15:36 again from its raw files",
        "Make a trial image of 2026-03-01T05:05:18",
        "Make a trial image of 2026-03-01T05:05:18",
    ]
    assert questions[1].endswith("All settings are the platform's own.")
    assert questions[2].endswith(f"niter: 7 instead of {site.config.clean_niter}")


def test_a_switch_is_turned_after_a_question(visit, picture, asked: list) -> None:
    page = visit("/ui/control-panel", signed_in=True)
    assert "raw_files" in page.inner_text("[hx-get='/ui/control-panel/switches']")
    assert "75 %" in page.inner_text("[hx-get='/ui/control-panel/backfills']")
    picture(page, "control-panel-with-dagster")
    assert Axe().run(page).violations_count == 0
    questions: list[str] = []

    def accept(dialog) -> None:
        questions.append(dialog.message)
        dialog.accept()

    page.on("dialog", accept)
    page.click("button[title='switch off raw_files']")
    page.wait_for_selector("text=raw_files is off")
    assert "requests nothing until it is on again" in questions[0]
    assert "stop_sensor" in [document for document, _ in asked]
