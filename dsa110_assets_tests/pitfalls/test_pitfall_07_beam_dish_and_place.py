"""Pitfall 7: the primary beam has the right formula and dish and is evaluated at every pixel, not just the center."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.modeling.models import AiryDisk2D
from astropy.wcs import WCS

from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.primary_beam import primary_beam_image
from dsa110_assets.imaging.visibilities import read_visibilities
from dsa110_assets.imaging.weighting import imaging_weights
from dsa110_assets_tests.imaging.synthetic_ms import write_tile


def test_pitfall_07_airy_beam_is_that_of_a_465_cm_dish():
    wavelength = SPEED_OF_LIGHT_M_PER_S / 1.4e9
    theta = np.linspace(0, 0.05, 60)
    first_null = 1.2196698912665045 * wavelength / 4.65  # of sin(theta)
    reference = AiryDisk2D(amplitude=1.0, x_0=0.0, y_0=0.0, radius=first_null)(np.sin(theta), 0.0)
    assert airy_power_beam(theta, 1.4e9) == pytest.approx(reference, abs=1e-9)
    half = np.interp(-0.5, -airy_power_beam(theta, 1.4e9), theta)
    assert np.degrees(2 * half) == pytest.approx(2.7, abs=0.05)
    assert np.all(np.diff(airy_power_beam(np.linspace(0, 0.045, 50), 1.4e9)) < 0)  # decreases outward: not inverted


def test_pitfall_07_the_beam_image_is_the_airy_beam_at_each_pixel(tmp_path):
    """For one integration and channel, the image of the beam is the Airy pattern at each pixel's true separation."""
    tile = write_tile(tmp_path / "b.ms", [], n_antenna=6, n_time=1, n_channel=1, band_hz=(1.3999e9, 1.4001e9))
    vis = read_visibilities(tile.ms)
    options = ImagingOptions(image_size=512, cell_arcsec=30.0, correct_smearing=False)
    grid = ImageGrid(512, options.cell_rad, np.radians(150.0), np.radians(54.6))
    weights = imaging_weights(vis, options)
    beam = primary_beam_image(vis, weights, grid, options)
    world = WCS(naxis=2)
    world.wcs.ctype, world.wcs.crval, world.wcs.crpix = ["RA---SIN", "DEC--SIN"], [150.0, 54.6], [257, 257]
    world.wcs.cdelt = [-30 / 3600, 30 / 3600]
    for y, x in ((256, 256), (100, 300), (480, 60), (256, 480), (10, 10)):
        separation = world.pixel_to_world(x, y).separation(world.pixel_to_world(256, 256)).rad
        assert beam[y, x] == pytest.approx(float(airy_power_beam(separation, 1.4e9)), abs=2e-4)
    assert beam[256, 256] - beam[256, 480] > 0.7
