"""Errors of the antennas' gains in a tile, from its own bright sources.

The gains that bring the data closest to the model of the bright sources (`selfcal.solve`) are 1 where the calibration
is right. They are only measured here: `selfcal` applies them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.imaging import selfcal
from dsa110_assets.imaging.visibilities import AntennaGains, Visibilities

_ROWS = 4096
_LARGEST_ERROR = 0.05
"""A gain is measured if its thermal error is below this, so that a wrong one shows with certainty."""
_SIGNIFICANT = 5.0
LARGEST_GOOD = 0.3
"""Largest error of a gain, as a share of it, in a well calibrated tile: 17 degrees, or 30 % of the amplitude."""


@dataclass(frozen=True)
class AntennaErrors:
    """Deviation of each antenna's gain from 1 and its thermal error, (Nants,); infinite errors without data."""

    gain: NDArray[np.complex128]
    error: NDArray[np.float64]

    @property
    def are_measured(self) -> bool:
        """Whether the sources are bright enough for at least three antennas."""
        return int((self.error < _LARGEST_ERROR).sum()) >= 3

    @property
    def wrong(self) -> NDArray[np.int64]:
        """Numbers of the antennas whose gains are certainly wrong: far from 1, and from those of most others."""
        if not self.are_measured:
            return np.empty(0, dtype=np.int64)
        sure, distance = self.error < _LARGEST_ERROR, np.abs(self.gain - 1)
        limit = np.maximum(LARGEST_GOOD, _SIGNIFICANT * np.maximum(self.error, np.median(distance[sure])))
        return np.flatnonzero(sure & (distance > limit))


def measure_antenna_errors(vis: Visibilities, rest_jy: NDArray[np.complex64]) -> AntennaErrors:
    """Solve for one gain of each antenna for the whole tile.

    Args:
        vis: visibilities.
        rest_jy: the same without the bright sources, (nrow, nchan). Their difference is the model.
    """
    n = int(max(vis.antenna1.max(), vis.antenna2.max())) + 1
    product, power = np.empty(vis.antenna1.size, dtype=np.complex128), np.empty(vis.antenna1.size)
    for start in range(0, product.size, _ROWS):
        rows = slice(start, start + _ROWS)
        model = vis.vis_jy[rows] - rest_jy[rows]
        weighted = vis.weight[rows] * np.conj(model)
        product[rows] = np.einsum("rc,rc->r", vis.vis_jy[rows], weighted, dtype=np.complex128)
        power[rows] = np.einsum("rc,rc->r", model, weighted, dtype=np.complex128).real
    pair = vis.antenna1.astype(np.int64) * n + vis.antenna2
    r = np.bincount(pair, product.real, n * n) + 1j * np.bincount(pair, product.imag, n * n)
    r, q = r.reshape(1, 1, n, n), np.bincount(pair, power, n * n).astype(np.float64).reshape(1, 1, n, n)
    correlations = selfcal.Correlations(r + np.conj(np.swapaxes(r, 2, 3)), q + np.swapaxes(q, 2, 3))
    start = AntennaGains(np.ones((1, n, 1), dtype=np.complex64), np.zeros(vis.pointing.time_mjd.size, dtype=np.int32))
    gain = selfcal.solve(correlations, start, "amplitude").gain[0, :, 0].astype(np.complex128)
    error = correlations.error_rad[0, 0]
    used = np.isfinite(error)
    typical = np.median(np.abs(gain[used])) if used.any() else 1.0
    return AntennaErrors(gain / typical, error)
