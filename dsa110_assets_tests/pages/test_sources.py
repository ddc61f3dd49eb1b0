"""Pages of sources: filters and sorts, the origin of a point, exclusion of an epoch by name."""

from __future__ import annotations

import re
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from dsa110_assets.api.dagster import Dagster
from dsa110_assets.registry import queries
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries import population
from dsa110_assets_tests.api.conftest import CALIBRATOR, GROUPS, HOUR, NIGHT, STRANGE, Served


def names(page: str) -> list[str]:
    return re.findall(r'<td><a href="/ui/sources/\d+">([^<]*)</a>', page)


def signed_in(served: Served) -> str:
    """Sign in, and return the value that forms need."""
    served.client.cookies.set("dsa110_token", served.headers["Authorization"].removeprefix("Bearer "))
    found = re.search(r'name="csrf" value="([0-9a-f]{64})"', served.get("/ui/sources").text)
    assert found is not None
    return found.group(1)


def test_the_table_sorts_and_filters_by_its_address_and_takes_empty_fields(served: Served) -> None:
    assert names(served.get("/ui/sources").text)[0] == "J0804+1600"
    assert len(names(served.get("/ui/sources", sort="flux").text)) == 3
    chosen = served.get("/ui/sources?name=&origin=&ra_deg=&dec_deg=&radius_deg=&min_eta=2&max_eta=5&min_v=&max_v=&min_score=")
    assert names(chosen.text) == ["&lt;b&gt;&#39;; DROP TABLE sources; --"]
    assert STRANGE not in chosen.text, "names are escaped"
    assert "No source meets these conditions" in served.get("/ui/sources?min_eta=1e6").text
    served.get("/ui/sources?ra_deg=5", status=422)
    assert names(served.get("/ui/sources", sort="flux", order="asc", max_flux_jy=0.25).text) == ["J0800+1600", "J0804+1600"]
    assert 'aria-sort="ascending"' in served.get("/ui/sources", sort="eta", order="asc").text
    assert "sort=eta&amp;order=asc" in served.get("/ui/sources", sort="eta").text, "the head of a column turns the order round"


def test_a_form_of_the_page_gets_the_table_alone(served: Served) -> None:
    part = served.client.get("/ui/sources?min_eta=2", headers={"HX-Request": "true"}).text
    assert part.lstrip().startswith('<section id="list"')
    assert "<html" not in part
    again = served.client.get("/ui/sources?min_eta=2", headers={"HX-Request": "true", "HX-History-Restore-Request": "true"}).text
    assert "<html" in again


def test_the_population_counts_every_source_once_and_shows_the_best_as_points(served: Served) -> None:
    found = served.get("/api/sources/population").json()
    assert sum(cell[2] for cell in found["eta_v"]["cells"]) == 2, "the third source has no V"
    assert sum(cell[2] for cell in found["sky"]["cells"]) == 3
    assert [one["name"] for one in found["outliers"]] == ["J0804+1600", "J0800+1600"]
    best = found["outliers"][0]
    step = found["eta_v"]["step_x"]
    assert any(10 ** (i * step) <= best["eta"] < 10 ** ((i + 1) * step) for i, _, _ in found["eta_v"]["cells"])


def test_a_crowd_is_bins_and_not_points(served: Served) -> None:
    with served.database.session() as session:
        session.execute(
            text("INSERT INTO sources (name, ra_deg, dec_deg, origin) SELECT 'C' || i, 10, 16, 'nvss' FROM generate_series(1, 9000) i")
        )
        session.execute(
            text(
                "INSERT INTO variability (source_id, night, n_epochs, mean_flux_jy, eta, v, ese_score) "
                "SELECT source_id, '2026-03-01', 5, 0.1, 1.05, 0.0305, 1 FROM sources WHERE name LIKE 'C%'"
            )
        )
        session.execute(
            text(
                "UPDATE variability SET ese_score = 50 WHERE source_id IN "
                "(SELECT source_id FROM sources WHERE name LIKE 'C%' ORDER BY source_id LIMIT 6000)"
            )
        )
    found = served.get("/api/sources/population").json()
    assert max(cell[2] for cell in found["eta_v"]["cells"]) == 9000
    assert len(found["outliers"]) == population.MOST_OUTLIERS


def test_a_source_shows_what_each_point_comes_from(served: Served) -> None:
    page = served.get(f"/ui/sources/{served.sources[0]}", epoch=HOUR).text
    for link in (
        f"/ui/mosaics/{HOUR}", *(f"/ui/observations/{one}" for one in GROUPS), "hourly_mosaic?view=partitions&amp;partition=2026-03-01T05"
    ):  # fmt: skip
        assert link in unquote(page), link
    assert f'<a href="/ui/observations/{CALIBRATOR}">0834+555</a>, same-night, -0.1 h' in page
    assert "refused" in page, "the verdict of the third tile"
    for form in ("csv", "votable", "parquet"):
        link = f"/api/sources/{served.sources[0]}/lightcurve?format={form}"
        assert link in page
        served.get(link)
    strip = re.search(rf'src="(/api/sources/{served.sources[0]}/epochs/{HOUR}/cutout[^"]*)"', page)
    assert strip is not None
    picture = served.get(strip.group(1).replace("&amp;", "&"))
    assert picture.content.startswith(b"\x89PNG")
    assert "immutable" in picture.headers["Cache-Control"]
    other = served.get(f"/api/sources/{served.sources[0]}/epochs/{HOUR}/cutout", made=1)
    assert "immutable" not in other.headers["Cache-Control"], "the mosaic was made again"


def test_a_source_names_its_events_with_their_labels(served: Served) -> None:
    number = served.get("/api/candidates").json()["items"][0]["event_id"]
    served.client.put(f"/api/candidates/{number}/label", json={"label": "ese"}, headers=served.headers)
    page = served.get(f"/ui/sources/{served.sources[1]}").text
    assert re.search(rf'<a href="/ui/candidates/{number}">dip of 2026-03-01</a>, score 8.00 <span[^>]*>ese<', page)
    assert "never a candidate" in served.get(f"/ui/sources/{served.sources[0]}").text


def test_all_cutouts_of_a_source_have_the_same_colors(served: Served) -> None:
    page = served.get(f"/ui/sources/{served.sources[0]}").text
    ranges = set(re.findall(r"low_jy=([^&]+)&amp;high_jy=([^&\"]+)", page))
    assert len(ranges) == 1
    served.get(f"/api/sources/{served.sources[0]}/epochs/{HOUR}/cutout", status=422, low_jy=1, high_jy=1)
    served.get(f"/api/sources/{served.sources[0]}/epochs/{NIGHT}/cutout", status=404)


def test_an_epoch_is_excluded_and_included_with_the_persons_name(served: Served) -> None:
    address = f"/ui/sources/{served.sources[0]}/epochs/{HOUR}"
    csrf = signed_in(served)
    assert served.client.post(f"{address}/exclude", data={"reason": "rain"}).status_code == 401, "a form of another site"
    page = served.client.post(f"{address}/exclude", data={"reason": "rain <b>", "csrf": csrf})
    assert page.url.path == f"/ui/sources/{served.sources[0]}"
    assert "rain &lt;b&gt; (J. Doe" in page.text
    assert served.get(f"/api/sources/{served.sources[0]}/lightcurve").json()["points"][0]["excluded"]
    back = served.client.post(f"{address}/include", data={"csrf": csrf})
    assert "Exclude this epoch" in back.text
    with served.database.session() as session:
        actions = session.execute(text("SELECT person, action, subject FROM api_actions ORDER BY action_id")).all()
    assert [tuple(one) for one in actions] == [("J. Doe", "exclude_epoch", HOUR), ("J. Doe", "include_epoch", HOUR)]


def test_light_curves_that_still_have_an_excluded_epoch_are_made_again_at_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an exclusion the page says what does not agree with it yet, and for how long it takes; a run follows."""
    address, csrf = f"/ui/sources/{served.sources[0]}/epochs/{HOUR}", signed_in(served)
    page = f"/ui/sources/{served.sources[0]}?epoch={HOUR}"
    with served.database.session() as session:
        session.execute(text("UPDATE epoch_factors SET factor = 1.02, factor_err = 0.003, n_reference = 40, usable = true, due = false"))
    assert served.client.post(f"{address}/follow", data={"csrf": csrf}).status_code == 404, "light curves agree with it"
    with served.database.session() as session:
        for product, seconds in (("light_curves", 20.0), ("variability_metrics", 30.0)):
            record_version(session, product, "2026-03-01", recipe=Recipe("code", "settings"), duration_s=seconds)
    assert "waits for the next night" not in served.get(page).text
    for place in (page, f"/ui/mosaics/{HOUR}"):
        served.client.post(f"{address}/exclude", data={"reason": "rain", "csrf": csrf})
        shown = served.get(place).text
        assert "light curves, variability metrics, ese candidates of 2026-03-01 still have this epoch in" in shown
        assert "takes about 50 s" in shown
    assert served.client.post(f"{address}/follow", data={"csrf": csrf}).status_code == 503, "Dagster does not run"
    asked: list[tuple[str, dict[str, str]]] = []

    def launch(self: object, job: str, *, run_config: object, tags: dict[str, str]) -> dict[str, object]:
        asked.append((job, tags))
        return {"runId": "0" * 36, "status": "QUEUED", "jobName": job, "tags": []}

    monkeypatch.setattr(Dagster, "launch_run", launch)
    for place in (address, f"/ui/mosaics/{HOUR}"):
        assert served.client.post(f"{place}/follow").status_code == 401
        assert served.client.post(f"{place}/follow", data={"csrf": csrf}).status_code == 200
    assert [(job, tags["dagster/partition"], tags["dsa110/person"]) for job, tags in asked] == [("night", "2026-03-01", "J. Doe")] * 2
    with served.database.session() as session:  # as the run does
        session.execute(text("UPDATE epoch_factors SET factor = NULL, usable = false"))
    assert "waits for the next night" not in served.get(page).text
    served.client.post(f"{address}/include", data={"csrf": csrf})
    assert "of 2026-03-01 still have this epoch out" in served.get(page).text


def test_an_epoch_is_excluded_on_the_page_of_its_mosaic(served: Served) -> None:
    place, csrf = f"/ui/mosaics/{HOUR}", signed_in(served)
    assert "Excluding this epoch takes it out of the light curves of all sources measured in it (3)" in served.get(place).text
    assert served.client.post(f"{place}/exclude", data={"reason": "rain"}).status_code == 401
    assert "rain &lt;b&gt; (J. Doe" in served.client.post(f"{place}/exclude", data={"reason": "rain <b>", "csrf": csrf}).text
    assert [one["mosaic_name"] for one in served.get("/api/epochs/excluded").json()] == [HOUR]
    assert "Exclude this epoch" in served.client.post(f"{place}/include", data={"csrf": csrf}).text
    assert 'id="epoch"' not in served.get(f"/ui/mosaics/{NIGHT}").text, "nothing is measured in mosaics of nights"


def test_the_film_strip_comes_in_parts_without_repeating_an_epoch(served: Served) -> None:
    from dsa110_assets.registry import queries

    number = served.sources[0]
    with served.database.session() as session:
        for day in range(1, 31):
            name = f"hourly_2026-04-{day:02d}T05"
            queries.upsert_mosaic(
                session, name=name, kind="hourly", directory="/none", start_mjd=61_130.0 + day, mid_mjd=61_130.0 + day,
                end_mjd=61_130.0 + day, ra_deg=0, dec_deg=0, noise_jy_per_beam=5e-4, group_ids=[],
            )  # fmt: skip
            fluxes = pd.DataFrame(
                {"source_id": [number], "flux_jy": 0.1, "flux_err_jy": 1e-3, "noise_jy_per_beam": 1e-3, "background_jy_per_beam": 0.0,
                 "snr": 100.0, "upper_limit_jy": float("nan"), "is_limit": False}
            )  # fmt: skip
            queries.replace_photometry(session, name, fluxes, time_mjd=61_130.0 + day)
    page = served.get(f"/ui/sources/{number}").text
    first = re.findall(r'data-epoch="([^"]+)"', page)
    following = re.search(r'hx-get="([^"]+)"', page)
    assert following is not None
    rest = re.findall(r'data-epoch="([^"]+)"', served.get(following.group(1).replace("&amp;", "&")).text)
    assert len(first) == 24
    assert first + rest == [f"hourly_2026-04-{day:02d}T05" for day in range(30, 0, -1)] + [HOUR]


@pytest.mark.parametrize("path", ["/ui/sources", "/ui/sources?sort=number"])
def test_an_empty_registry_says_what_to_do(served: Served, path: str) -> None:
    from dsa110_assets_tests.registry_fixture import empty

    served.client.app.state.access.close()  # type: ignore[attr-defined]
    empty(served.database.url)
    assert 'class="empty"' in served.get(path).text
    served.get("/ui/sources/1", status=404)


def test_the_film_strip_shows_the_kind_of_mosaics_that_was_asked_for(served: Served) -> None:
    number = served.sources[0]
    assert HOUR in served.get(f"/ui/sources/{number}").text
    nightly = served.get(f"/ui/sources/{number}", kind="nightly").text
    assert "not measured in a mosaic of the kind nightly yet" in nightly
    fluxes = pd.DataFrame(
        {
            "source_id": [number], "flux_jy": [0.1], "flux_err_jy": 1e-3, "noise_jy_per_beam": 1e-3, "background_jy_per_beam": 0.0,
            "snr": 100.0, "upper_limit_jy": np.nan, "is_limit": False,
        }
    )  # fmt: skip
    with served.database.session() as session:
        queries.replace_photometry(session, NIGHT, fluxes, time_mjd=61_100.21)
    text = served.get(f"/ui/sources/{number}/strip", kind="nightly").text
    assert NIGHT in text
    assert HOUR not in text
    served.get(f"/ui/sources/{number}/strip", 422, kind="weekly")


def test_a_small_curve_of_a_source_is_drawn_for_the_plot_of_the_population(served: Served) -> None:
    number = served.sources[1]
    assert "No normalized flux" in served.get(f"/ui/sources/{number}/curve").text
    with served.database.session() as session:
        session.execute(text("UPDATE epoch_factors SET factor = 1.02, factor_err = 0.003, n_reference = 40, usable = true, due = false"))
    drawn = served.get(f"/ui/sources/{number}/curve").text
    assert "<circle" in drawn
    assert "1 flux from" in drawn
    assert "&lt;b&gt;" in served.get(f"/ui/sources/{served.sources[2]}/curve").text
    assert "<b>" not in served.get(f"/ui/sources/{served.sources[2]}/curve").text
