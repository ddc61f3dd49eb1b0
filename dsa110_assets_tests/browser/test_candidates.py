"""Candidates with real keys: next, previous, labels, note, undo, next without my label; two people at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import text

from dsa110_assets.products import image_path
from dsa110_assets.registry import queries
from dsa110_assets.registry.queries import labels, people
from dsa110_assets_tests.api.conftest import write_image
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


def measure(site: Site, source_id: int, folder: Path) -> None:
    """Measure a source in 60 hours around its event, in which it is 40 % fainter."""
    rng = np.random.default_rng(7)
    with site.database.session() as session:
        for day in range(60):
            name, time = f"hourly_2026-{2 + day // 28:02d}-{day % 28 + 1:02d}T09", 61_080.3 + day
            write_image(image_path(folder / name, name, "image"), 100)
            queries.upsert_mosaic(
                session, name=name, kind="hourly", directory=str(folder / name), start_mjd=time, mid_mjd=time, end_mjd=time, ra_deg=0,
                dec_deg=0, noise_jy_per_beam=5e-4, group_ids=[],
            )  # fmt: skip
            fluxes = pd.DataFrame(
                {"source_id": [source_id], "flux_jy": (0.06 if 28 <= day <= 31 else 0.1) + rng.normal(0, 2e-3), "flux_err_jy": 2e-3,
                 "noise_jy_per_beam": 2e-3, "background_jy_per_beam": 0.0, "snr": 50.0, "upper_limit_jy": np.nan, "is_limit": False}
            )  # fmt: skip
            queries.replace_photometry(session, name, fluxes, time_mjd=time)
        session.execute(text("UPDATE epoch_factors SET factor = 1.02, factor_err = 0.003, n_reference = 40, usable = true, due = false"))


def test_a_candidate_shows_its_light_curve_and_the_cutouts_around_its_event(visit, site, events, picture, tmp_path) -> None:
    with site.database.session() as session:
        source = session.scalar(text("SELECT source_id FROM candidate_events WHERE event_id = :event"), {"event": events[0]})
        session.execute(text("UPDATE sources SET ra_deg = 120, dec_deg = 16 WHERE source_id = :source"), {"source": source})
    measure(site, source, tmp_path)
    page = opened(visit, signed_in=True)
    row = page.locator(f"#event-{events[0]}")
    expect(row.locator("svg circle")).to_have_count(60)
    expect(row.locator(".cuts img")).to_have_count(8)
    expect(row.locator(".cuts .during")).to_have_count(2)
    expect(page.locator(f"#event-{events[1]} .look")).to_contain_text("No normalized fluxes")
    for image in row.locator(".cuts img").all():
        image.scroll_into_view_if_needed()
        page.wait_for_function("i => i.complete && i.naturalWidth > 5", arg=image.element_handle())
    picture(page, "candidates_look")


def test_the_pages_of_candidates_are_accessible_and_fit_a_phone(visit, site, events, picture) -> None:
    for path in ("/ui/candidates", f"/ui/candidates/{events[0]}"):
        page = opened(visit, path, signed_in=True, width=390, height=800)
        found = Axe().run(page)
        assert found.violations_count == 0, found.generate_report()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        picture(page, f"phone_candidates{len(path)}")
