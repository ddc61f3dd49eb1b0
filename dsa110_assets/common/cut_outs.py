"""Squares cut out of images of the sky, and the difference of two images around a position.

Cut-outs are read from a memory map, so their cost does not follow the size of the image. What they are shown for does
not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates

from dsa110_assets.common.fits_planes import celestial_wcs, mapped_plane, number, pixel_positions, sky_positions
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.errors import InvalidRequestError, NotFoundError

MOST_PIXELS = 1024
"""Largest width of a cut-out."""
MOST_BEAM_RATIO = 1.25
"""Areas of two beams may differ by this factor; beyond it, each source leaves a ring in the difference."""
_KEPT = ("BMAJ", "BMIN", "BPA", "BUNIT", "OBJECT", "DATE-OBS", "MJD-OBS", "TELESCOP", "DSACODE", "DSACONF")
_SAME_PIXEL = 1e-3
_MARGIN = 4
_WHOLE = 0.999


@dataclass(frozen=True)
class Cut:
    """A square of an image: ``pixels`` (ny, nx), NaN beyond the image; ``header`` of two axes, with beam and unit."""

    pixels: NDArray[np.float32]
    header: fits.Header

    def file(self) -> bytes:
        """The square as a FITS file with two axes."""
        from io import BytesIO

        stream = BytesIO()
        fits.PrimaryHDU(self.pixels, header=self.header).writeto(stream)
        return stream.getvalue()


def cut_out(path: Path, ra_deg: float, dec_deg: float, size_arcmin: float) -> Cut:
    """Cut a square out of an image, north up as the image is.

    Args:
        path: FITS image.
        ra_deg, dec_deg: center, degrees, ICRS.
        size_arcmin: width and height.

    Raises:
        NotFoundError: the image is not there, or does not cover the position.
        InvalidRequestError: the square has more than `MOST_PIXELS` pixels in a row.
    """
    if not path.is_file():
        raise NotFoundError(
            f"image {path.name}", "the file is not there", "it was removed, or this kind was not made; list the product's files"
        )
    with mapped_plane(path) as (pixels, header):
        wcs = celestial_wcs(header)
        x, y = (float(one) for one in pixel_positions(wcs, ra_deg, dec_deg))
        if not (-0.5 <= x < pixels.shape[1] - 0.5 and -0.5 <= y < pixels.shape[0] - 0.5):  # also NaN
            raise NotFoundError(f"image {path.name}", f"does not cover RA {ra_deg}, Dec {dec_deg}", "search the position: /ui/search")
        cell_arcmin = abs(number(header, "CDELT2")) * 60.0
        size = max(1, round(size_arcmin / cell_arcmin))
        if size > MOST_PIXELS:
            raise InvalidRequestError(
                "size_arcmin",
                f"{size_arcmin} arcmin are {size} pixels, more than {MOST_PIXELS}",
                f"ask for at most {MOST_PIXELS * cell_arcmin:.1f} arcmin",
            )
        part = Cutout2D(pixels, (x, y), size, wcs=wcs, mode="partial", fill_value=np.nan)
        values, frame = np.array(part.data, dtype=np.float32), part.wcs
    assert frame is not None
    cut: Any = frame.to_header()
    for key in _KEPT:
        if key in header:
            cut[key] = (header[key], header.comments[key])
    cut.update(_local_frame(frame, ra_deg, dec_deg))
    return Cut(values, cut)


def _local_frame(wcs: WCS, ra_deg: float, dec_deg: float) -> dict[str, tuple[float, str]]:
    """Pixels around the center as a linear function of offsets, so that a browser needs no projection.

    Within half a degree it is right to a third of a pixel.
    """
    step = 0.05
    east = step / max(np.cos(np.radians(dec_deg)), 1e-3)
    ra = np.array([ra_deg, ra_deg + east, ra_deg - east, ra_deg, ra_deg]) % 360.0
    dec = np.clip(dec_deg + np.array([0.0, 0.0, 0.0, step, -step]), -90.0, 90.0)
    x, y = pixel_positions(wcs, ra, dec)
    meaning = "zero-based pixel; pixels per degree east, north"
    return {
        "CUTRA": (ra_deg, "center, degrees"),
        "CUTDEC": (dec_deg, "center, degrees"),
        "CUTX": (float(x[0]), meaning),
        "CUTY": (float(y[0]), meaning),
        "CUTXE": (float(x[1] - x[2]) / (2 * step), meaning),
        "CUTYE": (float(y[1] - y[2]) / (2 * step), meaning),
        "CUTXN": (float(x[3] - x[4]) / (2 * step), meaning),
        "CUTYN": (float(y[3] - y[4]) / (2 * step), meaning),
    }


def difference(first: Path, second: Path, ra_deg: float, dec_deg: float, size_arcmin: float) -> Cut:
    """The first image minus the second around a position, on the grid of the first.

    If the grids differ, the second is interpolated (cubic splines), which smooths its noise by some percent. The beams
    are not made equal.

    Raises:
        NotFoundError, InvalidRequestError: as for `cut_out`; or the units or beams differ too much for a difference.
    """
    one = cut_out(first, ra_deg, dec_deg, size_arcmin)
    cell_arcmin = abs(number(one.header, "CDELT2")) * 60.0
    wider = min(size_arcmin * 1.5 + 2 * _MARGIN * cell_arcmin, MOST_PIXELS * cell_arcmin * 0.999)
    other = cut_out(second, ra_deg, dec_deg, wider)
    _check_alike(first, second, one.header, other.header)
    resampled, was_interpolated = _on_grid_of(one, other)
    header = one.header.copy()
    header["MINUS"] = (second.name[:60], "image that was subtracted")
    header["RESAMPLE"] = (was_interpolated, "the subtracted image was interpolated")
    return Cut(one.pixels - resampled, header)


def _check_alike(first: Path, second: Path, one: fits.Header, other: fits.Header) -> None:
    units = [str(header.get("BUNIT", "none")) for header in (one, other)]
    if units[0] != units[1]:
        raise InvalidRequestError("difference", f"{first.name} is in {units[0]}, {second.name} in {units[1]}", "take images of one kind")
    beams = [RestoringBeam.from_header(header) for header in (one, other)]
    areas = [beam.major_arcsec * beam.minor_arcsec for beam in beams]
    if max(areas) > MOST_BEAM_RATIO * min(areas):
        shapes = " and ".join(f"{beam.major_arcsec:.0f} x {beam.minor_arcsec:.0f} arcsec" for beam in beams)
        raise InvalidRequestError(
            "difference", f"the beams are {shapes}, so each source would leave a ring", "take epochs with similar beams, or blink them"
        )


def _on_grid_of(one: Cut, other: Cut) -> tuple[NDArray[np.float32], bool]:
    """Pixels of ``other`` at those of ``one``, and whether they were interpolated."""
    height, width = one.pixels.shape
    rows, columns = np.mgrid[0:height, 0:width]
    ra, dec = sky_positions(celestial_wcs(one.header), columns.ravel(), rows.ravel())
    x, y = (axis.reshape(height, width) for axis in pixel_positions(celestial_wcs(other.header), ra, dec))
    near = np.round(x), np.round(y)
    if max(np.nanmax(np.abs(x - near[0])), np.nanmax(np.abs(y - near[1]))) < _SAME_PIXEL:
        return np.asarray(map_coordinates(other.pixels, [near[1], near[0]], order=0, cval=np.nan), dtype=np.float32), False
    valid = np.isfinite(other.pixels)
    values = map_coordinates(np.where(valid, other.pixels, 0.0), [y, x], order=3, cval=0.0)
    covered = map_coordinates(valid.astype(np.float32), [y, x], order=1, cval=0.0)
    return np.where(covered > _WHOLE, values, np.nan).astype(np.float32), True
