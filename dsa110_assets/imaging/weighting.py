"""Imaging weights: natural weights from the noise, Briggs weights from the density of the uv plane.

What does not belong here: gridding, and noise measured in images (`noise`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.instrument import SPEED_OF_LIGHT_M_PER_S


@dataclass(frozen=True)
class ImagingWeights:
    """Weights of the visibilities in an image.

    ``weight``: (nrow, nchan) float32, normalised to sum 1. ``time_channel``: (Ntimes, nchan) sums of it, for the effective
    primary beam. ``thermal_jy_per_beam``: noise that the weights of the visibilities predict for this weighting. ``effective_frequency_hz``: weighted mean
    frequency. ``beyond_cell``: visibilities left out because the pixels are too coarse for their baselines.
    """

    weight: NDArray[np.float32]
    time_channel: NDArray[np.float64]
    thermal_jy_per_beam: float
    effective_frequency_hz: float
    beyond_cell: int


def briggs_weights(vis: Visibilities, image_size: int, cell_rad: float, robust: float) -> ImagingWeights:
    """Briggs (1995, PhD thesis, chapter 3) robust weights in uv cells of one over the image's width.

    ``w_img = w / (1 + D f^2)`` with D the weight in the visibility's cell and ``f^2 = (5 * 10**-robust)**2 / (sum D^2 / sum w)``.
    The noise of the image is ``sqrt(sum w_img^2 sigma^2) / sum w_img`` with ``sigma^2 = 1 / w``.

    Raises:
        ImagingError: no visibility fits the pixel size.
    """
    from dsa110_assets.imaging import _kernels

    scale = image_size * cell_rad
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S
    natural = vis.weight.copy()
    density = np.zeros((image_size, image_size // 2 + 1))
    beyond = _kernels.add_density(vis.uvw_m, f_over_c, natural, scale, density)
    total = float(density.sum())
    if total <= 0:
        raise ImagingError("imaging weights", "no visibility fits the pixels", "set PIPELINE_CELL_ARCSEC to a third of the beam or less")
    f2 = (5.0 * 10.0**-robust) ** 2 / (float(np.square(density).sum()) / total)
    weight = np.empty_like(natural)
    sums = np.zeros(2)
    time_channel = np.zeros((vis.pointing.time_mjd.size, vis.frequency_hz.size))
    _kernels.robust_weights(vis.uvw_m, f_over_c, natural, scale, density, f2, vis.time_index, weight, sums, time_channel)
    weight /= np.float32(sums[0])
    return ImagingWeights(
        weight=weight,
        time_channel=time_channel / sums[0],
        thermal_jy_per_beam=float(np.sqrt(sums[1]) / sums[0]),
        effective_frequency_hz=float((time_channel.sum(axis=0) * vis.frequency_hz).sum() / sums[0]),
        beyond_cell=int(beyond),
    )
