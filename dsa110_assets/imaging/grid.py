"""The pixel grid of a tile image: SIN projection about the phase center, right ascension decreasing with x.

Pixel (y, x), zero-based, has the direction cosines ``l = -(x - N/2) cell`` (east), ``m = (y - N/2) cell`` (north).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dsa110_assets.common.interferometry import direction_cosines


@dataclass(frozen=True)
class ImageGrid:
    """Pixel grid of a square image.

    ``size``: pixels on a side, even. ``cell_rad``: pixel size. ``ra_rad``, ``dec_rad``: ICRS phase center, at pixel
    N/2.
    """

    size: int
    cell_rad: float
    ra_rad: float
    dec_rad: float

    def sky_of(self, y: ArrayLike, x: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """ICRS (ra, dec), radians, of pixel positions (zero-based, may be fractional); shape of the arguments."""
        l = -(np.asarray(x, dtype=np.float64) - self.size / 2) * self.cell_rad  # noqa: E741
        m = (np.asarray(y, dtype=np.float64) - self.size / 2) * self.cell_rad
        n = np.sqrt(1.0 - l * l - m * m)
        sin0, cos0 = np.sin(self.dec_rad), np.cos(self.dec_rad)
        ra = self.ra_rad + np.arctan2(l, n * cos0 - m * sin0)
        return np.mod(ra, 2 * np.pi), np.arcsin(m * cos0 + n * sin0)

    def pixel_of(self, ra_rad: ArrayLike, dec_rad: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixel position (y, x), zero-based, of ICRS directions; NaN more than 90 deg from the phase center."""
        ra, dec = np.asarray(ra_rad, dtype=np.float64), np.asarray(dec_rad, dtype=np.float64)
        l, m, n_minus_1 = direction_cosines(ra, dec, self.ra_rad, self.dec_rad, by_products=True)  # noqa: E741
        in_front = n_minus_1 > -1.0
        half = self.size / 2
        return np.where(in_front, half + m / self.cell_rad, np.nan), np.where(in_front, half - l / self.cell_rad, np.nan)


def circle_mask(grid: ImageGrid, ra_deg: ArrayLike, dec_deg: ArrayLike, radius_arcsec: float) -> NDArray[np.bool_]:
    """Union of circles around directions, shape (size, size); circles may extend over the edge."""
    y, x = grid.pixel_of(np.radians(ra_deg), np.radians(dec_deg))
    mask = np.zeros((grid.size, grid.size), dtype=bool)
    radius = max(np.radians(radius_arcsec / 3600.0) / grid.cell_rad, 1.0)
    reach = int(np.ceil(radius))
    offsets = np.arange(-reach - 1, reach + 2)
    y, x = np.atleast_1d(y), np.atleast_1d(x)
    with np.errstate(invalid="ignore"):  # NaN: more than 90 deg from the phase center
        near = (y > -radius) & (x > -radius) & (y < grid.size - 1 + radius) & (x < grid.size - 1 + radius)
    for one_y, one_x in zip(y[near], x[near], strict=True):
        rows, columns = round(float(one_y)) + offsets, round(float(one_x)) + offsets
        rows, columns = rows[(rows >= 0) & (rows < grid.size)], columns[(columns >= 0) & (columns < grid.size)]
        disk = (rows[:, None] - one_y) ** 2 + (columns[None, :] - one_x) ** 2 <= radius**2
        mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] |= disk
    return mask
