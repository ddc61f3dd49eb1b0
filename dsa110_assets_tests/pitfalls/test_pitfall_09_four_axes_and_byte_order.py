"""Pitfall 9: images have four axes and big-endian pixels; readers get native 2-D arrays and a header, or an error."""

from __future__ import annotations

import numba
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from dsa110_assets import products
from dsa110_assets.common.fits_planes import read_plane
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.quality.image import read_tile
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile


@numba.njit
def total(values):
    result = 0.0
    for value in values.ravel():
        result += value
    return result


def test_pitfall_09_images_are_read_as_native_planes(tmp_path):
    position = offset_position(150.0, 54.6, 0.1, -0.05)
    tile = write_tile(tmp_path / "t.ms", [(*position, 2.0, -0.7)], n_antenna=10, n_time=2, n_channel=4)
    report = image_tile(tile.ms, tmp_path, "t", ImagingOptions(image_size=128, cell_arcsec=10.0), mask_sky=None, provenance={})
    pixels, header = read_plane(report.images["image"])
    assert header["NAXIS"] == 4
    assert pixels.shape == (128, 128)
    assert pixels.dtype.isnative
    assert total(pixels) == pytest.approx(float(fits.getdata(report.images["image"]).astype(float).sum()), rel=1e-3)
    x, y = WCS(header).celestial.world_to_pixel_values(*position)
    peak_y, peak_x = np.unravel_index(pixels.argmax(), pixels.shape)
    assert abs(peak_x - x) < 1
    assert abs(peak_y - y) < 1
    assert read_tile(tmp_path, "t").image.dtype.isnative


def test_pitfall_09_a_cube_is_not_taken_for_a_plane(tmp_path):
    path = products.image_path(tmp_path, "t", "image")
    fits.PrimaryHDU(np.zeros((1, 3, 16, 16), dtype=np.float32)).writeto(path)
    with pytest.raises(ProductVerificationError, match="not one image plane"):
        read_plane(path)
