"""The matched filter: least squares, no bias, correct errors, correct in wide fields, safe at edges."""

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.optimize import lsq_linear

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import PhotometryError
from dsa110_assets.photometry import PhotometryOptions, measure, measured_error_factor

from .fields import FWHM_TO_SIGMA, add_pixel_gaussian, add_sky_gaussian, correlated_noise, make_wcs

BEAM = RestoringBeam(24 / 3600, 18 / 3600, 30.0)


def pixel_design(shape, x, y, bmaj_px, bmin_px, pa_deg, radius_beams):
    """The beam on the pixel grid, cut off at the filter's radius; written from the definition of an ellipse."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    pa = np.radians(pa_deg)
    along = (yy - y) * np.cos(pa) - (xx - x) * np.sin(pa)
    across = (yy - y) * np.sin(pa) + (xx - x) * np.cos(pa)
    radius2 = (along / bmaj_px) ** 2 + (across / bmin_px) ** 2
    return np.where(radius2 <= radius_beams**2, np.exp(-4 * np.log(2) * radius2), 0.0)


def test_equals_a_direct_least_squares_fit_of_blended_sources_in_varying_noise():
    rng = np.random.default_rng(1)
    wcs = make_wcs(120)
    x, y = np.array([60.3, 66.1, 58.7]), np.array([59.8, 63.4, 52.2])
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    noise = (1e-3 * (1 + 0.5 * np.mgrid[:120, :120][1] / 120)).astype(np.float32)
    image = rng.normal(0, noise)
    for xs, ys, flux in zip(x, y, (0.05, 0.02, 0.03), strict=True):
        add_pixel_gaussian(image, xs, ys, flux, 8, 6, 30)
    image[64, 62] = np.nan
    image = image.astype(np.float32)
    table = measure(image, noise, wcs, BEAM, ra, dec, options=PhotometryOptions(beam_frame="image"))
    assert table["n_blend"].tolist() == [3, 3, 3]
    assert table["flags"].str.contains("blended").all()
    design = np.stack([pixel_design(image.shape, xs, ys, 8, 6, 30, 1.6) for xs, ys in zip(x, y, strict=True)], axis=-1)
    good = np.isfinite(image) & (design.sum(-1) > 0)
    fit = lsq_linear(design[good] / noise[good][:, None], image[good] / noise[good], tol=1e-14)
    np.testing.assert_allclose(table["flux_jy"], fit.x, rtol=1e-6)


def test_error_equals_the_brute_force_variance_of_the_estimator():
    """sum k rho k / (sum k^2)^2 with the full pixel covariance matrix, for two noise widths and a blend."""
    wcs = make_wcs(61)
    x, y = np.array([30.2, 35.4]), np.array([29.7, 31.9])
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    noise = np.full((61, 61), 2e-3, dtype=np.float32)
    yy, xx = np.mgrid[:61, :61]
    for width in (1.0, 1.4):
        options = PhotometryOptions(noise_correlation_beams=width, kernel_radius_beams=2.2)
        table = measure(np.zeros((61, 61), np.float32), noise, wcs, BEAM, ra, dec, options=options)
        design = np.stack([pixel_design((61, 61), xs, ys, 8, 6, 30, 2.2) for xs, ys in zip(x, y, strict=True)], axis=-1)
        used = design.sum(-1) > 0
        px, py, k = xx[used].astype(float), yy[used].astype(float), design[used]
        pa = np.radians(30)
        dx, dy = px[:, None] - px, py[:, None] - py
        along, across = dy * np.cos(pa) - dx * np.sin(pa), dy * np.sin(pa) + dx * np.cos(pa)
        rho = np.exp(-4 * np.log(2) * ((along / 8) ** 2 + (across / 6) ** 2) / width**2)
        inverse = np.linalg.inv(k.T @ k)
        expected = 2e-3 * np.sqrt(np.diag(inverse @ (k.T @ rho @ k) @ inverse))
        np.testing.assert_allclose(table["flux_err_jy"], expected, rtol=5e-3)
    alone = measure(np.zeros((61, 61), np.float32), noise, wcs, BEAM, ra[:1], dec[:1], options=PhotometryOptions(kernel_radius_beams=2.2))
    assert alone["flux_err_jy"].iloc[0] == pytest.approx(2e-3 * np.sqrt(4 / 3), rel=2e-3)
    white = measure(np.zeros((61, 61), np.float32), noise, wcs, BEAM, ra[:1], dec[:1], options=PhotometryOptions(noise_correlation_beams=0))
    k = pixel_design((61, 61), x[0], y[0], 8, 6, 30, 1.6)
    assert white["flux_err_jy"].iloc[0] == pytest.approx(2e-3 / np.sqrt(np.sum(k**2)), rel=1e-6)
    condon = measure(np.zeros((61, 61), np.float32), noise, wcs, BEAM, ra[:1], dec[:1], options=PhotometryOptions(error_model="condon1997"))
    assert condon["flux_err_jy"].iloc[0] == pytest.approx(2e-3)


@pytest.mark.parametrize("acf_beams", [1.0, 2**0.5])
def test_pulls_are_standard_normal_and_fluxes_unbiased_in_noise_correlated_over_the_beam(acf_beams):
    rng = np.random.default_rng(7)
    size, fwhm = 1600, 7.0
    wcs, beam = make_wcs(size), RestoringBeam(21 / 3600, 21 / 3600, 0.0)
    grid = np.arange(24, size - 24, 25.0)
    x, y = (c.ravel() + rng.uniform(-0.5, 0.5, c.size) for c in np.meshgrid(grid, grid))
    flux = 10 ** rng.uniform(-2, -0.3, x.size)
    rms = 1e-3
    noise = np.full((size, size), rms, np.float32)
    image = correlated_noise(rng, (size, size), rms, acf_beams * fwhm)
    for xs, ys, f in zip(x, y, flux, strict=True):
        add_pixel_gaussian(image, xs, ys, f, fwhm, fwhm, 0)
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    options = PhotometryOptions(noise_correlation_beams=acf_beams, beam_frame="image")
    table = measure(image.astype(np.float32), noise, wcs, beam, ra, dec, options=options)
    pull = (table["flux_jy"] - flux) / table["flux_err_jy"]
    assert len(pull) > 3900
    assert abs(pull.mean()) < 0.05
    assert abs(pull.std() - 1) < 0.1
    bright = flux > 0.1
    assert abs((table["flux_jy"] / flux)[bright].mean() - 1) < 5e-4
    assert abs((table["flux_jy"] / flux)[bright] - 1).max() < 0.06


def test_measured_error_factor_equals_the_effect_of_the_noise_on_the_filter():
    rng = np.random.default_rng(8)
    size = 900
    wcs, beam = make_wcs(size), RestoringBeam(21 / 3600, 21 / 3600, 0.0)
    noise = np.full((size, size), 1e-3, np.float32)
    image = correlated_noise(rng, (size, size), 1e-3, 7.0 * 2**0.5)
    for _ in range(80):
        add_pixel_gaussian(image, *rng.uniform(20, 880, 2), 10 ** rng.uniform(-2.5, 0), 7, 7, 0)
    factor = measured_error_factor(image.astype(np.float32), noise, wcs, beam)
    assert factor == pytest.approx(np.sqrt(2) / np.sqrt(4 / 3), rel=0.06)


@pytest.mark.parametrize("projection", ["SIN", "ZEA", "TAN"])
def test_position_angle_follows_local_north_across_a_wide_mosaic(projection):
    """Beams drawn on the sphere by astropy. At +65 deg, 5 deg from the center, north has turned by more than 20 deg."""
    size, pixel = 7000, 9.0
    wcs = make_wcs(size, pixel_arcsec=pixel, ra=2.0, dec=65.7, projection=projection)
    beam = RestoringBeam(110 / 3600, 40 / 3600, 25.0)
    ra, dec = np.array([2.0, 350.0, 15.5, 9.0, 357.0]), np.array([65.7, 66.0, 64.2, 61.0, 70.0])
    image = np.zeros((size, size), np.float32)
    for r, d in zip(ra, dec, strict=True):
        add_sky_gaussian(image, wcs, r, d, 1.0, beam.major_deg, beam.minor_deg, beam.pa_deg)
    noise = np.ones_like(image)
    on_sky = measure(image, noise, wcs, beam, ra, dec)
    np.testing.assert_allclose(on_sky["flux_jy"], 1.0, atol=1e-3)
    fixed = measure(image, noise, wcs, beam, ra, dec, options=PhotometryOptions(beam_frame="image"))
    assert fixed["flux_jy"].iloc[0] == pytest.approx(1.0, abs=1e-3)
    assert np.abs(fixed["flux_jy"] - 1).max() > 0.01  # the error if the rotation is ignored


def test_a_rotated_and_flipped_pixel_grid_gives_the_same_flux():
    wcs = make_wcs(200)
    turned = make_wcs(200)
    angle = np.radians(37.0)
    turned.wcs.pc = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    flipped = make_wcs(200)
    flipped.wcs.cdelt = [3 / 3600, 3 / 3600]
    ra, dec = 150.02, 54.61
    for one in (wcs, turned, flipped):
        image = np.zeros((200, 200), np.float32)
        add_sky_gaussian(image, one, ra, dec, 0.7, 30 / 3600, 15 / 3600, 60.0)
        table = measure(image, np.full_like(image, 1e-3), one, RestoringBeam(30 / 3600, 15 / 3600, 60.0), ra, dec)
        assert table["flux_jy"].iloc[0] == pytest.approx(0.7, rel=1e-3)


def test_limits_edges_gaps_and_positions_outside_are_flagged():
    rng = np.random.default_rng(3)
    wcs = make_wcs(200)
    image = rng.normal(0, 1e-5, (200, 200)).astype(np.float32)
    noise = np.full((200, 200), 1e-3, np.float32)
    add_pixel_gaussian(image, 100.4, 100.2, 0.5, 8, 6, 30)
    image[:, 160:] = np.nan
    noise[:, 160:] = np.nan
    x, y = np.array([100.4, 50.0, 0.0, 153.0, 159.0, 180.0, 500.0]), np.array([100.2, 50.0, 100.0, 60.0, 90.0, 120.0, 100.0])
    ra, dec = wcs.wcs_pix2world(x, y, 0)
    table = measure(image, noise, wcs, BEAM, ra, dec)
    assert table["flags"].tolist() == ["", "", "edge", "nan", "nan", "nan", "outside"]
    assert np.isfinite(table["flux_jy"]).tolist() == [True, True, False, True, False, False, False]
    assert table["is_limit"].tolist() == [False, True, False, True, False, False, False]
    assert table["upper_limit_jy"].iloc[1] == pytest.approx(3 * table["flux_err_jy"].iloc[1])
    assert np.isnan(table["upper_limit_jy"].iloc[0])
    with_calibration = measure(image, noise, wcs, BEAM, ra, dec, options=PhotometryOptions(calibration_error=0.05))
    expected = np.hypot(table["flux_err_jy"].iloc[0], 0.05 * table["flux_jy"].iloc[0])
    assert with_calibration["flux_err_jy"].iloc[0] == pytest.approx(expected)
    assert with_calibration["snr"].iloc[0] == pytest.approx(table["snr"].iloc[0])


def test_a_repeated_position_is_measured_once_and_its_flux_is_not_split():
    wcs = make_wcs(100)
    image = np.zeros((100, 100), np.float32)
    add_pixel_gaussian(image, 50.0, 50.0, 0.4, 8, 6, 30)
    ra, dec = wcs.wcs_pix2world([50.0, 50.05], [50.0, 50.0], 0)
    table = measure(image, np.full_like(image, 1e-3), wcs, BEAM, ra, dec)
    np.testing.assert_allclose(table["flux_jy"], 0.4, rtol=1e-3)
    assert table["flags"].tolist() == ["duplicate", "duplicate"]


def test_positions_on_the_far_side_of_the_sky_are_outside_and_no_positions_give_an_empty_table():
    wcs = make_wcs(64)
    image = np.zeros((64, 64), np.float32)
    assert measure(image, image + 1, wcs, BEAM, [330.0], [-54.6])["flags"].tolist() == ["outside"]
    empty = measure(image, image + 1, wcs, BEAM, [], [])
    assert len(empty) == 0
    assert "flux_jy" in empty.columns


def test_a_background_offset_is_measured_and_removed_on_request():
    rng = np.random.default_rng(5)
    wcs = make_wcs(200)
    image = (rng.normal(0, 1e-3, (200, 200)) + 0.01).astype(np.float32)
    add_pixel_gaussian(image, 100.0, 100.0, 0.5, 8, 6, 30)
    ra, dec = wcs.wcs_pix2world(100.0, 100.0, 0)
    options = PhotometryOptions(subtract_background=True)
    table = measure(image, np.full_like(image, 1e-3), wcs, BEAM, ra, dec, options=options)
    assert table["background_jy_per_beam"].iloc[0] == pytest.approx(0.01, abs=3e-4)
    assert table["annulus_rms_jy_per_beam"].iloc[0] == pytest.approx(1e-3, rel=0.25)
    assert table["flux_jy"].iloc[0] == pytest.approx(0.5, abs=2e-3)


def test_maps_of_different_shapes_are_refused():
    wcs = WCS(naxis=2)
    with pytest.raises(PhotometryError, match="two maps of one shape"):
        measure(np.zeros((1, 1, 9, 9), np.float32), np.zeros((9, 9), np.float32), wcs, BEAM, [0.0], [0.0])


@pytest.mark.parametrize("levels", [None, 1, 2, 5])
def test_the_annulus_median_equals_numpys_with_and_without_equal_values(levels):
    from dsa110_assets.photometry._kernels import _median

    rng = np.random.default_rng(3)
    for n in (1, 2, 3, 8, 31, 128, 300):
        values = rng.standard_normal(n) if levels is None else rng.integers(0, levels, n).astype(float)
        assert _median(values.copy(), n) == np.sort(values)[n // 2]


def test_fwhm_to_sigma_is_that_of_a_gaussian():
    assert pytest.approx(2.354820045) == 1 / FWHM_TO_SIGMA
