"""Marks by people on pages and through the API: with a reason and a name, and what they change."""

from __future__ import annotations

from dsa110_assets_tests.api.conftest import CALIBRATOR, GROUPS, HOUR, Served
from dsa110_assets_tests.pages.test_observations import csrf

PAGE = f"/ui/observations/{GROUPS[1]}"


def test_a_tile_is_marked_bad_on_its_page_and_the_mark_is_removed(served: Served) -> None:
    fields = {"kind": "tile", "decision": "bad", "reason": "<b>satellite"}
    assert served.client.post(f"{PAGE}/marks", data=fields).status_code == 401
    text = served.client.post(f"{PAGE}/marks", data={**fields, "csrf": csrf(served)}).text
    assert "marked bad" in text
    assert "by J. Doe" in text
    assert "&lt;b&gt;satellite" in text
    assert "1 to be made again" in text, "the hour's mosaic"
    assert served.get(f"/api/data/images/{GROUPS[1]}").json()["verdict"]["word"] == "refused"
    assert GROUPS[1] in served.get("/ui/marks").text
    again = served.get("/ui/marks/again").text
    assert "hourly_mosaic" in again
    assert "2026-03-01|05" in again
    assert served.client.post("/ui/marks/again", data={"csrf": csrf(served)}).status_code == 503, "Dagster does not run"
    removed = served.client.post(f"{PAGE}/marks/remove", data={"kind": "tile", "csrf": csrf(served)}).text
    assert "Earlier marks (1)" in removed
    assert "Nothing: all that was made agrees" in served.get("/ui/marks/again").text
    assert served.get(f"/api/data/images/{GROUPS[1]}").json()["verdict"]["word"] == "good"


def test_marks_through_the_api(served: Served) -> None:
    url = f"/api/data/observations/{GROUPS[1]}/marks/tile"
    answer = served.client.put(url, json={"decision": "bad", "reason": "satellite"}, headers=served.headers)
    changes = [{"product": "hourly_mosaic", "key": HOUR.removeprefix("hourly_")}]
    assert answer.json() == {"changes": changes, "without_tiles": [], "without_files": []}
    solution = f"/api/data/observations/{CALIBRATOR}/marks/solution"
    assert served.client.put(solution, json={"decision": "bad", "reason": "wrong flux"}, headers=served.headers).status_code == 200
    listed = served.get("/api/marks").json()["items"]
    assert [(one["kind"], one["group_id"], one["decision"], one["marked_by"]) for one in listed] == [
        ("solution", CALIBRATOR, "bad", "J. Doe"),
        ("tile", GROUPS[1], "bad", "J. Doe"),
    ]
    assert served.client.delete(url, headers=served.headers).status_code == 200
    assert served.client.delete(url, headers=served.headers).status_code == 404
    assert [one["kind"] for one in served.get("/api/marks").json()["items"]] == ["solution"]
    history = served.get(f"/api/data/observations/{GROUPS[1]}/marks").json()
    assert [(one["decision"], one["removed_by"]) for one in history] == [("bad", "J. Doe")]


def test_a_mark_needs_a_reason(served: Served) -> None:
    url = f"/api/data/observations/{GROUPS[1]}/marks/tile"
    for body in ({"decision": "bad", "reason": ""}, {"decision": "maybe", "reason": "x"}, {"decision": "bad", "reason": "a\x00"}):
        assert served.client.put(url, json=body, headers=served.headers).status_code == 422
