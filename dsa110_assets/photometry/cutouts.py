"""Small cut-outs of the measured sources of a mosaic, which stay when the mosaic's image is removed.

A file holds one image cube, compressed source by source, so that one cut-out is read without the others, and a table of
the sources. What a cut-out is shown for (candidates, pages) does not belong here.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from numpy.typing import NDArray

from dsa110_assets.common.fits_planes import celestial_wcs, mapped_plane, number, pixel_positions
from dsa110_assets.common.restoring_beam import RestoringBeam

SIZE_BEAMS = 4.0
"""Width of a cut-out in major axes of the restoring beam."""
NOISE_STEPS = 8.0
"""Pixels are rounded to the noise of their cut-out over this; rounding adds 0.07 % to the noise."""


def write_cutouts(image: Path, destination: Path, source_ids: NDArray[np.int64], ra_deg: NDArray[Any], dec_deg: NDArray[Any]) -> int:
    """Write the cut-outs of sources in an image; return the number of those that lie inside it.

    Args:
        image: FITS plane, Jy/beam, of a mosaic.
        destination: file to write; replaced in one step by the caller.
        source_ids: shape (n,).
        ra_deg, dec_deg: ICRS, shape (n,).

    Raises:
        ProductVerificationError: the image cannot be read.
    """
    with mapped_plane(image) as (pixels, header):
        cell_arcsec = 3600.0 * abs(number(header, "CDELT2"))
        side = 2 * max(1, round(0.5 * SIZE_BEAMS * RestoringBeam.from_header(header).major_arcsec / cell_arcsec)) + 1
        x, y = (np.round(axis) for axis in pixel_positions(celestial_wcs(header), ra_deg, dec_deg))
        inside = np.flatnonzero((x >= 0) & (x < pixels.shape[1]) & (y >= 0) & (y < pixels.shape[0]))
        cube = np.full((inside.size, side, side), np.nan, dtype=np.float32)
        for row, source in enumerate(inside):
            part = Cutout2D(pixels, (int(x[source]), int(y[source])), side, mode="partial", fill_value=np.nan)
            cube[row] = part.data
    kept = fits.Header([(key, header[key]) for key in ("BMAJ", "BMIN", "BPA", "BUNIT", "DATE-OBS", "CDELT2") if key in header])
    kept["COMMENT"] = "cut-outs of the measured sources; the table SOURCES has one row for each plane"
    columns = {"source_id": source_ids[inside], "ra_deg": np.asarray(ra_deg)[inside], "dec_deg": np.asarray(dec_deg)[inside]}
    table = fits.BinTableHDU.from_columns(
        [fits.Column(name, "K" if name == "source_id" else "D", array=values) for name, values in columns.items()], name="SOURCES"
    )
    hdus: list[Any] = [fits.PrimaryHDU(), table]
    if inside.size:
        hdus.append(
            fits.CompImageHDU(cube, kept, name="CUTOUTS", compression_type="RICE_1", tile_shape=(1, side, side), quantize_level=NOISE_STEPS)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fits.verify.VerifyWarning)
        fits.HDUList(hdus).writeto(destination, checksum=False)
    return int(inside.size)


def read_cutout(path: Path, source_id: int) -> NDArray[np.float32] | None:
    """Read one cut-out: shape (side, side), Jy/beam, NaN beyond the edge of the mosaic. None if there is none."""
    opened: Any = fits.open(path)
    with opened as hdus:
        rows = np.flatnonzero(np.asarray(hdus["SOURCES"].data["source_id"]) == source_id)
        if not rows.size:
            return None
        return np.asarray(hdus["CUTOUTS"].section[int(rows[0])], dtype=np.float32)
