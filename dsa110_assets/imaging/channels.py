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

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.clean import DEEP_GAIN, Cleaner
from dsa110_assets.imaging.engine import ChannelImages, EngineImages
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, add_to_image, add_to_model, dirty_values, subtract_point_sources
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.restoring import convolve_with_beam, fit_beam
from dsa110_assets.imaging.spectral_index import LARGEST_ERROR, fit_power_law
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights
from dsa110_assets.imaging.wgridder import Gridder, without_bright_sources

if TYPE_CHECKING:
    from radler import Radler, Settings

_SPECTRUM_ROUNDS = 3
_SINGULAR = 0.05
_PEAK_IN_CHANNEL = 2.0
"""What is left in a channel is at most about so much brighter than in the whole band; it only decides how finely is gridded."""


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
    band = Gridder(vis, weights, grid, options)
    dirty = band.dirty()
    left, bright, rounds = without_bright_sources(vis, weights, grid, options, psf, beam, band, dirty, sky)
    rests = [np.ascontiguousarray(band.visibilities[:, part.members]) for part in parts]
    in_channels = np.zeros((len(parts), 0))
    if len(bright):
        expected = _expected(vis, weights, parts, grid, options, bright)
        bright, in_channels, more = _own_spectra(
            rests, parts, psfs, grid, options, bright, expected, options.bright_sigma * weights.thermal_jy_per_beam
        )
        rounds += more
    for gridder, rest in zip(gridders, rests, strict=True):
        gridder.replace_visibilities(rest)
    peak_jy = _PEAK_IN_CHANNEL * float(np.abs(left).max())
    cleaner = JoinedCleaner(psfs, parts, beam, options, mask, strict=strict_mask)
    result = cleaner.clean(
        np.stack([gridder.dirty(peak_jy) for gridder in gridders]),
        lambda model: np.stack([gridder.residual(one) for gridder, one in zip(gridders, model, strict=True)]),
    )
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
        bright=bright,
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
        self._terms = min(options.spectral_terms, len(parts))
        self._spectrum_of = _polynomial_fit(self._edges_hz.mean(axis=1), self._share.astype(np.float64), self._terms).astype(np.float32)

    def _mean(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        return _weighted_mean(image, self._share)

    def _clean_pixels(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float32],
        threshold: np.float32,
        components: NDArray[np.float32],
    ) -> int:
        from dsa110_assets.imaging import _kernels

        return int(
            _kernels.clean_pixels_jointly(
                rows,
                columns,
                values,
                self._psf,
                self._share / self._share.sum(),
                self._spectrum_of,
                threshold,
                np.float32(DEEP_GAIN),
                self._iterations_left,
                components,
            )
        )

    def _radler(self, settings: Settings, residual: NDArray[np.float32], model: NDArray[np.float32]) -> Radler:
        import radler

        settings.channels_out = len(self._share)
        settings.spectral_fitting.mode = radler.SpectralFittingMode.polynomial
        settings.spectral_fitting.terms = self._terms
        return radler.Radler(settings, self._psf, residual, model, self._beam_rad, 0, self._edges_hz, self._share.astype(np.float64))


def _weighted_mean(images: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image of the band from those of its channels."""
    return np.tensordot(share / share.sum(), images, axes=1)


def _polynomial_fit(frequency_hz: NDArray[np.float64], weight: NDArray[np.float64], terms: int) -> NDArray[np.float64]:
    """Matrix that makes a polynomial of so many terms in frequency from values, by weighted least squares; (Nchannel, Nchannel)."""
    powers = np.vander((frequency_hz - frequency_hz.mean()) / frequency_hz.mean(), terms, increasing=True)
    root = np.sqrt(weight)[:, None]
    return powers @ np.linalg.pinv(root * powers) * root.T


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
    rests_jy: list[NDArray[np.complex64]],
    parts: Sequence[BandChannel],
    psfs: NDArray[np.float32],
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
    expected_jy: NDArray[np.float64],
    limit_jy: float,
) -> tuple[PointSources, NDArray[np.float64], int]:
    """Give sources that were taken out of the visibilities the fluxes that they have in each channel, and their spectral indices.

    A wrong index leaves rings around a source, and side lobes in them were taken for sources: what is then below half of the limit for bright
    ones goes back into the data.

    Args:
        rests_jy: visibilities of each channel without the sources; replaced by those without the sources that are returned.
        parts, grid, options, sources: as they were taken out.
        psfs: of the channels, (Nchannel, N, N).
        expected_jy: apparent fluxes that were taken out, (Nchannel, Nsource).
        limit_jy: apparent flux of a bright source.

    Returns:
        The sources with their fluxes in the whole band, those in the channels, (Nchannel, Nsource), and how often sources were subtracted again.
    """
    share, thermal = np.array([part.share for part in parts]), np.array([part.weights.thermal_jy_per_beam for part in parts])
    frequency = np.array([part.frequency_hz for part in parts])
    flux, rounds = expected_jy.copy(), 0

    def subtract() -> None:
        for channel, part in enumerate(parts):
            its = replace(sources, flux_jy=flux[channel])
            rests_jy[channel] = subtract_point_sources(part.vis, part.weights, grid, options, its)

    while True:
        into_fluxes = [_inverse_response(psf, sources) for psf in psfs]
        for _ in range(_SPECTRUM_ROUNDS):
            left = [
                dirty_values(part.vis, rest, part.weights, grid, options, sources.y, sources.x)
                for part, rest in zip(parts, rests_jy, strict=True)
            ]
            if np.all(np.abs(left) < 4 * thermal[:, None]):
                break
            flux += [inverse @ values for inverse, values in zip(into_fluxes, left, strict=True)]
            law = fit_power_law(flux / expected_jy, thermal[:, None] / expected_jy, frequency, options.reference_frequency_hz)
            known = law.alpha_error < LARGEST_ERROR
            sources = replace(sources, spectral_index=options.spectral_index + np.where(known, law.alpha, 0.0))
            subtract()
            rounds += 1
        band_jy = share @ flux / share.sum()
        real = band_jy > 0.5 * limit_jy
        if real.all():
            return replace(sources, flux_jy=band_jy), flux, rounds
        sources = PointSources(sources.y[real], sources.x[real], band_jy[real])
        flux, expected_jy = flux[:, real], expected_jy[:, real]
        subtract()
        rounds += 1


def _inverse_response(psf: NDArray[np.float32], sources: PointSources) -> NDArray[np.float64]:
    """Matrix that makes fluxes of sources from the dirty image at their places: side lobes reach from one to the other; (Nsource, Nsource).

    The PSF is interpolated linearly and its inverse tamed, for sources within a beam of each other: the caller repeats until nothing is left.
    """
    centre = psf.shape[0] // 2
    offsets = np.stack([v[:, None] - v[None, :] + centre for v in (sources.y, sources.x)])
    response = ndimage.map_coordinates(psf, offsets, order=1, mode="constant", output=np.float64)
    return np.linalg.pinv(response, rcond=_SINGULAR).astype(np.float64)
