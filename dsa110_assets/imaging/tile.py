"""Make the images of a tile from a calibrated Measurement Set.

`image_tile` reads and weights the data, runs an engine, measures the images and writes them. Verdicts about the result
are in `quality.image`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets import products
from dsa110_assets.common.antenna_keywords import LEFT_OUT, WRONG_ANTENNAS
from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.figures import Details, Figures
from dsa110_assets.common.instrument import BEAM_CUTOFF
from dsa110_assets.common.measurement_sets import read_summary
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.errors import ImagingError
from dsa110_assets.imaging import channels, selfcal, tclean, wgridder, wsclean
from dsa110_assets.imaging.bright_finder import on_image
from dsa110_assets.imaging.channel_files import ChannelReport, SourceSpectrum, write_channels
from dsa110_assets.imaging.channels import BandChannel, split_band
from dsa110_assets.imaging.engine import EngineImages
from dsa110_assets.imaging.fits_images import ImageMetadata, read_mask, write_image
from dsa110_assets.imaging.grid import ImageGrid, circle_mask
from dsa110_assets.imaging.noise import local_rms_map
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.outside import OutsideSource, outside_sources
from dsa110_assets.imaging.preview import write_previews
from dsa110_assets.imaging.primary_beam import primary_beam_image
from dsa110_assets.imaging.selfcal import FluxReference, SelfcalImage, SelfcalReport
from dsa110_assets.imaging.visibilities import AntennaGains, Visibilities, read_visibilities, without_antennas
from dsa110_assets.imaging.weighting import ImagingWeights, imaging_weights

_MOST_WRONG = 0.1
"""Largest share of antennas that are left out because their gains are wrong. If more are, the calibration is."""
_MUCH_NOISE = 1.2
"""Noise over thermal from which antennas with wrong gains are left out, ..."""
_LESS_NOISE = 0.7
"""... if it falls at least by this factor."""


@dataclass(frozen=True)
class ImageReport:
    """Files and measurements of a tile image.

    ``images``: FITS files by suffix. ``preview``, ``preview_large``: PNG files. ``noise_jy_per_beam``: robust noise of
    the residual inside the primary beam, not corrected for it. ``thermal_jy_per_beam``: predicted noise.
    ``peak_jy_per_beam``: largest pixel of the restored image inside the primary beam. ``model_flux_jy``: sum of the
    model. ``effective_frequency_hz``: weighted mean frequency. ``used_fraction``: fraction of samples used.
    ``visibilities``: number of Stokes I visibilities imaged. ``beyond_cell``: number of visibilities dropped because
    the pixels are too coarse. ``mask_sources``: number of catalog sources in the mask. ``pb_centre``: effective beam at
    the phase center. ``outside``: bright sources outside the image that were subtracted. ``antennas_left_out``: names
    of those with wrong gains. ``channels``: channels that were imaged separately; none by default. ``spectra``: spectra
    of the brightest sources, from these channels. ``selfcal``: result of self-calibration, None if it was not
    requested. ``flux_error``: error of fluxes from errors of gains; None if it was not measured. ``seconds``: duration
    of each step.
    """

    images: dict[str, Path]
    preview: Path
    preview_large: Path
    engine: str
    beam: RestoringBeam
    noise_jy_per_beam: float
    thermal_jy_per_beam: float
    peak_jy_per_beam: float
    model_flux_jy: float
    effective_frequency_hz: float
    used_fraction: float
    visibilities: int
    beyond_cell: int
    mask_sources: int
    pb_centre: float
    bright_sources: int
    major_cycles: int
    minor_iterations: int
    converged: bool
    start_mjd: float
    end_mjd: float
    ra_deg: float
    dec_deg: float
    seconds: dict[str, float]
    outside: tuple[OutsideSource, ...] = ()
    antennas_left_out: tuple[str, ...] = ()
    channels: tuple[ChannelReport, ...] = ()
    spectra: tuple[SourceSpectrum, ...] = ()
    selfcal: SelfcalReport | None = None
    flux_error: CalibrationError | None = None

    @property
    def dynamic_range(self) -> float:
        """Peak over noise."""
        return self.peak_jy_per_beam / self.noise_jy_per_beam if self.noise_jy_per_beam > 0 else float("nan")

    def figures(self) -> Figures:
        """Named figures of the image, units in the names."""
        return {
            "noise_mjy_per_beam": self.noise_jy_per_beam * 1e3,
            "thermal_mjy_per_beam": self.thermal_jy_per_beam * 1e3,
            "peak_jy_per_beam": self.peak_jy_per_beam,
            "dynamic_range": self.dynamic_range,
            "beam_major_arcsec": self.beam.major_arcsec,
            "beam_minor_arcsec": self.beam.minor_arcsec,
            "beam_angle_deg": self.beam.pa_deg,
            "major_cycles": self.major_cycles,
            "used_fraction": self.used_fraction,
            **({"antennas_left_out": ", ".join(self.antennas_left_out)} if self.antennas_left_out else {}),
            **({"flux_error_percent": 100 * self.flux_error.at_deg(1.0)} if self.flux_error else {}),
            "sources_outside": len(self.outside),
            "channel_images": len(self.channels),
            **({"self_calibration": self.selfcal.summary} if self.selfcal else {}),
        }

    def details(self) -> Details:
        """Tables of the channel images and of the brightest sources' spectra."""
        return {
            "channels": [channel.row() for channel in self.channels],
            "spectral indices of the brightest": [spectrum.row() for spectrum in self.spectra],
        }


def image_tile(
    ms: Path,
    out_dir: Path,
    name: str,
    options: ImagingOptions,
    *,
    mask_sky: pd.DataFrame | None,
    user_mask: Path | None = None,
    provenance: Mapping[str, str],
) -> ImageReport:
    """Image a calibrated tile: write FITS files (`products.IMAGE_SUFFIXES`) and previews.

    With ``options.channels`` above 1, also write the files of `channel_files`.

    A point source of apparent flux S peaks at S Jy/beam in ``image``. ``pb`` is the ratio of that peak to the source's
    flux at the reference frequency (`primary_beam`). Where pb is at least 20 %, ``image-pb`` = image / pb, ``weight`` =
    pb^2 / rms^2 with the local noise rms, and ``noise`` = rms / pb is the noise of ``image-pb``. Elsewhere ``weight``
    is 0, and ``image-pb`` and ``noise`` are NaN.

    Args:
        ms: calibrated Measurement Set.
        out_dir: existing directory for the products.
        name: observation, first part of the file names.
        options: options of the image.
        mask_sky: catalog (``ra_deg``, ``dec_deg``, ``flux_jy``) around which to clean first; None searches everywhere.
            Its bright sources outside the image are also subtracted from the data, so include a margin.
        user_mask: FITS image with the same pixels; clean where it is not 0 instead of around the catalog.
        provenance: facts for the headers; see `fits_images.ImageMetadata`.

    Raises:
        MeasurementSetError: the Measurement Set is not calibrated.
        ImagingError: all data are flagged, there is no usable PSF, or the engine is not available.
        ChildFailedError: an engine that runs as a child process failed or ran out of time.
    """
    clock = _Clock()
    vis = read_visibilities(ms)
    clock.lap("read")
    grid = ImageGrid(options.image_size, options.cell_rad, np.radians(vis.pointing.phase_ra_deg), np.radians(vis.pointing.phase_dec_deg))
    weights = imaging_weights(vis, options)
    clock.lap("weight")
    pb = primary_beam_image(vis, weights, grid, options)
    clock.lap("primary_beam")
    sky = _sources_in_image(mask_sky, grid) if mask_sky is not None else None
    mask: NDArray[np.bool_] | None = None
    if options.use_mask and sky is not None and len(sky):
        mask = circle_mask(grid, sky["ra_deg"].to_numpy(), sky["dec_deg"].to_numpy(), options.mask_radius_arcsec)
    if user_mask is not None:
        mask = read_mask(user_mask, grid)
    strict = user_mask is not None
    # with self-calibration, the channels follow with the best gains
    first_options = replace(options, channels=1) if options.selfcal_rounds else options
    parts = split_band(vis, weights, first_options.channels) if first_options.channels > 1 else ()
    images = _run_engine(ms, vis, weights, grid, first_options, parts=parts, mask=mask, sky=mask_sky, strict_mask=strict)
    clock.lap("engine")
    names = read_summary(ms).antenna_names
    antennas_left_out: tuple[str, ...] = ()
    noise = _noise(pb, images)
    wrong, n_antenna = _wrong_antennas(images, noise / weights.thermal_jy_per_beam), np.union1d(vis.antenna1, vis.antenna2).size
    if not options.selfcal_rounds and 0 < wrong.size <= _MOST_WRONG * n_antenna:
        # what an antenna with a wrong gain makes is no sky: without it, the image is better
        others = without_antennas(vis, wrong)
        other_weights = imaging_weights(others, options)
        other_pb = primary_beam_image(others, other_weights, grid, options)
        other_parts = split_band(others, other_weights, options.channels) if options.channels > 1 else ()
        better = _run_engine(ms, others, other_weights, grid, options, parts=other_parts, mask=mask, sky=mask_sky, strict_mask=strict)
        other_noise = _noise(other_pb, better)
        if other_noise / other_weights.thermal_jy_per_beam < _LESS_NOISE * noise / weights.thermal_jy_per_beam:
            antennas_left_out = tuple(names[int(antenna)] for antenna in wrong)
            vis, weights, pb, parts, images, noise = others, other_weights, other_pb, other_parts, better, other_noise
        clock.lap("engine_without_wrong_antennas")
    selfcal_report: SelfcalReport | None = None
    if options.selfcal_rounds:
        first = SelfcalImage(vis, weights, pb, images)
        best, selfcal_report = _self_calibrate(ms, first, grid, first_options, mask=mask, mask_sky=mask_sky, sky=sky, strict_mask=strict)
        vis, weights, pb, images = best.vis, best.weights, best.primary_beam, best.images
        provenance = {**provenance, "DSASELF": selfcal_report.header_value, "self-calibration": selfcal_report.summary}
        clock.lap("self_calibration")
        if options.channels > 1:
            parts = split_band(vis, weights, options.channels)
            images = _run_engine(ms, vis, weights, grid, options, parts=parts, mask=mask, sky=mask_sky, strict_mask=strict)
            clock.lap("channels_engine")
        noise = _noise(pb, images)
    inside = pb >= BEAM_CUTOFF
    if not np.isfinite(noise) or noise <= 0:
        raise ImagingError(
            ms, f"the noise of the residual is {noise}", "look at the calibrated visibilities: they have no signal and no noise"
        )
    rms = local_rms_map(images.residual, images.beam.major_arcsec / options.cell_arcsec)
    covered = inside & (rms > 0)
    planes: dict[str, NDArray[np.float32]] = {
        "dirty": images.dirty,
        "psf": images.psf,
        "model": images.model,
        "residual": images.residual,
        "image": images.restored,
        "image-pb": np.where(inside, images.restored / np.where(inside, pb, np.float32(1)), np.float32(np.nan)),
        "pb": pb,
        "weight": np.where(covered, np.square(pb / np.where(covered, rms, np.float32(1))), np.float32(0)),
        "noise": np.where(covered, rms / np.where(covered, pb, np.float32(1)), np.float32(np.nan)),
    }
    clock.lap("measure")
    if images.antennas is not None and images.antennas.are_measured:
        still = ", ".join(names[int(antenna)] for antenna in _wrong_antennas(images, noise / weights.thermal_jy_per_beam))
        provenance = {**provenance, WRONG_ANTENNAS: still, LEFT_OUT: ", ".join(antennas_left_out)}
    meta = _metadata(ms, vis, weights, grid, options, images=images, noise=noise, name=name, provenance=provenance)
    paths = {suffix: products.image_path(out_dir, name, suffix) for suffix in products.IMAGE_SUFFIXES}
    for suffix, path in paths.items():
        write_image(path, planes[suffix], meta, suffix)
    clock.lap("write")
    channel_reports: tuple[ChannelReport, ...] = ()
    spectra: tuple[SourceSpectrum, ...] = ()
    if parts:
        files, channel_reports, spectra = write_channels(
            out_dir, name, parts=parts, images=images, grid=grid, options=options, meta=meta, pb=pb, rms=rms
        )
        paths |= files
        clock.lap("channels")
    preview, large = write_previews(out_dir, name, images.restored, pb, grid, beam=images.beam, noise_jy_per_beam=noise, sky=sky)
    clock.lap("preview")
    return ImageReport(
        images=paths,
        preview=preview,
        preview_large=large,
        engine=options.engine,
        beam=images.beam,
        noise_jy_per_beam=noise,
        thermal_jy_per_beam=weights.thermal_jy_per_beam,
        peak_jy_per_beam=float(images.restored[inside].max()),
        model_flux_jy=float(images.model.sum(dtype=np.float64)),
        effective_frequency_hz=weights.effective_frequency_hz,
        used_fraction=vis.used_fraction,
        visibilities=int((vis.weight > 0).sum()),
        beyond_cell=weights.beyond_cell,
        mask_sources=0 if sky is None or mask is None else len(sky),
        pb_centre=float(pb[grid.size // 2, grid.size // 2]),
        bright_sources=images.bright_sources,
        major_cycles=images.major_cycles,
        minor_iterations=images.minor_iterations,
        converged=images.converged,
        start_mjd=vis.start_mjd,
        end_mjd=vis.end_mjd,
        ra_deg=vis.pointing.phase_ra_deg,
        dec_deg=vis.pointing.phase_dec_deg,
        seconds=clock.laps,
        outside=outside_sources(vis, weights, grid, options, images.bright),
        antennas_left_out=antennas_left_out,
        channels=channel_reports,
        spectra=spectra,
        selfcal=selfcal_report,
        flux_error=images.flux_error,
    )


def _run_engine(
    ms: Path,
    vis: Visibilities,
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    *,
    parts: Sequence[BandChannel],
    mask: NDArray[np.bool_] | None,
    sky: pd.DataFrame | None,
    strict_mask: bool,
) -> EngineImages:
    if options.engine == "wgridder" and parts:
        return channels.run(vis, weights, parts, grid, options, mask, sky, strict_mask=strict_mask)
    if options.engine == "wgridder":
        return wgridder.run(vis, weights, grid, options, mask, sky, strict_mask=strict_mask)
    if options.engine == "wproject":
        return tclean.run(ms, options, mask)
    return wsclean.run(ms, options, mask)


def _noise(pb: NDArray[np.float32], images: EngineImages) -> float:
    return robust_sigma(images.residual[pb >= BEAM_CUTOFF])


def _wrong_antennas(images: EngineImages, noise_over_thermal: float) -> NDArray[np.int64]:
    """Antennas that the image shows to be wrong; none if it has little more than thermal noise."""
    if images.antennas is None or noise_over_thermal < _MUCH_NOISE:
        return np.empty(0, dtype=np.int64)
    return images.antennas.wrong


def _sources_in_image(sky: pd.DataFrame, grid: ImageGrid) -> pd.DataFrame:
    """Rows of a catalog that are in the image."""
    y, x = grid.pixel_of(np.radians(sky["ra_deg"].to_numpy(dtype=float)), np.radians(sky["dec_deg"].to_numpy(dtype=float)))
    with np.errstate(invalid="ignore"):
        return sky.loc[(y >= 0) & (x >= 0) & (y <= grid.size - 1) & (x <= grid.size - 1)]


def _self_calibrate(
    ms: Path,
    first: SelfcalImage,
    grid: ImageGrid,
    options: ImagingOptions,
    *,
    mask: NDArray[np.bool_] | None,
    mask_sky: pd.DataFrame | None,
    sky: pd.DataFrame | None,
    strict_mask: bool,
) -> tuple[SelfcalImage, SelfcalReport]:
    """Run self-calibration; return its best image and its report. ``sky``: the part of ``mask_sky`` in the image."""

    def image_with(gains: AntennaGains) -> SelfcalImage:
        vis = read_visibilities(ms, gains)
        weights = imaging_weights(vis, options)
        images = _run_engine(ms, vis, weights, grid, options, parts=(), mask=mask, sky=mask_sky, strict_mask=strict_mask)
        return SelfcalImage(vis, weights, primary_beam_image(vis, weights, grid, options), images)

    def predict(image: SelfcalImage) -> NDArray[np.complex64]:
        return wgridder.predict(image.vis, image.weights, grid, options, image.images)

    reference = _flux_reference(sky, first.images, first.primary_beam, grid, first.weights.thermal_jy_per_beam)
    return selfcal.self_calibrate(
        ms,
        first,
        n_rounds=options.selfcal_rounds,
        integrations=options.selfcal_integrations,
        reference=reference,
        predict=predict,
        image_with=image_with,
    )


def _flux_reference(
    sky: pd.DataFrame | None, images: EngineImages, pb: NDArray[np.float32], grid: ImageGrid, noise_jy: float
) -> FluxReference:
    """Bright sources inside the primary beam, from the catalog or else from the image."""
    if sky is not None and len(sky):
        y, x = grid.pixel_of(np.radians(sky["ra_deg"].to_numpy(dtype=float)), np.radians(sky["dec_deg"].to_numpy(dtype=float)))
        response = pb[np.round(y).astype(int), np.round(x).astype(int)]
        flux = sky["flux_jy"].to_numpy(dtype=float) * response
    else:
        inside = on_image(images.bright.y, images.bright.x, grid.size)
        y, x, flux = images.bright.y[inside], images.bright.x[inside], images.bright.flux_jy[inside]
        response = pb[np.round(y).astype(int), np.round(x).astype(int)]
    use = (response >= BEAM_CUTOFF) & (flux > selfcal.FLUX_SNR * noise_jy)
    return FluxReference(y[use], x[use], flux[use].astype(np.float64), from_catalog=sky is not None and len(sky) > 0)


def _metadata(
    ms: Path,
    vis: Visibilities,
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    *,
    images: EngineImages,
    noise: float,
    name: str,
    provenance: Mapping[str, str],
) -> ImageMetadata:
    facts = {
        "weighting": options.weighting_description,
        "calibration": ", ".join(str(table) for table in _calibration_tables(vis)),
        "used fraction of the samples": f"{vis.used_fraction:.4f}",
    }
    return ImageMetadata(
        grid=grid,
        beam=images.beam,
        frequency_hz=weights.effective_frequency_hz,
        bandwidth_hz=float(vis.channel_width_hz.sum()),
        reference_frequency_hz=options.reference_frequency_hz,
        spectral_index=options.spectral_index,
        start_mjd=vis.start_mjd,
        end_mjd=vis.end_mjd,
        noise_jy_per_beam=noise,
        thermal_jy_per_beam=weights.thermal_jy_per_beam,
        telescope=read_summary(ms).telescope_name,
        engine=options.engine,
        name=name,
        provenance={**facts, **provenance},
        flux_error=images.flux_error,
    )


def _calibration_tables(vis: Visibilities) -> list[object]:
    tables = vis.calibration.get("caltables")
    return list(tables) if isinstance(tables, list) else []


class _Clock:
    """Stopwatch for consecutive steps."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self.laps: dict[str, float] = {}

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.laps[step] = round(now - self._last, 3)
        self._last = now
