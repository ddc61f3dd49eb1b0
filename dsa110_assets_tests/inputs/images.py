"""A small image of five point sources, written in the ways in which other programs write images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS

N, CELL_ARCSEC = 120, 7.0
SOURCES = ((0, 0, 1.0), (30, 22, 0.5), (-35, 15, 0.8), (22, -40, 0.3), (-40, -35, 2.0))
"""Offsets from the middle in pixels, Jy."""
BEAM_ARCSEC = (40.0, 30.0, 30.0)
NOISE_JY = 0.001


def header() -> fits.Header:
    h = fits.Header()
    h["CTYPE1"], h["CTYPE2"], h["CUNIT1"], h["CUNIT2"] = "RA---SIN", "DEC--SIN", "deg", "deg"
    h["CRVAL1"], h["CRVAL2"], h["CRPIX1"], h["CRPIX2"] = 137.0, 54.0, N / 2 + 1, N / 2 + 1
    h["CDELT1"], h["CDELT2"] = -CELL_ARCSEC / 3600, CELL_ARCSEC / 3600
    h["RADESYS"] = "ICRS"
    h["BUNIT"], h["BMAJ"], h["BMIN"], h["BPA"] = "Jy/beam", BEAM_ARCSEC[0] / 3600, BEAM_ARCSEC[1] / 3600, BEAM_ARCSEC[2]
    h["MJD-BEG"], h["MJD-END"], h["RESTFRQ"] = 61111.2, 61111.24, 1.4e9
    return h


def pixels() -> np.ndarray:
    y, x = np.mgrid[:N, :N].astype(float)
    data = np.random.default_rng(1).normal(0, NOISE_JY, (N, N))
    angle = np.radians(BEAM_ARCSEC[2])
    for dx, dy, flux in SOURCES:
        west, north = x - N // 2 - dx, y - N // 2 - dy
        major, minor = north * np.cos(angle) - west * np.sin(angle), north * np.sin(angle) + west * np.cos(angle)
        data += flux * np.exp(-4 * np.log(2) * CELL_ARCSEC**2 * ((major / BEAM_ARCSEC[0]) ** 2 + (minor / BEAM_ARCSEC[1]) ** 2))
    return data.astype(np.float32)


def positions() -> pd.DataFrame:
    x, y, flux = np.array(SOURCES).T
    ra, dec = WCS(header(), fix=False).wcs_pix2world(x + N // 2, y + N // 2, 0)
    return pd.DataFrame({"name": [f"S{n}" for n in range(len(SOURCES))], "ra_deg": ra, "dec_deg": dec, "true_jy": flux})


def write(
    directory: Path, name: str, *, image: fits.Header | None = None, data: np.ndarray | None = None, noise: fits.Header | None = None
) -> Path:
    """Write ``name-image.fits`` and ``name-noise.fits``; return the image."""
    path = directory / f"{name}-image.fits"
    fits.writeto(path, pixels() if data is None else data, image or header(), overwrite=True)
    fits.writeto(directory / f"{name}-noise.fits", np.full((N, N), NOISE_JY, np.float32), noise or header(), overwrite=True)
    return path
