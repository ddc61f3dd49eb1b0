"""Differences of images: exact on one grid, close on another one, refused where they would mislead."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.common.cut_outs import cut_out, difference
from dsa110_assets.errors import InvalidRequestError, NotFoundError

RA, DEC = 128.7, 55.5
CELL = 3.0 / 3600
BEAM = 36.0 / 3600


def write(
    path: Path,
    *,
    center: tuple[float, float] = (RA, DEC),
    projection: str = "SIN",
    flux: float = 0.1,
    beam: float = BEAM,
    unit: str = "Jy/beam",
) -> None:
    """Write an image with one Gaussian source at (`RA`, `DEC`)."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.cdelt, wcs.wcs.crpix = [f"RA---{projection}", f"DEC--{projection}"], [-CELL, CELL], [201.0, 201.0]
    wcs.wcs.crval = list(center)
    wcs.wcs.radesys = "ICRS"
    if projection == "COO":
        wcs.wcs.set_pv([(2, 1, center[1]), (2, 2, 0.0)])
    y, x = np.mgrid[0:400, 0:400]
    ra, dec = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    apart = np.hypot((ra - RA) * np.cos(np.radians(DEC)), dec - DEC).reshape(400, 400)
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = unit, beam, beam, 0.0
    fits.PrimaryHDU((flux * np.exp(-4 * np.log(2) * (apart / BEAM) ** 2)).astype("f4"), header=header).writeto(path)


def test_images_on_one_grid_are_subtracted_pixel_by_pixel(tmp_path: Path) -> None:
    write(tmp_path / "a.fits", flux=0.1)
    write(tmp_path / "b.fits", flux=0.03)
    found = difference(tmp_path / "a.fits", tmp_path / "b.fits", RA, DEC, 5.0)
    assert found.pixels.shape == (100, 100)
    assert np.nanmax(found.pixels) == pytest.approx(0.07, abs=1e-4)
    assert found.header["RESAMPLE"] is False
    assert found.header["MINUS"] == "b.fits"


@pytest.mark.parametrize("projection", ["SIN", "COO"])
def test_a_steady_source_vanishes_from_the_difference_of_other_grids(tmp_path: Path, projection: str) -> None:
    write(tmp_path / "a.fits")
    write(tmp_path / "b.fits", center=(RA + 0.0513, DEC - 0.0317), projection=projection)
    found = difference(tmp_path / "a.fits", tmp_path / "b.fits", RA, DEC, 5.0)
    assert found.header["RESAMPLE"] is True
    assert np.nanmax(np.abs(found.pixels)) < 0.001 * 0.1


def test_beyond_the_second_image_the_difference_is_blank(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    write(tmp_path / "b.fits", center=(RA, DEC + 0.1501))
    found = difference(tmp_path / "a.fits", tmp_path / "b.fits", RA, DEC, 10.0)
    assert np.isnan(found.pixels[0]).all()
    assert np.isfinite(found.pixels[-1]).all()


def test_units_or_beams_that_differ_are_refused_with_the_reason(tmp_path: Path) -> None:
    write(tmp_path / "a.fits")
    write(tmp_path / "b.fits", beam=1.2 * BEAM)
    write(tmp_path / "c.fits", unit="Jy/pixel")
    with pytest.raises(InvalidRequestError, match="36 x 36 arcsec and 43 x 43 arcsec"):
        difference(tmp_path / "a.fits", tmp_path / "b.fits", RA, DEC, 5.0)
    with pytest.raises(InvalidRequestError, match="Jy/pixel"):
        difference(tmp_path / "a.fits", tmp_path / "c.fits", RA, DEC, 5.0)
    with pytest.raises(NotFoundError, match="does not cover"):
        difference(tmp_path / "a.fits", tmp_path / "b.fits", RA + 3, DEC, 5.0)
    with pytest.raises(NotFoundError, match="not there"):
        difference(tmp_path / "a.fits", tmp_path / "d.fits", RA, DEC, 5.0)


@pytest.mark.parametrize("projection", ["SIN", "COO"])
def test_the_linear_frame_of_a_cut_out_is_right_to_a_third_of_a_pixel(tmp_path: Path, projection: str) -> None:
    write(tmp_path / "a.fits", projection=projection)
    ra0, dec0 = RA - 0.03, DEC + 0.02
    found = cut_out(tmp_path / "a.fits", ra0, dec0, 8.0)
    own = WCS(found.header)
    for dx, dy in ((0, 0), (70, -70), (-70, 70), (75, 75)):
        x, y = found.header["CUTX"] + dx, found.header["CUTY"] + dy
        ra, dec = (float(one) for one in own.wcs_pix2world(x, y, 0))
        east = np.degrees(np.cos(np.radians(dec)) * np.sin(np.radians(ra - ra0)))
        north = np.degrees(
            np.sin(np.radians(dec)) * np.cos(np.radians(dec0))
            - np.cos(np.radians(dec)) * np.sin(np.radians(dec0)) * np.cos(np.radians(ra - ra0))
        )
        assert found.header["CUTX"] + east * found.header["CUTXE"] + north * found.header["CUTXN"] == pytest.approx(x, abs=0.34)
        assert found.header["CUTY"] + east * found.header["CUTYE"] + north * found.header["CUTYN"] == pytest.approx(y, abs=0.34)
