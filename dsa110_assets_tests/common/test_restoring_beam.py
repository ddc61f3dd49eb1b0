"""The restoring beam agrees with the package radio-beam and with the definition of a common beam."""

import astropy.units as u
import numpy as np
import pytest
import radio_beam
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from dsa110_assets.common.restoring_beam import (
    AREA_PER_FWHM2,
    FWHM_PER_SIGMA,
    RestoringBeam,
    common_beam,
    largest_difference,
    mean_beam,
    pixel_forms,
    quadratic_form,
)
from dsa110_assets.errors import RestoringBeamError

beams = st.builds(
    lambda minor, ratio, pa: RestoringBeam(minor * ratio, minor, pa), st.floats(0.005, 0.02), st.floats(1.0, 1.8), st.floats(-90.0, 89.9)
)


@given(beams)
def test_a_beam_can_be_recovered_from_its_covariance(beam):
    recovered = RestoringBeam.from_covariance(beam.covariance_deg2())
    assert (recovered.major_deg, recovered.minor_deg) == pytest.approx((beam.major_deg, beam.minor_deg), rel=1e-6)
    if beam.major_deg > 1.01 * beam.minor_deg:
        assert abs(np.sin(np.radians(recovered.pa_deg - beam.pa_deg))) < 1e-4


@settings(max_examples=40, deadline=None)
@given(st.lists(beams, min_size=1, max_size=8))
def test_every_beam_can_be_convolved_to_the_common_beam_which_is_no_larger_than_needed(many):
    common = common_beam(many)
    for beam in many:
        assert np.linalg.eigvalsh(common.covariance_deg2() - beam.covariance_deg2()).min() > -1e-9 * common.major_deg**2
    assert max(beam.area_deg2 for beam in many) <= common.area_deg2 * (1 + 1e-9)
    circle = max(beam.major_deg for beam in many)
    assert common.area_deg2 <= RestoringBeam(circle, circle, 0.0).area_deg2 * 1.001
    assert common_beam([many[0], many[0]]).area_deg2 == pytest.approx(many[0].area_deg2, rel=1e-3)


def test_the_difference_of_beams_is_that_of_their_widths():
    assert largest_difference([RestoringBeam(0.0101, 0.01, 0.0)], RestoringBeam(0.01, 0.01, 0.0)) == pytest.approx(0.01, rel=1e-6)
    assert mean_beam([RestoringBeam(0.02, 0.01, 89.0), RestoringBeam(0.02, 0.01, -89.0)]).pa_deg % 180.0 == pytest.approx(90.0, abs=0.01)


def in_radio_beam(beam: RestoringBeam) -> radio_beam.Beam:
    """Return the same beam as an object of radio-beam."""
    return radio_beam.Beam(beam.major_deg * u.deg, beam.minor_deg * u.deg, beam.pa_deg * u.deg)


def assert_same(ours: RestoringBeam, theirs: radio_beam.Beam, rel: float = 1e-6) -> None:
    """Assert equal axes, and equal position angles if the axes differ enough to define one."""
    assert ours.major_deg == pytest.approx(theirs.major.to_value(u.deg), rel=rel)
    assert ours.minor_deg == pytest.approx(theirs.minor.to_value(u.deg), rel=rel)
    if ours.major_deg > 1.01 * ours.minor_deg:
        assert abs(np.sin(np.radians(ours.pa_deg) - theirs.pa.to_value(u.rad))) < 100 * rel


@given(beams)
def test_radio_beam_and_we_read_back_the_header_that_we_write(beam):
    header = fits.Header()
    beam.write_to(header)
    assert RestoringBeam.from_header(header) == beam
    assert_same(beam, radio_beam.Beam.from_fits_header(header))


@given(beams)
def test_the_solid_angle_is_that_of_radio_beam(beam):
    assert beam.area_deg2 == pytest.approx(in_radio_beam(beam).sr.to_value(u.deg**2), rel=1e-9)
    assert AREA_PER_FWHM2 * beam.major_deg * beam.minor_deg == pytest.approx(beam.area_deg2, rel=1e-12)


@given(beams, beams)
def test_adding_covariances_equals_the_convolution_by_radio_beam(one, other):
    both = RestoringBeam.from_covariance(one.covariance_deg2() + other.covariance_deg2())
    assert_same(both, in_radio_beam(one).convolve(in_radio_beam(other)))


@given(beams, beams)
def test_deconvolution_agrees_with_radio_beam_and_inverts_the_convolution(beam, kernel):
    wider = RestoringBeam.from_covariance(beam.covariance_deg2() + kernel.covariance_deg2())
    found = RestoringBeam.from_covariance(wider.deconvolve(beam))
    assert_same(found, in_radio_beam(kernel), rel=1e-5)
    assert_same(found, in_radio_beam(wider).deconvolve(in_radio_beam(beam)), rel=1e-5)


def test_deconvolving_a_wider_beam_gives_no_negative_width():
    kernel = RestoringBeam(0.02, 0.01, 20.0).deconvolve(RestoringBeam(0.02, 0.015, 20.0))
    assert np.linalg.eigvalsh(kernel).min() >= -1e-18


@settings(max_examples=25, deadline=None)
@given(st.lists(beams, min_size=2, max_size=5))
def test_the_common_beam_contains_all_beams_and_is_no_larger_than_that_of_radio_beam(many):
    ours = common_beam(many)
    theirs = radio_beam.Beams(beams=[in_radio_beam(beam) for beam in many]).common_beam(method="pts", tolerance=1e-5)
    assert ours.area_deg2 <= theirs.sr.to_value(u.deg**2) * 1.005
    for beam in many:
        assert np.linalg.eigvalsh(ours.covariance_deg2() - beam.covariance_deg2()).min() > -1e-9 * ours.major_deg**2


@given(beams)
def test_the_kernel_in_pixels_is_that_of_radio_beam(beam):
    cell_arcsec = 6.0
    kernel = np.asarray(in_radio_beam(beam).as_kernel(cell_arcsec * u.arcsec, x_size=41, y_size=41).array)
    offsets = np.arange(41) - 20.0
    # radio-beam's kernel rotates from +y toward -x, like position angles in an image with east on the left
    ours = np.exp(-0.5 * quadratic_form(beam.inverse_covariance_px(cell_arcsec), offsets[:, None], offsets[None, :]))
    np.testing.assert_allclose(ours, kernel / kernel.max(), atol=1e-9)


def test_the_shape_in_pixels_fits_the_image_at_its_reference_and_rotates_with_north_elsewhere():
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---SIN", "DEC--SIN"]
    wcs.wcs.crval, wcs.wcs.crpix, wcs.wcs.cdelt = [150.0, 55.0], [101.0, 101.0], [-6 / 3600, 6 / 3600]
    beam = RestoringBeam(40 / 3600, 20 / 3600, 30.0)
    inverse = beam.inverse_covariance_px(6.0)
    at_reference = pixel_forms(beam, wcs, 150.0, 55.0, "sky")[0]
    assert at_reference == pytest.approx([inverse[1, 1], inverse[0, 1], inverse[0, 0]], rel=1e-6)
    away = pixel_forms(beam, wcs, [150.0, 153.0], [55.0, 55.0], "image")
    assert away[0] == pytest.approx(away[1], rel=1e-12)
    turned = pixel_forms(beam, wcs, 153.0, 55.0, "sky")[0]
    major = np.linalg.eigh([[turned[0], turned[1]], [turned[1], turned[2]]])[1][:, 0]
    angle = np.degrees(np.arctan2(-major[0], major[1])) % 180.0
    # east of the reference, north is tilted toward the west of the image by d(RA) sin(dec)
    assert angle - 30.0 == pytest.approx(-3.0 * np.sin(np.radians(55.0)), abs=0.1)


@pytest.mark.parametrize("axes", [(10.0, 20.0), (0.0, 0.0), (np.nan, 5.0), (np.inf, 5.0)])
def test_an_impossible_beam_raises_an_error(axes):
    with pytest.raises(RestoringBeamError, match="BMAJ >= BMIN > 0"):
        RestoringBeam.from_arcsec(*axes, 0.0)


def test_a_header_without_a_beam_raises_an_error():
    with pytest.raises(RestoringBeamError, match="check BMAJ"):
        RestoringBeam.from_header(fits.Header({"BMAJ": 0.01, "BMIN": 0.01}))


def test_the_fwhm_is_that_of_a_gaussian():
    assert np.exp(-0.5 * (FWHM_PER_SIGMA / 2) ** 2) == pytest.approx(0.5)
