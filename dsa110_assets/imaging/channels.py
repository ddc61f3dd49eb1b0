"""Joined channels: images of parts of the band, deconvolved together.

Each channel has its own visibilities, PSF and exact residual; where and how deep to clean is decided on their weighted mean, which is the image of the whole band (the
weights are those of the whole band, so that nothing is gridded for it). A component has a flux in each channel, a polynomial in frequency fitted to the residuals (radler;
Offringa & Smirnov 2017, MNRAS 471, 301, section 2.2). Bright point sources are first taken out as in `wgridder`, and get the flux in each
channel that the data have there: a wrong spectral index would leave percents of them in the channels and nothing in the mean, where CLEAN looks.
What does not belong here: spectral indices (`spectral_index`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.clean import Cleaner
from dsa110_assets.imaging.engine import ChannelImages, EngineImages
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.noise import robust_rms
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, add_to_image, add_to_model, dirty_values, on_image, subtract_point_sources
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.restoring_beam import RestoringBeam, convolve_with_beam, fit_beam
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights
from dsa110_assets.imaging.wgridder import Gridder, without_bright_sources

if TYPE_CHECKING:
    from radler import Radler, Settings

_SPECTRUM_ROUNDS = 3
_CUT_PX = 8
"""Half-width of the cut-outs in which images are interpolated at sources."""


@dataclass(frozen=True)
class BandChannel:
    """One of the parts into which a band is cut.

    ``number``: 0 for the lowest frequency. ``members``: which channels of the data. ``start_hz``, ``end_hz``: edges. ``share``: of the weight of the whole band. ``vis``, ``weights``: the channel's own; weights
    sum to 1, and their thermal noise is that of the channel's image.
    """

    number: int
    members: slice
    start_hz: float
    end_hz: float
    share: float
    vis: Visibilities
    weights: ImagingWeights

    @property
    def frequency_hz(self) -> float:
        """Its middle, at which its fluxes are quoted: the same in every tile, whatever is flagged."""
        return 0.5 * (self.start_hz + self.end_hz)


def split_band(vis: Visibilities, weights: ImagingWeights, n_channels: int) -> tuple[BandChannel, ...]:
    """Cut the band into ``n_channels`` contiguous parts of the same number of channels (to one); those without any data are left out.

    Raises:
        ImagingError: the data have fewer channels.
    """
    if n_channels > vis.frequency_hz.size:
        raise ImagingError(
            "image channels",
            f"{n_channels} are asked for, the calibrated data have {vis.frequency_hz.size} channels",
            "set PIPELINE_IMAGE_CHANNELS lower",
        )
    parts: list[BandChannel] = []
    for number, members in enumerate(np.array_split(np.arange(vis.frequency_hz.size), n_channels)):
        part = slice(int(members[0]), int(members[-1]) + 1)
        sums = weights.time_channel[:, part]
        share = float(sums.sum())
        if share <= 0:
            continue
        frequency, width = vis.frequency_hz[part], vis.channel_width_hz[part]
        natural, weight = vis.weight[:, part], weights.weight[:, part] / np.float32(share)
        used = weight > 0
        variance = float(np.sum(np.square(weight[used], dtype=np.float64) / natural[used]))
        parts.append(
            BandChannel(
                number=number,
                members=part,
                start_hz=float(frequency[0] - width[0] / 2),
                end_hz=float(frequency[-1] + width[-1] / 2),
                share=share,
                vis=replace(vis, frequency_hz=frequency, channel_width_hz=width, vis_jy=vis.vis_jy[:, part], weight=natural),
                weights=ImagingWeights(
                    weight=weight,
                    time_channel=sums / share,
                    thermal_jy_per_beam=float(np.sqrt(variance)),
                    effective_frequency_hz=float((sums.sum(axis=0) * frequency).sum() / share),
                    beyond_cell=int(np.count_nonzero((natural > 0) & ~used)),
                ),
            )
        )
    return tuple(parts)


def run(
    vis: Visibilities,
    weights: ImagingWeights,
    parts: Sequence[BandChannel],
    grid: ImageGrid,
    options: ImagingOptions,
    mask: NDArray[np.bool_] | None,
    sky: pd.DataFrame | None = None,
    *,
    strict_mask: bool = False,
) -> EngineImages:
    """Image, clean and restore the channels and, as their weighted means, the whole band.

    Args:
        vis, weights, grid, options, mask, sky, strict_mask: as for `wgridder.run`.
        parts: the band cut by `split_band`.

    Raises:
        ImagingError: a PSF has no main lobe.
    """
    share = np.array([part.share for part in parts], dtype=np.float32)
    gridders = [Gridder(part.vis, part.weights, grid, options) for part in parts]
    psfs = np.stack([gridder.psf() for gridder in gridders])
    psf = _weighted_mean(psfs, share)
    beams = [fit_beam(one, options.cell_arcsec) for one in psfs]
    beam = fit_beam(psf, options.cell_arcsec)
    start = np.stack([gridder.dirty() for gridder in gridders])
    dirty = _weighted_mean(start, share)
    band = Gridder(vis, weights, grid, options)
    _, bright, rounds = without_bright_sources(vis, weights, grid, options, psf, beam, band, dirty, sky)
    in_channels = _expected(vis, weights, parts, grid, options, bright)
    if len(bright):
        true, more = _own_spectra(band.visibilities, parts, gridders, grid, options, bright, in_channels, start)
        bright, rounds = replace(bright, flux_jy=bright.flux_jy + share @ (true - in_channels)), rounds + more
        in_channels = true
    cleaner = JoinedCleaner(psfs, parts, beam, options, mask, strict=strict_mask)
    result = cleaner.clean(start, lambda model: np.stack([gridder.residual(one) for gridder, one in zip(gridders, model, strict=True)]))
    model, residual = _weighted_mean(result.model, share), _weighted_mean(result.residual, share)
    restored = convolve_with_beam(model, beam, options.cell_arcsec, options.n_threads)
    restored += residual
    add_to_image(restored, bright, beam, options.cell_arcsec)
    add_to_model(model, bright)
    return EngineImages(
        dirty=dirty,
        psf=psf,
        model=model,
        residual=residual,
        restored=restored,
        beam=beam,
        bright_sources=len(bright),
        major_cycles=rounds + result.major_cycles,
        minor_iterations=result.minor_iterations,
        converged=result.converged,
        channels=tuple(
            ChannelImages(part.number, result.model[k], result.residual[k], beams[k], replace(bright, flux_jy=in_channels[k]))
            for k, part in enumerate(parts)
        ),
    )


class JoinedCleaner(Cleaner):
    """Deconvolution of a stack of channels, (Nchannel, N, N), whose components have a polynomial spectrum."""

    def __init__(
        self,
        psfs: NDArray[np.float32],
        parts: Sequence[BandChannel],
        beam: RestoringBeam,
        options: ImagingOptions,
        mask: NDArray[np.bool_] | None,
        *,
        strict: bool = False,
    ) -> None:
        super().__init__(psfs, beam, options, mask, strict=strict)
        self._share = np.array([part.share for part in parts], dtype=np.float32)
        self._edges_hz = np.array([[part.start_hz, part.end_hz] for part in parts])

    def _mean(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        return _weighted_mean(image, self._share)

    def _deepen(
        self, residual: NDArray[np.float32], model: NDArray[np.float32], pixels: NDArray[np.bool_], threshold: float, gain: float
    ) -> None:
        self._minor(residual, model, pixels, threshold, gain)

    def _radler(self, settings: Settings, residual: NDArray[np.float32], model: NDArray[np.float32]) -> Radler:
        import radler

        settings.channels_out = len(self._share)
        settings.spectral_fitting.mode = radler.SpectralFittingMode.polynomial
        settings.spectral_fitting.terms = min(self._options.spectral_terms, len(self._share))
        return radler.Radler(settings, self._psf, residual, model, self._beam_rad, 0, self._edges_hz, self._share.astype(np.float64))


def _weighted_mean(images: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image of the band from those of its channels."""
    return np.tensordot(share / share.sum(), images, axes=1)


def _expected(
    vis: Visibilities,
    weights: ImagingWeights,
    parts: Sequence[BandChannel],
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
) -> NDArray[np.float64]:
    """Apparent fluxes in the channels of sources with the spectral index of the options, (Nchannel, Nsource)."""
    ra, dec = grid.sky_of(sources.y, sources.x)

    def response(some: Visibilities, its: ImagingWeights) -> NDArray[np.float64]:
        beam = effective_beam(beam_sampling(some, its), ra, dec, options.reference_frequency_hz, options.spectral_index)
        return beam * smearing_loss(some, its, ra, dec) if options.correct_smearing else beam

    return np.stack([response(part.vis, part.weights) for part in parts]) * (sources.flux_jy / response(vis, weights))


def _own_spectra(
    rest_jy: NDArray[np.complex64],
    parts: Sequence[BandChannel],
    gridders: Sequence[Gridder],
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
    expected_jy: NDArray[np.float64],
    images: NDArray[np.float32],
) -> tuple[NDArray[np.float64], int]:
    """Give sources that were taken out of the visibilities the fluxes that they have in each channel.

    Args:
        rest_jy: visibilities of the whole band without the sources.
        parts, grid, options, sources: as they were taken out.
        gridders: of the channels; they image what is left from now on.
        expected_jy: apparent fluxes that were taken out, (Nchannel, Nsource).
        images: (Nchannel, N, N), becomes the dirty images of what is left.

    Returns:
        Apparent fluxes in the data, (Nchannel, Nsource), and how often sources were subtracted again.
    """
    flux, most = expected_jy.copy(), 0
    for k, (part, gridder) in enumerate(zip(parts, gridders, strict=True)):
        rest = np.ascontiguousarray(rest_jy[:, part.members])
        gridder.replace_visibilities(rest)
        images[k] = gridder.dirty()
        for number in range(1, _SPECTRUM_ROUNDS + 1):
            left = _values(rest, part, grid, options, images[k], sources)
            wrong = np.abs(left) > np.maximum(0.01 * np.abs(flux[k]), 4 * robust_rms(images[k][::2, ::2]))
            if not wrong.any():
                break
            rest = subtract_point_sources(
                replace(part.vis, vis_jy=rest),
                part.weights,
                grid,
                options,
                PointSources(sources.y[wrong], sources.x[wrong], left[wrong]),
            )
            gridder.replace_visibilities(rest)
            images[k] = gridder.dirty()
            flux[k, wrong] += left[wrong]
            most = max(most, number)
    return flux, most


def _values(
    rest_jy: NDArray[np.complex64],
    part: BandChannel,
    grid: ImageGrid,
    options: ImagingOptions,
    image: NDArray[np.float32],
    sources: PointSources,
) -> NDArray[np.float64]:
    """Dirty image of a channel at sources' positions, also outside of the image; Jy/beam, (Nsource,)."""
    inside = on_image(sources.y, sources.x, grid.size)
    values = np.zeros(len(sources))
    values[~inside] = dirty_values(part.vis, rest_jy, part.weights, grid, options, sources.y[~inside], sources.x[~inside])
    for k in np.flatnonzero(inside):
        y, x = sources.y[k], sources.x[k]
        row, column = (int(np.clip(round(v) - _CUT_PX, 0, grid.size - 2 * _CUT_PX - 1)) for v in (y, x))
        cut = image[row : row + 2 * _CUT_PX + 1, column : column + 2 * _CUT_PX + 1]
        values[k] = ndimage.map_coordinates(cut, [[y - row], [x - column]], order=3, mode="nearest", output=np.float64)[0]
    return values
