"""Imaging weights: natural weights from the noise, Briggs weights from the density of the uv plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S
from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.visibilities import Visibilities


@dataclass(frozen=True)
class ImagingWeights:
    """Weights of the visibilities in an image.

    ``weight``: (nrow, nchan) float32, normalized to sum 1. ``time_channel``: its sums by integration and channel,
    (Ntimes, nchan), for the effective primary beam. ``thermal_jy_per_beam``: noise that the weights of the visibilities
    predict for this weighting. ``effective_frequency_hz``: weighted mean frequency. ``beyond_cell``: number of
    visibilities omitted because the pixels are too coarse for their baselines.
    """

    weight: NDArray[np.float32]
    time_channel: NDArray[np.float64]
    thermal_jy_per_beam: float
    effective_frequency_hz: float
    beyond_cell: int


def imaging_weights(vis: Visibilities, options: ImagingOptions) -> ImagingWeights:
    """Compute the weights for the weighting, range of baseline lengths and taper of the options.

    Briggs (1995, PhD thesis, chapter 3) weights, in uv cells of one over the width of the image, are
    ``w_img = w / (1 + D f^2)``, where D is the weight in the visibility's cell and
    ``f^2 = (5 * 10**-robust)**2 / (sum D^2 / sum w)``. Natural weights are w, uniform weights w / D. A taper multiplies
    them by ``exp(-pi^2 theta^2 (u^2 + v^2) / (4 ln 2))``, the transform of a Gaussian of FWHM theta. The noise of the
    image is ``sqrt(sum w_img^2 sigma^2) / sum w_img`` with ``sigma^2 = 1 / w``.

    Raises:
        ImagingError: no visibility fits the pixel size and the range of baseline lengths.
    """
    from dsa110_assets.imaging import _kernels

    image_size = options.image_size
    shortest, longest = options.uv_min_lambda, options.uv_max_lambda or np.inf
    taper_rad = float(np.radians(options.taper_arcsec / 3600))
    scale = image_size * options.cell_rad
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S
    natural = vis.weight.copy()
    density = np.zeros((image_size, image_size // 2 + 1))
    beyond = _kernels.add_density(vis.uvw_m, f_over_c, natural, scale, density, shortest, longest)
    total = float(density.sum())
    if total <= 0:
        raise ImagingError(
            "imaging weights",
            "no visibility fits the pixels and the range of baseline lengths",
            "set PIPELINE_CELL_ARCSEC to a third of the beam or less, and widen the uv range",
        )
    f2 = (5.0 * 10.0**-options.briggs_robust) ** 2 / (float(np.square(density).sum()) / total)
    weight = np.empty_like(natural)
    sums = np.zeros(2)
    time_channel = np.zeros((vis.pointing.time_mjd.size, vis.frequency_hz.size))
    constant, f2 = {"briggs": (1.0, f2), "natural": (1.0, 0.0), "uniform": (0.0, 1.0)}[options.weighting]
    taper = float(np.pi**2 * taper_rad**2 / (4 * np.log(2)))
    _kernels.robust_weights(vis.uvw_m, f_over_c, natural, scale, density, constant, f2, taper, vis.time_index, weight, sums, time_channel)
    weight /= np.float32(sums[0])
    return ImagingWeights(
        weight=weight,
        time_channel=time_channel / sums[0],
        thermal_jy_per_beam=float(np.sqrt(sums[1]) / sums[0]),
        effective_frequency_hz=float((time_channel.sum(axis=0) * vis.frequency_hz).sum() / sums[0]),
        beyond_cell=int(beyond),
    )
