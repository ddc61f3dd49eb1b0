"""Celestial planes of FITS images: headers and coordinates."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray


def number(header: fits.Header, key: str, default: float = np.nan) -> float:
    """Numerical value of a header's keyword; ``default`` when it is absent or not a number."""
    value = header.get(key)
    return float(value) if isinstance(value, int | float) else default


def celestial_wcs(header: fits.Header) -> WCS:
    """Two-dimensional celestial coordinates of a header of any number of axes (pitfall 9)."""
    return WCS(header, naxis=2, fix=False)  # times in the header are read by us, not guessed


def pixel_positions(wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zero-based pixel coordinates (x, y) of ICRS positions; NaN where the projection does not reach."""
    ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        x, y = wcs.celestial.wcs_world2pix(ra, dec, 0)
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
