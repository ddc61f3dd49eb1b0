"""Links from the Dagster UI lead to pages that exist, over HTTP."""

from __future__ import annotations

from urllib.parse import urlsplit

from dsa110_assets.orchestration import links
from dsa110_assets.stages.table import TABLE
from dsa110_assets_tests.api.conftest import GROUPS, Served


def test_each_asset_links_to_a_page_that_answers(served: Served) -> None:
    addresses = {links.page_of(served.config, row) for row in TABLE} | {links.dashboard(served.config)}
    for address in addresses:
        served.get(urlsplit(address).path)


def test_an_observation_links_to_its_page(served: Served) -> None:
    assert GROUPS[0] in served.get(urlsplit(links.observation_page(served.config, GROUPS[0])).path).text
