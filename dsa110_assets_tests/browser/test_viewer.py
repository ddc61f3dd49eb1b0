"""The viewer in a browser: pixels, catalogs, value under the cursor, two epochs; nothing leaves the machine."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from playwright.sync_api import Page
from sqlalchemy import text

from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.schema import MosaicRow
from dsa110_assets_tests.api.conftest import DEC, GROUPS, HOUR, RA
from dsa110_assets_tests.browser.accessibility import violations

NOISE = 1e-3


def write(path: Path, flux: float, projection: str = "SIN") -> None:
    """An image of noise with a source of 10 beams' size at (`RA`, `DEC`), so that its value is easy to hit."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = [f"RA---{projection}", f"DEC--{projection}"], [-5 / 3600, 5 / 3600], [301.0, 301.0]
    wcs.wcs.crval, wcs.wcs.radesys = [RA, DEC], "ICRS"
    if projection == "COO":
        wcs.wcs.set_pv([(2, 1, DEC), (2, 2, 0.0)])
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 60 / 3600, 40 / 3600, 30.0
    pixels = np.random.default_rng(5).normal(0, NOISE, (601, 601))
    pixels[285:316, 285:316] = flux
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(pixels[None, None].astype("f4"), header=header).writeto(path, overwrite=True)


@pytest.fixture
def epochs(site):
    """The small registry with two images and an hourly mosaic of one field, which two sources and a candidate share."""
    with site.database.session() as session:
        for group_id, flux in ((GROUPS[1], 0.02), (GROUPS[2], 0.05)):
            row = image_of(session, group_id)
            assert row is not None
            row.ra_deg, row.noise_jy_per_beam = RA, NOISE
            write(Path(row.directory) / f"{group_id}-image-pb.fits", flux)
        mosaic = session.get_one(MosaicRow, HOUR)
        mosaic.noise_jy_per_beam = NOISE
        write(Path(mosaic.directory) / f"{HOUR}-image.fits", 0.03, "COO")
        session.execute(text("UPDATE sources SET ra_deg = :ra WHERE name = 'J0804+1600'"), {"ra": RA + 0.1})
    return site


def ready(page: Page) -> None:
    page.wait_for_selector("#sky[data-ready]", timeout=120_000)
    assert page.get_attribute("#sky", "data-ready") == "yes", page.inner_text("#viewer-state")
    page.wait_for_timeout(1000)


def value_in_the_middle(page: Page) -> str:
    box = page.locator("#sky").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2 + 3, box["y"] + box["height"] / 2)
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_timeout(300)
    return page.inner_text("#cursor-value")


def is_drawn(page: Page) -> bool:
    """Whether the source in the middle is brighter on the screen than the noise beside it."""
    box = page.locator("#sky").bounding_box()
    assert box is not None
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    shot = np.asarray(Image.open(BytesIO(page.screenshot())).convert("L"), dtype=float)
    inside, outside = (shot[int(middle[1]) - 25 : int(middle[1]) - 15, int(middle[0]) + at : int(middle[0]) + at + 5] for at in (0, 150))
    return bool(inside.mean() > outside.mean() + 50)


@pytest.mark.parametrize(("of", "value"), [(f"image={GROUPS[1]}", "20.0 mJy/beam"), (f"mosaic={HOUR}", "30.0 mJy/beam")])
def test_a_cut_out_has_catalogs_a_color_bar_and_the_value_under_the_cursor(epochs, visit, picture, of: str, value: str) -> None:
    page = visit(f"/ui/viewer?{of}&position={RA}+{DEC}&size_arcmin=30")
    ready(page)
    assert page.inner_text("#viewer-state") == "Sources: 2. Candidates: 1."
    assert value_in_the_middle(page) == value
    assert page.inner_text("#cursor-position").startswith(("08h00m00", "07h59m59"))
    assert page.inner_text("#low") == "-3.00 mJy/beam"
    assert is_drawn(page), "the pixels of the source are bright"
    picture(page, f"viewer_{of.partition('=')[0]}")
    assert violations(page) == []


def test_no_field_or_button_of_the_viewer_asks_a_server_outside(epochs, visit) -> None:
    """Aladin's own search box asks servers of its authors; `visit` fails on a request that leaves the machine."""
    page = visit(f"/ui/viewer?image={GROUPS[1]}&position={RA}+{DEC}")
    ready(page)
    for box in page.locator("#sky input").all():
        box.fill("3C286")
        box.press("Enter")
    assert page.get_by_placeholder("Search for an object").count() == 0
    buttons = page.locator("#sky button")
    names = [one.get_attribute("aria-label") for one in buttons.all()]
    assert names == ["Grid of coordinates", "Zoom out", "Zoom in", "Full screen"]
    for button in buttons.all():
        button.click()
        page.wait_for_timeout(300)
    buttons.last.click()  # out of the full screen
    page.wait_for_timeout(1500)
    assert violations(page) == []
    assert value_in_the_middle(page) == "20.0 mJy/beam"


def test_two_epochs_are_blinked_with_a_key(epochs, visit, picture) -> None:
    page = visit(f"/ui/viewer?image={GROUPS[1]}&position={RA}+{DEC}&epoch=image+{GROUPS[2]}")
    ready(page)
    assert value_in_the_middle(page) == "20.0 mJy/beam"
    page.keyboard.press("b")
    assert value_in_the_middle(page) == "50.0 mJy/beam"
    assert page.inner_text("#shown-epoch") == "second"


def test_two_epochs_are_subtracted_by_the_server(epochs, visit, picture) -> None:
    page = visit(f"/ui/viewer?image={GROUPS[2]}&position={RA}+{DEC}")
    ready(page)
    page.select_option("select[name=epoch]", f"image {GROUPS[1]}")
    page.select_option("select[name=how]", "subtract")
    page.click("text=Show >> nth=0")
    ready(page)
    assert value_in_the_middle(page) == "30.0 mJy/beam"
    picture(page, "viewer_subtract")


def test_carta_says_how_it_is_configured(epochs, visit) -> None:
    page = visit(f"/ui/carta?image={GROUPS[1]}")
    assert "PIPELINE_CARTA_URL" in page.inner_text("main")
