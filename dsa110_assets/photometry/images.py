"""Forced photometry on the files of a mosaic or a tile.

Belongs here: which files, which header keywords, which positions lie inside. Does not belong here: the measurement itself
(`forced`), writing the table (`tables`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from dsa110_assets.errors import PhotometryError
from dsa110_assets.photometry.beams import Beam
from dsa110_assets.photometry.forced import PhotometryOptions, measure, measured_error_factor
from dsa110_assets.products import image_path


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
        measure_errors: scale the errors by `measured_error_factor` of this image where it can be measured.

    Returns:
        The columns of ``positions`` and of `forced.measure` for the positions that fall on valid pixels or near them
        (flag ``edge`` or ``nan``; flux NaN where the beam is not covered), and ``time_mjd`` (UTC, middle of the observations),
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
    """Fluxes in a tile's beam-corrected image (``-image-pb``) with noise ``1 / sqrt(-weight)``; as `measure_mosaic`.

    The restoring beam of a tile is the same all over the image plane, so the options' ``beam_frame`` becomes ``image``.
    """
    image, header = _read_map(image_path(directory, name, "image-pb"))
    weight, _ = _read_map(image_path(directory, name, "weight"))
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = np.where(weight > 0.0, 1.0 / np.sqrt(weight), np.nan).astype(np.float32)
    chosen = replace(options or PhotometryOptions(), beam_frame="image")
    return _measure_maps(
        image, noise, header, image_path(directory, name, "image-pb"), name, positions, chosen, measure_errors=measure_errors
    )


def _read_map(path: Path) -> tuple[NDArray[np.float32], fits.Header]:
    """The celestial plane of a FITS image as native float32 of shape (ny, nx), and its header."""
    try:
        with fits.open(path, memmap=False) as hdus:
            data, header = hdus[0].data, hdus[0].header
    except OSError as error:
        raise PhotometryError(path, f"cannot be read ({error})", "make the image again, then its photometry") from error
    if data is None or data.ndim < 2 or int(np.prod(data.shape[:-2])) != 1:
        raise PhotometryError(path, "one image plane was expected", "give a continuum image, not a cube")
    return np.ascontiguousarray(data.reshape(data.shape[-2:]), dtype=np.float32), header


def _number(header: fits.Header, key: str) -> float:
    return float(cast("float", header[key]))


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
    unit = str(header.get("BUNIT", "")).upper().replace(" ", "")
    if unit != "JY/BEAM":
        raise PhotometryError(path, f"BUNIT is {header.get('BUNIT')!r}, Jy/beam was expected", "convert the image; fluxes here are Jy only")
    absent = [key for key in ("BMAJ", "BMIN", "BPA", "MJD-BEG", "MJD-END") if key not in header]
    if absent:
        raise PhotometryError(path, f"header lacks {', '.join(absent)}", "make the image again with its full header")
    missing = [column for column in ("name", "ra_deg", "dec_deg") if column not in positions.columns]
    if missing:
        raise PhotometryError("positions", f"columns {', '.join(missing)} are missing", "give a table with name, ra_deg and dec_deg")
    wcs = WCS(header).celestial
    beam = Beam(*(_number(header, key) for key in ("BMAJ", "BMIN", "BPA")))
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
    table["time_mjd"] = 0.5 * (_number(header, "MJD-BEG") + _number(header, "MJD-END"))
    table["mosaic_name"] = name
    table["error_scale"] = chosen.error_scale
    return table
