"""The dashboard in a browser."""

from __future__ import annotations


def test_the_dashboard_says_what_needs_a_person(visit, picture) -> None:
    page = visit("/ui/dashboard")
    assert page.title() == "Dashboard · DSA-110"
    assert "observation 2026-03-01T05:15:36 failed" in page.inner_text("main")
    picture(page, "dashboard")
