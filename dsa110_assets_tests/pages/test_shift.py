"""The log of the shifts and the morning report, by page, API and command."""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy import select

from dsa110_assets.cli import main
from dsa110_assets.registry.schema import AlertRecord, IngestGroup, ShiftEntry, SubbandFile
from dsa110_assets.stages.operations import morning_report
from dsa110_assets_tests.api.conftest import CALIBRATOR, FAILED, GROUPS, HOUR, STRANGE, Served
from dsa110_assets_tests.pages.test_dashboard import sign_in

NIGHT = "2026-03-01"


def write(served: Served, status: int = 201, **body: object):
    answer = served.client.post("/api/shift", json=body, headers=served.headers)
    assert answer.status_code == status, answer.text
    return answer.json()


def texts(served: Served, **filters: object) -> list[str]:
    return [one["text"] for one in served.get("/api/shift", **filters).json()["items"]]


def test_an_entry_is_found_by_night_observation_and_source_with_its_author(served: Served) -> None:
    write(served, text="rain")
    write(served, text="about a night", night=NIGHT)
    write(served, text="about an observation", group_id=GROUPS[0])
    write(served, text="about a source", source_id=served.sources[0])
    assert texts(served) == ["about a source", "about an observation", "about a night", "rain"]
    assert texts(served, night=NIGHT) == ["about a night"]
    assert texts(served, group_id=GROUPS[0]) == ["about an observation"]
    assert texts(served, source_id=served.sources[0]) == ["about a source"]
    first = served.get("/api/shift", limit=1).json()
    assert (first["items"][0]["person"], first["items"][0]["source"]) == ("J. Doe", "J0800+1600")
    assert served.get(first["next"]).json()["items"][0]["text"] == "about an observation"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"text": " "}, 422),
        ({"text": "x" * 4001}, 422),
        ({"text": "x", "group_id": "2026-03-01T09:00:00"}, 404),
        ({"text": "x", "source_id": 99999}, 404),
        ({"text": "x", "night": "yesterday"}, 422),
    ],
)
def test_an_entry_about_nothing_or_something_unknown_is_refused(served: Served, body: dict, status: int) -> None:
    write(served, status, **body)
    assert texts(served) == []


def test_a_person_writes_on_the_page_and_markup_is_text(served: Served) -> None:
    csrf = sign_in(served)
    form = {"csrf": csrf, "text": "<b>wind</b>\nof 20 m/s", "night": NIGHT, "source_id": str(served.sources[2])}
    assert served.client.post("/ui/shift", data=form, follow_redirects=False).status_code == 303
    page = served.get("/ui/shift").text
    assert "&lt;b&gt;wind&lt;/b&gt;" in page
    assert "<b>wind" not in page
    assert STRANGE not in page
    assert f'href="/ui/shift/report?night={NIGHT}"' in page
    with served.database.session() as session:
        (entry,) = session.scalars(select(ShiftEntry)).all()
        assert (entry.person, entry.night, entry.group_id, entry.source_id) == ("J. Doe", date(2026, 3, 1), None, served.sources[2])


def test_a_form_with_a_wrong_reference_says_how_to_write_it(served: Served) -> None:
    answer = served.client.post("/ui/shift", data={"csrf": sign_in(served), "text": "x", "group_id": "last night"})
    assert answer.status_code == 422
    assert "YYYY-MM-DDTHH:MM:SS" in answer.text
    assert served.client.post("/ui/shift", data={"text": "x"}).status_code == 401


def test_the_report_has_the_figures_of_the_night(served: Served) -> None:
    with served.database.session() as session:
        session.get_one(IngestGroup, GROUPS[1]).missing_subbands = [3]
        when = datetime(2026, 3, 1, 6, 0, tzinfo=UTC)
        session.add(SubbandFile(path="/in/bad.hdf5", state="rejected", reason="content: odd", size_bytes=5, mtime_ns=1, judged_at=when))
        session.add(
            SubbandFile(path="/in/other.hdf5", state="rejected", reason="x", size_bytes=5, mtime_ns=1, judged_at=when + timedelta(days=1))
        )
        session.add(AlertRecord(key="behind/live", level="warning", title="3 wait", next_step="look", opened_at=when, passed_at=when))
        session.add(AlertRecord(key="behind/live", level="warning", title="later", next_step="look", opened_at=when + timedelta(days=2)))
    write(served, text="rain in the night", night=NIGHT)
    write(served, text="another night", night="2026-03-02")
    found = served.get("/api/shift/report", night=NIGHT).json()
    observed = found["observed"]
    assert (observed["observations"], observed["by_state"]) == (4, {"completed": 3, "failed": 1})
    assert observed["hours"] == pytest.approx(4 * 309 / 3600)
    assert observed["possible_hours"] == 24
    assert observed["n_gaps"] == 2, "before the first and after the last; observations follow each other"
    assert [one["minutes"] for one in observed["gaps"]] == [pytest.approx(1119.3, abs=0.1), pytest.approx(300.1, abs=0.1)]
    assert [(one["group_id"], one["reason"]) for one in found["lost"]["observations"]] == [
        (FAILED, "<script>alert(1)</script>"),
        (GROUPS[1], "subbands are missing: 03"),
    ]
    assert [one["path"] for one in found["lost"]["refused_files"]] == ["/in/bad.hdf5"]
    quality = found["quality"]
    assert (quality["good"], quality["refused"], quality["causes"]) == (2, 1, "dynamic range (1)")
    assert quality["medians"]["noise_over_thermal"] == 2.0
    assert [(one["group_id"], one["accepted"]) for one in quality["tables"]] == [(CALIBRATOR, True)]
    assert HOUR in [one["name"] for one in quality["mosaics"]]
    assert [one["source_id"] for one in found["candidates"]] == [served.sources[1]]
    assert [one["title"] for one in found["alerts"]] == ["3 wait"]
    assert [one["text"] for one in found["entries"]] == ["rain in the night"]
    assert found["waiting"]["unlabeled_candidates"] == 1
    assert any(one["key"].startswith("observation-failed/") for one in found["waiting"]["open_alerts"])
    page = served.get("/ui/shift/report", night=NIGHT).text
    for words in ("rain in the night", "/in/bad.hdf5".rpartition("/")[2], "dynamic range (1)", "2 good", "1 refused"):
        assert words in page
    assert "<script>alert" not in page


def test_an_empty_night_has_a_report_and_the_default_is_the_last_night_that_is_over(served: Served) -> None:
    found = served.get("/api/shift/report").json()
    assert found["night"] == morning_report.last_night(datetime.now(UTC)).isoformat()
    assert (found["is_over"], found["observed"]["observations"]) == (True, 0)
    assert found["observed"]["gaps"][0]["minutes"] == 1440
    assert "Nothing was observed." in served.get("/ui/shift/report").text
    today = datetime.now(UTC).date().isoformat()
    assert served.get("/api/shift/report", night=today).json()["is_over"] is False
    for night in ("0001-01-01", "9999-12-31"):
        served.get("/ui/shift/report", status=422, night=night)


def test_the_commands_write_and_report(served: Served, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(served.config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", served.database.url)
    assert main.run(["shift", "write", "antenna 24 was restarted", "--by", "J. Doe", "--night", NIGHT]) == 0
    capsys.readouterr()
    assert main.run(["shift"]) == 0
    assert re.search(rf"J\. Doe \({NIGHT}\): antenna 24 was restarted", capsys.readouterr().out)
    assert main.run(["shift", "report", "--night", NIGHT]) == 0
    printed = capsys.readouterr().out
    assert "4 observations (3 completed, 1 failed)" in printed
    assert "2 good, 1 refused" in printed
    assert "antenna 24 was restarted" in printed
    assert main.run(["shift", "report", "--night", NIGHT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lost"]["n_failed"] == 1
    assert main.run(["shift", "write", "x", "--by", "J. Doe", "--observation", "2026-03-09T00:00:00"]) != 0


def test_what_people_changed_is_listed_with_names_and_reasons(served: Served) -> None:
    assert "Nobody has changed anything yet." in served.get("/ui/shift/actions").text
    served.client.put(f"/api/epochs/{HOUR}/exclusion", json={"reason": "<b>thunder</b>"}, headers=served.headers)
    page = served.get("/ui/shift/actions").text
    assert "exclude epoch" in page
    assert "reason: &lt;b&gt;thunder&lt;/b&gt;" in page
    assert "Nobody has changed anything yet." in served.get("/ui/shift/actions", person="Somebody").text
