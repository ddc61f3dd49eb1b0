"""Convolution of an image to a wider restoring beam."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from dsa110_assets.common.restoring_beam import RestoringBeam


def convolve_to_beam(
    image: NDArray[np.float32], cell_deg: float, beam: RestoringBeam, target: RestoringBeam, *, threads: int = 1
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Convolve an image in Jy per ``beam`` to Jy per ``target``.

    Point sources keep their peaks, extended ones their flux. The Gaussian is applied as its exact transform, so it may
    be much narrower than a pixel. North is up (+y), east left (-x).

    Args:
        image: shape (Ny, Nx), Jy/beam. Pixels that are not finite make their surroundings invalid.
        cell_deg: pixel size.
        beam, target: beams before and after. ``target`` must contain ``beam``.
        threads: threads of the Fourier transforms.

    Returns:
        The image in Jy per ``target``, and a mask that is True where it is not valid (near missing pixels and the
        edge).
    """
    kernel_deg2 = target.deconvolve(beam)
    kernel = kernel_deg2 / cell_deg**2  # pixels squared, (north, east)
    reach = int(np.ceil(4.0 * np.sqrt(max(np.linalg.eigvalsh(kernel_deg2).max(), 0.0)) / cell_deg))
    finite = np.isfinite(image)
    shape = tuple(fft.next_fast_len(n + reach, real=True) for n in image.shape)
    spectrum = fft.rfft2(np.where(finite, image, np.float32(0.0)), s=shape, workers=threads)
    v = fft.fftfreq(shape[0])[:, None]
    u = -fft.rfftfreq(shape[1])[None, :]  # east is -x
    phase = kernel[0, 0] * v**2 + 2.0 * kernel[0, 1] * v * u + kernel[1, 1] * u**2
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
