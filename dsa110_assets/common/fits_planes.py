"""Celestial planes of FITS images: reading, writing, coordinates, units.

An image is one plane of pixels, y north and x west. Its file may have degenerate axes of frequency and polarization,
and its pixels are big-endian. Readers get two axes and native numbers (pitfall 9).
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.errors import ProductVerificationError

JY_PER_BEAM = "Jy/beam"
JY_PER_PIXEL = "Jy/pixel"
BEAM2_PER_JY2 = "Jy-2 beam2"
"""Inverse variance. These values of BUNIT follow the FITS standard, and astropy reads them."""
_FITS_BLOCK = 2880
_BITPIX = {">f4": -32, ">i2": 16}


def read_plane(path: Path, *, memmap: bool = False) -> tuple[NDArray[np.float32], fits.Header]:
    """Pixels of a FITS image as a native array of shape (ny, nx), and its header.

    Args:
        path: image of two axes, or of more whose length is 1.
        memmap: map the file instead of reading it; this takes half the memory but fails for scaled integers.

    Raises:
        ProductVerificationError: the file cannot be read, or is not one plane.
    """
    with _opened(path, memmap=memmap) as (pixels, header):
        return np.array(pixels, dtype=np.float32, order="C"), header


@contextmanager
def mapped_plane(path: Path) -> Generator[tuple[NDArray[Any], fits.Header]]:
    """Map the pixels of a FITS image, shape (ny, nx), big-endian, while the context is open. Nothing is read yet.

    Raises:
        ProductVerificationError: the file cannot be read, or is not one plane.
    """
    with _opened(path, memmap=True) as plane:
        yield plane


@contextmanager
def _opened(path: Path, *, memmap: bool) -> Generator[tuple[NDArray[Any], fits.Header]]:
    try:
        hdus = fits.open(path, memmap=memmap)
    except OSError as error:
        raise ProductVerificationError(path, f"cannot be read ({error})", "make the image again") from error
    with hdus:
        primary: Any = hdus[0]
        try:
            data = primary.data
        except (OSError, ValueError, TypeError) as error:  # truncated, or not what its header describes
            raise ProductVerificationError(path, f"cannot be read ({error})", "make the image again") from error
        if data is None or data.ndim < 2 or data.size != data.shape[-1] * data.shape[-2]:
            found = None if data is None else data.shape
            raise ProductVerificationError(path, f"not one image plane ({found})", "make the image again; cubes are not supported")
        yield data.reshape(data.shape[-2:]), primary.header


def read_header(path: Path) -> fits.Header:
    """Read the header of a FITS image, but no pixels.

    Raises:
        ProductVerificationError: the file cannot be read.
    """
    try:
        return fits.getheader(path)
    except OSError as error:
        raise ProductVerificationError(path, f"cannot be read ({error})", "make the image again") from error


def write_plane(path: Path, pixels: NDArray[Any], header: fits.Header | None = None) -> None:
    """Write pixels of shape (ny, nx) as a float32 FITS image with four axes in CASA's order (RA, Dec, FREQ, STOKES)."""
    fits.PrimaryHDU(pixels[None, None].astype(np.float32, copy=False), header=header).writeto(path, overwrite=True)


@dataclass
class RowWriter:
    """Writer of a two-axis FITS image in blocks of rows, first to last, so that memory does not grow with the image.

    ``path``: file to write. ``header``: complete, with its NAXIS. ``unit``: BUNIT. ``dtype``: big-endian pixel type.
    """

    path: Path
    header: fits.Header
    unit: str
    dtype: str = ">f4"
    _rows: int = field(default=0, init=False)

    def __enter__(self) -> Self:
        header = self.header.copy()
        header["BITPIX"] = _BITPIX[self.dtype]
        header["BUNIT"] = self.unit
        self._stream = self.path.open("wb")
        self._stream.write(header.tostring().encode("ascii"))
        return self

    def write(self, rows: NDArray[Any]) -> None:
        """Append rows, shape (n, NAXIS1)."""
        self._stream.write(np.ascontiguousarray(rows, dtype=self.dtype).tobytes())
        self._rows += len(rows)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        size = self._rows * int(number(self.header, "NAXIS1")) * np.dtype(self.dtype).itemsize
        self._stream.write(bytes(-size % _FITS_BLOCK))
        self._stream.close()
        if kind is None and self._rows != number(self.header, "NAXIS2"):
            raise ProductVerificationError(self.path, f"{self._rows} rows written of {self.header['NAXIS2']}", "make the image again")


def verify_planes(paths: Iterable[Path], shape: tuple[int, int]) -> None:
    """Read files back: each must open, follow the FITS standard and hold an image of this shape.

    Raises:
        ProductVerificationError: a file does not; names the first.
    """
    for path in paths:
        with fits.open(path, memmap=True) as hdus:
            hdus.verify("exception")
        with mapped_plane(path) as (pixels, _):
            if pixels.shape != shape:
                raise ProductVerificationError(path, f"shape {pixels.shape}, expected {shape}", "make the image again")
            _ = pixels[-1, -1]


def cutout(path: Path, ra_deg: float, dec_deg: float, size_arcsec: float) -> NDArray[np.float32] | None:
    """Read a square part of an image around an ICRS position: odd size, the image's unit, NaN beyond its edge.

    Reads nothing else. Returns None if the position lies outside the image.

    Raises:
        ProductVerificationError: the file cannot be read, or is not one plane.
    """
    with mapped_plane(path) as (pixels, header):
        x, y = (round(float(value)) for value in celestial_wcs(header).wcs_world2pix(ra_deg, dec_deg, 0))
        if not (0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]):
            return None
        half = max(1, round(size_arcsec / 7200.0 / abs(number(header, "CDELT2"))))
        part = Cutout2D(pixels, (x, y), 2 * half + 1, mode="partial", fill_value=np.nan)
        return np.array(part.data, dtype=np.float32)


def number(header: fits.Header, key: str, default: float = np.nan) -> float:
    """Numerical value of a header keyword; ``default`` if it is absent or not a number."""
    value = header.get(key)
    return float(value) if isinstance(value, int | float) else default


def frequency_hz(header: fits.Header) -> float:
    """Frequency of an image: its FREQ axis, else RESTFRQ; NaN if the header has neither."""
    for axis in range(1, int(number(header, "NAXIS", 0)) + 1):
        if str(header.get(f"CTYPE{axis}", "")).strip() == "FREQ":
            return number(header, f"CRVAL{axis}")
    return number(header, "RESTFRQ")


def is_jy_per_beam(header: fits.Header) -> bool:
    """Whether BUNIT is Jy/beam, whatever its case and blanks; files of earlier versions have JY/BEAM."""
    return str(header.get("BUNIT", "")).upper().replace(" ", "") == JY_PER_BEAM.upper()


def celestial_wcs(header: fits.Header) -> WCS:
    """Two-dimensional celestial coordinates of a header with any number of axes (pitfall 9)."""
    return WCS(header, naxis=2, fix=False)  # we read times from the header ourselves; do not let astropy guess


def pixel_positions(wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zero-based pixel coordinates (x, y) of ICRS positions; NaN where the projection does not reach."""
    ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        x, y = wcs.celestial.wcs_world2pix(ra, dec, 0)
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
