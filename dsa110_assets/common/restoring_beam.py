"""The restoring beam: an elliptical Gaussian, its FITS keywords, its arithmetic, and its shape in image pixels.

The covariance matrix describes the Gaussian in (north, east); the convolution of two Gaussians adds their matrices.
Position angles run from north through east, as BPA does.

In a wide zenithal projection, the direction of celestial north and the solid angle of a pixel depend on position.
`pixel_forms` gives the shape of the beam in pixels at each position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.fits_planes import number, pixel_positions
from dsa110_assets.errors import RestoringBeamError

FWHM_PER_SIGMA = float(np.sqrt(8.0 * np.log(2.0)))
"""Full width at half maximum of a Gaussian per standard deviation."""
AREA_PER_FWHM2 = float(np.pi / (4.0 * np.log(2.0)))
"""Integral of a round Gaussian of peak 1 per square of its full width at half maximum."""
BEAM_KEYWORDS = ("BMAJ", "BMIN", "BPA")
BeamFrame = Literal["sky", "image"]
_STEP_DEG = 1.0 / 3600.0


@dataclass(frozen=True)
class RestoringBeam:
    """Elliptical Gaussian restoring beam of peak 1, in the units of the FITS keywords.

    ``major_deg``, ``minor_deg``: full widths at half maximum of the axes (BMAJ, BMIN). ``pa_deg``: position angle of
    the major axis, from celestial north through east (BPA).

    Raises:
        RestoringBeamError: the axes are not finite and positive, or the minor axis is longer than the major axis.
    """

    major_deg: float
    minor_deg: float
    pa_deg: float

    def __post_init__(self) -> None:
        if not (self.major_deg >= self.minor_deg > 0.0 and np.isfinite(self.major_deg + self.pa_deg)):
            raise RestoringBeamError(
                f"beam {self.major_deg} x {self.minor_deg} deg, {self.pa_deg} deg",
                "BMAJ >= BMIN > 0 and a finite BPA were expected",
                "check BMAJ, BMIN and BPA of the image's header",
            )

    @classmethod
    def from_arcsec(cls, major_arcsec: float, minor_arcsec: float, pa_deg: float) -> Self:
        """Make a beam from its axes (FWHM, arcsec) and position angle (degrees)."""
        return cls(major_arcsec / 3600.0, minor_arcsec / 3600.0, pa_deg)

    @classmethod
    def from_header(cls, header: fits.Header) -> Self:
        """Read a beam from BMAJ, BMIN and BPA of a FITS header.

        Raises:
            RestoringBeamError: a keyword is absent or not a number, or the beam is impossible.
        """
        return cls(*(number(header, key) for key in BEAM_KEYWORDS))

    @classmethod
    def from_covariance(cls, covariance_deg2: NDArray[np.float64]) -> Self:
        """Make a beam from its covariance matrix (see `covariance_deg2`); the position angle is in [-90, 90)."""
        values, vectors = np.linalg.eigh(covariance_deg2)
        minor, major = FWHM_PER_SIGMA * np.sqrt(values)
        north, east = vectors[:, 1]
        pa_deg = float(np.mod(np.degrees(np.arctan2(east, north)) + 90.0, 180.0) - 90.0)
        return cls(float(major), float(minor), pa_deg)

    def write_to(self, header: fits.Header) -> None:
        """Set BMAJ, BMIN and BPA of a FITS header."""
        header["BMAJ"] = (self.major_deg, "[deg] restoring beam, FWHM of the major axis")
        header["BMIN"] = (self.minor_deg, "[deg] restoring beam, FWHM of the minor axis")
        header["BPA"] = (self.pa_deg, "[deg] from north through east")

    @property
    def major_arcsec(self) -> float:
        """FWHM of the major axis."""
        return self.major_deg * 3600.0

    @property
    def minor_arcsec(self) -> float:
        """FWHM of the minor axis."""
        return self.minor_deg * 3600.0

    @property
    def area_deg2(self) -> float:
        """Solid angle, ``pi a b / (4 ln 2)``."""
        return float(np.pi * self.major_deg * self.minor_deg / (4.0 * np.log(2.0)))

    def covariance_deg2(self) -> NDArray[np.float64]:
        """Covariance matrix in (north, east), shape (2, 2), degrees squared."""
        angle = np.radians(self.pa_deg)
        axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return axes @ np.diag([self.major_deg**2, self.minor_deg**2]) @ axes.T / FWHM_PER_SIGMA**2

    def inverse_covariance_px(self, cell_arcsec: float) -> NDArray[np.float64]:
        """Inverse covariance matrix in image pixels (y, x), shape (2, 2), pixels^-2; y is north, x is west."""
        pa = np.radians(self.pa_deg)
        major, minor = (axis_arcsec / cell_arcsec / FWHM_PER_SIGMA for axis_arcsec in (self.major_arcsec, self.minor_arcsec))
        axes = np.array([[np.cos(pa), -np.sin(pa)], [np.sin(pa), np.cos(pa)]])  # rows: major, minor; columns: y, x
        return axes.T @ np.diag([major**-2, minor**-2]) @ axes

    def deconvolve(self, beam: RestoringBeam) -> NDArray[np.float64]:
        """Covariance of the Gaussian that convolves ``beam`` to this one, (north, east), shape (2, 2), degrees squared.

        Directions in which ``beam`` is wider get zero width, so the matrix is positive semi-definite.
        """
        values, vectors = np.linalg.eigh(self.covariance_deg2() - beam.covariance_deg2())
        return vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T


def quadratic_form(matrix: NDArray[np.floating], first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.floating]:
    """``d M d`` for offsets ``d = (first, second)`` that broadcast, M symmetric of shape (2, 2).

    With M from `RestoringBeam.inverse_covariance_px` and offsets (dy, dx), the beam is ``exp(-d M d / 2)``.
    """
    return matrix[0, 0] * first**2 + 2 * matrix[0, 1] * first * second + matrix[1, 1] * second**2


def largest_difference(beams: Sequence[RestoringBeam], reference: RestoringBeam) -> float:
    """Largest relative difference in width between a beam and the reference, over all directions and beams."""
    inverse = np.linalg.inv(reference.covariance_deg2())
    ratios = np.concatenate([np.linalg.eigvals(inverse @ beam.covariance_deg2()).real for beam in beams])
    return float(np.max(np.abs(np.sqrt(ratios) - 1.0)))


def mean_beam(beams: Sequence[RestoringBeam]) -> RestoringBeam:
    """Beam with the mean covariance matrix."""
    return RestoringBeam.from_covariance(np.mean([beam.covariance_deg2() for beam in beams], axis=0))


def common_beam(beams: Sequence[RestoringBeam]) -> RestoringBeam:
    """Smallest beam to which every given beam can be convolved.

    The convolution exists if the difference of the covariance matrices is positive semi-definite, that is, if the
    ellipse of the common beam contains the other ellipse. So this is the smallest centered ellipse around all of them
    (Khachiyan's algorithm on points of their rims), widened to contain them exactly.
    """
    angle = np.linspace(0.0, np.pi, 90, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)])
    points = np.concatenate([np.linalg.cholesky(beam.covariance_deg2()) @ circle for beam in beams], axis=1)
    weight = np.full(points.shape[1], 1.0 / points.shape[1])
    for _ in range(2000):
        spread = np.einsum("ik,k,jk->ij", points, weight, points)
        distance = np.einsum("ik,ij,jk->k", points, np.linalg.inv(spread), points)
        if distance.max() < 2.0 * (1.0 + 1e-4):
            break
        weight *= distance / 2.0  # the multiplicative form; it keeps the weights' sum
    covariance = 2.0 * np.einsum("ik,k,jk->ij", points, weight, points)
    inverse = np.linalg.inv(covariance)
    widen = max(float(np.linalg.eigvals(inverse @ beam.covariance_deg2()).real.max()) for beam in beams)
    return RestoringBeam.from_covariance(covariance * widen)


def pixel_matrix(wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike) -> NDArray[np.float64]:
    """Local pixel matrix at each position: ``(dx, dy) = J (east, north)``, shape (Npos, 2, 2), pixels per degree.

    ``east`` and ``north`` are offsets in the tangent plane at the position. J comes from central differences of 1
    arcsec, so it includes every projection, rotation and distortion in the WCS.
    """
    ra = np.radians(np.atleast_1d(ra_deg)).astype(np.float64)
    dec = np.radians(np.atleast_1d(dec_deg)).astype(np.float64)
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


def pixel_forms(beam: RestoringBeam, wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike, frame: BeamFrame) -> NDArray[np.float64]:
    """Coefficients (a, b, c) of the beam in pixels at each position, shape (Npos, 3).

    The beam is ``exp(-(a dx^2 + 2 b dx dy + c dy^2) / 2)``. ``frame`` is the frame in which the beam is the same
    everywhere: ``sky``, relative to celestial north (a mosaic of many phase centers), or ``image``, relative to the
    pixel grid at the reference pixel (one tile, whose restoring beam follows from the uv coverage and image plane).
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
    pixel_form = np.swapaxes(inverse, 1, 2) @ _inverse_covariance_east_north(beam) @ inverse
    form[good] = np.stack([pixel_form[:, 0, 0], pixel_form[:, 0, 1], pixel_form[:, 1, 1]], axis=1)
    return form


def _inverse_covariance_east_north(beam: RestoringBeam) -> NDArray[np.float64]:
    """Inverse covariance in (east, north), as in `pixel_matrix`, shape (2, 2), deg^-2."""
    pa = np.radians(beam.pa_deg)
    axes = np.array([[np.sin(pa), np.cos(pa)], [np.cos(pa), -np.sin(pa)]])  # rows: along the major, the minor axis
    inverse_variance = (FWHM_PER_SIGMA / np.array([beam.major_deg, beam.minor_deg])) ** 2
    return axes.T @ (inverse_variance[:, None] * axes)
