"""Candidates with real keys: next, previous, labels, note, undo, next without my label; two people at once."""

from __future__ import annotations

import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import text

from dsa110_assets.registry import queries
from dsa110_assets.registry.queries import labels, people
from dsa110_assets_tests.browser.conftest import Site

expect.set_options(timeout=60_000)
N = 5


@pytest.fixture
def events(site: Site) -> list[int]:
    """Five candidates of the newest night, best first; return the numbers of their events."""
    with site.database.session() as session:
        frame = pd.DataFrame({"name": [f"C{one}" for one in range(N)], "ra_deg": [20.0 + one for one in range(N)], "dec_deg": 16.0})
        sources = queries.upsert_sources(session, frame, origin="monitored")
        found = pd.DataFrame(
            {"source_id": sources, "event_id": 0, "kind": "dip", "rank": range(1, N + 1), "score": [20.0 - one for one in range(N)],
             "epoch_mjd": 61_110.0, "first_mjd": 61_109.0, "last_mjd": 61_111.0, "depth": 0.4, "false_alarm_probability": 1e-7,
             "reasons": "six epochs in a row are low"}
        )  # fmt: skip
        found["event_id"] = queries.save_events(session, "2026-03-12", found)
        queries.replace_candidates(session, "2026-03-12", found)
    return [int(one) for one in found["event_id"]]


def said(site: Site, events: list[int]) -> list[list[tuple[str, str | None, str | None]]]:
    """What people say about the events, in order."""
    with site.database.session() as session:
        known = labels.labels_of(session, events)
    return [[(each["person"], each["label"], each["comment"]) for each in known[one]] for one in events]


def saved(page: Page) -> None:
    expect(page.locator("#candidates")).to_have_attribute("data-waiting", "0")


def current(page: Page) -> int:
    return int(page.get_attribute("[aria-current=true].candidate", "data-event"))


def opened(visit, path: str = "/ui/candidates", **how) -> Page:
    page = visit(path, **how)
    expect(page.locator("#candidates")).to_have_attribute("data-ready", "true")
    return page


def test_keys_label_note_and_undo_and_each_key_counts(visit, site, events, picture) -> None:
    page = opened(visit, signed_in=True)
    page.keyboard.type("1j2j3jk4jj15")  # quickly: no key waits for the one before
    saved(page)
    assert [[one[:2] for one in each] for each in said(site, events)] == [
        [("J. Doe", "ese")], [("J. Doe", "maybe")], [("J. Doe", "artifact")], [], [("J. Doe", "calibration")],
    ]  # fmt: skip
    with site.database.session() as session:
        history = [each["label"] for each in labels.history_of(session, events[4])]
    assert history == ["calibration", "ese"], "both keys reached the history, in their order"
    page.keyboard.press("u")
    saved(page)
    page.keyboard.press("r")
    page.wait_for_function(f"document.querySelector('[aria-current=true].candidate').dataset.event === '{events[3]}'")
    page.keyboard.press("n")
    page.keyboard.type("j1u are keys, but not in a note")
    page.keyboard.press("Control+Enter")
    saved(page)
    expect(page.locator(f"#labels-{events[3]} .comment")).to_have_text("j1u are keys, but not in a note")
    assert said(site, events)[3:] == [[("J. Doe", None, "j1u are keys, but not in a note")], [("J. Doe", "ese", None)]]
    picture(page, "candidates")
    page.keyboard.press("0")
    page.keyboard.press("o")
    page.wait_for_url(f"**/ui/candidates/{events[3]}")
    picture(page, "candidate")


def test_two_people_label_at_once_and_both_labels_stay(visit, site, events) -> None:
    mine = opened(visit, signed_in=True)
    with site.database.session() as session:
        site.token = people.new_token(session, "A. Other")
    theirs = opened(visit, signed_in=True)
    for _ in range(3):
        mine.keyboard.type("1j")
        theirs.keyboard.type("4j")
    mine.keyboard.type("k2")
    saved(mine)
    saved(theirs)
    assert [sorted(each) for each in said(site, events)[:3]] == [
        [("A. Other", "artifact", None), ("J. Doe", "ese", None)],
        [("A. Other", "artifact", None), ("J. Doe", "ese", None)],
        [("A. Other", "artifact", None), ("J. Doe", "maybe", None)],
    ]
    mine.reload()
    expect(mine.locator(f"#labels-{events[0]}")).to_contain_text("A. Other")
    expect(mine.locator(f"#labels-{events[0]} [aria-pressed=true]")).to_contain_text("ese")


def test_what_was_not_saved_is_said(visit, site, events) -> None:
    page = opened(visit, signed_in=True)
    with site.database.session() as session:
        session.execute(text("UPDATE api_tokens SET revoked_at = now()"))
    page.keyboard.press("1")
    saved(page)
    expect(page.locator("#messages")).to_contain_text("was revoked")
    assert said(site, events)[0] == []
    site.errors[:] = [one for one in site.errors if "401" not in one]  # the browser tells of the refusal


def test_without_a_sign_in_a_key_says_how_to_sign_in(visit, site, events) -> None:
    page = opened(visit)
    page.keyboard.press("1")
    expect(page.locator("#messages")).to_contain_text("Sign in")
    assert said(site, events)[0] == []


def test_the_pages_of_candidates_are_accessible_and_fit_a_phone(visit, site, events, picture) -> None:
    for path in ("/ui/candidates", f"/ui/candidates/{events[0]}"):
        page = opened(visit, path, signed_in=True, width=390, height=800)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        picture(page, f"phone_candidates{len(path)}")
