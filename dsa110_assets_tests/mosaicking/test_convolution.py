"""Convolution to a wider beam, compared with astropy's."""

import numpy as np
from astropy.convolution import Gaussian2DKernel, convolve_fft

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.mosaicking.convolution import convolve_to_beam
from dsa110_assets_tests.mosaicking.tile_files import gaussian


def test_convolution_makes_the_target_beam_and_keeps_the_peak_in_jy_per_beam():
    cell = 3.0 / 3600
    start, target = RestoringBeam(20.0 / 3600, 15.0 / 3600, 30.0), RestoringBeam(26.0 / 3600, 21.0 / 3600, -40.0)
    y, x = np.mgrid[:161, :161] - 80.0
    before = (2.0 * gaussian(-x, y, np.array([20.0, 15.0]) / 3.0, 30.0)).astype(np.float32)
    after, invalid = convolve_to_beam(before, cell, start, target)
    expected = 2.0 * gaussian(-x, y, np.array([26.0, 21.0]) / 3.0, -40.0)
    assert np.abs(after - expected)[~invalid].max() < 1e-3
    assert not invalid[20:140, 20:140].any()


def test_convolution_equals_astropys():
    cell = 3.0 / 3600
    start, target = RestoringBeam(20.0 / 3600, 20.0 / 3600, 0.0), RestoringBeam(30.0 / 3600, 30.0 / 3600, 0.0)
    image = np.random.default_rng(1).standard_normal((128, 160)).astype(np.float32)
    sigma_px = np.sqrt(30.0**2 - 20.0**2) / np.sqrt(8 * np.log(2)) / 3.0
    peer = (
        convolve_fft(image, Gaussian2DKernel(sigma_px, x_size=41, y_size=41), boundary="fill", normalize_kernel=True) * (30.0 / 20.0) ** 2
    )
    after, invalid = convolve_to_beam(image, cell, start, target, threads=2)
    np.testing.assert_allclose(after[~invalid], peer[~invalid], atol=2e-3)


def test_missing_pixels_invalidate_only_their_surroundings():
    image = np.zeros((120, 120), np.float32)
    image[60, 60] = np.nan
    after, invalid = convolve_to_beam(
        image, 3.0 / 3600, RestoringBeam(20.0 / 3600, 20.0 / 3600, 0.0), RestoringBeam(22.0 / 3600, 22.0 / 3600, 0.0)
    )
    assert np.isfinite(after).all()
    assert invalid[60, 60]
    assert not invalid[30, 30]
