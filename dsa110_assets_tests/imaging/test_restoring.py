"""Fits of the restoring beam, and convolution with it."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.convolution import Gaussian2DKernel

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.restoring import convolve_with_beam, fit_beam


def gaussian(beam: RestoringBeam, cell: float, size: int = 257) -> np.ndarray:
    """Make astropy's elliptical Gaussian of peak 1.

    Its theta is counterclockwise from +x; our position angle is from north (+y) to east (-x).
    """
    fwhm = np.sqrt(8 * np.log(2))
    theta = np.radians(beam.pa_deg) + np.pi / 2
    kernel = Gaussian2DKernel(beam.major_arcsec / cell / fwhm, beam.minor_arcsec / cell / fwhm, theta, x_size=size, y_size=size)
    return np.asarray(kernel.array / kernel.array.max(), dtype=np.float32)


@pytest.mark.parametrize(("major", "minor", "pa"), [(40.0, 20.0, 30.0), (25.0, 15.0, 120.0), (18.0, 14.0, 0.0), (60.0, 58.0, 75.0)])
@pytest.mark.parametrize("cell", [3.0, 6.0])
def test_a_gaussian_psf_is_fitted_exactly(major: float, minor: float, pa: float, cell: float):
    psf = np.zeros((256, 256), dtype=np.float32)
    psf[:] = gaussian(RestoringBeam.from_arcsec(major, minor, pa), cell)[:256, :256]
    beam = fit_beam(psf, cell)
    assert beam.major_arcsec == pytest.approx(major, rel=0.01)
    assert beam.minor_arcsec == pytest.approx(minor, rel=0.01)
    assert abs((beam.pa_deg - pa + 90) % 180 - 90) < 1.0


def test_a_psf_without_a_peak_raises_an_error():
    with pytest.raises(ImagingError, match="PSF"):
        fit_beam(np.zeros((64, 64), dtype=np.float32), 3.0)


def test_convolution_equals_adding_gaussians():
    beam = RestoringBeam.from_arcsec(40.0, 22.0, 25.0)
    model = np.zeros((256, 256), dtype=np.float32)
    model[100, 90], model[170, 200] = 2.0, -0.5
    expected = np.zeros((512, 512))
    for y, x, flux in ((100, 90, 2.0), (170, 200, -0.5)):
        expected[y + 128 - 128 : y + 128 + 129, x + 128 - 128 : x + 128 + 129] += flux * gaussian(beam, 5.0)
    got = convolve_with_beam(model, beam, 5.0, 2)
    np.testing.assert_allclose(got, expected[128:384, 128:384], atol=2e-5)


def test_nothing_wraps_around_the_edge():
    model = np.zeros((256, 256), dtype=np.float32)
    model[0, 255] = 1.0
    got = convolve_with_beam(model, RestoringBeam.from_arcsec(40.0, 30.0, 0.0), 5.0, 1)
    assert got[0, 255] == pytest.approx(1.0, abs=1e-5)
    assert np.abs(got[200:]).max() < 1e-6
    assert np.abs(got[:, :50]).max() < 1e-6
