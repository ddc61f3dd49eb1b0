"""Fluxes equal those of the ASKAP surveys' published forced photometry.

That is Kaplan's `forced_phot`, used by VAST (Pintaldi et al. 2022). Its formulas, written out here: kernel ``k`` of the
restoring beam on square stamps of 3 BMAJ, ``S = sum(d k / n^2) / sum(k^2 / n^2)``, ``sigma = sum(n k / n^2) / sum(k /
n^2)``, the noise averaged over the beam. It fits neighbors within 1.5 BMAJ together by least squares on their common
stamp and takes the noise map at the source as the error. It uses squares where we use ellipses of 1.6 FWHM. Without
noise both are exact; with noise they differ by the pixels outside our ellipse.
"""

import numpy as np
import pytest
from astropy.modeling.models import Gaussian2D
from scipy.optimize import lsq_linear

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.photometry import PhotometryOptions, measure

from .fields import FWHM_TO_SIGMA, add_pixel_gaussian, correlated_noise, make_wcs

SIZE, MAJOR_PX, MINOR_PX, PA_DEG = 420, 9.0, 7.0, 35.0
BEAM = RestoringBeam(MAJOR_PX * 3 / 3600, MINOR_PX * 3 / 3600, PA_DEG)


def stamp(x, y):
    half = 1.5 * MAJOR_PX
    x0, x1 = round(x.min() - half), round(x.max() + half) + 1
    y0, y1 = round(y.min() - half), round(y.max() + half) + 1
    return np.mgrid[y0:y1, x0:x1]


def kernel(xx, yy, x, y):
    return Gaussian2D(1.0, x, y, MAJOR_PX * FWHM_TO_SIGMA, MINOR_PX * FWHM_TO_SIGMA, theta=np.radians(90 + PA_DEG))(xx, yy)


def published(image, noise, x, y, radius_beams=np.inf):
    """Fluxes and errors of the sources of one cluster.

    Kernels end at an ellipse of ``radius_beams`` FWHM; the published ones (infinite radius) at the stamp's edge.
    """
    yy, xx = stamp(x, y) if np.isinf(radius_beams) else np.mgrid[: image.shape[0], : image.shape[1]]
    d, n = image[yy, xx], noise[yy, xx]
    shapes = [kernel(xx, yy, a, b) for a, b in zip(x, y, strict=True)]
    shapes = [np.where(k >= np.exp(-4 * np.log(2) * radius_beams**2), k, 0.0) for k in shapes]
    if len(x) == 1:
        k = shapes[0]
        bottom = np.sum(k**2 / n**2)
        return np.array([np.sum(d * k / n**2) / bottom]), np.array([np.sum(k / n) / np.sum(k / n**2)])
    fit = lsq_linear(np.stack([(k / n).ravel() for k in shapes], axis=1), (d / n).ravel(), lsq_solver="exact")
    return fit.x, noise[np.round(y).astype(int), np.round(x).astype(int)]


@pytest.fixture(scope="module")
def field():
    rng = np.random.default_rng(8)
    wcs = make_wcs(SIZE)
    noise = (1e-3 * (1 + 0.3 * np.sin(np.arange(SIZE) / 60.0))[None, :] * np.ones((SIZE, 1))).astype(np.float64)
    x = [np.array([v]) for v in rng.uniform(40, SIZE - 40, 30)]
    y = [np.array([v]) for v in np.linspace(40, 300, 30)]
    x.append(np.array([200.3, 208.9]))
    y.append(np.array([360.2, 365.7]))
    flux = [rng.uniform(0.005, 0.5, v.size) for v in x]
    image = np.zeros((SIZE, SIZE))
    keep = [i for i in range(len(x)) if all(i == j or np.hypot(x[i][0] - x[j][0], y[i][0] - y[j][0]) > 5 * MAJOR_PX for j in range(len(x)))]
    x, y, flux = ([values[i] for i in keep] for values in (x, y, flux))
    for a, b, f in zip(np.concatenate(x), np.concatenate(y), np.concatenate(flux), strict=True):
        add_pixel_gaussian(image, a, b, f, MAJOR_PX, MINOR_PX, PA_DEG)
    return wcs, image, noise, x, y, flux


def ours(wcs, image, noise, x, y, **options):
    ra, dec = wcs.wcs_pix2world(np.concatenate(x), np.concatenate(y), 0)
    chosen = PhotometryOptions(beam_frame="image", **options)
    return measure(image.astype(np.float32), noise.astype(np.float32), wcs, BEAM, ra, dec, options=chosen)


def test_without_noise_both_give_the_true_fluxes_of_single_and_blended_sources(field):
    wcs, image, noise, x, y, flux = field
    assert len(x) > 5
    assert len(x[-1]) == 2
    theirs = np.concatenate([published(image, noise, a, b)[0] for a, b in zip(x, y, strict=True)])
    np.testing.assert_allclose(theirs, np.concatenate(flux), rtol=1e-3)
    np.testing.assert_allclose(ours(wcs, image, noise, x, y)["flux_jy"], theirs, rtol=2e-3)


def test_on_the_same_pixels_the_published_formulas_give_our_fluxes_to_1e_6(field):
    """With noise, for single and blended sources: only the footprint differs."""
    wcs, image, noise, x, y, _ = field
    noisy = (image + noise / noise.mean() * correlated_noise(np.random.default_rng(10), image.shape, 1e-3, 8.0)).astype(np.float32)
    theirs = np.concatenate(
        [
            published(noisy.astype(float), noise.astype(np.float32).astype(float), a, b, radius_beams=1.6)[0]
            for a, b in zip(x, y, strict=True)
        ]
    )
    np.testing.assert_allclose(ours(wcs, noisy, noise, x, y)["flux_jy"], theirs, rtol=1e-6)


def test_with_noise_fluxes_differ_by_a_small_part_of_the_error_and_condon_errors_agree(field):
    wcs, image, noise, x, y, _ = field
    noisy = image + noise / noise.mean() * correlated_noise(np.random.default_rng(9), image.shape, 1e-3, 8.0)
    answers = [published(noisy, noise, a, b) for a, b in zip(x, y, strict=True)]
    theirs, error = (np.concatenate([one[k] for one in answers]) for k in (0, 1))
    table = ours(wcs, noisy, noise, x, y, error_model="condon1997")
    assert np.abs((table["flux_jy"] - theirs) / error).max() < 0.25
    np.testing.assert_allclose(error, table["flux_err_jy"], rtol=0.02)  # noise averaged over the beam, or at the source
