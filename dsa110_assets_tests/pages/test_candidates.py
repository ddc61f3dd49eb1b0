"""Candidates: each person's own labels with history, in the API, the pages and the tables that they export."""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor

import astropy.table
import pandas as pd
import pytest
from sqlalchemy import text

from dsa110_assets.errors import NonRetriableError
from dsa110_assets.registry.queries import labels, people
from dsa110_assets.registry.queries.variability import replace_candidates, save_events
from dsa110_assets_tests.api.conftest import HOUR, STRANGE, Served

WORDS = [f"word {number}" for number in range(12)]


def event_of(served: Served) -> int:
    return served.get("/api/candidates").json()["items"][0]["event_id"]


def other_person(served: Served, name: str = "A. Other") -> dict[str, str]:
    with served.database.session() as session:
        return {"Authorization": f"Bearer {people.new_token(session, name)}"}


def signed_in(served: Served) -> dict[str, str]:
    """Sign in; return the header that scripts of a page send."""
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'"X-CSRF-Token": "([0-9a-f]{64})"', served.get("/ui/candidates").text)
    assert found is not None
    return {"HX-Request": "true", "X-CSRF-Token": found.group(1)}


def test_each_person_has_a_label_and_nobody_removes_that_of_another(served: Served) -> None:
    number, other = event_of(served), other_person(served)
    url = f"/api/candidates/{number}/label"
    assert served.client.put(url, json={"label": "ese", "comment": "deep"}, headers=served.headers).status_code == 204
    assert served.client.put(url, json={"label": "artifact"}, headers=other).status_code == 204
    one = served.get(f"/api/candidates/{number}").json()
    assert [(each["person"], each["label"], each["comment"]) for each in one["labels"]] == [
        ("A. Other", "artifact", None),
        ("J. Doe", "ese", "deep"),
    ]
    row = served.get("/api/candidates").json()["items"][0]
    assert (row["label"], row["comment"], row["labeled_by"]) == ("artifact", None, "A. Other"), "the newest of anybody"
    assert served.client.put(url, json={}, headers=other).status_code == 204
    row = served.get("/api/candidates").json()["items"][0]
    assert (row["label"], row["comment"], row["labeled_by"]) == ("ese", "deep", "J. Doe")
    said = [
        (each["person"], each["label"], each["superseded_at"] is None) for each in served.get(f"/api/candidates/{number}").json()["history"]
    ]
    assert said == [("A. Other", None, True), ("A. Other", "artifact", False), ("J. Doe", "ese", True)]


def test_lists_leave_out_what_i_labeled_or_what_anybody_labeled(served: Served) -> None:
    number, other = event_of(served), other_person(served)
    served.client.put(f"/api/candidates/{number}/label", json={"comment": "only a note"}, headers=served.headers)
    assert len(served.get("/api/candidates", unlabeled=True).json()["items"]) == 1, "a note is no label"
    served.client.put(f"/api/candidates/{number}/label", json={"label": "ese"}, headers=other)
    assert served.get("/api/candidates", unlabeled=True).json()["items"] == []
    assert len(served.get("/api/candidates", unlabeled_by="J. Doe").json()["items"]) == 1
    assert served.get("/api/candidates", unlabeled_by="A. Other").json()["items"] == []
    assert len(served.get("/api/candidates", label="ese").json()["items"]) == 1
    signed_in(served)
    assert f'id="event-{number}"' in served.get("/ui/candidates?without=me&night=&min_score=&label=").text
    assert "No candidate meets" in served.get("/ui/candidates?without=anybody").text
    served.client.cookies.clear()
    assert "Nobody is signed in" in served.get("/ui/candidates?without=me").text


def test_undo_goes_back_step_by_step_and_keeps_what_was_undone(served: Served) -> None:
    number = event_of(served)
    url = f"/api/candidates/{number}/label"
    for word in ("maybe", "ese"):
        served.client.put(url, json={"label": word}, headers=served.headers)
    now = lambda: [each["label"] for each in served.get(f"/api/candidates/{number}").json()["labels"]]  # noqa: E731
    assert served.client.post(f"{url}/undo", headers=served.headers).status_code == 204
    assert now() == ["maybe"]
    assert served.client.post(f"{url}/undo", headers=served.headers).status_code == 204
    assert now() == []
    nothing = served.client.post(f"{url}/undo", headers=served.headers)
    assert nothing.status_code >= 400
    assert "nothing to undo" in nothing.json()["detail"] + nothing.json().get("subject", "")
    history = served.get(f"/api/candidates/{number}").json()["history"]
    assert [(each["label"], each["undone"]) for each in history] == [("ese", True), ("maybe", True)]
    assert served.client.post(f"{url}/undo", headers=other_person(served)).status_code >= 400, "what others said is theirs"


def test_people_who_label_at_once_lose_nothing(served: Served) -> None:
    number = event_of(served)
    names = ("J. Doe", "A. Other", "Z. Third")
    headers = [served.headers, other_person(served), other_person(served, "Z. Third")]

    def put(work: tuple[dict[str, str], str]) -> int:
        return served.client.put(f"/api/candidates/{number}/label", json={"label": work[1]}, headers=work[0]).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(put, [(one, word) for word in WORDS for one in headers])) == {204}
    found = served.get(f"/api/candidates/{number}").json()
    assert sorted(each["person"] for each in found["labels"]) == sorted(names)
    said = sorted((each["person"], each["label"]) for each in found["history"])
    assert said == sorted((name, word) for name in names for word in WORDS)
    assert sum(each["superseded_at"] is None for each in found["history"]) == 3


def test_a_label_by_key_keeps_the_note_and_a_note_keeps_the_label(served: Served) -> None:
    number, headers = event_of(served), signed_in(served)
    served.client.post(f"/ui/candidates/{number}/note", data={"comment": "<i>look</i>"}, headers=headers)
    part = served.client.post(f"/ui/candidates/{number}/label", data={"word": "ese"}, headers=headers)
    assert part.text.lstrip().startswith(f'<div class="labels" id="labels-{number}" data-mine="ese"')
    assert "&lt;i&gt;look&lt;/i&gt;" in part.text
    served.client.post(f"/ui/candidates/{number}/note", data={"comment": "closer"}, headers=headers)
    (mine,) = served.get(f"/api/candidates/{number}").json()["labels"]
    assert (mine["label"], mine["comment"]) == ("ese", "closer")
    form = served.client.post(f"/ui/candidates/{number}/undo", data={"csrf": headers["X-CSRF-Token"]})
    assert form.url.path == f"/ui/candidates/{number}", "a form without a script leads to the event"
    assert "<s>" in form.text
    assert served.client.post(f"/ui/candidates/{number}/label", data={"word": "ese"}).status_code == 401


def test_the_filtered_list_is_exported_whole_with_its_labels(served: Served) -> None:
    number = event_of(served)
    served.client.put(f"/api/candidates/{number}/label", json={"label": "ese", "comment": "a, b"}, headers=served.headers)
    page = served.get("/ui/candidates?label=ese&min_score=5").text
    links = [one.replace("&amp;", "&") for one in re.findall(r'href="(/api/candidates\?[^"]+)"', page)]
    assert len(links) == 2
    table = pd.read_csv(io.BytesIO(served.get(links[0]).content))
    assert table[["event_id", "label", "comment", "labeled_by", "name"]].to_numpy().tolist() == [
        [number, "ese", "a, b", "J. Doe", "J0804+1600"]
    ]
    votable = astropy.table.Table.read(io.BytesIO(served.get(links[1]).content), format="votable")
    assert votable["event_id"].tolist() == [number]
    assert len(pd.read_csv(io.BytesIO(served.get("/api/candidates?label=nothing&format=csv").content))) == 0


def test_an_event_shows_its_light_curve_cutouts_and_the_other_events_of_its_source(served: Served) -> None:
    number = event_of(served)
    with served.database.session() as session:
        session.execute(text("UPDATE epoch_factors SET factor = 1, factor_err = 0.01, usable = true, n_reference = 40, due = false"))
        earlier = pd.DataFrame(
            {"source_id": [served.sources[1]], "event_id": 0, "kind": "brightening", "epoch_mjd": 61_000.0, "first_mjd": 60_999.0,
             "last_mjd": 61_001.0, "depth": 0.3, "score": 6.0}
        )  # fmt: skip
        save_events(session, "2025-11-20", earlier)
    page = served.get(f"/ui/candidates/{number}").text
    assert "brightening of 2025-11-21" in page
    assert "a dip" in page
    look = served.get(f"/ui/candidates/{number}/look").text
    assert look.count("<circle") == 1
    assert f"/api/sources/{served.sources[1]}/epochs/{HOUR}/cutout?made=" in look
    assert "during" in look
    served.get("/ui/candidates/99", status=404)
    served.get("/api/candidates/99", status=404)


def test_names_with_markup_are_escaped_in_candidates(served: Served) -> None:
    with served.database.session() as session:
        found = pd.DataFrame(
            {"source_id": served.sources[2:], "event_id": 0, "kind": "dip", "rank": 1, "score": 8.0, "epoch_mjd": 61_100.2,
             "first_mjd": 61_100.1, "last_mjd": 61_100.3, "depth": 0.5, "false_alarm_probability": 1e-6, "reasons": STRANGE}
        )  # fmt: skip
        found["event_id"] = save_events(session, "2026-03-02", found)
        replace_candidates(session, "2026-03-02", found)
    for page in (served.get("/ui/candidates").text, served.get(f"/ui/candidates/{int(found['event_id'][0])}").text):
        assert STRANGE not in page
        assert "&lt;b&gt;" in page


def test_an_empty_registry_has_no_candidates_and_says_when_they_come(served: Served) -> None:
    from dsa110_assets_tests.registry_fixture import empty

    served.client.app.state.access.close()  # type: ignore[attr-defined]
    empty(served.database.url)
    assert "They come with the first night" in served.get("/ui/candidates").text


def test_a_label_needs_an_event(served: Served) -> None:
    with served.database.session() as session, pytest.raises(NonRetriableError, match="does not exist"):
        labels.change_label(session, 12345, person="J. Doe", label="ese")
