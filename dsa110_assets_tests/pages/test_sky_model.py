"""The own sky model on its page and in the API: every source once, page by page, with its nights."""

from __future__ import annotations

from dsa110_assets.registry.queries import sky_model
from dsa110_assets.registry.queries.sky_model import Found
from dsa110_assets_tests.api.conftest import GROUPS, Served


def test_an_empty_sky_model_says_so(served: Served) -> None:
    assert served.get("/api/sky-model").json() == {"items": [], "next": None}
    assert "No image has found" in served.get("/ui/sky-model").text


def test_sources_are_listed_in_pages_with_their_first_and_last_night(served: Served) -> None:
    found = [Found(10.0 + 0.1 * number, 54.0, 1.0 + number, 0.01, 0.05) for number in range(5)]
    with served.database.session() as session:
        sky_model.record(session, GROUPS[1], 61_100.2, found)
        sky_model.record(session, GROUPS[1], 61_103.9, found[:1])
    pages, url = [], "/api/sky-model?limit=2"
    while url:
        answer = served.get(url).json()
        pages.append([one["flux_jy"] for one in answer["items"]])
        url = answer["next"]
    assert pages == [[5.0, 4.0], [3.0, 2.0], [1.0]]
    (first,) = served.get("/api/sky-model?ra_deg=10&dec_deg=54&radius_deg=0.03").json()["items"]
    assert (first["flux_jy"], first["origin"], first["first_night"], first["last_night"]) == (
        1.0,
        sky_model.OUTSIDE,
        "2026-03-01",
        "2026-03-04",
    )
    text = served.get("/ui/sky-model").text
    assert text.count("outside an image") == 5
    assert "2026-03-04" in text
    served.get("/api/sky-model?ra_deg=10", 422)
