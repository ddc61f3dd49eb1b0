"""Antennas on their page and through the API."""

from __future__ import annotations

import html
import re
from datetime import date, datetime

import pytest
from sqlalchemy import func, update

from dsa110_assets.api.routes import antennas
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.storage import record_parts
from dsa110_assets.registry.schema import CaltableRow, StoredPart
from dsa110_assets.stages.operations.mark_plans import expected_of_antenna
from dsa110_assets.stages.operations.staleness import stale_products
from dsa110_assets.stages.platform import Platform
from dsa110_assets.times import datetime_to_mjd
from dsa110_assets_tests.api.conftest import CALIBRATOR, GROUPS, Served
from dsa110_assets_tests.pages.test_observations import csrf
from dsa110_assets_tests.registry_fixture import add_observation


def store_figures(served: Served) -> None:
    """Figures of three antennas in the one solution: 24 is dead."""
    good = {"flagged": 0.1, "amplitude": [1.0, 0.9], "phase_deg": [0.0, 12.5], "bandpass_scatter": 0.03}
    dead = {"flagged": 1.0, "amplitude": [None, None], "phase_deg": [None, None], "bandpass_scatter": None}
    with served.database.session() as session:
        session.execute(update(CaltableRow).values(quality={"snr": 50.0, "antennas": {"103": good, "24": dead, "<b>7": good}}))


def test_a_dead_antenna_comes_first_and_the_reference_is_named(served: Served) -> None:
    store_figures(served)
    found = served.get("/api/antennas").json()
    assert [(one["name"], one["state"]) for one in found["antennas"]] == [("24", "dead"), ("103", "good"), ("<b>7", "good")]
    assert [one["name"] for one in found["antennas"] if one["is_refant"]] == ["103"]
    text = served.get("/ui/antennas").text
    assert text.index(">24<") < text.index(">103</a> (reference)<")
    assert "<b>7" not in text
    assert f"/ui/observations/{CALIBRATOR}" in text
    assert ">103</a> (" not in served.get("/ui/antennas", state="dead").text


def test_the_dashboard_says_how_many_antennas_are_alive(served: Served) -> None:
    store_figures(served)
    text = served.get("/ui/dashboard").text
    assert '<a href="/ui/antennas">2 of 3 antennas alive</a>' in text
    assert 'href="/ui/antennas?state=dead"' in text
    assert ">1 dead<" in text


def test_the_dashboard_counts_antennas_once_a_minute(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of the dashboard reload with each product, for each person; the solutions of 14 nights are read once."""
    store_figures(served)
    asked: list[int] = []
    real = antennas.list_antennas
    monkeypatch.setattr(antennas, "list_antennas", lambda opened, solutions: asked.append(solutions) or real(opened, solutions))
    for _ in range(5):
        served.get("/ui/dashboard/parts/calibrations")
    assert asked == [14]


def test_without_figures_the_dashboard_says_nothing_about_antennas(served: Served) -> None:
    assert "antennas alive" not in served.get("/ui/dashboard").text


def test_an_antenna_has_a_page_with_its_figures_over_the_nights(served: Served) -> None:
    """Eight nights: the gain of X sinks, the first phase is to another reference antenna, the last night has no Y."""
    with served.database.session() as session:
        first = session.query(CaltableRow).one()
        for night in range(8):
            figures = {
                "flagged": 0.1 * night, "amplitude": [1.0 - 0.05 * night, None if night == 7 else 0.9], "phase_deg": [10.0 * night, 5.0],
                "bandpass_scatter": 0.03,
            }  # fmt: skip
            add_observation(session, f"2026-03-{night + 2:02d}T05:00:00")
            values = {column.name: getattr(first, column.name) for column in CaltableRow.__table__.columns}
            values |= {
                "directory": f"/cal/night{night}", "group_id": f"2026-03-{night + 2:02d}T05:00:00", "night": date(2026, 3, night + 2),
                "mid_mjd": 61_101.21 + night, "refant": "24" if night == 0 else "103", "quality": {"antennas": {"103": figures, "<b>7": figures}},
            }  # fmt: skip
            session.add(CaltableRow(**values))
    text = served.get("/ui/antennas/103").text
    assert "8 of 9 solutions have it" in text
    drawn = dict(re.findall(r'aria-label="([^"]+) over time, (\d+) solutions"', text))
    assert drawn == {
        "Flagged fraction": "8", "Gain X": "8", "Gain Y": "7", "Phase X, deg": "8", "Phase Y, deg": "8", "Bandpass scatter": "8"
    }  # fmt: skip
    assert "2026-03-02T05:00:00 UTC: 0 (reference antenna 24)" in text
    assert ">Gain X: 0.650<" in text
    assert ">Mar 04<" in text
    assert 'href="/ui/observations/2026-03-09T05:00:00"' in text
    assert "/assets/calibration_tables?view=partitions&amp;partition=2026-03-09" in text
    assert "3 of 3 solutions have it" in served.get("/ui/antennas/103", solutions=3).text
    assert "<b>" not in served.get("/ui/antennas").text
    served.get("/ui/antennas/999", status=404)


def test_lists_of_tables_leave_out_the_antennas(served: Served) -> None:
    store_figures(served)
    assert served.get("/api/calibrations").json()["items"][0]["quality"] == {"snr": 50.0}
    assert served.get(f"/api/calibrations/{CALIBRATOR}").json()["quality"] == {"snr": 50.0}


def test_tables_of_an_earlier_release_are_named(served: Served) -> None:
    assert served.get("/api/antennas").json()["antennas"] == []
    assert "before the platform kept figures of antennas" in served.get("/ui/antennas").text


def test_an_antenna_is_marked_bad_on_its_page_and_what_it_changes_is_shown_there_and_on_the_observation(served: Served) -> None:
    store_figures(served)
    with served.database.session() as session:
        record_version(session, "measurement_set", GROUPS[1], path=f"/ms/{GROUPS[1]}.ms", recipe=Recipe("code", "settings"))
    fields = {"antenna": "24", "since": "2026-03-01T05:04", "until": "2026-03-01T05:06", "reason": "<b>warm"}
    assert served.client.post("/ui/antennas/marks", data=fields).status_code == 401
    signed = {"csrf": csrf(served)}
    assert "no recent solution" in served.client.post("/ui/antennas/marks", data={**fields, **signed, "antenna": "25"}).text
    for wrong in ({"since": "yesterday"}, {"until": "2026-03-01T05:03"}, {"reason": ""}):
        assert served.client.post("/ui/antennas/marks", data={**fields, **signed, **wrong}).status_code == 422
    text = served.client.post("/ui/antennas/marks", data={**fields, **signed}).text
    assert "2 observations to be made again" in text, "the first ends at 05:05:18"
    assert "&lt;b&gt;warm" in text
    assert "marked bad</span></a></th>" not in text, "the span is over"
    shown = served.get(f"/ui/observations/{GROUPS[1]}").text
    assert "24 marked bad" in shown
    assert "Its data were flagged for none" in shown
    assert "No antenna is marked for its time" in served.get(f"/ui/observations/{GROUPS[2]}").text
    assert "&lt;b&gt;warm" in served.get("/ui/marks").text
    assert "2026-03-01|05:05" in served.get("/ui/marks/again").text
    assert "&lt;b&gt;warm" in served.get("/ui/shift/report?night=2026-03-01").text
    (mark,) = served.get("/api/antennas/marks").json()["items"]
    after = served.client.post(f"/ui/antennas/marks/{mark['mark_id']}/remove", data=signed).text
    assert "Nothing that was made comes out differently" in after
    assert "J. Doe" in served.get("/ui/marks?removed=true").text


def test_before_a_mark_on_an_antenna_its_page_says_what_it_makes_again_and_changes_nothing(served: Served) -> None:
    """The whole chain, the same as after the mark; then what its removal would change."""
    store_figures(served)
    with served.database.session() as session:
        made = record_version(
            session, "measurement_set", GROUPS[1], path=f"/ms/{GROUPS[1]}.ms", recipe=Recipe("code", "settings"), duration_s=30.0
        )
        inputs = {f"/ms/{GROUPS[1]}.ms": made}
        record_version(
            session, "calibrated_ms", GROUPS[1], path="/cal.ms", inputs=inputs, recipe=Recipe("code", "settings"), duration_s=12.0
        )
    asked = {"antenna": "24", "since": "2026-03-01T05:06", "until": "2026-03-01T05:10", "reason": "<b>warm"}
    assert "(sign in)" in served.get("/ui/antennas/marks/new", **asked).text
    signed = {"csrf": csrf(served)}
    plan = served.get("/ui/antennas/marks/new", **asked).text
    assert [f">{name}</a>" in plan for name in ("measurement_set", "calibrated_ms")] == [True, True]
    assert "take about 42 s" in plan
    assert "&lt;b&gt;warm" in plan
    assert "2026-03-01 05:10" in plan
    assert served.get("/api/antennas/marks", valid=False).json()["items"] == [], "nothing was written"
    fields = {name: html.unescape(value) for name, value in re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', plan)}
    assert set(fields) == {"csrf", *asked}, "the form of the next step has all of it"
    opened = Platform.open(served.config)
    from_mjd, to_mjd = (datetime_to_mjd(datetime.fromisoformat(f"2026-03-01T05:{minute}+00:00")) for minute in ("06", "10"))
    before = set(expected_of_antenna(opened, "24", from_mjd=from_mjd, to_mjd=to_mjd).products)
    assert served.client.post("/ui/antennas/marks", data=fields).status_code == 200
    with served.database.session() as session:
        after = {(one.product, one.key) for one in stale_products(session, served.config, only_marked=True)}
    assert {("measurement_set", GROUPS[1]), ("calibrated_ms", GROUPS[1])} <= before == after
    again = served.get("/ui/antennas/marks/new", **{**asked, "until": "2026-03-01T05:30"}).text
    assert "It replaces the mark of J. Doe from the same time" in again
    (mark,) = served.get("/api/antennas/marks").json()["items"]
    assert mark["to_mjd"] == pytest.approx(to_mjd)
    removal = served.get(f"/ui/antennas/marks/{mark['mark_id']}/remove").text
    assert "Remove the mark on antenna 24" in removal
    assert "nothing to make again" in removal
    assert f"{len(after)} products that marks have made stale would not be stale any more" in removal
    assert len(served.get("/api/antennas/marks").json()["items"]) == 1, "it is still there"
    served.client.post(f"/ui/antennas/marks/{mark['mark_id']}/remove", data=signed)
    served.get(f"/ui/antennas/marks/{mark['mark_id']}/remove", status=404)


def test_a_plan_of_a_mark_on_an_antenna_refuses_what_cannot_be_marked(served: Served) -> None:
    store_figures(served)
    asked = {"antenna": "24", "since": "2026-03-01T05:06", "reason": "warm"}
    served.get("/ui/antennas/marks/new", status=404, **{**asked, "antenna": "25"})
    for wrong in (
        {"since": "20260301"},
        {"since": "soon"},
        {"until": "1772341200"},
        {"until": "2026-03-01T05:00"},
        {"reason": ""},
        {"antenna": "2\x004"},
    ):
        served.get("/ui/antennas/marks/new", status=422, **{**asked, **wrong})
    for url in ("/ui/images", "/ui/mosaics"):
        served.get(url, status=422, since="20260301")
    for wrong in ({"since": "20260301"}, {"since": 1772341200}, {"until": "1772341200"}):
        refused = served.client.post("/api/antennas/marks", json={**asked, **wrong}, headers=served.headers)
        assert refused.status_code == 422, "seconds since 1970 would be another century"


def test_a_plan_names_observations_whose_measurement_set_retention_has_removed(served: Served) -> None:
    store_figures(served)
    with served.database.session() as session:
        record_parts(session, "measurement_set", GROUPS[1], f"/ms/{GROUPS[1]}.ms", {"measurement_sets": 1})
        session.execute(update(StoredPart).values(retired_at=func.now()))
    plan = served.get("/ui/antennas/marks/new", antenna="24", since="2026-03-01T05:06", until="2026-03-01T05:10", reason="warm").text
    assert "1 observation of 2026-03-01 has no Measurement Set any more" in plan


def test_marks_on_antennas_through_the_api(served: Served) -> None:
    store_figures(served)
    wanted = {"antenna": "24", "since": "2026-03-01T05:06:00Z", "reason": "dead since the storm"}
    assert served.client.post("/api/antennas/marks", json=wanted).status_code == 401
    answer = served.client.post("/api/antennas/marks", json=wanted, headers=served.headers)
    assert answer.status_code == 201
    changed = [(one["product"], one["key"]) for one in answer.json()["changes"]]
    assert changed == [("measurement_set", one) for one in GROUPS[1:]]
    assert {one["name"]: one["is_marked_bad"] for one in served.get("/api/antennas").json()["antennas"]} == {
        "24": True, "103": False, "<b>7": False,
    }  # fmt: skip
    (mark,) = served.get("/api/antennas/marks", antenna="24").json()["items"]
    assert (mark["to_mjd"], mark["marked_by"]) == (None, "J. Doe")
    assert served.get("/api/antennas/marks", antenna="25").json()["items"] == []
    (reported,) = served.get("/api/shift/report", night="2026-03-01").json()["quality"]["bad_antennas"]
    assert reported["antenna"] == "24"
    assert served.get("/api/shift/report", night="2026-02-28").json()["quality"]["bad_antennas"] == []
    url = f"/api/antennas/marks/{mark['mark_id']}"
    assert len(served.client.delete(url, headers=served.headers).json()["changes"]) == 0
    assert served.client.delete(url, headers=served.headers).status_code == 404
    for wrong in ({"antenna": ""}, {"antenna": "a\x00"}, {"since": "soon"}, {"until": "2026-03-01T05:00:00Z"}, {"reason": ""}):
        assert served.client.post("/api/antennas/marks", json={**wanted, **wrong}, headers=served.headers).status_code == 422
