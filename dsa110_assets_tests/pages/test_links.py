"""Links from the Dagster UI lead to pages that exist, over HTTP."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

import pytest

from dsa110_assets.api.pages import layout
from dsa110_assets.orchestration import links
from dsa110_assets.stages import pages
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import tile_partition
from dsa110_assets_tests.api.conftest import DEC, GROUPS, HOUR, RA, Served

TILE = quote("|".join(tile_partition(GROUPS[1])), safe="")


def test_each_asset_links_to_a_page_that_answers(served: Served) -> None:
    addresses = {links.page_of(served.config, row) for row in TABLE} | {links.dashboard(served.config)}
    for address in addresses:
        served.get(urlsplit(address).path)


@pytest.mark.parametrize("entry", layout.PAGES, ids=lambda one: one.title)
def test_each_page_of_the_navigation_leads_to_the_same_thing_in_dagster(served: Served, entry: layout.Entry) -> None:
    text = served.get(entry.address).text
    main = text[text.index("<main") : text.index("</main>")]
    products = pages.products_of(entry.address.rpartition("/")[2])
    for one in products:
        assert f'href="{layout.asset_url(served.config, one)}"' in main
    assert products or f'href="{served.config.ui_url.rstrip("/")}/' in main


@pytest.mark.parametrize(
    ("path", "link"),
    [
        ("/ui/shift/report?night=2026-03-01", "assets/nightly_mosaic?view=partitions&amp;partition=2026-03-01"),
        (f"/ui/viewer?image={GROUPS[1]}", f"assets/tile_image?view=partitions&amp;partition={TILE}"),
        (f"/ui/viewer?mosaic={HOUR}", "assets/hourly_mosaic?view=partitions&amp;partition=2026-03-01"),
        (f"/ui/search?q={RA}+%2B{DEC}", f"assets/tile_image?view=partitions&amp;partition={TILE}"),
        ("/ui/marks", "assets/calibration_tables"),
        (f"/ui/images/{GROUPS[1]}", f"assets/tile_image?view=partitions&amp;partition={TILE}"),
        (f"/ui/mosaics/{HOUR}", "assets/hourly_mosaic?view=partitions&amp;partition=2026-03-01"),
    ],
)
def test_a_page_of_one_thing_leads_to_its_partition_in_dagster(served: Served, path: str, link: str) -> None:
    text = served.get(path).text
    assert link in text[text.index("<main") : text.index("</main>")]


def test_an_observation_links_to_its_page(served: Served) -> None:
    assert GROUPS[0] in served.get(urlsplit(links.observation_page(served.config, GROUPS[0])).path).text
