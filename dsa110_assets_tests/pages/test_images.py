"""Pages of images and mosaics over the API's small registry."""

from __future__ import annotations

import html
import itertools
import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from dsa110_assets.api.app import create_app
from dsa110_assets.api.pages.layout import address
from dsa110_assets.catalogs import calibrators
from dsa110_assets.products import CALIBRATORS_FILE, ProductPaths
from dsa110_assets.registry import queries
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.schema import ApiAction
from dsa110_assets.stages.products import mosaics as stage
from dsa110_assets_tests.api.conftest import DEC, GROUPS, HOUR, NIGHT, RA, Served
from dsa110_assets_tests.catalogs.manual import MANUAL


def shown(text: str) -> list[str]:
    return re.findall(r'class="card" href="/ui/(?:images|mosaics)/([^"]+)"', text)


def sign_in(served: Served) -> str:
    """Sign in and return the value that forms carry."""
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/images").text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize(
    ("gallery", "kept"),
    [(f"images?position={RA}+{DEC}&radius_deg=9&verdict=good", "verdict=good"), ("mosaics?kind=hourly&since=2026-03-01", "kind=hourly")],
)
def test_a_gallery_links_to_the_addresses_of_what_it_shows(served: Served, gallery: str, kept: str) -> None:
    found = re.search(r'/api/data/\w+/addresses[^"]*', html.unescape(served.get(f"/ui/{gallery}").text))
    assert found is not None
    assert kept in found[0]
    assert len(served.get(found[0]).text.splitlines()) == 1


def test_an_address_keeps_a_position_of_zero() -> None:
    assert address("/x", ra_deg=0.0, dec_deg=0, name="", other=None, on=False) == "/x?ra_deg=0.0&dec_deg=0"


def test_the_gallery_shows_previews_by_their_version_and_lets_the_browser_load_them_late(served: Served) -> None:
    text = served.get("/ui/images").text
    assert shown(text) == list(reversed(GROUPS))
    address = f"/api/versions/{served.versions['tile_image']}/files/{GROUPS[1]}-preview.png"
    assert re.search(rf'<img src="{address}"[^>]* loading="lazy"', text)
    assert "immutable" in served.get(address).headers["Cache-Control"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("since=2026-03-01T05:05&until=2026-03-01T05:10", [GROUPS[1]]),
        ("position=08:08:00+%2B16:00:00&radius_deg=0.5", [GROUPS[2]]),
        ("position=J0804%2B1600&radius_deg=0.5", [GROUPS[1]]),
        ("noise_max_mjy=1.5", [GROUPS[2]]),
        ("verdict=refused", [GROUPS[2]]),
        ("verdict=good&sort=noise", [GROUPS[1], GROUPS[0]]),
        ("noise_min_mjy=1.5&order=asc", [GROUPS[0], GROUPS[1]]),
        ("order=asc", list(GROUPS)),
        ("sort=noise&order=desc", list(GROUPS)),
        ("since=&until=&position=&radius_deg=&noise_max_mjy=&verdict=", list(reversed(GROUPS))),
    ],
)
def test_images_are_filtered_by_time_position_noise_and_verdict(served: Served, query: str, expected: list[str]) -> None:
    assert shown(served.get(f"/ui/images?{query}").text) == expected


def test_a_position_can_be_the_name_of_a_source_or_a_calibrator(served: Served) -> None:
    """In the filters of both galleries, in the form of a cut-out and in the viewer. A part of a name is none."""
    manual = calibrators.read_manual(MANUAL)
    star = calibrators.find(manual.entries, "0834+555")
    path = ProductPaths.of(served.config).catalogs_dir / CALIBRATORS_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    calibrators.write_calibrator_db(manual, path)
    with served.database.session() as session:
        row = image_of(session, GROUPS[0])
        assert row is not None
        row.ra_deg, row.dec_deg = star.ra_deg, star.dec_deg
    assert shown(served.get("/ui/images", position="0834+555", radius_deg=0.5).text) == [GROUPS[0]]
    assert HOUR in served.get("/ui/mosaics", position="J0804+1600").text
    assert shown(served.get("/ui/mosaics", position="0834+555").text) == []
    assert f"ra_deg={RA + 1:.6f}&amp;dec_deg={DEC:.6f}" in served.get(f"/ui/mosaics/{HOUR}", position="J0804+1600").text
    assert f"ra_deg={RA + 1:.6f}&amp;dec_deg={DEC:.6f}" in served.get("/ui/viewer", image=GROUPS[1], position="J0804+1600").text
    answer = served.get("/ui/images", 422, position="J0804+16")
    assert "no source or calibrator has this name" in answer.text


def test_the_number_of_sources_leads_to_the_page_of_sources(served: Served) -> None:
    found = re.search(r'href="(/ui/sources[^"]+)">\d+ measured positions', served.get(f"/ui/images/{GROUPS[1]}").text)
    assert found is not None
    assert "J0804+1600" in served.get(found[1].replace("&amp;", "&")).text


def test_galleries_are_read_page_by_page(served: Served) -> None:
    text = served.get("/api/data/images?limit=2").json()["next"].replace("/api/data/images", "/ui/images")
    assert shown(served.get(text).text) == [GROUPS[0]]


def test_a_text_that_is_no_position_says_how_one_is_written(served: Served) -> None:
    answer = served.client.get("/ui/images?position=<b>here")
    assert answer.status_code == 422
    assert "08:34:54.9 +55:34:21" in answer.text
    assert "<b>here" not in answer.text


def test_one_image_has_figures_beside_limits_and_the_month_and_links_to_all_about_it(served: Served) -> None:
    with served.database.session() as session:
        queries.upsert_qa_metric(
            session, "tile_image", GROUPS[2], "noise_over_thermal", 5.0, limit_low=0.8, limit_high=2.0, passed=False, reason="too high"
        )
    text = served.get(f"/ui/images/{GROUPS[2]}").text
    row = re.search(r"<tr>\s*<th[^>]*>noise over thermal</th>.*?</tr>", text, re.DOTALL)
    assert row is not None
    assert "5.00" in row[0]
    assert "0.800 to 2.00" in row[0]
    assert "1.20, 2.00, 4.40" in row[0], "10 %, median and 90 % of 1, 2 and 5"
    assert row[0].count('class="limit"') == 2
    for link in (f"/ui/observations/{GROUPS[2]}", f"/ui/mosaics/{HOUR}", f"/ui/mosaics/{NIGHT}", "partition=2026-03-01%7C05%3A10"):
        assert link in text


def test_the_month_ends_with_the_image(served: Served) -> None:
    month = served.get(f"/api/data/images/{GROUPS[0]}").json()["month"]
    assert {one["n"] for one in month.values()} == {1}


def test_an_image_shows_what_it_was_made_from_and_used_for(served: Served) -> None:
    text = served.get(f"/ui/images/{GROUPS[1]}").text
    assert f'<a href="/ui/observations/{GROUPS[1]}">calibrated_ms {GROUPS[1]}</a>' in text
    assert f'<a href="/ui/mosaics/{HOUR}">hourly_mosaic 2026-03-01T05</a>' in text
    assert f'<a href="/api/versions/{served.versions["tile_image"]}/files/{GROUPS[1]}-image-pb.fits"' in text
    assert "passwords" not in text


@pytest.mark.parametrize("page", [f"/ui/images/{GROUPS[1]}", f"/ui/mosaics/{HOUR}"])
def test_a_cut_out_at_a_position_is_shown_with_its_fits_file(served: Served, page: str) -> None:
    text = served.get(page, position=f"{RA} {DEC}", size_arcmin=10).text
    picture = re.search(r'<img class="cutout" src="([^"]+)"', text)
    assert picture is not None
    url = picture[1].replace("&amp;", "&")
    assert served.get(url).content.startswith(b"\x89PNG")
    assert served.get(url.replace("format=png", "format=fits")).content.startswith(b"SIMPLE")
    assert "does not cover" in served.get(page, position="10 -80").text


def test_an_image_that_is_not_there_says_where_images_are(served: Served) -> None:
    answer = served.client.get("/ui/images/2020-01-01T00:00:00")
    assert answer.status_code == 404
    assert "Next:" in answer.text


def test_mosaics_are_filtered_by_kind_and_position(served: Served) -> None:
    assert shown(served.get("/ui/mosaics").text) == [NIGHT, HOUR]
    assert shown(served.get("/ui/mosaics?kind=hourly").text) == [HOUR]
    assert shown(served.get(f"/ui/mosaics?position={RA - 30}+{DEC}").text) == []
    assert "Widen the filters" in served.get("/ui/mosaics?kind=custom").text
    assert shown(served.get("/ui/mosaics?noise_max_mjy=0.4").text) == []


def test_a_mosaic_counts_reliable_detections_and_shows_the_checks_of_its_source_catalog(served: Served) -> None:
    found = pd.DataFrame(
        {
            "ra_deg": [RA, RA + 0.1], "dec_deg": DEC, "ra_err_arcsec": 0.1, "dec_err_arcsec": 0.1, "peak_jy_per_beam": [0.3, 0.2],
            "flux_jy": [0.3, 0.2], "flux_err_jy": 0.001, "snr": [300.0, 200.0], "reliable": [True, False],
        }
    )  # fmt: skip
    with served.database.session() as session:
        queries.replace_detections(session, HOUR, found)
        queries.upsert_qa_metric(
            session, "source_catalog", "2026-03-01T05", "false_share", 0.5, limit_high=0.01, passed=False, reason="1 of 2"
        )
    answer = served.get(f"/api/data/mosaics/{HOUR}").json()
    assert answer["detections"] == 1
    assert [(one["metric"], one["passed"]) for one in answer["quality"]] == [("false_share", False)]
    text = served.get(f"/ui/mosaics/{HOUR}").text
    assert "1 reliable detection of" in text
    assert "the share of false detections" in text
    listed = served.get(f"/api/data/mosaics/{HOUR}/detections").json()
    assert [one["reliable"] for one in listed] == [True, False]


def test_one_mosaic_has_its_tiles_numbers_of_sources_and_catalogs(served: Served) -> None:
    text = served.get(f"/ui/mosaics/{HOUR}").text
    assert "3 positions measured, 0 reliable detections" in text
    for group_id in GROUPS:
        assert f'href="/ui/images/{group_id}"' in text
    rows = served.get(f"/api/data/mosaics/{HOUR}/sources").json()
    assert {one["source_id"]: one["flux_jy"] for one in rows} == dict(zip(served.sources, (0.1, 0.2, 0.3), strict=True))
    assert served.get(f"/api/data/mosaics/{HOUR}/sources?format=csv").text.startswith("source_id,name,ra_deg")
    assert served.get(f"/api/data/mosaics/{HOUR}/detections").json() == []
    served.get("/api/data/mosaics/none/sources", status=404)


def test_a_mosaic_shows_its_tiles_before_it_is_made_and_writes_no_plan_for_it(served: Served) -> None:
    text = served.get("/ui/mosaics/new?name=mine&since=2026-03-01T05:00&until=2026-03-01T06:00").text
    assert "mine: 2 tiles" in text
    assert re.search(rf"{GROUPS[2]}</a>(?:<span[^>]*>[^<]*</span>)*: refused", text), "the refused tile is left out, with the reason"
    assert "(sign in)" in text
    with pytest.raises(Exception, match="no plan"):
        stage.load_plan(served.client.app.state.access.platform, "mine")
    assert "no imaged tile between" in served.get("/ui/mosaics/new?name=mine&since=2020-03-01T05:00&until=2020-03-01T06:00").text
    assert "not possible" in served.get("/ui/mosaics/new?calibrator=none").text


def test_asking_for_a_mosaic_needs_a_person_and_puts_a_run_into_the_queue(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    form = {"name": "mine", "since": "2026-03-01T05:00", "until": "2026-03-01T06:00"}
    assert served.client.post("/ui/mosaics/new", data=form).status_code == 401
    csrf = sign_in(served)
    launched: list[dict] = []

    def launch(job: str, *, run_config: dict, tags: dict) -> dict:
        run = {
            "runId": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "jobName": job, "status": "STARTED", "creationTime": 1e9, "startTime": 1e9,
            "endTime": None, "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }  # fmt: skip
        launched.append(run)
        return run

    dagster = served.client.app.state.access.dagster
    monkeypatch.setattr(dagster, "launch_run", launch)
    monkeypatch.setattr(dagster, "runs", lambda **_: launched)
    answer = served.client.post("/ui/mosaics/new", data=form | {"csrf": csrf}, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/mosaics/mine")
    assert launched[0]["jobName"] == "mosaic_build"
    with served.database.session() as session:
        assert [(one.person, one.action) for one in session.query(ApiAction)] == [("J. Doe", "spawn_task")]
    waiting = served.get("/ui/mosaics/mine").text
    assert 'hx-get="/ui/mosaics/mine/progress"' in waiting
    assert "asked for by J. Doe" in waiting
    launched[0]["status"] = "FAILURE"
    part = served.get("/ui/mosaics/mine/progress").text
    assert "hx-get" not in part, "it asks no longer"
    assert "failed" in part


def test_the_progress_of_a_finished_mosaic_shows_the_mosaic(served: Served) -> None:
    answer = served.client.get(f"/ui/mosaics/{HOUR}/progress", headers={"HX-Request": "true"})
    assert answer.headers["HX-Refresh"] == "true"


def test_without_the_dagster_ui_a_new_mosaic_says_what_to_do(served: Served) -> None:
    form = {"name": "mine", "since": "2026-03-01T05:00", "until": "2026-03-01T06:00", "csrf": sign_in(served)}
    answer = served.client.post("/ui/mosaics/new", data=form)
    assert answer.status_code == 503
    assert "Next:" in answer.text


def test_galleries_of_an_empty_registry_say_what_will_come(database, registry_config) -> None:
    from fastapi.testclient import TestClient

    from dsa110_assets.api.app import create_app

    with TestClient(create_app(registry_config)) as client:
        assert "Images appear as soon as" in client.get("/ui/images").text
        assert "The first one is made when" in client.get("/ui/mosaics").text


def test_a_month_is_sampled_evenly_and_never_more_than_fits(database) -> None:
    from sqlalchemy import text

    from dsa110_assets.registry.queries import images
    from dsa110_assets.registry.schema import MosaicKind

    columns = "name, kind, directory, start_mjd, mid_mjd, end_mjd, ra_deg, dec_deg, n_tiles, noise_jy_per_beam"
    with database.session() as session:
        session.execute(
            text(
                f"INSERT INTO mosaics ({columns}) SELECT n, 'hourly', '', 60000 + t, 60000 + t, 60000 + t, 0, 16, 1, 1e-3 "
                "FROM (SELECT n, 0.0035 * (n + 1) AS t FROM generate_series(0, 8399) n) days"
            )
        )
        found = images.mosaics_of_month(session, MosaicKind.HOURLY, 60029.9)
        assert len(found) == images.MOST_SAMPLED
        assert {int(second) - int(first) for first, second in itertools.pairwise(found)} == {21}
        assert found[0] == "0"
        assert images.mosaics_of_month(session, MosaicKind.HOURLY, 60000.0176) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("server", ["http://127.0.0.1:9002/", "/carta"])
def test_carta_gets_the_folder_and_the_file_as_its_server_sees_them(served: Served, server: str) -> None:
    """The folder counts from the server's top-level folder; what lies outside has no link, and the page says why."""
    paths = ProductPaths.of(served.config)

    def links(folder: Path, **of: str) -> tuple[str, list[dict[str, list[str]]]]:
        config = served.config.model_copy(update={"carta_url": server, "carta_folder": folder})
        with TestClient(create_app(config)) as client:
            page = client.get("/ui/carta", params=of).text
        named = [html.unescape(one) for one in re.findall(r'class="button outside" href="([^"]+)"', page)]
        assert all(one.startswith(f"{server.rstrip('/')}/") for one in named)
        return page, [parse_qs(urlsplit(one).query) for one in named]

    image = paths.image_dir(GROUPS[1])
    (opened,) = links(paths.scratch_dir, image=GROUPS[1])[1]
    assert opened == {"folder": [str(image.relative_to(paths.scratch_dir))], "file": [f"{GROUPS[1]}-image-pb.fits"]}
    assert (paths.scratch_dir / opened["folder"][0] / opened["file"][0]).is_file()
    (opened,) = links(Path("/"), mosaic=HOUR)[1]
    assert (Path("/") / opened["folder"][0] / opened["file"][0]) == paths.mosaic_dir(HOUR) / f"{HOUR}-image.fits"
    page, named = links(paths.scratch_dir / "elsewhere", image=GROUPS[1])
    assert named == []
    assert "PIPELINE_CARTA_FOLDER" in page
    assert links(Path("/"))[1] == [{}], "without an image it opens the server itself"
