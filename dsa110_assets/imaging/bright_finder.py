"""Finds bright point sources in images of residual visibilities, and fits all of them jointly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.point_sources import LOWEST_BEAM, PointSources

PixelFunction = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Function of pixel positions (y, x)."""
Positions = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Pixel positions (y, x), (N,) each."""

_MOST_SOURCES = 400
_PEAK_FRACTION = 0.06
"""A round accepts sources above this fraction of the peak, and cleans down to half of it.

Residuals of brighter sources are fainter than this."""
_SIDE_LOBE_FRACTION = 0.4
"""A round accepts sources above this fraction of the highest side lobe of the peak.

A source is not exactly on a pixel, so some of its side lobes remain."""

_GAIN = 0.2
_MOST_ITERATIONS = 20_000
_EDGE_PX = 8
_CUT_PX = 6
"""Half-width of the cutouts for measuring residuals of known sources."""
_RESIDUAL_SIGMA = 5.0
"""A source with a residual of more than this many times the noise is subtracted again."""
_DAMPING = 1e-3
"""Damping of the fit, so that two sources at one position share their flux instead of taking it from each other."""


def _value_and_slope(image: NDArray[np.float32], y: float, x: float) -> tuple[float, NDArray[np.float64]]:
    """Value of an image at (y, x), and its gradient per pixel (y, x)."""
    top, left = max(int(y) - _CUT_PX, 0), max(int(x) - _CUT_PX, 0)
    cut = image[top : int(y) + _CUT_PX + 1, left : int(x) + _CUT_PX + 1].astype(np.float64)
    offsets = np.array([[0.0, 0.5, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.5, -0.5]])
    values = ndimage.map_coordinates(cut, np.array([[y - top], [x - left]]) + offsets, order=3, mode="nearest")
    return float(values[0]), np.array([values[1] - values[2], values[3] - values[4]])


def on_image(y: NDArray[np.float64], x: NDArray[np.float64], size: int) -> NDArray[np.bool_]:
    """Whether pixel positions are far enough inside an image to fit a source there; shape of ``y``."""
    return (y > _EDGE_PX) & (x > _EDGE_PX) & (y < size - 1 - _EDGE_PX) & (x < size - 1 - _EDGE_PX)


class BrightSourceFinder:
    """Finds and fits the bright point sources of a tile from images of the residual visibilities."""

    def __init__(
        self,
        grid: ImageGrid,
        psf: NDArray[np.float32],
        beam: RestoringBeam,
        cell_arcsec: float,
        limit_jy: float,
        curvature: NDArray[np.float64],
    ) -> None:
        """Set up the finder.

        ``limit_jy``: apparent flux of a bright source. ``curvature``: curvature of the PSF at its peak
        (`psf_curvature`).
        """
        self._size = grid.size
        self._psf = psf
        self.rejected = PointSources.none()
        self._curvature = curvature
        self._half_beam_px = max(0.5 * beam.major_arcsec / cell_arcsec, 1.0)
        self.limit_jy = limit_jy
        self._accepted_fraction = max(_PEAK_FRACTION, _SIDE_LOBE_FRACTION * self._highest_side_lobe())

    def seed(self, y: NDArray[np.float64], x: NDArray[np.float64], flux_jy: NDArray[np.float64]) -> PointSources:
        """Make a first model from the bright sources of a catalog: pixel positions and expected apparent fluxes.

        Of close pairs it keeps the brighter source. The catalog only saves rounds: fluxes and positions are fitted
        later, and sources that are not there are removed.
        """
        chosen: list[int] = []
        for k in np.argsort(-flux_jy):
            if flux_jy[k] <= self.limit_jy or len(chosen) == _MOST_SOURCES:
                break
            if not chosen or np.hypot(y[chosen] - y[k], x[chosen] - x[k]).min() > 2 * self._half_beam_px:
                chosen.append(int(k))
        return PointSources(y[chosen], x[chosen], flux_jy[chosen])

    def reject(self, sources: PointSources) -> None:
        """Do not take these for sources again."""
        self.rejected = self.rejected.joined(sources)

    def forget_rejected(self) -> None:
        """Let what was rejected prove itself again, because what disturbed it may be gone."""
        self.rejected = PointSources.none()

    def improve(
        self,
        sources: PointSources,
        image: NDArray[np.float32],
        beam_at: PixelFunction,
        dirty_at: PixelFunction,
        far: Positions,
    ) -> tuple[PointSources, bool]:
        """Correct the known sources by their residuals in ``image``, and add new sources that it shows.

        ``image`` is that of the visibilities without the known sources. The correction is one Gauss-Newton step for all
        sources together, because the side lobes of each lie under the others. ``far``: positions of possible sources
        outside the image, where ``dirty_at`` gives the image of the same visibilities and its slopes (3, N).

        Returns:
            The sources, and whether another round would change them significantly.
        """
        sigma, peak = robust_sigma(image[::2, ::2]), float(np.abs(image).max())
        # stop where errors of the PSF matter: the next round has the exact residual
        threshold = max(self.limit_jy, 5 * sigma, 0.5 * self._accepted_fraction * peak)
        y, x, flux = self._group_components(*self._find_components(image, threshold))
        if y.size:
            new = (flux > max(self.limit_jy, self._accepted_fraction * peak)) & self._unknown(y, x, sources)
            new[new] = beam_at(y[new], x[new]) > LOWEST_BEAM
            y, x, flux = y[new], x[new], flux[new]
        unknown = self._unknown(*far, sources)
        far_y, far_x = far[0][unknown], far[1][unknown]
        far_flux = dirty_at(far_y, far_x)[0]
        bright = far_flux > self.limit_jy
        y, x, flux = np.append(y, far_y[bright]), np.append(x, far_x[bright]), np.append(flux, far_flux[bright])
        best = np.argsort(-flux)[: max(0, _MOST_SOURCES - len(sources))]
        y, x = np.append(sources.y, y[best]), np.append(sources.x, x[best])
        known, before = len(sources), np.append(sources.flux_jy, np.zeros(best.size))
        change, north, west = self._solve(y, x, image, dirty_at)
        flux = before + change
        with np.errstate(divide="ignore", invalid="ignore"):
            shift = np.where(flux > 0.5 * self.limit_jy, np.stack([north, west]) / flux, 0.0)
        length = np.hypot(*shift)
        shift *= np.minimum(1.0, self._half_beam_px / np.maximum(length, 1e-9))
        # residual of a source due to errors of flux and position (the largest slope of a Gaussian times the shift)
        residual = np.maximum(np.abs(change), np.exp(-0.5) * flux * np.sqrt(np.einsum("ik,ij,jk->k", shift, self._curvature, shift)))
        real = flux > 0.5 * self.limit_jy  # remove side lobes that were taken for sources
        found = self._merged(PointSources((y + shift[0])[real], (x + shift[1])[real], flux[real]))
        again = bool(best.size or not real.all() or (known and residual[:known].max() > _RESIDUAL_SIGMA * sigma))
        return found, again

    def _merged(self, sources: PointSources) -> PointSources:
        """Sources that have come within half a beam of each other are one, which was found twice."""
        if len(sources) < 2:
            return sources
        y, x, flux = sources.y.copy(), sources.x.copy(), sources.flux_jy.copy()
        one = np.ones(flux.size, dtype=bool)
        pairs = cKDTree(np.stack([y, x], axis=1)).query_pairs(self._half_beam_px, output_type="ndarray")
        for first, second in pairs.tolist():
            if one[first] and one[second]:
                share = flux[second] / (flux[first] + flux[second])
                y[first] += share * (y[second] - y[first])
                x[first] += share * (x[second] - x[first])
                flux[first] += flux[second]
                one[second] = False
        return PointSources(y, x, flux).select(one)

    def _unknown(self, y: NDArray[np.float64], x: NDArray[np.float64], sources: PointSources) -> NDArray[np.bool_]:
        """Whether positions are neither those of sources nor of what was rejected."""
        return ~self.near(y, x, sources.y, sources.x) & ~self.near(y, x, self.rejected.y, self.rejected.x)

    def near(
        self, y: NDArray[np.float64], x: NDArray[np.float64], known_y: NDArray[np.float64], known_x: NDArray[np.float64]
    ) -> NDArray[np.bool_]:
        """Whether positions are within a beam of known positions."""
        if not y.size or not known_y.size:
            return np.zeros(y.size, dtype=bool)
        distance, _ = cKDTree(np.stack([known_y, known_x], axis=1)).query(np.stack([y, x], axis=1))
        return distance < 2 * self._half_beam_px

    def _solve(
        self, y: NDArray[np.float64], x: NDArray[np.float64], image: NDArray[np.float32], dirty_at: PixelFunction
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Solve for changes of flux, and flux times shift north and west (pixels), each (Nsource,).

        They explain ``image`` and its slopes at the sources. The model is ``sum(c P(r - r_i) - p_i . grad P(r - r_i))``
        with ``p = S shift``. Its value and slopes at ``r_j`` are linear in c and p, with coefficients from the PSF
        ``P`` and its derivatives.
        """
        inside = on_image(y, x, self._size)
        n = y.size
        value, slope = np.zeros(n), np.zeros((2, n))
        for j in np.flatnonzero(inside):
            value[j], slope[:, j] = _value_and_slope(image, y[j], x[j])
        at_far = dirty_at(y[~inside], x[~inside])
        value[~inside], slope[:, ~inside] = at_far[0], at_far[1:]
        p, (py, px), (pyy, pyx, pxx) = self._psf_at(y[:, None] - y[None, :], x[:, None] - x[None, :])
        matrix = np.block([[p, -py, -px], [py, -pyy, -pyx], [px, -pyx, -pxx]])
        matrix[np.diag_indices_from(matrix)] *= 1 + _DAMPING
        solution: NDArray[np.float64] = np.linalg.solve(matrix, np.concatenate([value, *slope])).astype(np.float64)
        return solution[:n], solution[n : 2 * n], solution[2 * n :]

    def _psf_at(
        self, dy: NDArray[np.float64], dx: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], ...], tuple[NDArray[np.float64], ...]]:
        """PSF at offsets (pixels), with slopes (y, x) and second derivatives (yy, yx, xx); zero outside its image.

        Derivatives are differences of one pixel. At the peak the values are exact: 1, no slope, minus the curvature.
        """
        half, size = self._size // 2, self._size
        known = np.maximum(np.abs(dy), np.abs(dx)) < half - 3
        row, column = np.where(known, dy, 0) + half, np.where(known, dx, 0) + half
        i, j = np.floor(row).astype(np.int64), np.floor(column).astype(np.int64)
        fy, fx = row - i, column - j
        flat, base = self._psf.reshape(-1), i * size + j

        def at(north: int, west: int) -> NDArray[np.float64]:
            start = base + north * size + west
            low = flat[start] * (1 - fx) + flat[start + 1] * fx
            return low * (1 - fy) + (flat[start + size] * (1 - fx) + flat[start + size + 1] * fx) * fy

        center, n, s, w, e = at(0, 0), at(1, 0), at(-1, 0), at(0, 1), at(0, -1)
        values = [
            center,
            (n - s) / 2,
            (w - e) / 2,
            n - 2 * center + s,
            (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4,
            w - 2 * center + e,
        ]
        peak = (dy == 0) & (dx == 0)
        exact = (1.0, 0.0, 0.0, -self._curvature[0, 0], -self._curvature[0, 1], -self._curvature[1, 1])
        p, py, px, pyy, pyx, pxx = (np.where(peak, at_peak, np.where(known, v, 0.0)) for v, at_peak in zip(values, exact, strict=True))
        return p, (py, px), (pyy, pyx, pxx)

    def _highest_side_lobe(self) -> float:
        """Highest side lobe of the PSF, more than two beams from its center."""
        reach, center = round(4 * self._half_beam_px), self._size // 2
        lobes = self._psf.copy()
        lobes[max(center - reach, 0) : center + reach + 1, max(center - reach, 0) : center + reach + 1] = 0
        return float(lobes.max())

    def _find_components(
        self, image: NDArray[np.float32], threshold: float
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """CLEAN components (rows, columns, Jy) down to a threshold.

        Where the image does not look like the PSF, CLEAN diverges; then the threshold is doubled.
        """
        from dsa110_assets.imaging import _kernels

        while True:
            rows, columns = np.nonzero(np.abs(image) > threshold)
            values, found = image[rows, columns], np.zeros(rows.size, dtype=np.float32)
            iterations = _kernels.clean_pixels(
                rows, columns, values, self._psf, np.float32(threshold), np.float32(_GAIN), _MOST_ITERATIONS, found
            )
            if iterations >= 0:
                return rows[found != 0], columns[found != 0], found[found != 0].astype(np.float64)
            threshold *= 2

    def _group_components(
        self, rows: NDArray[np.int64], columns: NDArray[np.int64], components: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Group components within half a beam of a stronger one; return the centroid (y, x) and sum of each group."""
        order = np.argsort(-np.abs(components))
        rows, columns, components = rows[order].astype(float), columns[order].astype(float), components[order]
        free = np.ones(components.size, dtype=bool)
        groups: list[tuple[float, float, float]] = []
        for k in range(components.size):
            if free[k] and components[k] > 0:
                near = free & (np.hypot(rows - rows[k], columns - columns[k]) <= self._half_beam_px)
                free &= ~near
                total = float(components[near].sum())
                if total > 0:
                    groups.append(
                        (
                            float((components[near] * rows[near]).sum() / total),
                            float((components[near] * columns[near]).sum() / total),
                            total,
                        )
                    )
        found = np.array(groups).reshape(-1, 3)
        inside = on_image(found[:, 0], found[:, 1], self._size)
        return found[inside, 0], found[inside, 1], found[inside, 2]
