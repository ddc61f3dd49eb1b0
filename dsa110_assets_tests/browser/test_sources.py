"""Sources in a browser: a box in the eta-V plot lists its sources, the light curve keeps its state in the address."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect
from sqlalchemy import text

from dsa110_assets.products import image_path
from dsa110_assets.registry import queries
from dsa110_assets_tests.api.conftest import write_image
from dsa110_assets_tests.browser.conftest import Site

EPOCHS = 40
expect.set_options(timeout=30_000)


def measure(site: Site, folder: Path) -> str:
    """Measure the first source in 40 more hours, normalize them, make every tenth a limit; return a limit's name."""
    rng = np.random.default_rng(5)
    with site.database.session() as session:
        for day in range(EPOCHS):
            name, time = f"hourly_2026-04-{day // 2 + 1:02d}T{5 + day % 2:02d}", 61_131.2 + day / 2
            queries.upsert_mosaic(
                session, name=name, kind="hourly", directory=str(folder / name), start_mjd=time, mid_mjd=time, end_mjd=time, ra_deg=0, dec_deg=0,
                noise_jy_per_beam=5e-4, group_ids=[],
            )  # fmt: skip
            limit = day % 10 == 3
            write_image(image_path(folder / name, name, "image"), 100)
            flux = 0.1 * (0.6 if 18 <= day <= 24 else 1.0) + rng.normal(0, 2e-3)
            fluxes = pd.DataFrame(
                {"source_id": site.sources[:1], "flux_jy": 1e-3 if limit else flux, "flux_err_jy": 3e-3, "noise_jy_per_beam": 3e-3,
                 "background_jy_per_beam": 0.0, "snr": 0.3 if limit else 30.0, "upper_limit_jy": 0.011 if limit else np.nan, "is_limit": limit}
            )  # fmt: skip
            queries.replace_photometry(session, name, fluxes, time_mjd=time)
        session.execute(text("UPDATE epoch_factors SET factor = 1.02, factor_err = 0.003, n_reference = 40, usable = true, due = false"))
    return "hourly_2026-04-02T06"


def population(site: Site) -> None:
    """Add 3000 sources whose eta and V scatter about 1 and 0.03."""
    with site.database.session() as session:
        session.execute(text("SELECT setseed(0.3)"))
        session.execute(
            text("INSERT INTO sources (name, ra_deg, dec_deg, origin) SELECT 'P' || i, 360 * random(), 15 + 3 * random(), 'nvss' "
                 "FROM generate_series(1, 3000) i")
        )  # fmt: skip
        session.execute(
            text("INSERT INTO variability (source_id, night, n_epochs, mean_flux_jy, eta, v, ese_score) SELECT source_id, '2026-03-01', 30, "
                 "0.05, exp(0.4 * (random() + random() + random() - 1.5)), 0.03 * exp(0.6 * (random() + random() + random() - 1.5)), 2 "
                 "FROM sources WHERE name LIKE 'P%'")
        )  # fmt: skip


def ready(page: Page, selector: str) -> None:
    expect(page.locator(selector)).to_have_attribute("data-ready", "true")


@pytest.mark.parametrize("path", ["/ui/sources", "/ui/sources/{first}?epoch=hourly_2026-03-01T05"])
def test_the_pages_of_sources_have_no_accessibility_violation(visit, site, picture, path) -> None:
    page = visit(path.format(first=site.sources[0]), signed_in=True)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


def test_a_pointer_on_a_source_of_the_eta_v_plot_shows_its_light_curve(visit, site) -> None:
    with site.database.session() as session:
        session.execute(text("UPDATE epoch_factors SET factor = 1.02, factor_err = 0.003, n_reference = 40, usable = true, due = false"))
    page = visit("/ui/sources")
    ready(page, '[data-plot="eta-v"]')
    bins = page.evaluate("async () => (await (await fetch('/api/sources/population')).json()).eta_v")
    x = sorted(bins["step_x"] * (cell[0] + more) for cell in bins["cells"] for more in (0, 1))
    y = sorted(bins["step_y"] * (cell[1] + more) for cell in bins["cells"] for more in (0, 1))
    over = page.locator('[data-plot="eta-v"] .u-over').bounding_box()
    right = (np.log10(9.0) - (x[0] - 0.1)) / (x[-1] - x[0] + 0.2)
    up = (np.log10(0.5) - (y[0] - 0.1)) / (y[-1] - y[0] + 0.2)
    page.mouse.move(over["x"] + over["width"] * right, over["y"] + over["height"] * (1 - up), steps=3)
    expect(page.locator(".hover-curve svg")).to_be_visible()
    expect(page.locator(".hover-curve")).to_contain_text("J0804+1600")
    page.mouse.move(over["x"] - 40, over["y"] - 40)
    expect(page.locator(".hover-curve")).to_be_hidden()


def test_a_box_in_the_eta_v_plot_lists_the_sources_in_it(visit, site, picture) -> None:
    population(site)
    page = visit("/ui/sources")
    ready(page, '[data-plot="eta-v"]')
    ready(page, '[data-plot="sky"]')
    picture(page, "sources")
    over = page.locator('[data-plot="eta-v"] .u-over').bounding_box()
    page.mouse.move(over["x"] + over["width"] * 0.5, over["y"] + 2)
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] - 2, over["y"] + over["height"] * 0.5, steps=5)
    page.mouse.up()
    page.wait_for_url("**/ui/sources?*min_eta=*")
    limits = {name: float(values[0]) for name, values in parse_qs(urlsplit(page.url).query).items() if name not in ("sort", "order")}
    expect(page.locator("#list tbody")).to_contain_text("J0804+1600")
    for row in page.locator("#list tbody tr").all():
        eta, v = (float(row.locator("td").nth(column).inner_text()) for column in (4, 5))
        assert limits["min_eta"] * 0.99 <= eta <= limits["max_eta"] * 1.01
        assert limits["min_v"] * 0.99 <= v <= limits["max_v"] * 1.01
    address = page.url
    picture(page, "sources_chosen")
    page.go_back()
    expect(page.locator("#list caption")).to_contain_text("of more")
    again = visit(address.removeprefix(site.url))
    assert again.input_value("[name=min_eta]") == page.evaluate("u => new URL(u).searchParams.get('min_eta')", address)
    assert "J0804+1600" in again.inner_text("#list")


def test_a_point_under_the_pointer_tells_its_figures_and_opens_its_source(visit, site) -> None:
    population(site)
    page = visit("/ui/sources")
    ready(page, '[data-plot="sky"]')
    over = page.locator('[data-plot="sky"] .u-over').bounding_box()
    declinations = page.evaluate("fetch('/api/sources/population').then(r => r.json()).then(p => p.sky.cells.map(c => c[1] / 2))")
    low, high = min(declinations) - 1, max(declinations) + 1.5
    x, y = over["x"] + over["width"] * (1 - 121 / 360), over["y"] + over["height"] * (high - 16) / (high - low)
    page.mouse.move(x - 3, y)
    page.mouse.move(x, y)
    expect(page.locator('[data-hint="sky"]')).to_have_text("J0804+1600: 200 mJy, η 9, V 0.5, score 8 sigma")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url(f"**/ui/sources/{site.sources[1]}")


def test_the_light_curve_switches_hovers_and_keeps_its_state_in_the_address(visit, site, picture, tmp_path) -> None:
    limit = measure(site, tmp_path)
    page = visit(f"/ui/sources/{site.sources[0]}")
    ready(page, "#curve")
    assert page.get_attribute("#curve", "data-points") == str(EPOCHS + 1)
    page.uncheck("[name=limits]")
    assert page.get_attribute("#curve", "data-points") == str(EPOCHS + 1 - 4)
    page.check("[name=limits]")
    page.check("[name=scale][value=raw]")
    page.focus("#curve")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#curve-hint")).to_contain_text(limit)
    expect(page.locator("#curve-hint")).to_contain_text("limit 11 mJy")
    page.keyboard.press("Enter")
    expect(page.locator("#point h2")).to_contain_text(limit)
    assert "scale=raw" in page.url
    assert f"epoch={limit}" in page.url
    over = page.locator("#curve .u-over").bounding_box()
    page.mouse.move(over["x"] + over["width"] * 0.55, over["y"] + 20)
    page.mouse.down()
    page.mouse.move(over["x"] + over["width"] * 0.8, over["y"] + 20, steps=4)
    page.mouse.up()
    page.wait_for_function("location.search.includes('from=')")
    picture(page, "source_zoomed")
    again = visit(page.url.removeprefix(site.url))
    ready(again, "#curve")
    assert again.is_checked("[name=scale][value=raw]")
    assert limit in again.inner_text("#point h2")
    assert re.search(r"from=[\d.]+", again.url).group() == re.search(r"from=[\d.]+", page.url).group()
    again.click("[data-zoom='0']")
    again.wait_for_function("!location.search.includes('from=')")
    picture(again, "source")


def test_a_press_on_a_point_opens_its_epoch_and_a_reason_excludes_it(visit, site, picture, tmp_path) -> None:
    measure(site, tmp_path)
    page = visit(f"/ui/sources/{site.sources[0]}", signed_in=True)
    ready(page, "#curve")
    over = page.locator("#curve .u-over").bounding_box()
    hint = page.locator("#curve-hint")
    for step in range(10, int(over["width"]), 10):  # along the line on which most fluxes lie
        page.mouse.move(over["x"] + over["width"] - step, over["y"] + 0.1 * over["height"])
        if "hourly_" in hint.inner_text():
            break
    name = re.search(r"hourly_[\dT-]+", hint.inner_text()).group()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#point h2")).to_contain_text(name)
    assert f"epoch={name}" in page.url
    page.locator("#strip [data-epoch='hourly_2026-04-10T05']").click()
    expect(page.locator("#point h2")).to_contain_text("hourly_2026-04-10T05")
    expect(page.locator("#strip [aria-current]")).to_contain_text("2026-04-10")
    page.fill("#point [name=reason]", "thunderstorm")
    page.click("#point button.danger")
    expect(page.locator("#point")).to_contain_text("thunderstorm (J. Doe")
    ready(page, "#curve")
    shown = int(page.get_attribute("#curve", "data-points"))
    page.uncheck("[name=excluded]")
    assert int(page.get_attribute("#curve", "data-points")) == shown - 1
    page.click("#point button:has-text('Include')")
    expect(page.locator("#point")).to_contain_text("Exclude this epoch")


@pytest.mark.parametrize("path", ["/ui/sources", "/ui/sources/{first}?epoch=hourly_2026-03-01T05"])
def test_the_pages_fit_a_phone(visit, site, picture, tmp_path, path) -> None:
    measure(site, tmp_path)
    page = visit(path.format(first=site.sources[0]), width=390, height=800)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    picture(page, "phone_" + path.split("/")[2].split("?")[0] + str(len(path)))
