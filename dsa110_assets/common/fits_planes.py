"""Celestial planes of FITS images: reading, writing, coordinates, units.

An image is one plane of pixels, y north and x west. Its file may have degenerate axes of frequency and polarization,
and its pixels are big-endian. Readers get two axes and native numbers (pitfall 9). Images of other programs may lie in
an extension, be compressed, have their axes in another order, or be in another frame or unit: all of this is undone
here, and only here.
"""

from __future__ import annotations

import lzma
import re
import zlib
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import Cutout2D
from astropy.time import Time
from astropy.wcs import WCS, WCSSUB_LATITUDE, WCSSUB_LONGITUDE, InconsistentAxisTypesError
from astropy.wcs.utils import wcs_to_celestial_frame
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.foreign_headers import as_standard
from dsa110_assets.errors import ProductVerificationError
from dsa110_assets.files import why_not_openable

JY_PER_BEAM = "Jy/beam"
JY_PER_PIXEL = "Jy/pixel"
BEAM2_PER_JY2 = "Jy-2 beam2"
"""Inverse variance. These values of BUNIT follow the FITS standard, and astropy reads them."""
_FITS_BLOCK = 2880
_NEXT_STEP = "give a FITS file with one image of the sky, or make it again"
_DAMAGE = (
    OSError,
    EOFError,
    ImportError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    zlib.error,
    lzma.LZMAError,
    fits.VerifyError,
)
"""What astropy and the unpackers raise for damaged files, and for a kind of compression that is not installed."""
_MASKS = ("MASK", "WGT", "CASATABLE")
_LONGITUDES, _LATITUDES = ("RA-", "GLON", "ELON"), ("DEC", "GLAT", "ELAT")
_FLUX_UNIT = re.compile(r"(?:[a-zµμ]{0,5}jy)[\s.*]*(?:/\s*beam|beam-1)|beam-1[\s.*]*(?:[a-zµμ]{0,5}jy)")
_PREFIXES = {"": 1.0, "m": 1e-3, "milli": 1e-3, "u": 1e-6, "µ": 1e-6, "μ": 1e-6, "micro": 1e-6, "n": 1e-9, "k": 1e3, "M": 1e6}
_TIME_SCALES = {"": "utc", "gmt": "utc", "ut": "utc", "iat": "tai", "et": "tt", "tdt": "tt", "utc": "utc", "tai": "tai", "tt": "tt"}
"""Values of TIMESYS, and what astropy calls them."""
_CREDIBLE_MJD = (15_000.0, 110_000.0)
"""The years 1900 to 2160. CASA writes 1858 for no time, and others a JD or seconds where an MJD belongs."""
_JD_MINUS_MJD = 2_400_000.5
_DAY_FIRST = re.compile(r"(\d{2})-(\d{2})-(\d{2}|\d{4})")
_ZONE = re.compile(r"(?:Z|[+-]\d{2}:?\d{2})$")
_CREDIBLE_EQUINOX = (1800.0, 2200.0)
_PIXEL_ACCURACY = 1e-7
"""Pixels to which the distortion of an image is inverted."""
_OTHER_SPECTRAL = ("VRAD", "VOPT", "VELO", "FELO", "ZOPT", "BETA", "WAVE", "AWAV", "WAVN", "ENER")
_HZ = {"hz": 1.0, "khz": 1e3, "mhz": 1e6, "ghz": 1e9}
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
    with _image_hdu(path, memmap=memmap) as (hdu, header):
        try:
            data = hdu.data
        except _DAMAGE as error:  # truncated, or not what its header describes
            raise ProductVerificationError(path, f"cannot be read ({error})", _NEXT_STEP) from error
        shape = None if data is None else data.shape
        if data is None or data.ndim < 2 or data.dtype.kind not in "iuf":
            raise ProductVerificationError(path, f"not one image plane ({shape})", _NEXT_STEP)
        columns, rows = _celestial_axes(header, data.ndim)
        if data.size != data.shape[columns] * data.shape[rows]:
            raise ProductVerificationError(path, f"not one image plane ({shape}): cubes are not supported", "give one plane of it")
        plane = data.reshape(data.shape[min(rows, columns)], data.shape[max(rows, columns)])
        yield plane if rows < columns else plane.T, header


@contextmanager
def _image_hdu(path: Path, *, memmap: bool) -> Generator[tuple[Any, fits.Header]]:
    """The part of a FITS file with its image, also in an extension or compressed, and its header in standard form."""
    if (why := why_not_openable(path)) is not None:
        raise ProductVerificationError(path, why, _NEXT_STEP)
    with ExitStack() as stack:
        try:
            hdus = stack.enter_context(fits.open(path, memmap=memmap and path.suffix == ".fits"))
            images = [hdu for hdu in hdus if hdu.is_image and hdu.header.get("NAXIS", 0) > 0 and hdu.name not in _MASKS]
        except _DAMAGE as error:
            raise ProductVerificationError(path, f"cannot be read ({error})", _NEXT_STEP) from error
        if not images:
            raise ProductVerificationError(path, "holds no image", "give a FITS file with one image of the sky")
        if len(images) > 1:
            names = ", ".join(f"{hdus.index_of(hdu)} {hdu.name}".strip() for hdu in images)
            raise ProductVerificationError(
                path, f"holds {len(images)} images (extensions {names})", "write the one to use into its own file"
            )
        try:
            header = as_standard(images[0].header, hdus)
        except _DAMAGE as error:
            raise ProductVerificationError(path, f"its header cannot be read ({error})", _NEXT_STEP) from error
        yield images[0], header


def _celestial_axes(header: fits.Header, ndim: int) -> tuple[int, int]:
    """Axes of a pixel array that are longitude and latitude, by their CTYPE; the last two if none is named."""
    names = [str(header.get(f"CTYPE{axis}", "")).upper() for axis in range(1, ndim + 1)]
    longitude = next((axis for axis, name in enumerate(names) if name.startswith(_LONGITUDES)), 0)
    latitude = next((axis for axis, name in enumerate(names) if name.startswith(_LATITUDES)), 1)
    if longitude == latitude:
        longitude, latitude = 0, 1
    return ndim - 1 - longitude, ndim - 1 - latitude


def read_header(path: Path) -> fits.Header:
    """Read the header of a FITS image, but no pixels.

    Raises:
        ProductVerificationError: the file cannot be read.
    """
    with _image_hdu(path, memmap=True) as (_, header):
        return header


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
        x, y = (round(float(value)) if np.isfinite(value) else -1 for value in pixel_positions(celestial_wcs(header), ra_deg, dec_deg))
        if not (0 <= x < pixels.shape[1] and 0 <= y < pixels.shape[0]):
            return None
        half = max(1, round(size_arcsec / 7200.0 / abs(number(header, "CDELT2"))))
        part = Cutout2D(pixels, (x, y), 2 * half + 1, mode="partial", fill_value=np.nan)
        return np.array(part.data, dtype=np.float32)


def number(header: fits.Header, key: str, default: float = np.nan) -> float:
    """Numerical value of a header keyword; ``default`` if it is absent or not a number."""
    value = header.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def frequency_hz(header: fits.Header) -> float:
    """Frequency of an image: of its only pixel on the spectral axis, else RESTFRQ; NaN if the header has neither."""
    for axis in range(1, int(max(number(header, "NAXIS", 0), number(header, "WCSAXES", 0))) + 1):
        if str(header.get(f"CTYPE{axis}", "")).strip().upper().startswith(_OTHER_SPECTRAL):
            return _frequency_by_wcslib(header)
        if str(header.get(f"CTYPE{axis}", "")).strip().upper().startswith("FREQ"):
            offset = (1.0 - number(header, f"CRPIX{axis}", 1.0)) * number(header, f"CDELT{axis}", 0.0)
            unit = str(header.get(f"CUNIT{axis}", "Hz")).strip().lower() or "hz"
            return (number(header, f"CRVAL{axis}") + offset) * _HZ.get(unit, np.nan)
    return number(header, "RESTFRQ", number(header, "RESTFREQ"))


def _frequency_by_wcslib(header: fits.Header) -> float:
    """Frequency of the first pixel of a spectral axis in velocities, wavelengths or the like; NaN if it has none."""
    try:
        wcs: Any = WCS(header, fix=False)
        wcs.wcs.spcfix()  # names of AIPS, such as VELO-LSR
        wcs.wcs.sptr("FREQ-???")
        return float(wcs.wcs_pix2world(np.zeros((1, wcs.naxis)), 0)[0, wcs.wcs.spec])
    except (ValueError, TypeError, AttributeError, LookupError, MemoryError, InconsistentAxisTypesError):
        return np.nan


def jy_per_beam(header: fits.Header) -> float:
    """Value of the image's unit in Jy/beam: 1 for Jy/beam in any spelling, 0.001 for mJy/beam; NaN for another unit."""
    unit = re.sub(r"/bm\b", "/beam", " ".join(str(header.get("BUNIT", "")).split()), flags=re.IGNORECASE)
    lower = unit.lower().replace("beam^-1", "beam-1").replace("beam**-1", "beam-1").replace("/ ", "/").replace(" /", "/")
    match = _FLUX_UNIT.fullmatch(lower)
    if match is None:
        return _as_astropy_reads(unit)
    written = re.sub(r"beam\s*-1|/\s*beam|[\s.*^]", "", unit.replace("^", "").replace("**", ""), flags=re.IGNORECASE)
    prefix = written[:-2]  # before Jy; its case tells milli from mega
    if prefix == "M" and unit.isupper():
        return np.nan  # of a program that writes capitals only: milli as likely as mega
    return _PREFIXES.get(prefix, _PREFIXES.get(prefix.lower(), np.nan))


def _as_astropy_reads(unit: str) -> float:
    """Value of a unit in Jy/beam, such as ``Jansky/(beam)`` or ``10**-3 Jy/beam``; NaN if it is another one."""
    try:
        value: Any = units.Unit(re.sub(r"[${}]", "", unit)).to(units.Jy / units.beam)
        return float(value)
    except (ValueError, TypeError):  # UnitConversionError is both
        return np.nan


def is_jy_per_beam(header: fits.Header) -> bool:
    """Whether BUNIT is Jy/beam, whatever its spelling; files of earlier versions have JY/BEAM."""
    return jy_per_beam(header) == 1.0


def mid_time_mjd(header: fits.Header) -> float:
    """Middle of the observation, UTC MJD, from what the header has; NaN without any time.

    MJD-BEG and MJD-END, or DATE-BEG and DATE-END, give the middle; then MJD-AVG, DATE-AVG, MJD-OBS, DATE-OBS as it is;
    at last JD, JD-OBS, MJD. What is no time of radio astronomy (`_CREDIBLE_MJD`) is none.
    """
    begin, end = _time(header, "BEG"), _time(header, "END")
    if begin <= end:
        return 0.5 * (begin + end)
    single = (number(header, "JD") - _JD_MINUS_MJD, number(header, "JD-OBS") - _JD_MINUS_MJD, number(header, "MJD"))
    kinds = ("AVG", "OBS") if begin > end else ("AVG", "OBS", "BEG", "END")
    times = (*(_time(header, kind) for kind in kinds), *(_in_utc(mjd, "mjd", header) for mjd in single))
    return next((time for time in times if np.isfinite(time)), np.nan)


def _time(header: fits.Header, kind: str) -> float:
    mjd, text = number(header, f"MJD-{kind}"), str(header.get(f"DATE-{kind}", "")).strip()
    if np.isfinite(mjd):
        return _in_utc(mjd, "mjd", header)
    if kind == "OBS" and text and ":" not in text:
        text = f"{text}T{str(header.get('TIME-OBS', '')).strip()}".rstrip("T")
    return _in_utc(_standard_date(text), "fits", header) if text else np.nan


def _standard_date(text: str) -> str:
    """A date as the standard writes it, of ``2026/03/12 05:00``, ``12/05/93`` (before 2000) or one with a time zone."""
    day, _, clock = text.replace("/", "-").replace(" ", "T").partition("T")
    if (old := _DAY_FIRST.fullmatch(day)) is not None:
        day = f"19{old[3]}-{old[2]}-{old[1]}" if len(old[3]) == 2 else f"{old[3]}-{old[2]}-{old[1]}"
    if not _ZONE.search(clock):
        return f"{day}T{clock}" if clock else day
    try:
        return datetime.fromisoformat(f"{day}T{clock}").astimezone(UTC).replace(tzinfo=None).isoformat()
    except ValueError:
        return ""


def _in_utc(value: float | str, form: str, header: fits.Header) -> float:
    scale = str(header.get("TIMESYS", "UTC")).partition("(")[0].strip().lower()
    scale = _TIME_SCALES.get(scale, scale)
    if scale not in _TIME_SCALES.values():
        return np.nan
    try:
        moment: Any = Time(value, format=form, scale=scale)
        mjd = float(value) if scale == "utc" and isinstance(value, int | float) else float(moment.utc.mjd)
    except (ValueError, LookupError, OverflowError):
        return np.nan
    return mjd if _CREDIBLE_MJD[0] < mjd < _CREDIBLE_MJD[1] else np.nan


def celestial_wcs(header: fits.Header) -> WCS:
    """Two-dimensional celestial coordinates of a header with any number of axes, longitude first (pitfall 9).

    Raises:
        ProductVerificationError: the header has no celestial axes, or they make no sense.
    """
    try:
        wcs = WCS(header, fix=False)  # we read times from the header ourselves; do not let astropy guess
        celestial = wcs.sub([WCSSUB_LONGITUDE, WCSSUB_LATITUDE])
    except (ValueError, TypeError, AttributeError, LookupError, MemoryError, InconsistentAxisTypesError) as error:
        raise ProductVerificationError("FITS header", f"its coordinates cannot be read ({error})", _NEXT_STEP) from error
    if celestial.naxis != 2:
        raise ProductVerificationError("FITS header", "it has no celestial axes", _NEXT_STEP)
    return celestial


def pixel_positions(wcs: WCS, ra_deg: ArrayLike, dec_deg: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Zero-based pixel coordinates (x, y) of ICRS positions, in an image of any frame; NaN beyond the projection.

    Raises:
        ProductVerificationError: the frame of the image is unknown.
    """
    longitude, latitude = _in_frame_of(wcs, np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64))
    celestial = wcs.celestial
    with np.errstate(invalid="ignore"):
        if celestial.has_distortion:
            x, y = celestial.all_world2pix(longitude, latitude, 0, tolerance=_PIXEL_ACCURACY, quiet=True)
        else:
            x, y = celestial.wcs_world2pix(longitude, latitude, 0)
    return np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)


def sky_positions(wcs: WCS, x: ArrayLike, y: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """ICRS positions, degrees, of zero-based pixels in an image of any frame; inverse of `pixel_positions`."""
    celestial = wcs.celestial
    to_sky = celestial.all_pix2world if celestial.has_distortion else celestial.wcs_pix2world
    longitude, latitude = to_sky(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64), 0)
    if is_icrs(wcs):
        return np.asarray(longitude), np.asarray(latitude)
    sky: Any = SkyCoord(longitude, latitude, unit="deg", frame=frame_of(wcs)).icrs
    return np.asarray(sky.ra.deg), np.asarray(sky.dec.deg)


def is_icrs(wcs: WCS) -> bool:
    """Whether the coordinates of an image are ICRS."""
    header = wcs.wcs
    return header.radesys.strip().upper() == "ICRS" and header.lngtyp.strip() == "RA"


def frame_of(wcs: WCS) -> Any:
    """Celestial frame of an image, as astropy has it.

    Raises:
        ProductVerificationError: it is unknown.
    """
    try:
        if wcs.wcs.radesys.strip().upper().startswith("FK") and not _CREDIBLE_EQUINOX[0] < wcs.wcs.equinox < _CREDIBLE_EQUINOX[1]:
            message = "impossible equinox"
            raise ValueError(message)
        return wcs_to_celestial_frame(wcs)
    except ValueError as error:
        found = f"{wcs.wcs.radesys or 'no RADESYS'}, axes {', '.join(wcs.wcs.ctype)}, equinox {wcs.wcs.equinox}"
        raise ProductVerificationError(
            "FITS header", f"its frame is unknown ({found})", "regrid the image to ICRS, or correct RADESYS and EQUINOX"
        ) from error


def _in_frame_of(wcs: WCS, ra_deg: NDArray[np.float64], dec_deg: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if is_icrs(wcs):
        return ra_deg, dec_deg
    frame = frame_of(wcs)
    if ra_deg.size == 0:
        return ra_deg, dec_deg
    sky: Any = SkyCoord(ra_deg, dec_deg, unit="deg", frame="icrs").transform_to(frame)
    return np.asarray(sky.spherical.lon.deg), np.asarray(sky.spherical.lat.deg)
