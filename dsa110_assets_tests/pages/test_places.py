"""Every page has an example, and every example answers."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from dsa110_assets.api.app import create_app
from dsa110_assets.api.pages import ROUTERS
from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.server import embedded_server, ensure_alive
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


def test_no_page_opens_a_file_of_a_product(served: Served) -> None:
    """Every file of a product is replaced by a directory, which nothing can read."""
    places.write_log(served.config)
    store_figures(served)
    for path in [path for path in ProductPaths.of(served.config).scratch_dir.rglob("*") if path.is_file()]:
        path.unlink()
        path.mkdir()
    for address in (*places.addresses(places.PAGES, served.sources), *places.addresses(places.PARTS, served.sources)):
        if not address.startswith(places.NEEDS_DAGSTER):
            served.get(address)


NEEDS_A_ROW = (
    "/ui/observations/",
    "/ui/images/",
    "/ui/mosaics/hourly",
    "/ui/mosaics/nightly",
    "/ui/sources/",
    "/ui/candidates/",
    "/ui/antennas/103",
    "/ui/viewer?image=",
    "/ui/control-panel/services/",
)
"""Pages of one thing, or of one log, which an empty platform does not have."""


def test_every_page_of_a_fresh_clone_answers_and_what_is_not_there_says_what_to_do(
    registry_config: PipelineConfig, database: Database
) -> None:
    """No observation, no catalog, no log, no Dagster: no page breaks, and each of one thing says that there is none."""
    config = registry_config.model_copy(update={"dagster_port": 1})
    found: dict[str, tuple[int, bool]] = {}
    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        for address in (*places.addresses(places.PAGES, [1, 2]), *places.addresses(places.PARTS, [1, 2])):
            answer = client.get(address)
            found[address] = answer.status_code, "Next" in answer.text or 'class="next"' in answer.text
    wrong = {address: status for address, (status, _) in found.items() if status not in (200, 404, 503)}
    assert wrong == {}
    assert [one for one, (status, _) in found.items() if status == 503 and not one.startswith(places.NEEDS_DAGSTER)] == []
    strange = [one for one, (status, _) in found.items() if status == 404 and not one.startswith(NEEDS_A_ROW)]
    assert strange == []
    assert [one for one, (status, helps) in found.items() if status == 404 and not helps] == []


WITHOUT_REGISTRY = ("/ui/sign-in", "/ui/carta", "/ui/control-panel/services/", "/ui/dashboard")
"""Pages that need no registry; the parts of the dashboard say by themselves what does not answer."""


def test_each_page_says_what_to_do_while_the_database_is_away_and_asks_again(registry_config: PipelineConfig, server_directory) -> None:
    config = registry_config.model_copy(update={"database_url": None, "state_dir": server_directory / "away", "dagster_port": 1})
    places.write_log(config)
    Database.connect(config).dispose()
    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        assert client.get("/ui/observations").status_code == 200
        embedded_server(config).stop(immediate=True)
        for address in places.addresses(places.PAGES, [1, 2]):
            answer = client.get(address)
            if address.startswith(WITHOUT_REGISTRY):
                assert answer.status_code == 200, address
                continue
            if address in ("/ui/search", "/ui/mosaics/new"):  # empty forms
                continue
            assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "2"), address
            assert "dsa110 db status" in answer.text, address
            assert 'data-reload="5"' in answer.text, address
            assert "postgresql" not in answer.text
        assert "dsa110 db status" in client.get("/ui/dashboard").text
        assert ensure_alive(config)
        assert client.get("/ui/observations").status_code == 200
    embedded_server(config).stop(immediate=True)
