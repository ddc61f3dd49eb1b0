"""The effective primary beam of a tile image: the ratio of a point source's peak to its flux.

It is the mean, over the visibilities with their imaging weights, of everything that changes the peak in the image: the
Airy power beam at each integration's meridian point and each channel (pitfall 37), the spectrum of the source relative
to the frequency at which fluxes are quoted, and the smearing by averaging in time and frequency. A single beam at one
frequency at the tile's center is wrong by up to 20 % (drift) and by percents far from the center (band).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline

from dsa110_assets.common.instrument import drift_averaged_power_beam
from dsa110_assets.common.interferometry import direction_cosines
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_KNOT_SPACING_RAD = np.radians(0.08)
_FREQUENCY_GROUPS = 16
_SMEARING_ROWS = 20_000
_SMEARING_KNOTS = 13


@dataclass(frozen=True)
class BeamSampling:
    """Inputs of the effective beam besides the direction.

    ``frequency_hz``, ``frequency_weight``: frequencies and fractions of the weight, (Ngroup,). ``time_weight``:
    (Ntimes, Ngroup). ``pointing_ra_rad``, ``pointing_dec_rad``: ICRS meridian points, (Ntimes,).
    ``dish_diameter_m``: as in `TilePointing`.
    """

    frequency_hz: NDArray[np.float64]
    frequency_weight: NDArray[np.float64]
    time_weight: NDArray[np.float64]
    pointing_ra_rad: NDArray[np.float64]
    pointing_dec_rad: NDArray[np.float64]
    dish_diameter_m: float | None = None


def beam_sampling(vis: Visibilities, weights: ImagingWeights) -> BeamSampling:
    """Group the channels. Within a sixteenth of the band, the beam is linear in frequency to 1e-5."""
    frequencies, shares, times = [], [], []
    for channels in np.array_split(np.arange(vis.frequency_hz.size), min(_FREQUENCY_GROUPS, vis.frequency_hz.size)):
        weight = weights.time_channel[:, channels]
        if weight.sum() > 0:
            frequencies.append(float((weight.sum(axis=0) * vis.frequency_hz[channels]).sum() / weight.sum()))
            shares.append(float(weight.sum()))
            times.append(weight.sum(axis=1))
    share = np.array(shares)
    return BeamSampling(
        frequency_hz=np.array(frequencies),
        frequency_weight=share / share.sum(),
        time_weight=np.stack(times, axis=1),
        pointing_ra_rad=np.radians(vis.pointing.ra_deg),
        pointing_dec_rad=np.radians(vis.pointing.dec_deg),
        dish_diameter_m=vis.pointing.dish_diameter_m,
    )


def effective_beam(
    sampling: BeamSampling,
    ra_rad: NDArray[np.float64],
    dec_rad: NDArray[np.float64],
    reference_frequency_hz: float,
    spectral_index: float | NDArray[np.float64],
) -> NDArray[np.float64]:
    """Response to sources relative to their flux at the reference frequency, without smearing; shape of ``ra_rad``.

    ``spectral_index``: one for all sources, or one for each.
    """
    total = np.zeros(np.shape(ra_rad))
    for group, (frequency, share) in enumerate(zip(sampling.frequency_hz, sampling.frequency_weight, strict=True)):
        beam = drift_averaged_power_beam(
            ra_rad,
            dec_rad,
            sampling.pointing_ra_rad,
            sampling.pointing_dec_rad,
            frequency,
            sampling.time_weight[:, group],
            sampling.dish_diameter_m,
        )
        total += share * (frequency / reference_frequency_hz) ** spectral_index * beam
    return total


def smearing_loss(
    vis: Visibilities, weights: ImagingWeights, ra_rad: NDArray[np.float64], dec_rad: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Peak of a point source relative to one without averaging in time and frequency, from a sample of visibilities.

    See `common.smearing.Averaging`.

    Args:
        vis, weights: the visibilities and their imaging weights.
        ra_rad, dec_rad: ICRS directions, shape (Npos,).

    Returns:
        Relative peak, shape (Npos,); 1 if nothing is lost.
    """
    cumulative = np.cumsum(weights.weight.sum(axis=1, dtype=np.float64))
    n_sample = min(_SMEARING_ROWS, cumulative.size)  # systematic sampling: rows in proportion to their weight
    rows = np.searchsorted(cumulative, (np.arange(n_sample) + 0.5) / n_sample * cumulative[-1])
    ra0, dec0 = np.radians(vis.pointing.phase_ra_deg), np.radians(vis.pointing.phase_dec_deg)
    pointing_lmn = direction_cosines(np.radians(vis.pointing.ra_deg), np.radians(vis.pointing.dec_deg), ra0, dec0, by_products=True)
    return vis.averaging.mean_response(
        vis.uvw_m[rows],
        direction_cosines(ra_rad, dec_rad, ra0, dec0, by_products=True),
        pointing_lmn[:, vis.time_index[rows]],
        dec0,
        float(weights.effective_frequency_hz),
    )


def primary_beam_image(vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions) -> NDArray[np.float32]:
    """Effective primary beam on the pixels of the image, shape (N, N), by a bicubic spline on a coarse grid."""
    n_knots = max(9, int(np.ceil(grid.size * grid.cell_rad / _KNOT_SPACING_RAD)) + 1)
    knots = np.linspace(0.0, grid.size - 1.0, n_knots)
    rows, columns = np.meshgrid(knots, knots, indexing="ij")
    ra, dec = grid.sky_of(rows, columns)
    coarse = effective_beam(beam_sampling(vis, weights), ra, dec, options.reference_frequency_hz, options.spectral_index)
    if options.correct_smearing:
        loss_knots = np.linspace(0.0, grid.size - 1.0, _SMEARING_KNOTS)
        loss_rows, loss_columns = np.meshgrid(loss_knots, loss_knots, indexing="ij")
        loss_ra, loss_dec = grid.sky_of(loss_rows.ravel(), loss_columns.ravel())
        loss = smearing_loss(vis, weights, loss_ra, loss_dec).reshape(loss_rows.shape)
        coarse *= RectBivariateSpline(loss_knots, loss_knots, loss)(knots, knots)
    pixels = np.arange(grid.size, dtype=np.float64)
    return RectBivariateSpline(knots, knots, coarse)(pixels, pixels).astype(np.float32)
