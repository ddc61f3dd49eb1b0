"""Forced photometry on the files of a mosaic or a tile: reading maps and headers, and choosing the positions inside."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

from dsa110_assets.common.calibration_error import calibration_errors_jy
from dsa110_assets.common.fits_planes import (
    JY_PER_BEAM,
    celestial_wcs,
    frame_of,
    frequency_hz,
    jy_per_beam,
    mid_time_mjd,
    number,
    pixel_positions,
    read_header,
    read_plane,
    sky_positions,
)
from dsa110_assets.common.position_lists import POSITION_COLUMNS
from dsa110_assets.common.restoring_beam import BEAM_KEYWORDS, RestoringBeam
from dsa110_assets.errors import PhotometryError, ProductVerificationError, RestoringBeamError
from dsa110_assets.photometry.adaptive import ChannelImage
from dsa110_assets.photometry.forced import PhotometryOptions, measure, measured_error_factor
from dsa110_assets.products import channels_of, image_path, parse_image_name

_SAME_PIXEL = 0.1
"""Pixels by which a noise map may be displaced against its image."""
_BEAM_PIXELS = (0.5, 100.0)
"""Widths of a beam, in pixels, with which a flux can be measured: outside, BMAJ or BMIN is in another unit."""
_ROUND = 1.001
"""A beam is round if its axes differ by less than this factor."""


def measure_mosaic(
    directory: Path,
    name: str,
    positions: pd.DataFrame,
    *,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
    calibration_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes at all positions inside a mosaic (``<name>-image.fits``, ``<name>-noise.fits``).

    Args:
        directory: directory of the mosaic.
        name: its name.
        positions: table with ``name, ra_deg, dec_deg`` (ICRS); every further column is passed through, except those
            that the measurement itself writes: an earlier measurement's columns are replaced.
        options: see `PhotometryOptions`.
        measure_errors: scale the errors by `measured_error_factor` of this image if it can be measured.
        calibration_errors: add what is not noise: errors of gains, of which the header tells (`CalibrationError`), and
            artifacts around bright sources (`Halos`). ``calibration_err_jy`` is this part of the error.

    Returns:
        The columns of ``positions`` and of `forced.measure` for the positions on or near valid pixels (flag ``edge`` or
        ``nan``; flux NaN where the beam is not covered), and ``time_mjd`` (UTC, middle of the observations; NaN
        without a time in the header),
        ``mosaic_name``, ``error_scale``.

    Raises:
        PhotometryError: a file, keyword or column is missing, the unit is not Jy/beam, or the noise map is another
            image's.
    """
    path = image_path(directory, name, "image")
    image, header = _read_map(path)
    noise = _read_noise(image_path(directory, name, "noise"), path, header, image.shape)
    return _measure_maps(
        image, noise, header, path, name, positions, options, measure_errors=measure_errors, calibration_errors=calibration_errors
    )


def measure_tile(
    directory: Path,
    name: str,
    positions: pd.DataFrame,
    *,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
    calibration_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes in a tile's beam-corrected image (``-image-pb``) with its noise map (``-noise``); see `measure_mosaic`.

    The restoring beam of a tile is the same all over the image plane, so the options' ``beam_frame`` becomes ``image``.
    """
    path = image_path(directory, name, "image-pb")
    image, header = _read_map(path)
    chosen = replace(options or PhotometryOptions(), beam_frame="image")
    noise = noise_of(path, image.shape, header)
    return _measure_maps(
        image, noise, header, path, name, positions, chosen, measure_errors=measure_errors, calibration_errors=calibration_errors
    )


def measure_file(
    path: Path,
    positions: pd.DataFrame,
    *,
    noise_path: Path | None = None,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
    calibration_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes in an image file: a mosaic's ``-image``, a tile's ``-image-pb``, or any image with a given noise map.

    Args:
        path: FITS image in Jy/beam, corrected for the primary beam.
        positions, options, measure_errors, calibration_errors: see `measure_mosaic`.
        noise_path: noise map, Jy/beam; None takes the image's own (`noise_of`).
    """
    image, header = _read_map(path)
    chosen = options or PhotometryOptions()
    if path.name.endswith("-image-pb.fits"):
        chosen = replace(chosen, beam_frame="image")
    noise = noise_of(path, image.shape, header) if noise_path is None else _read_noise(noise_path, path, header, image.shape)
    return _measure_maps(
        image, noise, header, path, _stem(path), positions, chosen, measure_errors=measure_errors, calibration_errors=calibration_errors
    )


def measure_channels(
    directory: Path,
    name: str,
    positions: pd.DataFrame,
    *,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes in the channel images of a mosaic or tile, one channel after another; arguments as for `measure_mosaic`.

    Returns:
        The columns of `measure_mosaic` and ``channel`` (0 for the lowest frequency), ``frequency_hz``; ``mosaic_name``
        is ``name``. One row for each channel and position; none if there are no channel images. Errors are of noise
        only: those of gains are nearly the same in all channels.
    """
    nothing = positions.iloc[:0].assign(
        **dict.fromkeys(("channel", "frequency_hz", "flux_jy", "flux_err_jy", "time_mjd"), 0.0), mosaic_name=name
    )
    tables = []
    for channel, path in channels_of(directory, name).items():
        table = measure_file(path, positions, options=options, measure_errors=measure_errors, calibration_errors=False)
        table["channel"], table["frequency_hz"], table["mosaic_name"] = channel, _frequency(read_header(path), path), name
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else nothing


def channel_images(path: Path) -> list[Path]:
    """Channel images that a path selects, lowest frequency first: an image file itself, or those of a tile or mosaic.

    Args:
        path: a FITS file; the directory of a tile or mosaic; or directory and name of one
            (``images/2026-03-12/GROUP/GROUP``).

    Raises:
        PhotometryError: there are none, or they belong to several tiles or mosaics.
    """
    if path.is_file():
        return [path]
    if path.is_dir():
        names = sorted(
            {
                parsed.name
                for file in path.glob("*.fits")
                if (parsed := parse_image_name(file.name)) is not None and parsed.channel is not None
            }
        )
        if len(names) > 1:
            raise PhotometryError(path, f"channel images of {', '.join(names)}", f"choose one: {path / names[0]}")
        found = list(channels_of(path, names[0]).values()) if names else []
    else:
        found = list(channels_of(path.parent, path.name).values())
    if not found:
        raise PhotometryError(
            path,
            "there are no channel images (NAME-ch00-image.fits and so on)",
            "image the tiles in channels: set PIPELINE_IMAGE_CHANNELS, or `dsa110 image --ms MS --imagename NAME --channels 4`",
        )
    return found


def noise_of(path: Path, shape: tuple[int, ...], header: fits.Header) -> NDArray[np.float32]:
    """Noise map of an image, Jy/beam, shape (ny, nx).

    It is the ``-noise`` of a mosaic's ``-image`` or of a tile's ``-image-pb``. For channels, and tiles of earlier
    versions, compute ``1 / sqrt(weight)`` from the ``-weight`` file instead. A tile's ``-image`` has no noise map: it
    is not corrected for the primary beam.

    Args:
        path: the image.
        shape, header: of the image.

    Raises:
        PhotometryError: there is none, or it does not belong to the image.
    """
    stem = _stem(path)
    ending = path.name.removeprefix(stem)  # .fits, .fits.gz, .fits.fz
    is_corrected = stem.endswith("-image-pb")
    name = stem.removesuffix("-image-pb") if is_corrected else stem.removesuffix("-image")
    noise_file, weight_file, corrected_file = (path.with_name(f"{name}-{suffix}{ending}") for suffix in ("noise", "weight", "image-pb"))
    if (is_corrected or not corrected_file.is_file()) and noise_file.is_file():
        return _read_noise(noise_file, path, header, shape)
    if is_corrected and weight_file.is_file():
        weight, _ = _read_plane(weight_file)
        if weight.shape != shape:
            raise PhotometryError(path, f"its noise map has shape {weight.shape}, the image {shape}", "make the image again")
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(weight > 0.0, 1.0 / np.sqrt(weight), np.nan).astype(np.float32)
    raise PhotometryError(
        path,
        f"the image has no noise map ({noise_file.name} is not beside it)",
        "give a mosaic's -image.fits, a tile's -image-pb.fits, or the noise map itself (--noise)",
    )


def read_channel(path: Path, noise_path: Path | None = None) -> ChannelImage:
    """Image of one channel with its noise map, for `adaptive`.

    Raises:
        PhotometryError: the header has no frequency, or a reason of `measure_file`.
    """
    image, header = _read_map(path)
    _check_header(header, path, BEAM_KEYWORDS)
    frequency = _frequency(header, path)
    noise = noise_of(path, image.shape, header) if noise_path is None else _read_noise(noise_path, path, header, image.shape)
    wcs = celestial_wcs(header)
    beam = _beam(header, path, wcs, image.shape)
    return ChannelImage(image, noise, wcs, beam, frequency, "image" if path.name.endswith("-image-pb.fits") else None)


def _stem(path: Path) -> str:
    """Name of an image file without ``.fits``, also of a compressed one."""
    return re.sub(r"\.(?:fits|fit|fts)(?:\.gz|\.fz|\.bz2|\.xz|\.zip)?$", "", path.name, flags=re.IGNORECASE)


def _check_header(header: fits.Header, path: Path, keys: tuple[str, ...]) -> None:
    absent = [key for key in keys if key not in header]
    if absent:
        what = "has no restoring beam: its header lacks" if set(absent) <= set(BEAM_KEYWORDS) else "header lacks"
        raise PhotometryError(path, f"{what} {', '.join(absent)}", "make the image again with its full header")


def _beam(header: fits.Header, path: Path, wcs: WCS, shape: tuple[int, ...]) -> RestoringBeam:
    """The restoring beam of an image, in degrees as its pixels allow it.

    Raises:
        PhotometryError: it is impossible, or in another unit.
    """
    try:
        beam = RestoringBeam.from_header(header)
    except RestoringBeamError as error:
        raise PhotometryError(path, f"its {error.subject} is impossible: {error.cause}", error.next_step) from error
    scales_deg = proj_plane_pixel_scales(wcs)
    field_deg = max(shape) * float(np.max(scales_deg))
    major, minor = beam.major_deg / float(np.max(scales_deg)), beam.minor_deg / float(np.min(scales_deg))
    cause = ""
    if beam.major_deg > field_deg:
        cause = f"its beam of {beam.major_deg:g} deg (BMAJ) is larger than the whole image ({field_deg:.3g} deg)"
    elif major > _BEAM_PIXELS[1] or minor < _BEAM_PIXELS[0]:
        cause = f"its beam of {beam.major_deg:g} x {beam.minor_deg:g} deg is {major:.3g} x {minor:.3g} pixels wide (BMAJ, BMIN)"
    if cause:
        raise PhotometryError(path, cause, "correct BMAJ and BMIN, which are in degrees")
    return beam


def _read_plane(path: Path) -> tuple[NDArray[np.float32], fits.Header]:
    try:
        return read_plane(path)
    except ProductVerificationError as error:
        raise PhotometryError(path, error.cause, error.next_step) from error


def _read_map(path: Path) -> tuple[NDArray[np.float32], fits.Header]:
    """The celestial plane of a FITS image as native float32 of shape (ny, nx) in Jy/beam, and its header."""
    pixels, header = _read_plane(path)
    factor = jy_per_beam(header)
    if not np.isfinite(factor):
        cause = f"BUNIT is {header.get('BUNIT')!r}, {JY_PER_BEAM} was expected"
        raise PhotometryError(path, cause, "convert the image; photometry takes Jy/beam, or mJy/beam")
    try:
        wcs = celestial_wcs(header)
        frame = frame_of(wcs)
    except ProductVerificationError as error:
        raise PhotometryError(path, error.cause, error.next_step) from error
    major, minor = number(header, "BMAJ"), number(header, "BMIN")
    if wcs.wcs.lngtyp.strip() != "RA" and major > minor * _ROUND:
        raise PhotometryError(
            path,
            f"its coordinates are {frame.name}, in which the position angle of its beam ({major * 3600:.1f} x {minor * 3600:.1f} arcsec) "
            "may count from either north",
            "regrid the image to ICRS",
        )
    return pixels if factor == 1.0 else pixels * np.float32(factor), header


def _read_noise(path: Path, image: Path, image_header: fits.Header, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """A noise map in Jy/beam that belongs to an image; NaN where it is 0 or not finite.

    Raises:
        PhotometryError: another shape, place or unit, a negative value, or no value at all.
    """
    noise, header = _read_map(path)
    if noise.shape != shape:
        raise PhotometryError(path, f"the noise map has shape {noise.shape}, the image {shape}", f"give the noise map of {image.name}")
    ours, theirs = celestial_wcs(image_header), celestial_wcs(header)
    y, x = (shape[0] - 1) * np.array([0.25, 0.5, 0.75, 0.25, 0.75]), (shape[1] - 1) * np.array([0.25, 0.5, 0.75, 0.75, 0.25])
    at_x, at_y = pixel_positions(theirs, *sky_positions(ours, x, y))
    distance = np.hypot(at_x - x, at_y - y)
    if not np.all(distance < _SAME_PIXEL):
        where = f"{np.nanmax(distance):.1f} pixels away" if np.isfinite(distance).any() else "in another field"
        raise PhotometryError(path, f"the noise map is not of this part of the sky ({where})", f"give the noise map of {image.name}")
    if np.any(noise < 0.0):
        raise PhotometryError(path, "the noise map has negative values", "give a map of standard deviations in Jy/beam")
    if not np.any((noise > 0.0) & np.isfinite(noise)):
        raise PhotometryError(path, "the noise map has no value above 0", "give a map of standard deviations in Jy/beam")
    return np.where(noise > 0.0, noise, np.nan).astype(np.float32)


def _frequency(header: fits.Header, path: Path) -> float:
    """Frequency of an image, Hz."""
    frequency = frequency_hz(header)
    if not np.isfinite(frequency):
        cause = "its header has no frequency (FREQ axis or RESTFRQ)"
        raise PhotometryError(path, cause, "give images of single channels with full headers")
    return frequency


def _measure_maps(
    image: NDArray[np.float32],
    noise: NDArray[np.float32],
    header: fits.Header,
    path: Path,
    name: str,
    positions: pd.DataFrame,
    options: PhotometryOptions | None,
    *,
    measure_errors: bool,
    calibration_errors: bool,
) -> pd.DataFrame:
    _check_header(header, path, BEAM_KEYWORDS)
    missing = [column for column in POSITION_COLUMNS if column not in positions.columns]
    if missing:
        raise PhotometryError("positions", f"columns {', '.join(missing)} are missing", "give a table with name, ra_deg and dec_deg")
    wcs = celestial_wcs(header)
    beam = _beam(header, path, wcs, image.shape)
    if (low := np.nanmin(image, initial=np.inf)) == np.nanmax(image, initial=-np.inf):
        raise PhotometryError(path, f"all its pixels have the value {low:g} Jy/beam", "make the image again")
    chosen = options or PhotometryOptions()
    if measure_errors:
        factor = measured_error_factor(image, noise, wcs, beam, options=chosen)
        if np.isfinite(factor) and factor > 0.0:
            chosen = replace(chosen, error_scale=chosen.error_scale * factor)
    fluxes = measure(image, noise, wcs, beam, positions["ra_deg"].to_numpy(), positions["dec_deg"].to_numpy(), options=chosen)
    if calibration_errors:
        more = calibration_errors_jy(
            image, noise, header, wcs, beam, *(fluxes[name].to_numpy() for name in ("ra_deg", "dec_deg", "flux_jy"))
        )
        fluxes["calibration_err_jy"] = np.hypot(fluxes["calibration_err_jy"], more)
        fluxes["flux_err_jy"] = np.hypot(fluxes["flux_err_jy"], more)
    inside = ~fluxes["flags"].str.contains("outside").to_numpy() & (fluxes["coverage"].to_numpy() > 0.0)
    measured = fluxes.loc[inside].drop(columns=["ra_deg", "dec_deg"]).reset_index(drop=True)
    measured["time_mjd"] = mid_time_mjd(header)
    measured["mosaic_name"] = name
    measured["error_scale"] = chosen.error_scale
    given = positions.loc[inside].reset_index(drop=True)
    return pd.concat([given.drop(columns=[column for column in given.columns if column in measured.columns]), measured], axis=1)
