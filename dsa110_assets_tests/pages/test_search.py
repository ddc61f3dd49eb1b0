"""Search over HTTP: positions, names, observations, words; targets; measuring on demand."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.catalogs.sky import build_reference
from dsa110_assets.errors import NotFoundError, PipelineError, PositionsError
from dsa110_assets.products import ProductPaths, image_path
from dsa110_assets.registry.queries import positions, upsert_mosaic
from dsa110_assets.registry.schema import ApiAction, PositionAddition, Source
from dsa110_assets.stages.operations.positions import measure_at, next_transit
from dsa110_assets.stages.operations.targets import add_target, remove_target
from dsa110_assets.stages.products import references
from dsa110_assets_tests.api.conftest import DEC, GROUPS, HOUR, RA, STRANGE, Served

PLACE = f"{RA} {DEC}"


def platform_of(served: Served):
    return served.client.app.state.access.platform


def csrf_of(served: Served) -> str:
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/search").text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("written", ["08:00:00 +16:00:00", "120.0 +16.0", "08h00m00s 16d00m00s", "J080000+160000", "120, 16"])
def test_a_position_in_any_form_finds_the_images_that_cover_it(served: Served, written: str) -> None:
    text = served.get("/ui/search", q=written).text
    assert re.findall(r'<tr><td><a href="/ui/images/([^"]+)"', text) == [GROUPS[1], GROUPS[0]], "the third lies too far east"
    assert f'href="/ui/mosaics/{HOUR}"' in text
    assert "08h00m00.0s +16°00′00″" in text
    assert "in the beam" in text


def test_the_flux_of_a_known_source_stands_beside_its_epoch(served: Served) -> None:
    text = served.get("/ui/search", q="J0800+1600").text
    assert f'href="/ui/sources/{served.sources[0]}">J0800+1600</a>, 0 arcsec away' in text
    assert f"{HOUR}</a>: 100.0 ± 1.0 mJy" in text
    assert "Add a target" not in text, "it is measured already"


def test_names_observations_mosaics_and_strange_texts(served: Served) -> None:
    assert f'href="/ui/observations/{GROUPS[0]}"' in served.get("/ui/search", q=GROUPS[0]).text
    assert f'href="/ui/mosaics/{HOUR}"' in served.get("/ui/search", q=HOUR).text
    both = served.get("/ui/search", q="J080").text
    assert "J0800+1600" in both
    assert "J0804+1600" in both
    strange = served.get("/ui/search", q=STRANGE).text
    assert STRANGE not in strange
    assert "&lt;b&gt;" in strange
    assert "Nothing has this name" in served.get("/ui/search", q="xqzvjk").text, "not a word of the documentation either"
    assert "Nothing has this name" not in served.get("/ui/search").text


def test_a_position_that_was_never_observed_says_so(served: Served) -> None:
    text = served.get("/ui/search", q="120 -70").text
    assert "has not observed this position" in text
    assert "outside the beam" in text


def test_a_target_becomes_a_source_that_past_mosaics_are_measured_for_and_stays_on_the_list(served: Served, tmp_path: Path) -> None:
    form = {"ra_deg": RA + 0.3, "dec_deg": DEC, "name": "<i>mine", "reason": "X-ray flare"}
    assert served.client.post("/ui/search/target", data=form).status_code == 401
    csrf = csrf_of(served)
    answer = served.client.post("/ui/search/target", data=form | {"csrf": csrf}, follow_redirects=False)
    assert answer.status_code == 303
    assert "&lt;i&gt;mine" in served.get(answer.headers["location"]).text
    with served.database.session() as session:
        source = session.query(Source).filter_by(name="<i>mine").one()
        assert (source.origin, source.active) == ("monitored", True)
        assert session.query(PositionAddition).one().positions == 1
        assert [(one.person, one.action) for one in session.query(ApiAction)] == [("J. Doe", "add_target")]
    nvss = tmp_path / "nvss.parquet"
    pd.DataFrame({"ra_deg": [10.0], "dec_deg": [10.0], "peak_jy_per_beam": [0.5]}).to_parquet(nvss)
    platform = platform_of(served)
    references.reference_path(platform).parent.mkdir(parents=True, exist_ok=True)
    build_reference(nvss, references.reference_path(platform))
    references.refresh_monitored(platform, "run")
    with served.database.session() as session:
        assert session.query(Source).filter_by(name="<i>mine").one().active, "the list of the file does not end it"
    remove_target(platform, "<i>mine")
    with served.database.session() as session:
        assert not session.query(Source).filter_by(name="<i>mine").one().active


def test_targets_of_the_api_and_what_is_refused(served: Served) -> None:
    wanted = {"name": "mine", "ra_deg": RA + 0.3, "dec_deg": DEC}
    made = served.client.post("/api/targets", json=wanted, headers=served.headers)
    assert made.status_code == 201
    assert made.json()["past_mosaics"] is True
    assert [(one["name"], one["person"]) for one in served.get("/api/targets").json()] == [("mine", "J. Doe")]
    for name, ra in (("mine", RA + 0.5), ("other", RA + 0.3), ("again", RA), ("J0804+1600", RA + 5)):
        answer = served.client.post("/api/targets", json=wanted | {"name": name, "ra_deg": ra}, headers=served.headers)
        assert answer.status_code == 422, name
        assert answer.json()["title"] == "PositionsError"
    assert len(served.get("/api/targets").json()) == 1, "what was refused left nothing"
    assert served.client.delete("/api/targets/mine", headers=served.headers).status_code == 204
    assert served.client.delete("/api/targets/mine", headers=served.headers).status_code == 404
    with pytest.raises(PositionsError, match="control characters"):
        add_target(platform_of(served), "a\x07b", RA, DEC + 1, person="J. Doe")


def write_mosaic(directory: Path, name: str, flux: float, noise: float = 1e-3) -> None:
    """An image of 10 arcsec pixels with one point source at (`RA`, `DEC`), and its noise map."""
    size, beam = 300, 40.0 / 10
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt, wcs.wcs.crpix = ["RA---SIN", "DEC--SIN"], [RA, DEC], [-10 / 3600, 10 / 3600], [151.0] * 2
    wcs.wcs.radesys = "ICRS"
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"], header["MJD-OBS"] = "Jy/beam", 40 / 3600, 40 / 3600, 0.0, 61_100.21
    y, x = np.mgrid[0:size, 0:size] - 150.0
    pixels = np.random.default_rng(2).normal(0, 1e-7, (size, size)) + flux * np.exp(-4 * np.log(2) * (x**2 + y**2) / beam**2)
    directory.mkdir(parents=True, exist_ok=True)
    for suffix, plane in (("image", pixels), ("noise", np.full((size, size), noise))):
        fits.PrimaryHDU(plane[None, None].astype("f4"), header=header).writeto(image_path(directory, name, suffix), overwrite=True)


def test_a_position_is_measured_in_the_mosaics_that_cover_it_and_the_page_shows_the_fluxes(served: Served) -> None:
    paths = ProductPaths.of(served.config)
    write_mosaic(paths.mosaic_dir(HOUR), HOUR, 0.05)
    second = "hourly_2026-03-01T06"
    with served.database.session() as session:
        upsert_mosaic(
            session, name=second, kind="hourly", directory=str(paths.mosaic_dir(second)), start_mjd=61_100.25, mid_mjd=61_100.27,
            end_mjd=61_100.3, ra_deg=RA, dec_deg=DEC, noise_jy_per_beam=1e-3, group_ids=[GROUPS[1]],
        )  # fmt: skip
    found = measure_at(platform_of(served), RA + 0.001, DEC, "0" * 36)
    assert [row["mosaic_name"] for row in found.rows] == [HOUR]
    assert found.rows[0]["flux_jy"] == pytest.approx(0.05 * np.exp(-4 * np.log(2) * (0.001 * np.cos(np.radians(DEC)) * 90) ** 2), rel=0.02)
    assert list(found.left_out) == [second]
    assert measure_at(platform_of(served), RA + 0.001, DEC, "1" * 36).rows, "a second time replaces the first"
    with pytest.raises(NotFoundError, match="older"):
        measure_at(platform_of(served), RA + 0.001, DEC, "2" * 36, before=GROUPS[0])
    with pytest.raises(PipelineError, match="2020-01-01"):
        measure_at(platform_of(served), RA + 0.001, DEC, "2" * 36, before="2020-01-01T00:00:00")
    rows = served.get("/api/positions/fluxes", ra_deg=RA + 0.001, dec_deg=DEC).json()
    assert [(row["mosaic_name"], row["run_id"]) for row in rows] == [(HOUR, "1" * 36)]
    text = served.get("/ui/search", q=f"{RA + 0.001} {DEC}").text
    assert "Measured on demand" in text
    with served.database.session() as session:
        assert positions.fluxes_at(session, RA + 0.01, DEC) == []


def test_measuring_is_a_run_in_the_queue_that_a_person_asks_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[dict] = []

    def launch(job: str, *, run_config: dict, tags: dict) -> dict:
        launched.append(
            {
                "runId": "0" * 8 + "-0000-0000-0000-" + "0" * 12, "jobName": job, "status": "QUEUED", "creationTime": 1e9, "startTime": None,
                "endTime": None, "tags": [{"key": key, "value": value} for key, value in tags.items()], "config": run_config,
            }
        )  # fmt: skip
        return launched[-1]

    def runs(*, tags: dict, limit: int) -> list[dict]:
        return [run for run in launched if tags.items() <= {one["key"]: one["value"] for one in run["tags"]}.items()][:limit]

    dagster = served.client.app.state.access.dagster
    monkeypatch.setattr(dagster, "launch_run", launch)
    monkeypatch.setattr(dagster, "runs", runs)
    assert served.client.post("/ui/search/measure", data={"ra_deg": RA, "dec_deg": DEC}).status_code == 401
    answer = served.client.post("/ui/search/measure", data={"ra_deg": RA, "dec_deg": DEC, "csrf": csrf_of(served)}, follow_redirects=False)
    assert answer.status_code == 303
    assert launched[0]["config"] == {"ops": {"fluxes_at_position": {"config": {"ra_deg": RA, "dec_deg": DEC, "mosaics": 30}}}}
    text = served.get(answer.headers["location"]).text
    assert 'hx-get="/ui/search/progress?' in text
    launched[0]["status"] = "SUCCESS"
    part = served.client.get("/ui/search/progress", params={"ra_deg": RA, "dec_deg": DEC}, headers={"HX-Request": "true"})
    assert part.headers["HX-Refresh"] == "true"
    assert "completed" in part.text
    older = {"ra_deg": RA, "dec_deg": DEC, "csrf": csrf_of(served), "mosaics": 5, "before": GROUPS[1]}
    answer = served.client.post("/ui/search/measure", data=older, follow_redirects=False)
    assert launched[1]["config"]["ops"]["fluxes_at_position"]["config"] == {"ra_deg": RA, "dec_deg": DEC, "mosaics": 5, "before": GROUPS[1]}
    text = served.get(answer.headers["location"]).text
    assert f'name="before" value="{GROUPS[1]}"' in text, "the page of older images asks for older mosaics"


def test_the_job_runs_with_the_configuration_that_the_api_sends() -> None:
    from dsa110_assets.orchestration.positions_on_demand import PositionRequest, fluxes_at_position, measure_position_job

    assert measure_position_job.name == "measure_position"
    assert fluxes_at_position.name == "fluxes_at_position"
    assert PositionRequest(ra_deg=RA, dec_deg=DEC, mosaics=30).mosaics == 30


def test_the_next_transit_is_the_catalogs_one(served: Served) -> None:
    from dsa110_assets.catalogs.calibrators import transit_mjd
    from dsa110_assets.common.directions import Site, meridian_icrs
    from dsa110_assets.registry.queries.images import image_of
    from dsa110_assets.times import datetime_to_mjd

    site = Site(np.radians(37.2339), np.radians(-118.2834), 1222.0)
    with served.database.session() as session:
        for group_id in GROUPS:
            row = image_of(session, group_id)
            assert row is not None
            ra, dec = meridian_icrs(np.array([row.mid_mjd + 2_400_000.5]), np.radians(DEC), site)
            row.ra_deg, row.dec_deg = float(np.degrees(ra[0])), float(np.degrees(dec[0]))
        session.flush()
        now = datetime(2026, 3, 9, 12, tzinfo=UTC)
        found = next_transit(session, 200.0, DEC, now=now)
    assert found is not None
    assert 0 <= (found.at - now).total_seconds() < 86_165
    expected = transit_mjd(200.0, DEC, datetime_to_mjd(found.at), site)
    assert abs(datetime_to_mjd(found.at) - expected) * 86400 < 5.0


def test_search_works_on_an_empty_registry_and_without_the_dagster_ui(database, registry_config) -> None:
    from fastapi.testclient import TestClient

    from dsa110_assets.api.app import create_app

    with TestClient(create_app(registry_config.model_copy(update={"dagster_port": 1}))) as client:
        answer = client.get("/ui/search", params={"q": PLACE})
        assert answer.status_code == 200
        assert "known after the first image" in answer.text
        assert "Next:" in answer.text
        assert client.get("/ui/viewer").status_code == 200
        assert "There is no image yet" in client.get("/ui/viewer").text
