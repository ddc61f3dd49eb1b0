"""Joined channels: images of parts of the band, deconvolved together.

Each channel has its own visibilities, PSF and exact residual. Their weighted mean, which is the image of the whole
band, decides where and how deep to clean. The weights are those of the whole band, so this image needs no gridding. A
component has a flux in each channel: a polynomial in frequency fitted to the residuals (radler; Offringa & Smirnov
2017, MNRAS 471, 301, section 2.2). Bright point sources are first subtracted as in `wgridder`, with the flux that the
data have in each channel. A wrong spectral index would leave percents of them in the channels and nothing in the mean,
where CLEAN searches.
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
from dsa110_assets.imaging.bright_sources import subtract_bright_sources
from dsa110_assets.imaging.clean import DEEP_GAIN, Cleaner
from dsa110_assets.imaging.engine import ChannelImages, EngineImages
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.gridder import Gridder
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.point_sources import PointSources, add_to_image, add_to_model, dirty_values, subtract_point_sources
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.restoring import convolve_with_beam, fit_beam
from dsa110_assets.imaging.spectral_index import LARGEST_ERROR, fit_power_law
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

if TYPE_CHECKING:
    from radler import Radler, Settings

_SPECTRUM_ROUNDS = 3
_SINGULAR = 0.05
_PEAK_IN_CHANNEL = 2.0
"""Largest ratio of the residual peak of a channel to that of the band; it only sets the accuracy of the gridder."""


@dataclass(frozen=True)
class BandChannel:
    """One of the parts into which the band is divided.

    ``number``: 0 for the lowest frequency. ``members``: channels of the data in this part. ``start_hz``, ``end_hz``:
    edges. ``share``: fraction of the weight of the whole band. ``vis``, ``weights``: those of this part; the weights
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
        """Middle of the channel, where its fluxes are quoted; the same in every tile, whatever is flagged."""
        return 0.5 * (self.start_hz + self.end_hz)


def split_band(vis: Visibilities, weights: ImagingWeights, n_channels: int) -> tuple[BandChannel, ...]:
    """Divide the band into ``n_channels`` contiguous parts of equal size (within one channel); omit those without data.

    Raises:
        ImagingError: the data have fewer channels.
    """
    if n_channels > vis.frequency_hz.size:
        raise ImagingError(
            "image channels",
            f"{n_channels} were requested, but the calibrated data have {vis.frequency_hz.size} channels",
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
    """Image, clean and restore the channels, and the whole band as their weighted mean.

    Args:
        vis, weights, grid, options, mask, sky, strict_mask: as for `wgridder.run`.
        parts: the band divided by `split_band`.

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
    found = subtract_bright_sources(vis, weights, grid, options, gridder=band, psf=psf, beam=beam, dirty=dirty, sky=sky)
    bright, rounds = found.sources, found.rounds
    remaining_jy = [np.ascontiguousarray(band.visibilities[:, part.members]) for part in parts]
    channel_flux_jy = np.zeros((len(parts), 0))
    if len(bright):
        bright, channel_flux_jy, more = _fit_channel_fluxes(
            remaining_jy,
            parts,
            psfs=psfs,
            grid=grid,
            options=options,
            sources=bright,
            expected_jy=_expected_channel_fluxes(vis, weights, parts, grid, options, bright),
            limit_jy=options.bright_sigma * weights.thermal_jy_per_beam,
        )
        rounds += more
    for gridder, vis_jy in zip(gridders, remaining_jy, strict=True):
        gridder.replace_visibilities(vis_jy)
    peak_jy = _PEAK_IN_CHANNEL * float(np.abs(found.image).max())
    cleaner = JoinedCleaner(
        psfs, parts, beam, options, mask, strict=strict_mask, artifact_jy=0.0 if options.selfcal_rounds else found.artifact_jy
    )
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
            ChannelImages(part.number, result.model[k], result.residual[k], beams[k], replace(bright, flux_jy=channel_flux_jy[k]))
            for k, part in enumerate(parts)
        ),
        bright=bright,
        artifacts=found.artifacts,
        antennas=found.antennas,
        flux_error=found.flux_error,
    )


class JoinedCleaner(Cleaner):
    """Deconvolution of a stack of channels, (Nchannel, N, N), with components that have a polynomial spectrum."""

    def __init__(
        self,
        psfs: NDArray[np.float32],
        parts: Sequence[BandChannel],
        beam: RestoringBeam,
        options: ImagingOptions,
        mask: NDArray[np.bool_] | None,
        *,
        strict: bool = False,
        artifact_jy: float = 0.0,
    ) -> None:
        super().__init__(psfs, beam, options, mask, strict=strict, artifact_jy=artifact_jy)
        self._share = np.array([part.share for part in parts], dtype=np.float32)
        self._edges_hz = np.array([[part.start_hz, part.end_hz] for part in parts])
        self._terms = min(options.spectral_terms, len(parts))
        self._spectrum_of = _polynomial_fit(self._edges_hz.mean(axis=1), self._share.astype(np.float64), self._terms).astype(np.float32)

    def _band_mean(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
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

    def _make_radler(self, settings: Settings, residual: NDArray[np.float32], model: NDArray[np.float32]) -> Radler:
        import radler

        settings.channels_out = len(self._share)
        settings.spectral_fitting.mode = radler.SpectralFittingMode.polynomial
        settings.spectral_fitting.terms = self._terms
        return radler.Radler(settings, self._psf, residual, model, self._beam_rad, 0, self._edges_hz, self._share.astype(np.float64))


def _weighted_mean(images: NDArray[np.float32], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Image of the band from the images of its channels."""
    return np.tensordot(share / share.sum(), images, axes=1)


def _polynomial_fit(frequency_hz: NDArray[np.float64], weight: NDArray[np.float64], terms: int) -> NDArray[np.float64]:
    """Matrix of the weighted least-squares fit of a polynomial in frequency with this many terms, (Nchannel, Nchannel).

    It turns the values in the channels into the values of the polynomial there.
    """
    powers = np.vander((frequency_hz - frequency_hz.mean()) / frequency_hz.mean(), terms, increasing=True)
    root = np.sqrt(weight)[:, None]
    return powers @ np.linalg.pinv(root * powers) * root.T


def _expected_channel_fluxes(
    vis: Visibilities,
    weights: ImagingWeights,
    parts: Sequence[BandChannel],
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
) -> NDArray[np.float64]:
    """Apparent fluxes in the channels if sources have the spectral index of the options, (Nchannel, Nsource)."""
    ra, dec = grid.sky_of(sources.y, sources.x)

    def response(band_vis: Visibilities, band_weights: ImagingWeights) -> NDArray[np.float64]:
        sampling = beam_sampling(band_vis, band_weights)
        beam = effective_beam(sampling, ra, dec, options.reference_frequency_hz, options.spectral_index)
        return beam * smearing_loss(band_vis, band_weights, ra, dec) if options.correct_smearing else beam

    return np.stack([response(part.vis, part.weights) for part in parts]) * (sources.flux_jy / response(vis, weights))


def _fit_channel_fluxes(
    remaining_jy: list[NDArray[np.complex64]],
    parts: Sequence[BandChannel],
    *,
    psfs: NDArray[np.float32],
    grid: ImageGrid,
    options: ImagingOptions,
    sources: PointSources,
    expected_jy: NDArray[np.float64],
    limit_jy: float,
) -> tuple[PointSources, NDArray[np.float64], int]:
    """Fit the flux in each channel and the spectral index of sources that were subtracted from the visibilities.

    A wrong index leaves rings around a source, and their side lobes may have been taken for sources. Sources that are
    then below half of the limit for bright sources go back into the data.

    Args:
        remaining_jy: visibilities of each channel without the sources; replaced by those without the returned sources.
        parts, grid, options, sources: those of the subtraction.
        psfs: PSFs of the channels, (Nchannel, N, N).
        expected_jy: apparent fluxes that were subtracted, (Nchannel, Nsource).
        limit_jy: apparent flux of a bright source.

    Returns:
        The sources with their fluxes in the whole band, their fluxes in the channels (Nchannel, Nsource), and the
        number of further subtractions.
    """
    share, thermal = np.array([part.share for part in parts]), np.array([part.weights.thermal_jy_per_beam for part in parts])
    frequency = np.array([part.frequency_hz for part in parts])
    flux, rounds = expected_jy.copy(), 0

    def subtract() -> None:
        for channel, part in enumerate(parts):
            in_channel = replace(sources, flux_jy=flux[channel])
            remaining_jy[channel] = subtract_point_sources(part.vis, part.weights, grid, options, in_channel)

    while True:
        inverse_responses = [_inverse_response(psf, sources) for psf in psfs]
        for _ in range(_SPECTRUM_ROUNDS):
            residual = [
                dirty_values(part.vis, vis_jy, part.weights, grid, options, sources.y, sources.x)[0]
                for part, vis_jy in zip(parts, remaining_jy, strict=True)
            ]
            if np.all(np.abs(residual) < 4 * thermal[:, None]):
                break
            flux += [inverse @ values for inverse, values in zip(inverse_responses, residual, strict=True)]
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
    """Matrix that turns the dirty image at the sources into their fluxes, (Nsource, Nsource).

    It removes the side lobes of the other sources. The PSF is interpolated linearly. Small singular values, from
    sources within a beam of each other, are dropped: the caller iterates until nothing is left.
    """
    center = psf.shape[0] // 2
    offsets = np.stack([v[:, None] - v[None, :] + center for v in (sources.y, sources.x)])
    response = ndimage.map_coordinates(psf, offsets, order=1, mode="constant", output=np.float64)
    return np.linalg.pinv(response, rcond=_SINGULAR).astype(np.float64)
