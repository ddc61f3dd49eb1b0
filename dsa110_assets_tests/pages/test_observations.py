"""Observations: the timeline tells empty from missing slots; one observation shows all there is."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import pytest
import typer.main
from fastapi.testclient import TestClient

from dsa110_assets.api.app import create_app
from dsa110_assets.cli.main import app
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets_tests.api.conftest import CALIBRATOR, FAILED, GROUPS, HOUR, Served


def csrf(served: Served) -> str:
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/dashboard").text)
    assert found is not None
    return found[1]


def test_the_newest_day_is_shown_with_its_slots_gaps_and_list(served: Served) -> None:
    text = served.get("/ui/observations").text
    assert '<h2 id="day">2026-03-01</h2>' in text
    assert f'aria-label="{GROUPS[1]}: completed, image good"' in text
    assert f'aria-label="{FAILED}: failed"' in text
    assert "2026-03-01: 4 observations, 1 failed" in text
    assert text.count('title="05:20 missing') == 1, "nothing was observed after 05:20:45"
    assert "2026-03-01 05:20:45" in text, "the gap begins at the end of the last observation"


@pytest.mark.parametrize(("by", "words"), [("quality", "image refused"), ("calibrator", "tables same-night"), ("state", "failed")])
def test_a_day_is_colored_by_what_was_asked(served: Served, by: str, words: str) -> None:
    assert words in served.get("/ui/observations", day="2026-03-01", by=by).text


def test_the_list_has_filters_and_pages(served: Served) -> None:
    listed = served.get("/ui/observations", state="failed", since="", until="", calibrator="").text.split('id="list"')[1]
    assert FAILED in listed
    assert GROUPS[0] not in listed
    assert CALIBRATOR in served.get("/ui/observations", calibrator="0834+555").text.split('id="list"')[1]
    assert "No observation fits" in served.get("/ui/observations", since="2026-03-02T00:00").text
    for wrong in ({"state": "lost"}, {"since": "yesterday"}, {"day": "2026-13-01"}, {"month": "x"}, {"day": "9999-12-31"}):
        assert served.get("/ui/observations", status=422, **wrong).headers["content-type"].startswith("text/html")


def test_an_observation_shows_verdicts_products_files_and_where_it_is_used(served: Served) -> None:
    text = served.get(f"/ui/observations/{GROUPS[1]}").text
    assert f"/api/versions/{served.versions['tile_image']}/files/{GROUPS[1]}-preview.png" in text
    for shown in ("dynamic range", HOUR, "/in/a.hdf5", "same-night", f"/ui/observations/{GROUPS[0]}", f"/ui/observations/{GROUPS[2]}"):
        assert shown in text
    assert f"/ui/observations/{CALIBRATOR}" in text
    assert "partition=2026-03-01%7C05%3A05" in text
    assert "passwords" not in text


def test_an_error_is_text_and_leads_to_the_playbook(served: Served) -> None:
    text = served.get(f"/ui/observations/{FAILED}").text
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "/docs/operators/playbook.html#errors" in text


def test_an_unknown_observation_is_a_page_with_the_next_step(served: Served) -> None:
    assert "Next:" in served.get("/ui/observations/2020-01-01T00:00:00", status=404).text


def test_a_retry_needs_a_person_and_puts_the_observation_into_the_queue(served: Served) -> None:
    url = f"/ui/observations/{FAILED}/retry"
    assert served.client.post(url).status_code == 401
    assert served.client.post(url, data={"csrf": csrf(served)}, follow_redirects=False).status_code == 303
    assert served.get(f"/api/data/observations/{FAILED}").json()["state"] == "pending"


def test_making_again_first_says_what_would_be_made(served: Served) -> None:
    text = served.get(f"/ui/observations/{GROUPS[1]}/again", start="tile_image").text
    assert "2026-03-01|05:05" in text
    assert "2026-03-01|05:10" not in text, "only this observation"
    assert "2026-03-01|05<" in text, "its hour"
    assert "calibrated_ms" not in text
    served.get(f"/ui/observations/{GROUPS[1]}/again", status=422, start="no_such_step")
    served.get(f"/ui/observations/{GROUPS[1]}/again", status=422, start="<b>")
    answer = served.client.post(f"/ui/observations/{GROUPS[1]}/again", data={"csrf": csrf(served), "start": "tile_image"})
    assert answer.status_code == 503, "Dagster does not run"
    assert "dsa110 up" in answer.text


def test_the_timeline_of_the_api_counts_days_and_slots(served: Served) -> None:
    days = served.get("/api/data/timeline", last="2026-03-31", noise=True).json()
    assert [(one["night"], one["observations"], one["failed"]) for one in days["nights"]] == [("2026-03-01", 4, 1)]
    assert days["nights"][0]["noise_over_thermal"] == pytest.approx(2.0)
    assert days["nights"][0]["observed_hours"] == pytest.approx(4 * 309 / 3600)
    night = served.get("/api/data/timeline/2026-03-01").json()
    slots = {one["slot"]: one for one in night["slots"]}
    assert [one["group_id"] for one in slots["05:10"]["observations"]] == [GROUPS[2]]
    assert slots["04:50"]["state"] == "before the first observation"
    assert slots["06:00"]["state"] == "missing"
    assert len(slots) == 288


def test_a_fresh_clone_says_what_to_do(database: Database, registry_config: PipelineConfig) -> None:
    """On an empty registry the pages of observations, marks and antennas answer with the next step."""
    with TestClient(create_app(registry_config)) as client:
        for path, words in (
            ("/ui/observations", "Put raw files into"),
            ("/ui/marks", "Nobody has marked anything"),
            ("/ui/marks/again", "Nothing: all that was made agrees"),
            ("/ui/antennas", "No calibrator has been solved yet"),
        ):
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert words in answer.text


def test_an_observation_says_where_its_measurement_set_is_and_how_to_export_it(served: Served, tmp_path: Path) -> None:
    ms = tmp_path / f"{GROUPS[0]}.cal.ms"
    with served.database.session() as session:
        record_version(session, "calibrated_ms", GROUPS[0], path=ms, recipe=Recipe("a" * 40, "b" * 40))
    assert "dsa110 export" not in served.get(f"/ui/observations/{GROUPS[0]}").text, "retention has removed it"
    ms.mkdir()
    text = html.unescape(served.get(f"/ui/observations/{GROUPS[0]}").text)
    assert f"<code>{ms}</code>" in text
    (command,) = re.findall(r"<code>dsa110 (export [^<]*)</code>", text)
    group = typer.main.get_command(app)
    assert group.commands["export"].make_context("export", shlex.split(command)[1:]).params["kind"] == "calibrated"
