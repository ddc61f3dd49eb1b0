"""FITS files of the channels of a tile, and its map of spectral indices.

Each channel has files ``<name>-chNN-<suffix>.fits`` with `products.CHANNEL_SUFFIXES`, like those of the whole band,
with its own restoring beam, drift-averaged primary beam and noise. Its fluxes are quoted at the middle of the channel.
The tile has files with `products.SPECTRAL_SUFFIXES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsa110_assets import products
from dsa110_assets.common.figures import Row
from dsa110_assets.common.instrument import BEAM_CUTOFF
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging.channels import BandChannel
from dsa110_assets.imaging.engine import EngineImages
from dsa110_assets.imaging.fits_images import ImageMetadata, write_image
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.noise import local_rms_map
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.primary_beam import primary_beam_image
from dsa110_assets.imaging.spectral_index import LARGEST_ERROR, LEAST_SNR, PowerLaw, fit_power_law

_MOST_SPECTRA = 12


@dataclass(frozen=True)
class ChannelReport:
    """Measurements of one channel.

    ``number``: 0 for the lowest frequency. ``frequency_hz``: where its fluxes are quoted. ``noise_jy_per_beam``:
    measured inside the primary beam. ``thermal_jy_per_beam``: predicted noise. ``beam``: restoring beam.
    """

    number: int
    frequency_hz: float
    noise_jy_per_beam: float
    thermal_jy_per_beam: float
    beam: RestoringBeam

    def row(self) -> Row:
        """The channel as a row of a table."""
        return {
            "channel": self.number,
            "frequency_mhz": self.frequency_hz / 1e6,
            "noise_mjy_per_beam": self.noise_jy_per_beam * 1e3,
            "thermal_mjy_per_beam": self.thermal_jy_per_beam * 1e3,
            "beam_major_arcsec": self.beam.major_arcsec,
            "beam_minor_arcsec": self.beam.minor_arcsec,
        }


@dataclass(frozen=True)
class SourceSpectrum:
    """Spectrum of a bright source at its brightest pixel.

    ``ra_deg``, ``dec_deg``: ICRS. ``peak_jy_per_beam``: at the reference frequency. ``alpha``, ``alpha_error``:
    spectral index and its statistical error.
    """

    ra_deg: float
    dec_deg: float
    peak_jy_per_beam: float
    alpha: float
    alpha_error: float

    def row(self) -> Row:
        """The spectrum as a row of a table."""
        return {
            "ra_deg": self.ra_deg,
            "dec_deg": self.dec_deg,
            "peak_jy_per_beam": self.peak_jy_per_beam,
            "alpha": self.alpha,
            "error": self.alpha_error,
        }


def write_channels(
    out_dir: Path,
    name: str,
    *,
    parts: Sequence[BandChannel],
    images: EngineImages,
    grid: ImageGrid,
    options: ImagingOptions,
    meta: ImageMetadata,
    pb: NDArray[np.float32],
    rms: NDArray[np.float32],
) -> tuple[dict[str, Path], tuple[ChannelReport, ...], tuple[SourceSpectrum, ...]]:
    """Write the images of the channels, then the maps of spectral index and its error.

    A pixel has an index if the image of the whole band has at least `LEAST_SNR` there and the error of the fit is at
    most `LARGEST_ERROR`; elsewhere the maps are NaN. The fit uses the channels' models restored with the beam of the
    whole band, plus their residuals, all corrected for their primary beams.

    Args:
        out_dir, name: as for `image_tile`.
        parts: the channels that were imaged.
        images: the result; its ``channels`` belong to some or all of the parts.
        grid, options: grid and options of the image.
        meta: metadata of the tile.
        pb, rms: (N, N) primary beam and local noise (Jy/beam) of the whole band.

    Returns:
        Files by suffix (``ch00-image`` and so on), measurements of the channels, and spectra of the brightest sources.

    Raises:
        ImagingError: a channel has neither signal nor noise.
    """
    files: dict[str, Path] = {}
    reports: list[ChannelReport] = []
    bright = (pb >= BEAM_CUTOFF) & (rms > 0) & (images.restored > np.float32(LEAST_SNR) * rms)
    fluxes, errors = [], []
    part_of = {part.number: part for part in parts}
    for channel in images.channels:
        part = part_of[channel.number]
        channel_options = replace(options, reference_frequency_hz=part.frequency_hz)
        channel_pb = primary_beam_image(part.vis, part.weights, grid, channel_options)
        inside = channel_pb >= BEAM_CUTOFF
        noise = robust_sigma(channel.residual[inside])
        if not np.isfinite(noise) or noise <= 0:
            raise ImagingError(
                name, f"the noise of channel {channel.number} is {noise}", "look at the calibrated visibilities of that part of the band"
            )
        channel_rms = local_rms_map(channel.residual, channel.beam.major_arcsec / options.cell_arcsec)
        safe = np.where(inside, channel_pb, np.float32(1))
        restored = channel.restored(channel.beam, options)
        planes = {
            "image": restored,
            "image-pb": np.where(inside, restored / safe, np.float32(np.nan)),
            "pb": channel_pb,
            "weight": np.where(
                inside & (channel_rms > 0), np.square(channel_pb / np.where(channel_rms > 0, channel_rms, np.float32(1))), np.float32(0)
            ),
        }
        channel_meta = replace(
            meta,
            beam=channel.beam,
            frequency_hz=part.weights.effective_frequency_hz,
            bandwidth_hz=part.end_hz - part.start_hz,
            reference_frequency_hz=part.frequency_hz,
            noise_jy_per_beam=noise,
            thermal_jy_per_beam=part.weights.thermal_jy_per_beam,
            provenance={**meta.provenance, "DSACHAN": str(channel.number), "DSANCHAN": str(options.channels)},
        )
        for suffix in products.CHANNEL_SUFFIXES:
            path = products.image_path(out_dir, products.channel_name(name, channel.number), suffix)
            write_image(path, planes[suffix], channel_meta, suffix)
            files[path.name.removeprefix(f"{name}-").removesuffix(".fits")] = path
        fluxes.append(np.where(inside[bright], channel.restored(images.beam, options)[bright] / safe[bright], np.float32(np.nan)))
        errors.append((channel_rms / safe)[bright])
        reports.append(ChannelReport(channel.number, part.frequency_hz, noise, part.weights.thermal_jy_per_beam, channel.beam))
    frequency = np.array([report.frequency_hz for report in reports])
    law = fit_power_law(np.array(fluxes, dtype=np.float64), np.array(errors, dtype=np.float64), frequency, options.reference_frequency_hz)
    good = law.alpha_error <= LARGEST_ERROR
    spectral = replace(
        meta,
        provenance={
            **meta.provenance,
            "spectral index": f"S ~ nu^alpha, least squares over {len(reports)} channels, error at most {LARGEST_ERROR}",
        },
    )
    for suffix, values in zip(products.SPECTRAL_SUFFIXES, (law.alpha, law.alpha_error), strict=True):
        plane = np.full(bright.shape, np.nan, dtype=np.float32)
        plane[bright] = np.where(good, values, np.nan)
        files[suffix] = products.image_path(out_dir, name, suffix)
        write_image(files[suffix], plane, spectral, suffix)
    return files, tuple(reports), _brightest(np.argwhere(bright)[good], law, good, grid, images.beam.major_arcsec / options.cell_arcsec)


def _brightest(
    pixels: NDArray[np.intp], law: PowerLaw, good: NDArray[np.bool_], grid: ImageGrid, beam_px: float
) -> tuple[SourceSpectrum, ...]:
    """Spectra at the brightest pixels, each at least two beams from any brighter one."""
    flux, alpha, error = law.flux_jy[good], law.alpha[good], law.alpha_error[good]
    chosen: list[int] = []
    for k in np.argsort(-flux):
        if not chosen or np.hypot(*(pixels[chosen] - pixels[k]).T).min() > 2 * beam_px:
            chosen.append(int(k))
        if len(chosen) == _MOST_SPECTRA:
            break
    ra, dec = grid.sky_of(pixels[chosen, 0], pixels[chosen, 1])
    columns = np.degrees(ra), np.degrees(dec), flux[chosen], alpha[chosen], error[chosen]
    return tuple(SourceSpectrum(*(float(value) for value in row)) for row in zip(*columns, strict=True))
