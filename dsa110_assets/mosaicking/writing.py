"""Headers and previews of a mosaic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from dsa110_assets.common.calibration_error import CalibrationError
from dsa110_assets.common.previews import canvas, few_colours, first_below_limit, noise_stretch, picture_of, png_of_pixels, show_plane
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.files import ascii_text
from dsa110_assets.mosaicking.grid import MosaicGrid
from dsa110_assets.mosaicking.tiles import TileImage
from dsa110_assets.times import mjd_to_datetime

_HIGHEST_SIGMA = 10.0
"""S/N that a preview shows white, unless more than 0.3 % of the pixels exceed it."""
_KEYWORD = re.compile(r"[A-Z0-9_-]{1,8}")
_PROVENANCE_KEYWORDS = {"code_version": "DSACODE", "config_hash": "DSACONF"}


def mosaic_header(
    grid: MosaicGrid,
    corner: tuple[int, int],
    shape: tuple[int, int],
    beam: RestoringBeam,
    tiles: Sequence[TileImage],
    provenance: Mapping[str, str],
) -> fits.Header:
    """Two-dimensional header of a mosaic cut from a grid at ``corner`` (row, column). The file's writer adds BUNIT.

    ``provenance``: ``code_version`` and ``config_hash`` become DSACODE and DSACONF, as in tile images. An entry whose
    name is a FITS keyword becomes that keyword; the rest become HISTORY lines. HISTORY also lists the tiles, one line
    each.
    """
    header = fits.Header()
    header["SIMPLE"] = True
    header["BITPIX"] = -32
    header["NAXIS"] = 2
    header["NAXIS1"] = shape[1]
    header["NAXIS2"] = shape[0]
    header["EXTEND"] = True
    cards = grid.wcs.to_header()
    cards["CRPIX1"] = float(grid.wcs.wcs.crpix[0]) - corner[1]
    cards["CRPIX2"] = float(grid.wcs.wcs.crpix[1]) - corner[0]
    for key in ("MJDREF", "DATEREF", "MJDREFI", "MJDREFF"):
        cards.remove(key, ignore_missing=True)
    header.extend(cards, update=True)
    beam.write_to(header)
    start, end = min(tile.start_mjd for tile in tiles), max(tile.end_mjd for tile in tiles)
    header["TELESCOP"] = "DSA-110"
    header["TIMESYS"] = "UTC"
    header["DATE-OBS"] = mjd_to_datetime(start).replace(tzinfo=None).isoformat(timespec="milliseconds")
    header["DATE-BEG"] = header["DATE-OBS"]
    header["DATE-END"] = mjd_to_datetime(end).replace(tzinfo=None).isoformat(timespec="milliseconds")
    header["MJD-OBS"] = (start, "[d] UTC")
    header["MJD-BEG"] = (start, "[d] UTC")
    header["MJD-END"] = (end, "[d] UTC")
    frequencies = [tile.frequency_hz for tile in tiles if np.isfinite(tile.frequency_hz)]
    if frequencies:
        header["RESTFRQ"] = (float(np.mean(frequencies)), "[Hz] at which fluxes are quoted")
    flux_error = CalibrationError.of_mosaic([tile.flux_error for tile in tiles], float(np.mean([tile.dec_deg for tile in tiles])))
    if flux_error is not None:
        flux_error.write_to(header)
    header["DSANTILE"] = (len(tiles), "tiles combined")
    for name, value in provenance.items():
        key = _PROVENANCE_KEYWORDS.get(name, name)
        if _KEYWORD.fullmatch(key):
            header[key] = ascii_text(value)
        else:
            header.add_history(f"{key} = {ascii_text(value)}")
    for tile in tiles:
        header.add_history(f"TILE {tile.group_id} mid_mjd={tile.mid_mjd:.6f} noise_jy_per_beam={tile.noise_jy_per_beam:.6g}")
    return header


class PreviewPixels:
    """A shrunken mosaic, collected row by row: each block's largest S/N, so that sources stay visible."""

    def __init__(self, shape: tuple[int, int], longest_side_px: int = 1600) -> None:
        self.factor = max(1, int(np.ceil(max(shape) / longest_side_px)))
        self._width = shape[1]
        self._pending: list[NDArray[np.float32]] = []
        self._lines: list[NDArray[np.float32]] = []

    def add(self, snr: NDArray[np.float32]) -> None:
        """Add rows of S/N, NaN outside the mosaic."""
        self._pending.append(snr)
        if sum(len(rows) for rows in self._pending) >= self.factor:
            rows = np.concatenate(self._pending)
            whole = len(rows) // self.factor * self.factor
            self._shrink(rows[:whole])
            self._pending = [rows[whole:]]

    def pixels(self) -> NDArray[np.float32]:
        """The shrunken mosaic, southernmost row first, NaN outside."""
        rest = np.concatenate(self._pending) if self._pending else np.empty((0, self._width), np.float32)
        if len(rest):
            self._pending = []
            self._shrink(np.pad(rest, ((0, self.factor - len(rest)), (0, 0)), constant_values=np.nan))
        return np.concatenate(self._lines) if self._lines else np.full((1, 1), np.nan, np.float32)

    def _shrink(self, rows: NDArray[np.float32]) -> None:
        factor = self.factor
        rows = np.pad(rows, ((0, 0), (0, -self._width % factor)), constant_values=np.nan)
        blocks = np.where(np.isfinite(rows), rows, -np.inf).reshape(len(rows) // factor, factor, -1, factor).max(axis=(1, 3))
        self._lines.append(np.where(np.isfinite(blocks), blocks, np.nan).astype(np.float32))


def write_previews(
    pixels: NDArray[np.float32], grid: MosaicGrid, corner: tuple[int, int], factor: int, title: str, path: Path, small: Path
) -> None:
    """Draw a shrunken S/N map with coordinates to ``path``, and without, at most `LIMIT_BYTES` large, to ``small``."""
    finite = pixels[np.isfinite(pixels)]
    norm = noise_stretch(max(float(np.percentile(finite, 99.7)), _HIGHEST_SIGMA) if finite.size else _HIGHEST_SIGMA)
    height, width = pixels.shape
    figure = canvas(12.0, float(np.clip(12.0 * height / width + 1.2, 2.5, 14.0)), dpi=110, constrained=True)
    wcs = grid.wcs.deepcopy()
    wcs.wcs.crpix = [
        (wcs.wcs.crpix[0] - corner[1] - 0.5) / factor + 0.5,
        (wcs.wcs.crpix[1] - corner[0] - 0.5) / factor + 0.5,
    ]
    wcs.wcs.cdelt = np.asarray(wcs.wcs.cdelt) * factor
    axes: Any = figure.add_subplot(projection=wcs)
    show_plane(axes, pixels, norm=norm)
    axes.coords.grid(color="grey", alpha=0.4, linewidth=0.5)
    axes.set_xlabel("right ascension (ICRS)")
    axes.set_ylabel("declination (ICRS)")
    axes.set_title(title, fontsize=10)
    path.write_bytes(few_colours(picture_of(figure), 128))
    levels = np.round(np.clip(np.ma.filled(norm(pixels), np.nan), 0.0, 1.0) * 15.0) / 15.0  # few levels compress well
    steps = (max(1, int(np.ceil(max(pixels.shape) / longest))) for longest in (480, 360, 240, 160))
    small.write_bytes(first_below_limit(png_of_pixels(levels[::step, ::step]) for step in steps))
