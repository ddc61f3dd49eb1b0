"""Restoring: fit a Gaussian beam to the main lobe of the PSF, and convolve a model with it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, optimize

from dsa110_assets.common.restoring_beam import FWHM_PER_SIGMA, RestoringBeam
from dsa110_assets.errors import ImagingError

_FIT_LEVEL = 0.35
_SAMPLES_PER_FWHM = 8.0


def fit_beam(psf: NDArray[np.float32], cell_arcsec: float) -> RestoringBeam:
    """Fit an elliptical Gaussian of peak 1 to the main lobe of a PSF, down to 35 % of its peak (CASA's level).

    A lobe of few pixels is interpolated until its FWHM has 8 samples (quintic spline; the PSF is band-limited).

    Args:
        psf: (N, N), y north, x west, peak 1 at [N/2, N/2].
        cell_arcsec: pixel size.

    Raises:
        ImagingError: the PSF has no main lobe that a Gaussian fits.
    """
    center = psf.shape[0] // 2
    if not np.isfinite(psf[center, center]) or psf[center, center] <= 0:
        raise ImagingError("PSF", "no positive peak at the center", "look at the weights of the visibilities")
    # the equivalent width of the lobe sets the cutout and the oversampling
    lobe = _connected(psf > 0.5 * psf[center, center])
    area = float((lobe == lobe[center, center]).sum())
    fwhm_px = max(2 * np.sqrt(area / np.pi), 1.0)
    oversampling = max(1, int(np.ceil(_SAMPLES_PER_FWHM / fwhm_px)))
    half = int(min(center - 1, max(8, np.ceil(6 * fwhm_px))))
    cut = psf[center - half : center + half + 1, center - half : center + half + 1].astype(np.float64) / float(psf[center, center])
    axis = np.arange(-half * oversampling, half * oversampling + 1) / oversampling
    if oversampling > 1:
        rows, columns = np.meshgrid(axis + half, axis + half, indexing="ij")
        cut = ndimage.map_coordinates(cut, [rows, columns], order=5, mode="nearest")
    labels = _connected(cut > _FIT_LEVEL)
    inside = labels == labels[half * oversampling, half * oversampling]
    y, x = np.meshgrid(axis, axis, indexing="ij")
    y, east, values = y[inside], -x[inside], cut[inside]
    if values.size < 6:
        raise ImagingError("PSF", f"its main lobe covers {values.size} samples", "use smaller pixels (PIPELINE_CELL_ARCSEC)")

    def residuals(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-(p[0] * y * y + p[1] * y * east + p[2] * east * east)) - values

    start = 4 * np.log(2) / fwhm_px**2
    result = optimize.least_squares(residuals, np.array([start, 0.0, start]), method="lm")
    a, b, c = result.x
    eigenvalues, vectors = np.linalg.eigh(np.array([[a, b / 2], [b / 2, c]]))
    if not result.success or eigenvalues[0] <= 0:
        raise ImagingError("PSF", "its main lobe is not a Gaussian", "look at the PSF image and the uv coverage")
    fwhm = 2 * np.sqrt(np.log(2) / eigenvalues) * cell_arcsec  # ascending eigenvalues: the first is the major axis
    north, east_part = vectors[:, 0]
    return RestoringBeam.from_arcsec(float(fwhm[0]), float(fwhm[1]), float(np.degrees(np.arctan2(east_part, north)) % 180.0))


def convolve_with_beam(model: NDArray[np.float32], beam: RestoringBeam, cell_arcsec: float, n_threads: int) -> NDArray[np.float32]:
    """Convolve a model (Jy/pixel, shape (N, N)) with the restoring beam of peak 1; Jy/beam.

    The multiplication is in the Fourier plane, where the Gaussian is known exactly. Zero padding prevents wrap-around.
    """
    size = model.shape[0]
    if not model.any():
        return np.zeros_like(model)
    padded = fft.next_fast_len(size + int(np.ceil(3 * beam.major_arcsec / cell_arcsec)), real=True)
    transform = fft.rfft2(model, s=(padded, padded), workers=n_threads)
    v = fft.fftfreq(padded)[:, None].astype(np.float32)
    u = fft.rfftfreq(padded)[None, :].astype(np.float32)
    pa = np.radians(beam.pa_deg)
    # the axes of the array are y (north) and x (west), so east is -x
    along = v * np.cos(pa) - u * np.sin(pa)
    across = v * np.sin(pa) + u * np.cos(pa)
    sigma_major = beam.major_arcsec / cell_arcsec / FWHM_PER_SIGMA
    sigma_minor = beam.minor_arcsec / cell_arcsec / FWHM_PER_SIGMA
    exponent = np.float32(-2 * np.pi**2) * (np.float32(sigma_major**2) * along**2 + np.float32(sigma_minor**2) * across**2)
    transform *= np.float32(2 * np.pi * sigma_major * sigma_minor) * np.exp(exponent)
    restored = np.asarray(fft.irfft2(transform, s=(padded, padded), workers=n_threads), dtype=np.float32)
    return restored[:size, :size]


def _connected(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number of the connected region of each pixel; 0 outside all regions."""
    labels = np.empty(mask.shape, dtype=np.int32)
    ndimage.label(mask, output=labels)
    return labels
