"""Marks by people on pages and through the API: with a reason and a name, and what they change."""

from __future__ import annotations

import pytest

from dsa110_assets.cli import main
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry import queries
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.schema import MarkDecision, MarkKind
from dsa110_assets.stages.operations.mark_plans import expected
from dsa110_assets.stages.operations.staleness import stale_products
from dsa110_assets.stages.platform import Platform
from dsa110_assets_tests.api.conftest import CALIBRATOR, DEC, GROUPS, HOUR, RA, Served
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


def test_before_a_mark_its_page_says_what_it_makes_again_and_changes_nothing(served: Served) -> None:
    """The whole chain, without what other marks have made stale already; the same as after the mark."""
    with served.database.session() as session:
        mosaic = served.versions["hourly_mosaic"]
        made = {f"hourly_mosaic/{HOUR.partition('_')[2]}": mosaic, str(ProductPaths.of(served.config).mosaic_dir(HOUR)): mosaic}
        record_version(session, "forced_photometry", "2026-03-01T05", inputs=made, recipe=Recipe("code", "settings"))
        queries.upsert_mosaic(
            session, name="mine", kind="custom", directory="/mine", start_mjd=61_100.2, mid_mjd=61_100.21, end_mjd=61_100.25, ra_deg=RA,
            dec_deg=DEC, noise_jy_per_beam=5e-4, group_ids=GROUPS[:2],
        )  # fmt: skip
        record_version(session, "custom_mosaic", "mine", path="/mine", inputs={}, recipe=Recipe("code", "settings"))
    asked = {"kind": "tile", "decision": "bad", "reason": "ghosts"}
    csrf(served)
    plan = served.get(f"{PAGE}/mark", **asked).text
    assert [f">{name}</a>" in plan for name in ("hourly_mosaic", "custom_mosaic", "forced_photometry")] == [True, True, True]
    assert "Reason: ghosts" in plan
    assert 'value="ghosts"' in plan, "the form of the next step has it"
    assert served.get("/api/marks").json()["items"] == []
    assert served.get(f"/api/data/observations/{GROUPS[1]}/marks").json() == [], "nothing was written"
    before = set(expected(Platform.open(served.config), MarkKind.TILE, GROUPS[1], MarkDecision.BAD).products)
    served.client.post(f"{PAGE}/marks", data={**asked, "csrf": csrf(served)})
    with served.database.session() as session:
        after = {(one.product, one.key) for one in stale_products(session, served.config, only_marked=True)}
    assert before == after == {("hourly_mosaic", "2026-03-01T05"), ("forced_photometry", "2026-03-01T05"), ("custom_mosaic", "mine")}
    assert "nothing to make again" in served.get(f"{PAGE}/mark", **asked).text, "it is stale already"
    removal = served.get(f"{PAGE}/mark", kind="tile").text
    assert "Remove the mark on the image" in removal
    solution = served.get(f"/ui/observations/{CALIBRATOR}/mark", kind="solution", decision="bad", reason="noise").text
    assert "Mark the solution of" in solution
    for wrong, status in (({"kind": "solution"}, 404), ({"kind": "solution", "decision": "bad"}, 404), ({"kind": "moon"}, 422)):
        served.get(f"{PAGE}/mark", status=status, **wrong)
    served.get(f"/ui/observations/{CALIBRATOR}/mark", status=404, kind="tile")


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


def test_a_dry_run_of_each_command_lists_what_a_mark_would_make_stale(served: Served, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(served.config, name)))
    monkeypatch.setenv("PIPELINE_DATABASE_URL", served.database.url)
    with served.database.session() as session:
        record_version(
            session, "measurement_set", GROUPS[1], path=f"/ms/{GROUPS[1]}.ms", recipe=Recipe("code", "settings"), duration_s=7200.0
        )
    who = ["--reason", "ghosts", "--by", "J. Doe"]
    antenna = ["mark", "antenna", "24", "--from", "2026-03-01T05:06", "--to", "2026-03-01T05:10", *who]

    def says(*line: str) -> str:
        assert main.run(list(line)) == 0
        return capsys.readouterr().out

    assert "hourly_mosaic" in says("mark", "tile", GROUPS[1], "--bad", *who, "--dry-run")
    assert "nothing that was made would come out differently" in says("mark", "solution", CALIBRATOR, "--good", *who, "--dry-run")
    planned = says(*antenna, "--dry-run")
    assert "measurement_set" in planned
    assert "about 2.0 h to make them again" in planned
    assert served.get("/api/marks", valid=False).json()["items"] == []
    assert served.get("/api/antennas/marks", valid=False).json()["items"] == [], "nothing was marked"
    says(*antenna)
    (mark,) = served.get("/api/antennas/marks").json()["items"]
    assert "would not be stale any more" in says("mark", "remove", "antenna", str(mark["mark_id"]), "--by", "J. Doe", "--dry-run")
    assert len(served.get("/api/antennas/marks").json()["items"]) == 1
    for line in (("tile", GROUPS[1]), ("antenna", "999")):
        assert main.run(["mark", "remove", *line, "--by", "J. Doe", "--dry-run"]) == 2, "there is no such mark"
