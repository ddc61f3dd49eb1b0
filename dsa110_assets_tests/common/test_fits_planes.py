"""Celestial planes: we and astropy read what was written, cutouts are pixels of the image, other files raise errors."""

from __future__ import annotations

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets.common import fits_planes
from dsa110_assets.errors import ProductVerificationError

CELL_DEG = 6 / 3600


def header_of(ny: int, nx: int) -> fits.Header:
    header = fits.Header()
    for key, value in {"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": nx, "NAXIS2": ny}.items():
        header[key] = value
    for axis, (kind, value, step, pixel) in enumerate(
        (("RA---SIN", 150.0, -CELL_DEG, nx / 2), ("DEC--SIN", 55.0, CELL_DEG, ny / 2)), start=1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"], header[f"CDELT{axis}"], header[f"CRPIX{axis}"] = kind, value, step, pixel
        header[f"CUNIT{axis}"] = "deg"
    return header


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(5).standard_normal((40, 60)).astype(np.float32)


@pytest.fixture
def image(tmp_path, pixels):
    path = tmp_path / "image.fits"
    fits_planes.write_plane(path, pixels, header_of(40, 60))
    return path


@pytest.mark.parametrize("memmap", [False, True])
def test_a_plane_is_written_with_four_axes_and_read_back_as_two_native_axes(image, pixels, memmap):
    assert fits.getdata(image).shape == (1, 1, 40, 60)
    plane, header = fits_planes.read_plane(image, memmap=memmap)
    np.testing.assert_array_equal(plane, pixels)
    assert plane.dtype == np.float32
    assert plane.dtype.isnative
    assert plane.flags.writeable
    assert header["NAXIS"] == 4
    with fits_planes.mapped_plane(image) as (mapped, _):
        np.testing.assert_array_equal(mapped[7:9], pixels[7:9])


def test_an_image_written_in_blocks_of_rows_is_what_astropy_writes(tmp_path, pixels):
    header = header_of(40, 60)
    with fits_planes.RowWriter(tmp_path / "rows.fits", header, fits_planes.JY_PER_BEAM) as file:
        file.write(pixels[:15])
        file.write(pixels[15:])
    fits_planes.verify_planes([tmp_path / "rows.fits"], (40, 60))
    fits.writeto(tmp_path / "whole.fits", pixels, fits.Header([*header.cards, ("BUNIT", "Jy/beam")]))
    difference = fits.FITSDiff(tmp_path / "rows.fits", tmp_path / "whole.fits", ignore_comments=["*"])
    assert difference.identical, difference.report()
    assert (tmp_path / "rows.fits").stat().st_size == (tmp_path / "whole.fits").stat().st_size


def test_an_image_with_missing_rows_or_another_shape_raises_an_error(tmp_path, pixels):
    def write_too_few_rows() -> None:
        with fits_planes.RowWriter(tmp_path / "rows.fits", header_of(40, 60), "") as file:
            file.write(pixels[:15])

    with pytest.raises(ProductVerificationError, match="15 rows written of 40"):
        write_too_few_rows()
    fits_planes.write_plane(tmp_path / "other.fits", pixels[:20])
    with pytest.raises(ProductVerificationError, match="expected"):
        fits_planes.verify_planes([tmp_path / "other.fits"], (40, 60))


@pytest.mark.parametrize("read", [fits_planes.read_plane, fits_planes.read_header])
def test_a_file_that_is_not_fits_raises_an_error(tmp_path, read):
    (tmp_path / "text.fits").write_text("no image")
    for name, why in (("text.fits", "cannot be read"), ("absent.fits", "does not exist")):
        with pytest.raises(ProductVerificationError, match=f"{name}.*{why}"):
            read(tmp_path / name)


def test_a_truncated_file_and_a_cube_raise_an_error(tmp_path, image):
    image.write_bytes(image.read_bytes()[: 2880 + 500])
    with pytest.warns(Warning, match="truncated"), pytest.raises(ProductVerificationError, match="cannot be read"):
        fits_planes.read_plane(image)
    fits.writeto(tmp_path / "cube.fits", np.zeros((3, 16, 16), np.float32))
    with pytest.raises(ProductVerificationError, match="not one image plane"):
        fits_planes.read_plane(tmp_path / "cube.fits")


@pytest.mark.parametrize(("x", "y"), [(30, 20), (2, 1), (59, 39)])
def test_a_cutout_is_centered_on_its_position_and_blank_beyond_the_edge(image, pixels, x, y):
    ra, dec = WCS(header_of(40, 60)).wcs_pix2world(x, y, 0)
    part = fits_planes.cutout(image, float(ra), float(dec), 60.0)
    assert part is not None
    assert part.shape == (11, 11)
    assert part.dtype.isnative
    around = np.full((60, 80), np.nan, np.float32)
    around[10:50, 10:70] = pixels
    np.testing.assert_array_equal(part, around[y + 5 : y + 16, x + 5 : x + 16])


def test_a_position_off_the_image_has_no_cutout(image):
    assert fits_planes.cutout(image, 150.0, 56.0, 60.0) is None


def test_pixel_positions_are_those_of_astropy_and_nan_behind_the_sky(image):
    header = fits_planes.read_header(image)
    wcs = fits_planes.celestial_wcs(header)
    x, y = fits_planes.pixel_positions(wcs, [150.01, 330.0], [55.01, -55.0])
    expected = WCS(header_of(40, 60)).world_to_pixel(SkyCoord(150.01 * u.deg, 55.01 * u.deg))
    assert (x[0], y[0]) == pytest.approx((float(expected[0]), float(expected[1])), abs=1e-9)
    assert np.isnan([x[1], y[1]]).all()


def test_units_follow_the_fits_standard():
    assert u.Unit(fits_planes.JY_PER_BEAM, format="fits") == u.Jy / u.beam
    assert u.Unit(fits_planes.JY_PER_PIXEL, format="fits") == u.Jy / u.pixel
    assert u.Unit(fits_planes.BEAM2_PER_JY2, format="fits") == u.beam**2 / u.Jy**2


@pytest.mark.parametrize(
    ("unit", "accepted"), [("Jy/beam", True), ("JY/BEAM", True), ("Jy / beam", True), ("mJy/beam", False), ("", False)]
)
def test_older_spellings_of_jy_per_beam_are_accepted(unit, accepted):
    assert fits_planes.is_jy_per_beam(fits.Header([("BUNIT", unit)])) is accepted


def test_the_frequency_comes_from_the_axis_or_else_from_the_rest_frequency():
    header = fits.Header([("NAXIS", 4), ("CTYPE3", "FREQ"), ("CRVAL3", 1.4e9), ("RESTFRQ", 1.3e9)])
    assert fits_planes.frequency_hz(header) == 1.4e9
    del header["CTYPE3"]
    assert fits_planes.frequency_hz(header) == 1.3e9
    assert np.isnan(fits_planes.frequency_hz(fits.Header([("NAXIS", 2), ("RESTFRQ", "none")])))
