"""Arithmetic of restoring beams against astropy's convolution and against the definition of a common beam."""

import numpy as np
import pytest
from astropy.convolution import Gaussian2DKernel, convolve_fft
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.mosaicking.beams import Beam, common_beam, convolve_to_beam, largest_difference, mean_beam
from dsa110_assets_tests.mosaicking.tile_files import gaussian

beams = st.builds(
    lambda minor, ratio, pa: Beam(minor * ratio, minor, pa), st.floats(0.005, 0.02), st.floats(1.0, 1.8), st.floats(-90.0, 89.9)
)


@given(beams)
def test_a_beam_survives_its_covariance(beam):
    again = Beam.from_covariance(beam.covariance_deg2())
    assert (again.major_deg, again.minor_deg) == pytest.approx((beam.major_deg, beam.minor_deg), rel=1e-6)
    if beam.major_deg > 1.01 * beam.minor_deg:
        assert abs(np.sin(np.radians(again.pa_deg - beam.pa_deg))) < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.lists(beams, min_size=1, max_size=8))
def test_every_beam_can_be_convolved_to_the_common_one_which_is_no_larger_than_needed(many):
    common = common_beam(many)
    for beam in many:
        assert np.linalg.eigvalsh(common.covariance_deg2() - beam.covariance_deg2()).min() > -1e-9 * common.major_deg**2
    assert max(beam.area_deg2 for beam in many) <= common.area_deg2 * (1 + 1e-9)
    circle = max(beam.major_deg for beam in many)
    assert common.area_deg2 <= Beam(circle, circle, 0.0).area_deg2 * 1.001
    assert common_beam([many[0], many[0]]).area_deg2 == pytest.approx(many[0].area_deg2, rel=1e-3)


def test_convolution_makes_the_target_beam_and_keeps_the_peak_in_jy_per_beam():
    cell = 3.0 / 3600
    start, target = Beam(20.0 / 3600, 15.0 / 3600, 30.0), Beam(26.0 / 3600, 21.0 / 3600, -40.0)
    y, x = np.mgrid[:161, :161] - 80.0
    before = (2.0 * gaussian(-x, y, np.array([20.0, 15.0]) / 3.0, 30.0)).astype(np.float32)
    after, invalid = convolve_to_beam(before, cell, start, target)
    expected = 2.0 * gaussian(-x, y, np.array([26.0, 21.0]) / 3.0, -40.0)
    assert np.abs(after - expected)[~invalid].max() < 1e-3
    assert not invalid[20:140, 20:140].any()


def test_convolution_equals_astropys():
    cell = 3.0 / 3600
    start, target = Beam(20.0 / 3600, 20.0 / 3600, 0.0), Beam(30.0 / 3600, 30.0 / 3600, 0.0)
    image = np.random.default_rng(1).standard_normal((128, 160)).astype(np.float32)
    sigma_px = np.sqrt(30.0**2 - 20.0**2) / np.sqrt(8 * np.log(2)) / 3.0
    peer = (
        convolve_fft(image, Gaussian2DKernel(sigma_px, x_size=41, y_size=41), boundary="fill", normalize_kernel=True) * (30.0 / 20.0) ** 2
    )
    after, invalid = convolve_to_beam(image, cell, start, target, threads=2)
    np.testing.assert_allclose(after[~invalid], peer[~invalid], atol=2e-3)


def test_missing_pixels_spoil_only_their_surroundings():
    image = np.zeros((120, 120), np.float32)
    image[60, 60] = np.nan
    after, invalid = convolve_to_beam(image, 3.0 / 3600, Beam(20.0 / 3600, 20.0 / 3600, 0.0), Beam(22.0 / 3600, 22.0 / 3600, 0.0))
    assert np.isfinite(after).all()
    assert invalid[60, 60]
    assert not invalid[30, 30]


def test_difference_of_beams_is_that_of_their_widths():
    assert largest_difference([Beam(0.0101, 0.01, 0.0)], Beam(0.01, 0.01, 0.0)) == pytest.approx(0.01, rel=1e-6)
    assert mean_beam([Beam(0.02, 0.01, 89.0), Beam(0.02, 0.01, -89.0)]).pa_deg % 180.0 == pytest.approx(90.0, abs=0.01)
