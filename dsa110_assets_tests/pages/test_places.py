"""Every page has an example, and every example answers."""

from __future__ import annotations

import pytest

from dsa110_assets.api.pages import ROUTERS
from dsa110_assets_tests.api.conftest import Served
from dsa110_assets_tests.pages import places
from dsa110_assets_tests.pages.test_antennas import store_figures


def test_each_page_has_an_example() -> None:
    routes = {route.path for router in ROUTERS for route in router.routes if "GET" in route.methods}  # type: ignore[attr-defined]
    assert routes == set(places.PAGES) | set(places.PARTS) | places.OTHER


@pytest.mark.parametrize("of", [places.PAGES, places.PARTS], ids=["pages", "parts"])
def test_each_page_answers(served: Served, of: dict[str, tuple[str, ...]]) -> None:
    places.write_log(served.config)
    store_figures(served)
    for address in places.addresses(of, served.sources):
        served.get(address, 503 if address.startswith(places.NEEDS_DAGSTER) else 200)
