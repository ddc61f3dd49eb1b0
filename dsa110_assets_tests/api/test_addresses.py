"""Every promised address exists and gives what the registry holds."""

from __future__ import annotations

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import astropy.table
import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from sqlalchemy import text

from dsa110_assets.api.answers import cursor_of
from dsa110_assets.api.routes.operations import FoundStale
from dsa110_assets.products import ProductPaths, image_path
from dsa110_assets.registry import queries
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.variability import save_events
from dsa110_assets.registry.schema import SubbandFile
from dsa110_assets_tests.api.conftest import CALIBRATOR, DEC, GROUPS, HOUR, NIGHT, RA, STRANGE, Served

PROMISED = {  # the earlier pipeline's guide, sections 5.1 and 6.2, and its metrics
    ("get", "/api/status"),
    ("get", "/api/streaming/status"),
    ("post", "/api/streaming/start"),
    ("post", "/api/streaming/stop"),
    ("get", "/api/data/observations"),
    ("get", "/api/data/images"),
    ("post", "/api/mosaic/create"),
    ("get", "/api/mosaic/status/{name}"),
    ("get", "/api/absurd/metrics"),
    ("get", "/api/absurd/tasks"),
    ("post", "/api/absurd/tasks"),
    ("get", "/api/absurd/tasks/{id}"),
    ("delete", "/api/absurd/tasks/{id}"),
    ("get", "/metrics"),
}

EXAMPLES = {
    "group_id": GROUPS[0], "event_id": 1, "mosaic_name": HOUR, "task_id": "00000000-0000-0000-0000-000000000000",
    "switch_name": "raw_files", "backfill_id": "abcdefgh", "service": "api", "trial": f"{GROUPS[0]}_01234567",
    "name": "mine", "mark_id": 1,
}  # fmt: skip


def described(served: Served) -> dict[str, dict[str, dict]]:
    return served.get("/api/openapi.json").json()["paths"]


def test_all_addresses_of_the_earlier_guide_exist(served: Served) -> None:
    there = {(method, path.replace("{task_id}", "{id}")) for path, methods in described(served).items() for method in methods}
    assert PROMISED - there == set()


def test_each_address_explains_itself_and_bounds_each_parameter(served: Served) -> None:
    for path, methods in described(served).items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            for parameter in operation.get("parameters", ()):
                schema = parameter["schema"]
                for one in schema.get("anyOf", [schema]):
                    if one.get("type") in ("integer", "number"):
                        assert {"minimum", "exclusiveMinimum"} & set(one), (path, parameter["name"])
                        assert {"maximum", "exclusiveMaximum"} & set(one), (path, parameter["name"])
                    if one.get("type") == "string" and "enum" not in one and "const" not in one and "format" not in one:
                        assert {"maxLength", "pattern"} & set(one), (path, parameter["name"])


def test_whatever_changes_something_needs_a_token(served: Served) -> None:
    number = 0
    for path, methods in described(served).items():
        for method, operation in methods.items():
            assert ("security" in operation) == (method != "get"), (method, path)
            if method != "get":
                number += 1
                url = path.format(**EXAMPLES)
                for headers in ({}, {"Authorization": "Bearer dsa110_wrong"}, {"Authorization": "Basic eDp5"}):
                    answer = served.client.request(method.upper(), url, headers=headers, json={})
                    assert answer.status_code == 401, (method, path, answer.text)
                    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert number >= 9


def test_the_documentation_page_loads_nothing_from_elsewhere(served: Served) -> None:
    page = served.get("/api/docs")
    assert "http://" not in page.text.replace("http://testserver", "")
    assert "https://" not in page.text
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"):
        assert f"/api/static/{name}" in page.text
        assert len(served.get(f"/api/static/{name}").content) > 1000
    assert "default-src 'self'" in page.headers["Content-Security-Policy"]


def test_health_and_readiness(served: Served) -> None:
    assert served.get("/api/health").json()["status"] == "ok"
    assert served.get("/api/ready").json()["status"] == "ok"


def test_status_counts_the_queue_and_the_disks(served: Served) -> None:
    status = served.get("/api/status").json()
    assert status["queue"]["counts"]["completed"] == 3
    assert status["queue"]["counts"]["failed"] == 1
    assert {disk["directory"] for disk in status["disks"]} == {"input", "output", "scratch", "state"}
    assert all(disk["free_gib"] > 0 for disk in status["disks"])


def test_streaming_status_goes_on_without_the_dagster_ui(served: Served) -> None:
    status = served.get("/api/streaming/status").json()
    assert status["running"] is None
    assert "dsa110 up" in status["note"]
    assert status["queue"]["counts"]["completed"] == 3


def test_observations_newest_first_with_filters(served: Served) -> None:
    def ids(**filters: object) -> list[str]:
        return [one["group_id"] for one in served.get("/api/data/observations", **filters).json()["items"]]

    assert ids() == ["2026-03-01T05:15:36", *reversed(GROUPS)]
    assert ids(state="failed") == ["2026-03-01T05:15:36"]
    assert ids(calibrator="0834+555") == [CALIBRATOR]
    assert ids(since="2026-03-01T05:05:18", until="2026-03-01T05:10:27Z") == [GROUPS[1]]
    assert ids(since="2026-02-28T22:05:18-07:00", until="2026-03-01T05:10:27Z") == [GROUPS[1]]


def test_an_observation_has_its_files_tables_image_and_versions(served: Served) -> None:
    one = served.get(f"/api/data/observations/{GROUPS[1]}").json()
    assert [file["path"] for file in one["files"]] == ["/in/a.hdf5"]
    assert one["measurement_sets"][0]["kind"] == "raw"
    assert one["tables"]["calibrator_observation"] == CALIBRATOR
    assert one["image"]["verdict"]["word"] == "good"
    assert one["versions"]["tile_image"] == served.versions["tile_image"]
    served.get("/api/data/observations/2020-01-01T00:00:00", status=404)


def test_images_by_time_noise_and_position_with_verdicts(served: Served) -> None:
    def ids(**filters: object) -> list[str]:
        return [one["group_id"] for one in served.get("/api/data/images", **filters).json()["items"]]

    assert ids() == list(reversed(GROUPS))
    assert ids(sort="noise") == list(reversed(GROUPS))  # noise falls with time here
    assert ids(noise_max_jy=1.5e-3) == [GROUPS[2]]
    assert ids(ra_deg=RA + 2, dec_deg=DEC, radius_deg=0.5) == [GROUPS[2]]
    words = {one["group_id"]: one["verdict"]["word"] for one in served.get("/api/data/images").json()["items"]}
    assert words == {GROUPS[0]: "good", GROUPS[1]: "good", GROUPS[2]: "refused"}
    served.get("/api/data/images", status=422, ra_deg=5)


def second_candidate(served: Served) -> None:
    """A candidate of a lower score, which is deeper and later than the first."""
    with served.database.session() as session:
        found = pd.DataFrame(
            {
                "source_id": [served.sources[1], served.sources[2]], "event_id": 0, "kind": "dip", "rank": [1, 2], "score": [8.0, 6.0],
                "epoch_mjd": [61_100.2, 61_100.4], "first_mjd": [61_100.1, 61_100.3], "last_mjd": [61_100.3, 61_100.5], "depth": [0.5, 0.9],
                "false_alarm_probability": 1e-6, "reasons": "a dip",
            }
        )  # fmt: skip
        found["event_id"] = save_events(session, "2026-03-01", found)
        queries.replace_candidates(session, "2026-03-01", found)


@pytest.mark.parametrize(
    ("url", "column", "usual"),
    [
        ("/api/data/observations", "start_mjd", "desc"),
        ("/api/data/images", "mid_mjd", "desc"),
        ("/api/data/images?sort=noise", "noise_jy_per_beam", "asc"),
        ("/api/data/mosaics", "mid_mjd", "desc"),
        ("/api/data/mosaics?sort=noise", "noise_jy_per_beam", "asc"),
        ("/api/sources", "source_id", "asc"),
        ("/api/sources?sort=flux", "mean_flux_jy", "desc"),
        ("/api/sources?sort=eta", "eta", "desc"),
        ("/api/sources?sort=v", "v", "desc"),
        ("/api/sources?sort=score", "ese_score", "desc"),
        ("/api/candidates", "rank", "asc"),
        ("/api/candidates?sort=score", "score", "desc"),
        ("/api/candidates?sort=depth", "depth", "desc"),
        ("/api/candidates?sort=time", "epoch_mjd", "desc"),
        ("/api/calibrations", "night", "desc"),
        ("/api/quality/tile_image?metric=dynamic_range", "key", "desc"),
    ],
)
def test_a_list_goes_both_ways(served: Served, url: str, column: str, usual: str) -> None:
    second_candidate(served)
    with served.database.session() as session:
        session.execute(text("UPDATE mosaics SET noise_jy_per_beam = 7e-4, mid_mjd = mid_mjd - 0.5 WHERE kind = 'nightly'"))
        queries.upsert_caltables(
            session, directory="/cal/2", group_id=GROUPS[1], night="2026-02-28", calibrator="3C48", refant="103", mid_mjd=61_099.21,
            valid_from_mjd=61_098.0, valid_to_mjd=61_100.0, pointing_dec_deg=DEC, accepted=False, reasons=["few"], quality={"snr": 2.0},
        )  # fmt: skip
    join = "&" if "?" in url else "?"
    ways = {order: served.get(f"{url}{join}order={order}").json()["items"] for order in ("asc", "desc")}
    values = [row[column] for row in ways["asc"]]
    assert len(values) > 1
    assert values == sorted(values)
    assert len(set(values)) > 1, "equal values would not show the order"
    assert ways["desc"] == list(reversed(ways["asc"]))
    assert served.get(url).json()["items"] == ways[usual]
    served.get(f"{url}{join}order=up", status=422)


def test_lists_have_bounds_on_both_sides(served: Served) -> None:
    second_candidate(served)

    def names(url: str, column: str = "name") -> list[str]:
        return [one[column] for one in served.get(url).json()["items"]]

    assert names("/api/sources?min_score=1.5&max_score=5") == [STRANGE]
    assert names("/api/sources?min_flux_jy=0.15&max_flux_jy=0.25") == ["J0804+1600"]
    assert names("/api/candidates?max_score=7") == [STRANGE]
    assert names("/api/candidates?min_score=7&max_score=9") == ["J0804+1600"]
    assert names("/api/data/images?noise_min_jy=1.5e-3&noise_max_jy=2.5e-3", "group_id") == [GROUPS[1]]
    assert names("/api/data/mosaics?noise_min_jy=6e-4") == []
    assert "score" in served.get("/api/candidates", format="csv", sort="score", order="asc", max_score=7).text
    table = pd.read_csv(io.BytesIO(served.get("/api/candidates", format="csv", sort="score", order="asc").content), comment="#")
    assert table["score"].tolist() == [6.0, 8.0], "a table has the order of the list"


def test_mosaics_have_verdicts_with_reasons_and_are_filtered_by_them(served: Served) -> None:
    def names(what: str = "/api/data/mosaics", **filters: object) -> list[str]:
        return [one["name"] for one in served.get(what, **filters).json()["items"]]

    assert names(verdict="not measured") == [NIGHT, HOUR], "an earlier release did not judge them"
    with served.database.session() as session:
        queries.upsert_qa_metric(session, "hourly_mosaic", "2026-03-01T05", "snr_scatter", 1.02, passed=True)
        queries.upsert_qa_metric(session, "nightly_mosaic", "2026-03-01", "snr_scatter", 1.7, limit_high=1.2, passed=False)
    assert (names(verdict="good"), names(verdict="bad"), names(verdict="not measured")) == ([HOUR], [NIGHT], [])
    bad = served.get(f"/api/data/mosaics/{NIGHT}").json()["verdict"]
    assert bad["reason"] == "snr_scatter 1.7 (at most 1.2)"
    assert "verdicts of its tiles" in bad["next_step"]
    with served.database.session() as session:
        queries.upsert_qa_metric(session, "source_catalog", "2026-03-01T05", "false_share", 0.3, limit_high=0.01, passed=False)
        queries.upsert_qa_metric(session, "source_catalog", "2026-03-01T05", "matched_share", None)
    assert names(verdict="good") == [], "the blind catalog of an hour belongs to it"
    assert served.get("/api/data/mosaics/addresses", verdict="good").text == ""
    assert len(served.get("/api/data/mosaics/addresses", verdict="bad").text.splitlines()) == 1, "the night has no version"
    page = served.get("/ui/mosaics", verdict="bad", sort="noise", order="desc", noise_min_mjy=0.1).text
    assert [page.count(f'href="/ui/mosaics/{name}"') for name in (NIGHT, HOUR)] == [1, 1]
    assert f'href="/ui/mosaics/{HOUR}"' not in served.get("/ui/mosaics", verdict="good").text
    assert "snr_scatter 1.7" in served.get(f"/ui/mosaics/{NIGHT}").text
    served.get("/api/data/mosaics", status=422, verdict="wonderful")


def test_an_image_has_all_quality_figures_and_files(served: Served) -> None:
    one = served.get(f"/api/data/images/{GROUPS[1]}").json()
    assert len(one["quality"]) == 9
    assert [file["name"] for file in one["files"]] == [f"{GROUPS[1]}-image-pb.fits", f"{GROUPS[1]}-preview.png"]


def test_a_selection_of_images_is_a_list_of_addresses_that_work(served: Served) -> None:
    lines = served.get("/api/data/images/addresses").text.splitlines()
    assert len(lines) == 1  # only one has a version
    assert fits.getheader(io.BytesIO(served.client.get(lines[0]).content))["BUNIT"] == "Jy/beam"
    (mosaic,) = served.get("/api/data/mosaics/addresses", kind="hourly").text.splitlines()
    assert fits.getheader(io.BytesIO(served.client.get(mosaic).content))["NAXIS"] >= 2


@pytest.mark.parametrize("what", ["images", "mosaics"])
def test_a_list_of_addresses_takes_the_filters_of_the_list_and_is_complete_over_its_pages(served: Served, what: str) -> None:
    shared = {"since", "until", "ra_deg", "dec_deg", "radius_deg", "noise_max_jy", "cursor", "limit"}
    paths = served.client.app.openapi()["paths"]  # pyright: ignore[reportAttributeAccessIssue]
    of_list, of_addresses = (
        {one["name"] for one in paths[at]["get"]["parameters"]} for at in (f"/api/data/{what}", f"/api/data/{what}/addresses")
    )
    assert shared <= of_list <= of_addresses
    whole = served.get(f"/api/data/{what}/addresses").text.splitlines()
    found: list[str] = []
    address: str | None = f"/api/data/{what}/addresses?limit=1"
    while address is not None:
        answer = served.client.get(address)
        found += answer.text.splitlines()
        address = answer.links.get("next", {}).get("url")
    assert found == whole
    if what == "images":
        assert served.get("/api/data/images/addresses", verdict="refused").text == "", "the refused one has no version"


def test_mosaics_with_tiles_and_files(served: Served) -> None:
    assert [one["name"] for one in served.get("/api/data/mosaics").json()["items"]] == [NIGHT, HOUR]
    assert [one["name"] for one in served.get("/api/data/mosaics", kind="hourly").json()["items"]] == [HOUR]
    one = served.get(f"/api/data/mosaics/{HOUR}").json()
    assert one["tiles"] == list(GROUPS)
    assert one["version_id"] == served.versions["hourly_mosaic"]
    assert [file["name"] for file in one["files"]] == [f"{HOUR}-image.fits"]
    status = served.get(f"/api/mosaic/status/{HOUR}").json()
    assert (status["state"], status["mosaic"]["n_tiles"]) == ("completed", 3)
    served.get("/api/mosaic/status/unknown", status=404)


@pytest.mark.parametrize("where", [f"images/{GROUPS[1]}", f"mosaics/{HOUR}"])
def test_a_cut_out_has_the_pixels_and_coordinates_of_the_image(served: Served, where: str) -> None:
    paths = ProductPaths.of(served.config)
    if where.startswith("images"):
        path = image_path(paths.image_dir(GROUPS[1]), GROUPS[1], "image-pb")
    else:
        path = image_path(paths.mosaic_dir(HOUR), HOUR, "image")
    whole = fits.getdata(path)[0, 0]
    answer = served.get(f"/api/data/{where}/cutout", ra_deg=RA + 0.1, dec_deg=DEC - 0.1, size_arcmin=5)
    with fits.open(io.BytesIO(answer.content)) as hdus:
        part, header = hdus[0].data, hdus[0].header
    assert part.shape == (15, 15)
    assert header["BMAJ"] == pytest.approx(40 / 3600)
    x, y = WCS(fits.getheader(path), naxis=2).wcs_world2pix(RA + 0.1, DEC - 0.1, 0)
    assert part[7, 7] == pytest.approx(whole[round(float(y)), round(float(x))])
    at = WCS(header).wcs_world2pix(RA + 0.1, DEC - 0.1, 0)
    assert np.allclose(at, 7, atol=0.51)
    picture = served.get(f"/api/data/{where}/cutout", ra_deg=RA, dec_deg=DEC, format="png")
    assert picture.content.startswith(b"\x89PNG")


def test_a_cut_out_is_bounded_and_says_where_the_image_ends(served: Served) -> None:
    url = f"/api/data/images/{GROUPS[1]}/cutout"
    assert "at most 341.3 arcmin" in served.get(url, status=422, ra_deg=RA, dec_deg=DEC, size_arcmin=400).json()["next_step"]
    assert "does not cover" in served.get(url, status=404, ra_deg=RA + 90, dec_deg=DEC).json()["detail"]
    assert "does not cover" in served.get(url, status=404, ra_deg=RA + 180, dec_deg=-DEC).json()["detail"]
    served.get(url, status=404, ra_deg=RA, dec_deg=DEC, kind="residual")


def test_a_download_gives_ranges_and_never_changes_its_content(served: Served) -> None:
    version = served.versions["tile_image"]
    files = served.get(f"/api/versions/{version}/files").json()
    whole = served.get(files[0]["url"])
    assert "immutable" in whole.headers["Cache-Control"]
    assert len(whole.content) == files[0]["size_bytes"]
    part = served.client.get(files[0]["url"], headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    from dsa110_assets.registry.provenance import Recipe, record_version

    with served.database.session() as session:
        newer = record_version(session, "tile_image", GROUPS[1], path=Path("/elsewhere"), recipe=Recipe("c", "s"))
    gone = served.get(files[0]["url"], status=410).json()
    assert f"/api/versions/{newer}/files" in gone["next_step"]


def test_calibrations_and_what_they_were_applied_to(served: Served) -> None:
    listed = served.get("/api/calibrations", accepted=True, since="2026-03-01", until="2026-03-01").json()["items"]
    assert [(one["calibrator"], one["quality"]) for one in listed] == [("0834+555", {"snr": 50.0})]
    one = served.get(f"/api/calibrations/{CALIBRATOR}").json()
    assert [(use["group_id"], use["rung"]) for use in one["applied_to"]] == [(GROUPS[1], "same-night")]
    served.get(f"/api/calibrations/{GROUPS[1]}", status=404)


def test_the_trend_of_a_quality_figure(served: Served) -> None:
    trend = served.get("/api/quality/tile_image", metric="noise_over_thermal").json()["items"]
    assert [(one["key"], one["value"]) for one in trend] == [(GROUPS[2], 3.0), (GROUPS[1], 2.0), (GROUPS[0], 1.0)]


def test_provenance_goes_up_and_down(served: Served) -> None:
    one = served.get(f"/api/versions/{served.versions['tile_image']}").json()
    assert [made["product"] for made in one["made_from"]] == ["calibrated_ms"]
    assert [used["version_id"] for used in one["used_for"]] == [served.versions["hourly_mosaic"]]
    assert one["is_current"]
    listed = served.get("/api/products/tile_image/versions", key=GROUPS[1]).json()["items"]
    assert [version["version_id"] for version in listed] == [served.versions["tile_image"]]


def test_sources_by_name_position_and_figures(served: Served) -> None:
    def names(**filters: object) -> list[str]:
        return [one["name"] for one in served.get("/api/sources", **filters).json()["items"]]

    assert names() == [STRANGE, "J0800+1600", "J0804+1600"]  # numbered by name
    assert names(name="J08") == ["J0800+1600", "J0804+1600"]
    assert names(name="%") == []
    assert names(ra_deg=RA, dec_deg=DEC, radius_deg=0.01) == ["J0800+1600"]
    assert names(ra_deg=0.005, dec_deg=-5, radius_deg=0.02) == [STRANGE]  # across 0h
    assert names(ra_deg=10, dec_deg=90, radius_deg=5) == []
    assert names(sort="eta") == ["J0804+1600", STRANGE, "J0800+1600"]
    assert names(sort="v") == ["J0804+1600", "J0800+1600"]  # without a V it has no place
    assert names(min_eta=2, min_score=5) == ["J0804+1600"]
    assert names(min_flux_jy=0.25) == [STRANGE]
    one = served.get(f"/api/sources/{served.sources[1]}").json()
    assert (one["eta"], one["ese_score"], one["night"]) == (9.0, 8.0, "2026-03-01")
    served.get("/api/sources/99999", status=404)


def test_a_light_curve_in_four_formats(served: Served) -> None:
    url = f"/api/sources/{served.sources[0]}/lightcurve"
    curve = served.get(url).json()
    assert curve["name"] == "J0800+1600"
    assert [(point["mosaic_name"], point["flux_jy"], point["upper_limit_jy"]) for point in curve["points"]] == [(HOUR, 0.1, None)]
    assert curve["points"][0]["calibration_err_jy"] == 6e-4
    assert pd.read_csv(io.BytesIO(served.get(url, format="csv").content), comment="#")["flux_jy"].tolist() == [0.1]
    assert pd.read_parquet(io.BytesIO(served.get(url, format="parquet").content))["flux_jy"].tolist() == [0.1]
    table = astropy.table.Table.read(io.BytesIO(served.get(url, format="votable").content), format="votable")
    assert (table["flux_jy"][0], str(table["flux_jy"].unit)) == (0.1, "Jy")
    assert table["upper_limit_jy"].dtype == table["normalised_flux_jy"].dtype == float  # without any value


def test_candidates_and_their_labels(served: Served) -> None:
    (candidate,) = served.get("/api/candidates", unlabeled=True).json()["items"]
    assert (candidate["name"], candidate["kind"], candidate["first_night"]) == ("J0804+1600", "dip", "2026-03-01")
    url = f"/api/candidates/{candidate['event_id']}/label"
    assert served.client.put(url, json={"label": "real", "comment": "<i>nice</i>"}, headers=served.headers).status_code == 204
    assert served.get("/api/candidates", unlabeled=True).json()["items"] == []
    assert served.get("/api/candidates", label="real", min_score=5).json()["items"][0]["comment"] == "<i>nice</i>"


def test_an_epoch_is_excluded_with_the_name_of_the_person(served: Served) -> None:
    url = f"/api/epochs/{HOUR}/exclusion"
    assert served.client.put(url, json={"reason": "thunderstorm"}, headers=served.headers).status_code == 204
    listed = served.get("/api/epochs/excluded").json()
    assert [(one["mosaic_name"], one["reason"], one["excluded_by"]) for one in listed] == [(HOUR, "thunderstorm", "J. Doe")]
    assert served.get(f"/api/sources/{served.sources[0]}/lightcurve").json()["points"][0]["excluded"]
    assert served.client.delete(url, headers=served.headers).status_code == 204
    assert served.client.delete(url, headers=served.headers).status_code == 422


def test_a_failed_observation_is_retried_through_the_queue(served: Served) -> None:
    answer = served.client.post("/api/data/observations/2026-03-01T05:15:36/retry", headers=served.headers)
    assert answer.status_code == 202, answer.text
    assert served.get("/api/data/observations/2026-03-01T05:15:36").json()["state"] == "pending"


def test_alerts_stale_products_and_a_dry_backfill(served: Served) -> None:
    assert any(alert["key"].startswith("observation-failed/2026-03-01T05:15:36") for alert in served.get("/api/alerts").json())
    stale = served.get("/api/stale", asset="tile_image").json()
    assert (stale["total"], stale["items"][0]["partition"]) == (1, "2026-03-01|05:05")
    answer = served.client.post("/api/backfills", json={"first_night": "2026-03-01"}, headers=served.headers).json()
    assert answer["partitions"]["tile_image"] == ["2026-03-01|05:00", "2026-03-01|05:05", "2026-03-01|05:10"]
    assert answer["backfill"] is None


def test_every_stale_product_is_reached_page_by_page_and_counted(served: Served) -> None:
    """A long list was cut after 10 000, and the panel counted only these."""
    with served.database.session() as session:
        for number in range(7):
            record_version(
                session, "hourly_mosaic", f"2026-02-01T{number:02d}", path=f"/m/{number}", inputs={}, recipe=Recipe("old", "old")
            )
    whole = served.get("/api/stale").json()
    assert (whole["next"], whole["total"]) == (None, len(whole["items"]))
    assert [one["asset"] for one in whole["items"]] == ["calibrated_ms", "tile_image", *["hourly_mosaic"] * 8]
    for asset in (None, "hourly_mosaic", "nightly_mosaic"):
        rows, address = [], "/api/stale?limit=3" + (f"&asset={asset}" if asset else "")
        while address is not None:
            page = served.get(address).json()
            rows += page["items"]
            address = page["next"]
        assert rows == [one for one in whole["items"] if asset in (None, one["asset"])]
        assert page["total"] == len(rows)
    served.get(f"/api/stale?cursor={cursor_of(('no_such_asset', 'a'))}", status=422)
    panel = re.sub(r"<[^>]*>", " ", served.get("/ui/control-panel/stale").text)
    assert re.search(r"hourly_mosaic\s+8\s+code \(8\), configuration \(8\)", panel)


def test_what_needs_dagster_says_what_to_do_without_it(served: Served) -> None:
    task = "/api/absurd/tasks/00000000-0000-0000-0000-000000000000"
    for method, url, body in (
        ("POST", "/api/streaming/stop", None),
        ("POST", "/api/streaming/start", None),
        ("GET", "/api/absurd/tasks", None),
        ("GET", "/api/absurd/metrics", None),
        ("GET", task, None),
        ("DELETE", task, None),
        ("POST", "/api/absurd/tasks", {"task_type": "hour", "payload": {"night": "2026-03-01", "hour": "05"}}),
        ("POST", "/api/mosaic/create", {"name": "flare", "since": "2026-03-01T05:00", "until": "2026-03-01T06:00"}),
    ):
        answer = served.client.request(method, url, json=body, headers=served.headers)
        assert answer.status_code == 503, (url, answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
        assert "`dsa110 up`" in answer.json()["next_step"]
    assert served.get("/api/mosaic/status/flare").json()["state"] == "pending"  # its plan is there


def test_metrics_count_requests_by_route_and_the_queue_by_state(served: Served) -> None:
    for group_id in GROUPS:
        served.get(f"/api/data/images/{group_id}")
    text = served.get("/metrics").text
    assert 'http_requests_total{method="GET",route="/api/data/images/{group_id}",status="200"} 3.0' in text
    assert 'http_request_duration_seconds_count{method="GET",route="/api/data/images/{group_id}"} 3.0' in text
    assert 'http_requests_in_progress{method="GET"} 1.0' in text
    assert 'dsa110_observations{state="completed"} 3.0' in text
    assert GROUPS[0] not in text


def test_an_alert_is_acknowledged_and_the_answer_taken_back(served: Served) -> None:
    def quiet() -> dict[str, dict]:
        return {one["key"]: one["acknowledged"] for one in served.get("/api/alerts").json() if one["acknowledged"]}

    key = next(one["key"] for one in served.get("/api/alerts").json() if one["key"].startswith("observation-failed/"))
    body = {"key": key, "reason": "known", "until": (datetime.now(UTC) + timedelta(hours=8)).isoformat()}
    assert served.client.post("/api/alerts/acknowledge", json=body, headers=served.headers).status_code == 204
    assert (quiet()[key]["person"], quiet()[key]["reason"]) == ("J. Doe", "known")
    assert served.client.post("/api/alerts/take-back", json={"key": key}, headers=served.headers).status_code == 204
    assert quiet() == {}
    answer = served.client.post("/api/alerts/acknowledge", json=body | {"key": "behind/nothing"}, headers=served.headers)
    assert answer.status_code == 404


def test_refused_files_are_listed_by_kind_and_page(served: Served) -> None:
    with served.database.session() as session:
        for number in range(5):
            reason = "name: odd" if number % 2 else "content: no header"
            session.add(SubbandFile(path=f"/in/{number}.hdf5", state="rejected", reason=reason, size_bytes=5, mtime_ns=1))
    assert {one["path"] for one in served.get("/api/data/refused-files").json()["items"]} == {f"/in/{n}.hdf5" for n in range(5)}
    first = served.get("/api/data/refused-files", kind="content", limit=2).json()
    second = served.get(first["next"]).json()
    assert [one["path"] for one in first["items"] + second["items"]] == ["/in/4.hdf5", "/in/2.hdf5", "/in/0.hdf5"]
    assert second["next"] is None


def test_actions_name_who_changed_what_newest_first(served: Served) -> None:
    served.client.put(f"/api/epochs/{HOUR}/exclusion", json={"reason": "thunder"}, headers=served.headers)
    served.client.delete(f"/api/epochs/{HOUR}/exclusion", headers=served.headers)
    found = served.get("/api/actions").json()["items"]
    assert [(one["person"], one["action"], one["subject"]) for one in found] == [
        ("J. Doe", "include_epoch", HOUR),
        ("J. Doe", "exclude_epoch", HOUR),
    ]
    assert [one["details"] for one in served.get("/api/actions", action="exclude_epoch").json()["items"]] == [{"reason": "thunder"}]
    assert served.get("/api/actions", person="Somebody").json()["items"] == []


def test_where_nothing_is_stale_the_list_is_empty_and_no_error() -> None:
    """A fresh platform, and one whose products are all of the present release."""
    found = FoundStale.of([], {"tile_image": 0})
    assert list(found.partitions) == []
    assert dict(found.of_asset) == {}
    assert found.place_after("tile_image", "2026-03-01T05:10:27") == 0
