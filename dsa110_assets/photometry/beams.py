"""The restoring beam as seen in an image's pixels at each position.

In a wide zenithal projection celestial north turns with position, and a pixel's solid angle changes. The beam's position
angle counts from celestial north through east, so its shape in pixels is worked out anew at each position. What does not
belong here: the primary beam (`instrument`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.errors import PhotometryError

FWHM_PER_SIGMA = float(np.sqrt(8.0 * np.log(2.0)))
BeamFrame = Literal["sky", "image"]
_STEP_DEG = 1.0 / 3600.0


@dataclass(frozen=True)
class Beam:
    """Elliptical Gaussian restoring beam, peak 1.

    ``bmaj_deg``, ``bmin_deg``: full widths at half maximum of the axes. ``bpa_deg``: position angle of the major axis,
    from celestial north through east (FITS BPA).
    """

    bmaj_deg: float
    bmin_deg: float
    bpa_deg: float

    def __post_init__(self) -> None:
        if not (self.bmaj_deg >= self.bmin_deg > 0.0 and np.isfinite(self.bmaj_deg + self.bpa_deg)):
            raise PhotometryError(
                f"beam {self.bmaj_deg} x {self.bmin_deg} deg, {self.bpa_deg} deg",
                "BMAJ >= BMIN > 0 and a finite BPA were expected",
                "check BMAJ, BMIN and BPA of the image's header",
            )

    def sky_form(self) -> NDArray[np.float64]:
        """Matrix M, shape (2, 2), deg^-2: the beam is ``exp(-d M d / 2)`` for an offset ``d = (east, north)`` in deg."""
        pa = np.radians(self.bpa_deg)
        axes = np.array([[np.sin(pa), np.cos(pa)], [np.cos(pa), -np.sin(pa)]])  # rows: along the major, the minor axis
        inverse_variance = (FWHM_PER_SIGMA / np.array([self.bmaj_deg, self.bmin_deg])) ** 2
        return axes.T @ (inverse_variance[:, None] * axes)


def pixel_positions(wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zero-based pixel coordinates (x, y) of ICRS positions; NaN where the projection does not reach."""
    ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        x, y = wcs.celestial.wcs_world2pix(ra, dec, 0)
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


def pixel_matrix(wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.float64]:
    """Local pixel matrix at each position: ``(dx, dy) = J (east, north)``, shape (Npos, 2, 2), pixels per degree.

    ``east`` and ``north`` are offsets along great circles in the tangent plane of the position itself. J comes from
    central differences of 1 arcsec, so any projection, rotation and distortion that the WCS knows is in it.
    """
    ra, dec = np.radians(np.atleast_1d(ra_deg)).astype(np.float64), np.radians(np.atleast_1d(dec_deg)).astype(np.float64)
    point = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros_like(ra)])
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)])
    step = np.radians(_STEP_DEG)
    matrix = np.empty((ra.size, 2, 2))
    for column, direction in enumerate((east, north)):
        ahead, behind = (_pixels_of_vectors(wcs, point + sign * step * direction) for sign in (1.0, -1.0))
        matrix[:, :, column] = ((ahead - behind) / (2.0 * _STEP_DEG)).T
    return matrix


def _pixels_of_vectors(wcs: WCS, vector: NDArray[np.float64]) -> NDArray[np.float64]:
    ra = np.degrees(np.arctan2(vector[1], vector[0]))
    dec = np.degrees(np.arctan2(vector[2], np.hypot(vector[0], vector[1])))
    return np.stack(pixel_positions(wcs, ra, dec))


def pixel_forms(beam: Beam, wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike, frame: BeamFrame) -> NDArray[np.float64]:
    """Coefficients (a, b, c) of the beam in pixels at each position, shape (Npos, 3).

    The beam is ``exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2)``. ``frame`` says in which frame the beam is the same everywhere:
    ``sky``, relative to celestial north (a mosaic of many phase centres), or ``image``, relative to the pixel grid at the
    reference pixel (one tile, where the restoring beam is a property of the uv coverage and of the image plane).
    """
    ra, dec = np.atleast_1d(np.asarray(ra_deg, dtype=np.float64)), np.atleast_1d(np.asarray(dec_deg, dtype=np.float64))
    if frame == "image":
        reference = wcs.celestial.wcs.crval
        matrix = np.broadcast_to(pixel_matrix(wcs, reference[0], reference[1]), (ra.size, 2, 2))
    else:
        matrix = pixel_matrix(wcs, ra, dec)
    form = np.full((ra.size, 3), np.nan)
    good = np.isfinite(matrix).all(axis=(1, 2))
    inverse = np.linalg.inv(matrix[good])
    pixel_form = np.swapaxes(inverse, 1, 2) @ beam.sky_form() @ inverse
    form[good] = np.stack([pixel_form[:, 0, 0], pixel_form[:, 0, 1], pixel_form[:, 1, 1]], axis=1)
    return form
