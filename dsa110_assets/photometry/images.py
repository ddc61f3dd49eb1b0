"""Forced photometry on the files of a mosaic or a tile: reading maps and headers, and choosing the positions inside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_assets.common.fits_planes import JY_PER_BEAM, celestial_wcs, frequency_hz, is_jy_per_beam, number, read_header, read_plane
from dsa110_assets.common.restoring_beam import BEAM_KEYWORDS, RestoringBeam
from dsa110_assets.errors import PhotometryError, ProductVerificationError
from dsa110_assets.photometry.adaptive import ChannelImage
from dsa110_assets.photometry.forced import PhotometryOptions, measure, measured_error_factor
from dsa110_assets.products import channels_of, image_path, parse_image_name


def measure_mosaic(
    directory: Path,
    name: str,
    positions: pd.DataFrame,
    *,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes at all positions inside a mosaic (``<name>-image.fits``, ``<name>-noise.fits``).

    Args:
        directory: directory of the mosaic.
        name: its name.
        positions: table with ``name, ra_deg, dec_deg`` (ICRS); every further column is passed through.
        options: see `PhotometryOptions`.
        measure_errors: scale the errors by `measured_error_factor` of this image if it can be measured.

    Returns:
        The columns of ``positions`` and of `forced.measure` for the positions on or near valid pixels (flag ``edge`` or
        ``nan``; flux NaN where the beam is not covered), and ``time_mjd`` (UTC, middle of the observations),
        ``mosaic_name``, ``error_scale``.

    Raises:
        PhotometryError: a file, keyword or column is missing, or the unit is not Jy/beam.
    """
    image, header = _read_map(image_path(directory, name, "image"))
    noise, _ = _read_map(image_path(directory, name, "noise"))
    return _measure_maps(
        image, noise, header, image_path(directory, name, "image"), name, positions, options, measure_errors=measure_errors
    )


def measure_tile(
    directory: Path,
    name: str,
    positions: pd.DataFrame,
    *,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes in a tile's beam-corrected image (``-image-pb``) with its noise map (``-noise``); see `measure_mosaic`.

    The restoring beam of a tile is the same all over the image plane, so the options' ``beam_frame`` becomes ``image``.
    """
    path = image_path(directory, name, "image-pb")
    image, header = _read_map(path)
    chosen = replace(options or PhotometryOptions(), beam_frame="image")
    return _measure_maps(image, noise_of(path, image.shape), header, path, name, positions, chosen, measure_errors=measure_errors)


def measure_file(
    path: Path,
    positions: pd.DataFrame,
    *,
    noise_path: Path | None = None,
    options: PhotometryOptions | None = None,
    measure_errors: bool = True,
) -> pd.DataFrame:
    """Fluxes in an image file: a mosaic's ``-image``, a tile's ``-image-pb``, or any image with a given noise map.

    Args:
        path: FITS image in Jy/beam, corrected for the primary beam.
        positions, options, measure_errors: see `measure_mosaic`.
        noise_path: noise map, Jy/beam; None takes the image's own (`noise_of`).
    """
    image, header = _read_map(path)
    chosen = options or PhotometryOptions()
    if path.name.endswith("-image-pb.fits"):
        chosen = replace(chosen, beam_frame="image")
    noise = noise_of(path, image.shape) if noise_path is None else _read_map(noise_path)[0]
    return _measure_maps(image, noise, header, path, path.name.removesuffix(".fits"), positions, chosen, measure_errors=measure_errors)


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
        is ``name``. One row for each channel and position; none if there are no channel images.
    """
    nothing = positions.iloc[:0].assign(
        **dict.fromkeys(("channel", "frequency_hz", "flux_jy", "flux_err_jy", "time_mjd"), 0.0), mosaic_name=name
    )
    tables = []
    for channel, path in channels_of(directory, name).items():
        table = measure_file(path, positions, options=options, measure_errors=measure_errors)
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


def noise_of(path: Path, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Noise map of an image, Jy/beam, shape (ny, nx).

    It is the ``-noise`` of a mosaic's ``-image`` or of a tile's ``-image-pb``. For channels, and tiles of earlier
    versions, compute ``1 / sqrt(weight)`` from the ``-weight`` file instead. A tile's ``-image`` has no noise map: it
    is not corrected for the primary beam.

    Raises:
        PhotometryError: there is none, or its shape is not ``shape``.
    """
    name = path.name.removesuffix("-image.fits") if path.name.endswith("-image.fits") else path.name.removesuffix("-image-pb.fits")
    noise_file, weight_file = image_path(path.parent, name, "noise"), image_path(path.parent, name, "weight")
    corrected = path.name.endswith("-image-pb.fits") or not image_path(path.parent, name, "image-pb").is_file()
    if corrected and noise_file.is_file():
        noise, _ = _read_map(noise_file)
    elif path.name.endswith("-image-pb.fits") and weight_file.is_file():
        weight, _ = _read_map(weight_file)
        with np.errstate(divide="ignore", invalid="ignore"):
            noise = np.where(weight > 0.0, 1.0 / np.sqrt(weight), np.nan).astype(np.float32)
    else:
        raise PhotometryError(
            path,
            "the image has no noise map",
            "give a mosaic's -image.fits, a tile's -image-pb.fits, or the noise map itself (--noise)",
        )
    if noise.shape != shape:
        raise PhotometryError(path, f"its noise map has shape {noise.shape}, the image {shape}", "make the image again")
    return noise


def read_channel(path: Path, noise_path: Path | None = None) -> ChannelImage:
    """Image of one channel with its noise map, for `adaptive`.

    Raises:
        PhotometryError: the header has no frequency, or a reason of `measure_file`.
    """
    image, header = _read_map(path)
    _check_header(header, path, BEAM_KEYWORDS)
    frequency = _frequency(header, path)
    noise = noise_of(path, image.shape) if noise_path is None else _read_map(noise_path)[0]
    beam = RestoringBeam.from_header(header)
    return ChannelImage(image, noise, celestial_wcs(header), beam, frequency, "image" if path.name.endswith("-image-pb.fits") else None)


def _check_header(header: fits.Header, path: Path, keys: tuple[str, ...]) -> None:
    if not is_jy_per_beam(header):
        cause = f"BUNIT is {header.get('BUNIT')!r}, {JY_PER_BEAM} was expected"
        raise PhotometryError(path, cause, "convert the image; photometry takes Jy only")
    absent = [key for key in keys if key not in header]
    if absent:
        raise PhotometryError(path, f"header lacks {', '.join(absent)}", "make the image again with its full header")


def _read_map(path: Path) -> tuple[NDArray[np.float32], fits.Header]:
    """The celestial plane of a FITS image as native float32 of shape (ny, nx), and its header."""
    try:
        return read_plane(path)
    except ProductVerificationError as error:
        raise PhotometryError(path, error.cause, "make the image again, then its photometry; cubes are not supported") from error


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
) -> pd.DataFrame:
    _check_header(header, path, (*BEAM_KEYWORDS, "MJD-BEG", "MJD-END"))
    missing = [column for column in ("name", "ra_deg", "dec_deg") if column not in positions.columns]
    if missing:
        raise PhotometryError("positions", f"columns {', '.join(missing)} are missing", "give a table with name, ra_deg and dec_deg")
    wcs = celestial_wcs(header)
    beam = RestoringBeam.from_header(header)
    chosen = options or PhotometryOptions()
    if measure_errors:
        factor = measured_error_factor(image, noise, wcs, beam, options=chosen)
        if np.isfinite(factor) and factor > 0.0:
            chosen = replace(chosen, error_scale=chosen.error_scale * factor)
    fluxes = measure(image, noise, wcs, beam, positions["ra_deg"].to_numpy(), positions["dec_deg"].to_numpy(), options=chosen)
    inside = ~fluxes["flags"].str.contains("outside").to_numpy() & (fluxes["coverage"].to_numpy() > 0.0)
    table = pd.concat(
        [positions.loc[inside].reset_index(drop=True), fluxes.loc[inside].drop(columns=["ra_deg", "dec_deg"]).reset_index(drop=True)],
        axis=1,
    )
    table["time_mjd"] = 0.5 * (number(header, "MJD-BEG") + number(header, "MJD-END"))
    table["mosaic_name"] = name
    table["error_scale"] = chosen.error_scale
    return table
