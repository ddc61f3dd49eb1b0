"""Simulated images for the photometry tests, made with Gaussians and noise of astropy and scipy, not our beam code."""

from __future__ import annotations

import numpy as np
from astropy.coordinates import SkyCoord
from astropy.modeling.models import Gaussian2D
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

FWHM_TO_SIGMA = 1.0 / np.sqrt(8.0 * np.log(2.0))


def make_wcs(size, *, pixel_arcsec=3.0, ra=150.0, dec=54.6, projection="SIN"):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crval = [ra, dec]
    wcs.wcs.crpix = [size / 2 + 1, size / 2 + 1]
    wcs.wcs.cdelt = [-pixel_arcsec / 3600, pixel_arcsec / 3600]
    wcs.wcs.cunit = ["deg", "deg"]
    return wcs


def add_pixel_gaussian(image, x, y, flux, fwhm_major_px, fwhm_minor_px, pa_deg):
    """Add a Gaussian with its major axis at ``pa_deg`` from +y toward -x (north through east if east is left)."""
    radius = int(3 * fwhm_major_px) + 2
    y0, x0 = max(0, round(y) - radius), max(0, round(x) - radius)
    cut = image[y0 : round(y) + radius + 1, x0 : round(x) + radius + 1]
    yy, xx = np.mgrid[y0 : y0 + cut.shape[0], x0 : x0 + cut.shape[1]]
    model = Gaussian2D(flux, x, y, fwhm_major_px * FWHM_TO_SIGMA, fwhm_minor_px * FWHM_TO_SIGMA, theta=np.radians(90.0 + pa_deg))
    cut += model(xx, yy)


def add_sky_gaussian(image, wcs, ra, dec, flux, bmaj_deg, bmin_deg, bpa_deg):
    """Add a Gaussian on the sky, with each pixel's great-circle separation and position angle from astropy."""
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    scale = np.abs(wcs.wcs.cdelt[1])
    radius = int(2.5 * bmaj_deg / scale) + 2
    y0, x0 = max(0, round(float(y)) - radius), max(0, round(float(x)) - radius)
    cut = image[y0 : round(float(y)) + radius + 1, x0 : round(float(x)) + radius + 1]
    yy, xx = np.mgrid[y0 : y0 + cut.shape[0], x0 : x0 + cut.shape[1]]
    source = SkyCoord(ra, dec, unit="deg")
    pixels = SkyCoord(*wcs.wcs_pix2world(xx, yy, 0), unit="deg")
    separation, angle = source.separation(pixels).deg, source.position_angle(pixels).rad - np.radians(bpa_deg)
    along, across = separation * np.cos(angle), separation * np.sin(angle)
    cut += flux * np.exp(-4 * np.log(2) * ((along / bmaj_deg) ** 2 + (across / bmin_deg) ** 2))


def correlated_noise(rng, shape, rms, acf_fwhm_px):
    """Noise whose autocorrelation is a round Gaussian of the given FWHM: white noise smoothed with FWHM / sqrt(2)."""
    field = gaussian_filter(rng.standard_normal(shape), acf_fwhm_px / np.sqrt(2) * FWHM_TO_SIGMA, mode="wrap", truncate=6)
    return field * (rms / field.std())
