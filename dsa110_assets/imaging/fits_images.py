"""FITS files of a tile image: four axes in CASA's order (RA, Dec, FREQ, STOKES), and complete headers.

`products` has the file names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.time import Time
from numpy.typing import NDArray

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.fits_planes import BEAM2_PER_JY2, JY_PER_BEAM, JY_PER_PIXEL, celestial_wcs, read_plane, write_plane
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import ImagingError, ProductVerificationError
from dsa110_assets.files import ascii_text
from dsa110_assets.imaging.grid import ImageGrid

if TYPE_CHECKING:
    from astropy.io.fits import Header

UNITS = {
    "dirty": JY_PER_BEAM,
    "psf": JY_PER_BEAM,
    "model": JY_PER_PIXEL,
    "residual": JY_PER_BEAM,
    "image": JY_PER_BEAM,
    "image-pb": JY_PER_BEAM,
    "pb": "",
    "weight": BEAM2_PER_JY2,
    "noise": JY_PER_BEAM,
    "alpha": "",
    "alpha-error": "",
}
_KEYWORDS = {"group": "DSAGROUP", "code_version": "DSACODE", "config_hash": "DSACONF"}


@dataclass(frozen=True)
class ImageMetadata:
    """Facts common to all headers of a tile.

    ``frequency_hz``: weighted mean frequency of the data. ``bandwidth_hz``: bandwidth of the data.
    ``reference_frequency_hz``, ``spectral_index``: frequency and spectral index for which `image-pb` is quoted.
    ``start_mjd``, ``end_mjd``: UTC. ``noise_jy_per_beam``: measured. ``thermal_jy_per_beam``: predicted. ``telescope``:
    name. ``engine``: imaging engine. ``name``: observation. ``flux_error``: of errors of gains; None if it was not
    measured. ``provenance``: further facts; ``group``, ``code_version``
    and ``config_hash`` become DSAGROUP, DSACODE and DSACONF, the rest HISTORY.
    """

    grid: ImageGrid
    beam: RestoringBeam
    frequency_hz: float
    bandwidth_hz: float
    reference_frequency_hz: float
    spectral_index: float
    start_mjd: float
    end_mjd: float
    noise_jy_per_beam: float
    thermal_jy_per_beam: float
    telescope: str
    engine: str
    name: str
    provenance: Mapping[str, str]
    flux_error: CalibrationError | None = None


def image_header(meta: ImageMetadata, suffix: str) -> Header:
    """Make the header of one file; ``suffix`` is in `products.IMAGE_SUFFIXES` or `products.SPECTRAL_SUFFIXES`."""
    grid, beam = meta.grid, meta.beam
    degrees = float(np.degrees(grid.cell_rad))
    header = fits.Header()
    header["BUNIT"] = (UNITS[suffix], "unit of the pixels")
    header["BTYPE"] = {
        "psf": "Beam",
        "pb": "Response",
        "weight": "Weight",
        "noise": "Noise",
        "alpha": "Spectral index",
        "alpha-error": "Error",
    }.get(suffix, "Intensity")
    axes = (
        ("RA---SIN", float(np.degrees(grid.ra_rad)), -degrees, grid.size / 2 + 1, "deg"),
        ("DEC--SIN", float(np.degrees(grid.dec_rad)), degrees, grid.size / 2 + 1, "deg"),
        (
            "FREQ",
            meta.reference_frequency_hz if suffix in {"image-pb", "noise", "alpha", "alpha-error"} else meta.frequency_hz,
            meta.bandwidth_hz,
            1.0,
            "Hz",
        ),
        ("STOKES", 1.0, 1.0, 1.0, ""),
    )
    for number, (kind, value, step, pixel, unit) in enumerate(axes, start=1):
        header[f"CTYPE{number}"], header[f"CRVAL{number}"], header[f"CDELT{number}"] = kind, value, step
        header[f"CRPIX{number}"], header[f"CUNIT{number}"] = pixel, unit
    header["LONPOLE"], header["LATPOLE"] = 180.0, float(np.degrees(grid.dec_rad))
    header["RADESYS"] = "ICRS"
    header["SPECSYS"] = "TOPOCENT"
    header["RESTFRQ"] = header["CRVAL3"]
    if suffix not in {"pb", "weight"}:
        beam.write_to(header)
    header["TELESCOP"] = ascii_text(meta.telescope)
    header["INSTRUME"] = "DSA-110"
    header["OBJECT"] = ascii_text(meta.name)
    header["TIMESYS"] = "UTC"
    header["DATE-OBS"] = header["DATE-BEG"] = Time(meta.start_mjd, format="mjd", scale="utc").isot
    header["DATE-END"] = Time(meta.end_mjd, format="mjd", scale="utc").isot
    header["MJD-BEG"], header["MJD-END"] = meta.start_mjd, meta.end_mjd
    header["MJD-OBS"] = meta.start_mjd
    header["DSANOISE"] = (meta.noise_jy_per_beam, "Jy/beam, robust rms of the residual in the beam")
    header["DSATHERM"] = (meta.thermal_jy_per_beam, "Jy/beam, thermal prediction of the weights")
    header["DSAREFHZ"] = (meta.reference_frequency_hz, "Hz, at which image-pb is quoted")
    header["DSAALPHA"] = (meta.spectral_index, "spectral index that pb assumes")
    header["DSAENGIN"] = (meta.engine, "imaging engine")
    if meta.flux_error is not None:
        meta.flux_error.write_to(header)
    header["ORIGIN"] = "dsa110-assets"
    for key, value in meta.provenance.items():
        text = ascii_text(value)
        if key in _KEYWORDS:
            header[_KEYWORDS[key]] = text
        elif key.isupper() and key.isalnum() and len(key) <= 8 and len(text) <= 60:
            header[key] = text
        else:
            header["HISTORY"] = f"{key} = {text}"
    return header


def write_image(path: Path, pixels: NDArray[np.float32], meta: ImageMetadata, suffix: str) -> None:
    """Write (N, N) pixels, y north and x west, as a FITS image with four axes."""
    write_plane(path, pixels, image_header(meta, suffix))


def read_mask(path: Path, grid: ImageGrid) -> NDArray[np.bool_]:
    """Read a mask from a FITS image, (N, N), true where it is not 0; it must have the pixels of the tile image.

    Raises:
        ImagingError: it cannot be read, or its pixels are not those of the image.
    """
    try:
        pixels, header = read_plane(path)
    except ProductVerificationError as error:
        raise ImagingError(path, f"is not a FITS image: {error.cause}", "give a mask that was made from an image of this tile") from error
    if pixels.shape != (grid.size, grid.size):
        raise ImagingError(
            path, f"has {pixels.shape} pixels, but the image has {grid.size} x {grid.size}", "make the mask from an image of this tile"
        )
    corner = np.array([0.0, grid.size - 1.0])
    y, x = grid.pixel_of(*np.radians(celestial_wcs(header).wcs_pix2world(corner, corner, 0)))
    if not np.allclose(y, corner, atol=0.5) or not np.allclose(x, corner, atol=0.5):
        raise ImagingError(path, "covers another part of the sky than the image", "make the mask from an image of this tile")
    return pixels != 0
