"""The mosaic's pixel grid: projection, center, size, and the part of it that a tile covers.

A strip of constant declination is mapped with the conformal conic projection (FITS ``COO``), with the strip's
declination as the standard parallel. The scale is then the same along the whole strip and in both directions, and 1.7
deg off the parallel it is off by 0.045 %, whatever the range of right ascension. SIN would squeeze the ends of a strip
of 20 deg by 1.5 % and turn north by up to 10 deg. The position angle of the restoring beam, counted from the local
north, is the same along the strip, as it is from tile to tile of a drift scan.

In that projection a strip of many hours is a wide fan, mostly empty. Such strips use Mercator (``MER``), also
conformal, with its nominal scale on the strip's declination. Pixels are then larger or smaller by ``tan(dec) * offset``
(4 % at 1.7 deg off the center at declination 54.6), and a reader that needs the beam in pixels must take the local
scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from dsa110_assets.common.directions import circular_mean_rad
from dsa110_assets.mosaicking.tiles import TileImage

MAX_CONIC_SPAN_DEG = 45.0
"""Widest range of right ascension times sin(declination) for the conic projection (about 3.7 h at declination 54.6)."""
_MIN_STANDARD_PARALLEL_DEG = 1.0
_RIM_POINTS = 33


@dataclass(frozen=True)
class Window:
    """Part of a mosaic that a tile may touch: rows ``y0..y1`` and columns ``x0..x1``, ends excluded."""

    y0: int
    y1: int
    x0: int
    x1: int


@dataclass(frozen=True)
class MosaicGrid:
    """A pixel grid.

    ``wcs``: celestial, two axes. ``shape``: (rows, columns). ``cell_arcsec``: nominal pixel size on the strip.
    """

    wcs: WCS
    shape: tuple[int, int]
    cell_arcsec: float
    projection: str

    @property
    def turn_px(self) -> float | None:
        """Columns of a full turn in right ascension if the grid is cylindrical, else None."""
        return abs(360.0 / float(self.wcs.wcs.cdelt[0])) if self.projection == "MER" else None


def centre_of(ra_deg: Sequence[float], dec_deg: Sequence[float]) -> tuple[float, float]:
    """Center of a strip in degrees: circular mean of right ascension (pitfall 8), mid-range declination.

    >>> [round(float(value), 2) for value in centre_of([350.0, 5.0, 10.0], [54.0, 54.0, 54.2])]
    [1.73, 54.1]
    """
    return float(np.degrees(circular_mean_rad(np.radians(ra_deg)))), (min(dec_deg) + max(dec_deg)) / 2


def choose_grid(tiles: Sequence[TileImage], cell_arcsec: float) -> MosaicGrid:
    """Grid that covers all of the tiles' pixels, with ``cell_arcsec`` pixels on the strip's declination."""
    rims = [_rim(tile) for tile in tiles]
    ra0, dec0 = _middle(tiles)
    offsets = np.concatenate([_wrap(ra - ra0) for ra, _ in rims])
    wcs = WCS(naxis=2)
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    cell = cell_arcsec / 3600.0
    if (offsets.max() - offsets.min()) * abs(np.sin(np.radians(dec0))) <= MAX_CONIC_SPAN_DEG and np.ptp(offsets) < 300.0:
        projection = "COO"
        parallel = np.copysign(max(abs(dec0), _MIN_STANDARD_PARALLEL_DEG), dec0)
        wcs.wcs.crval = [ra0, parallel]
        wcs.wcs.set_pv([(2, 1, parallel), (2, 2, 0.0)])
        wcs.wcs.cdelt = [-cell, cell]
    else:
        projection = "MER"
        wcs.wcs.crval = [ra0, 0.0]
        wcs.wcs.cdelt = [-cell / np.cos(np.radians(dec0)), cell / np.cos(np.radians(dec0))]
    wcs.wcs.ctype = [f"RA---{projection}", f"DEC--{projection}"]
    wcs.wcs.crpix = [1.0, 1.0]
    wcs.wcs.set()
    x, y = (np.concatenate(axis) for axis in zip(*(wcs.wcs_world2pix(ra, dec, 0) for ra, dec in rims), strict=True))
    turn = abs(360.0 / wcs.wcs.cdelt[0])
    if projection == "MER" and np.ptp(x) > turn / 2:  # a rim may lie on both sides of the seam: take the whole turn
        x = np.array([-turn / 2, turn / 2])
    left, low = np.floor(x.min()), np.floor(y.min())
    wcs.wcs.crpix = [1.0 - left, 1.0 - low]
    wcs.wcs.set()
    return MosaicGrid(wcs, (int(np.ceil(y.max()) - low) + 1, int(np.ceil(x.max()) - left) + 1), cell_arcsec, projection)


def windows_of(tile: TileImage, grid: MosaicGrid) -> list[Window]:
    """The parts of the grid that a tile covers: one, or two if the tile crosses the seam of a cylindrical grid."""
    x, y = grid.wcs.wcs_world2pix(*_rim(tile), 0)
    y0, y1 = max(int(np.floor(y.min())), 0), min(int(np.ceil(y.max())) + 1, grid.shape[0])
    ranges = [(x.min(), x.max())]
    turn = grid.turn_px
    if turn is not None and np.ptp(x) > turn / 2:
        middle = (grid.shape[1] - 1) / 2
        ranges = [(x[x > middle].min(), grid.shape[1] - 1.0), (0.0, x[x <= middle].max())]
    columns = [(max(int(np.floor(a)), 0), min(int(np.ceil(b)) + 1, grid.shape[1])) for a, b in ranges]
    return [Window(y0, y1, x0, x1) for x0, x1 in columns if x1 > x0 and y1 > y0]


def pixel_map(grid: MosaicGrid, window: Window, tile_wcs: WCS, step: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tile pixel coordinates (0-based x, y) at every ``step``-th mosaic pixel of a window, and one node beyond.

    Interpolate linearly between nodes. The map's second derivative is about tan(dec) * cell, so the error is below 1e-3
    pixel for nodes 16 pixels of 3 arcsec apart.
    """
    rows = window.y0 + step * np.arange((window.y1 - window.y0 - 1) // step + 2)
    columns = window.x0 + step * np.arange((window.x1 - window.x0 - 1) // step + 2)
    x, y = np.meshgrid(columns.astype(np.float64), rows.astype(np.float64))
    ra, dec = grid.wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    tile_x, tile_y = tile_wcs.wcs_world2pix(ra, dec, 0)
    return tile_x.reshape(x.shape), tile_y.reshape(x.shape)


def _rim(tile: TileImage) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points of the rim of a tile's image, in degrees."""
    height, width = tile.shape
    along_x, along_y = np.linspace(-0.5, width - 0.5, _RIM_POINTS), np.linspace(-0.5, height - 0.5, _RIM_POINTS)
    x = np.concatenate([along_x, along_x, np.full(_RIM_POINTS, -0.5), np.full(_RIM_POINTS, width - 0.5)])
    y = np.concatenate([np.full(_RIM_POINTS, -0.5), np.full(_RIM_POINTS, height - 0.5), along_y, along_y])
    ra, dec = tile.wcs().wcs_pix2world(x, y, 0)
    return np.asarray(ra), np.asarray(dec)


def _middle(tiles: Sequence[TileImage]) -> tuple[float, float]:
    """Midpoint of a strip: the middle of the range around the circular mean. Long nights need the second step."""
    ra0, dec0 = centre_of([tile.ra_deg for tile in tiles], [tile.dec_deg for tile in tiles])
    offsets = _wrap(np.array([tile.ra_deg for tile in tiles]) - ra0)
    return float(np.mod(ra0 + (offsets.min() + offsets.max()) / 2, 360.0)), dec0


def _wrap(angle_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.mod(angle_deg + 180.0, 360.0) - 180.0
