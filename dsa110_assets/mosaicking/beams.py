"""Gaussian restoring beams: the smallest common one, and bringing an image to it.

A beam is handled as its covariance matrix in (north, east) degrees squared; the convolution of two Gaussians adds their
matrices. Angles run from north through east. What does not belong here: fitting a beam to a PSF (`imaging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

FWHM_PER_SIGMA = float(np.sqrt(8.0 * np.log(2.0)))


@dataclass(frozen=True)
class Beam:
    """Elliptical Gaussian. ``major_deg``, ``minor_deg``: FWHM. ``pa_deg``: position angle of the major axis, north through east."""

    major_deg: float
    minor_deg: float
    pa_deg: float

    @property
    def area_deg2(self) -> float:
        """Solid angle, ``pi a b / (4 ln 2)``."""
        return float(np.pi * self.major_deg * self.minor_deg / (4.0 * np.log(2.0)))

    def covariance_deg2(self) -> NDArray[np.float64]:
        """Covariance matrix in (north, east), shape (2, 2), degrees squared."""
        angle = np.radians(self.pa_deg)
        axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        return axes @ np.diag([self.major_deg**2, self.minor_deg**2]) @ axes.T / FWHM_PER_SIGMA**2

    @classmethod
    def from_covariance(cls, covariance_deg2: NDArray[np.float64]) -> Beam:
        """The inverse of `covariance_deg2`; the position angle is in [-90, 90)."""
        values, vectors = np.linalg.eigh(covariance_deg2)
        minor, major = FWHM_PER_SIGMA * np.sqrt(values)
        north, east = vectors[:, 1]
        return cls(float(major), float(minor), float(np.mod(np.degrees(np.arctan2(east, north)) + 90.0, 180.0) - 90.0))


def largest_difference(beams: Sequence[Beam], reference: Beam) -> float:
    """Largest relative difference of width between a beam and the reference, over all directions and beams."""
    inverse = np.linalg.inv(reference.covariance_deg2())
    ratios = np.concatenate([np.linalg.eigvals(inverse @ beam.covariance_deg2()).real for beam in beams])
    return float(np.max(np.abs(np.sqrt(ratios) - 1.0)))


def mean_beam(beams: Sequence[Beam]) -> Beam:
    """Beam of the mean covariance matrix."""
    return Beam.from_covariance(np.mean([beam.covariance_deg2() for beam in beams], axis=0))


def common_beam(beams: Sequence[Beam]) -> Beam:
    """Smallest beam to which every given beam can be convolved.

    The convolution exists when the difference of the covariance matrices is positive semi-definite, which is when the
    ellipse of the common beam contains the other's; so this is the smallest ellipse around all of them (Khachiyan's
    algorithm on points of their rims, centred), widened to contain them exactly.
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
    return Beam.from_covariance(covariance * widen)


def convolve_to_beam(
    image: NDArray[np.float32], cell_deg: float, beam: Beam, target: Beam, *, threads: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bring an image in Jy per ``beam`` to Jy per ``target``: point sources keep their peaks, extended ones their flux.

    The Gaussian is applied as its exact transform, so it may be much narrower than a pixel. North is up (+y), east left (-x).

    Args:
        image: shape (Ny, Nx), Jy/beam; pixels that are not finite spoil their surroundings.
        cell_deg: pixel size.
        beam, target: beams before and after; ``target`` must contain ``beam``.
        threads: of the Fourier transforms.

    Returns:
        The image in Jy per ``target``, and where it is not valid (beside missing pixels and the image's edge).
    """
    difference = target.covariance_deg2() - beam.covariance_deg2()
    values, vectors = np.linalg.eigh(difference)
    difference = vectors @ np.diag(np.maximum(values, 0.0)) @ vectors.T / cell_deg**2  # pixels squared, (north, east)
    reach = int(np.ceil(4.0 * np.sqrt(max(values.max(), 0.0)) / cell_deg))
    finite = np.isfinite(image)
    shape = tuple(fft.next_fast_len(n + reach, real=True) for n in image.shape)
    spectrum = fft.rfft2(np.where(finite, image, np.float32(0.0)), s=shape, workers=threads)
    v = fft.fftfreq(shape[0])[:, None]
    u = -fft.rfftfreq(shape[1])[None, :]  # east is -x
    phase = difference[0, 0] * v**2 + 2.0 * difference[0, 1] * v * u + difference[1, 1] * u**2
    spectrum *= (target.area_deg2 / beam.area_deg2 * np.exp(-2.0 * np.pi**2 * phase)).astype(np.float32)
    smooth = np.asarray(fft.irfft2(spectrum, s=shape, workers=threads), dtype=np.float32)[: image.shape[0], : image.shape[1]]
    invalid: NDArray[np.bool_] = np.zeros(image.shape, dtype=np.bool_)
    if not finite.all():
        from scipy.ndimage import minimum_filter

        invalid[minimum_filter(finite, size=2 * reach + 1) == 0] = True
    if reach:
        invalid[:reach] = invalid[-reach:] = True
        invalid[:, :reach] = invalid[:, -reach:] = True
    return smooth, invalid
