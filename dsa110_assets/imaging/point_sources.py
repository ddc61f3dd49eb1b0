"""Bright point sources, predicted exactly: sub-pixel position, drift through the beam, spectrum, smearing.

CLEAN's model is constant during a tile, but a source is not: it drifts through the beam, which changes its flux by half
at the edge. For a source of a few hundred times the noise, the residual of a constant model exceeds the noise. So the
brightest sources are subtracted from the visibilities by direct summation, with the variation that the beam model
predicts, and with fluxes and positions fitted to the data. Only the rest is cleaned. The only assumption about a source
is that it is a point; CLEAN gets whatever remains.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S, baseline_rate, direction_cosines
from dsa110_assets.common.restoring_beam import FWHM_PER_SIGMA, RestoringBeam, quadratic_form
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.grid import ImageGrid
from dsa110_assets.imaging.options import ImagingOptions
from dsa110_assets.imaging.primary_beam import beam_sampling, effective_beam, smearing_loss
from dsa110_assets.imaging.visibilities import Visibilities
from dsa110_assets.imaging.weighting import ImagingWeights

_MOST_SOURCES = 400
LOWEST_BEAM = 0.02
"""Lowest mean beam for bright sources. Where it is lower, its variation is not known well enough."""
PixelFunction = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
"""Function of pixel positions (y, x)."""

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


@dataclass(frozen=True)
class PointSources:
    """Point sources in an image; all arrays have shape (Nsource,).

    ``y``, ``x``: positions in pixels, zero-based. ``flux_jy``: apparent flux (peak in the image). ``spectral_index``:
    None for that of the options.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    spectral_index: NDArray[np.float64] | None = None

    @classmethod
    def none(cls) -> PointSources:
        """Make an empty list of sources."""
        return cls(np.empty(0), np.empty(0), np.empty(0))

    def __len__(self) -> int:
        return int(self.flux_jy.size)


def subtract_point_sources(
    vis: Visibilities, weights: ImagingWeights, grid: ImageGrid, options: ImagingOptions, sources: PointSources
) -> NDArray[np.complex64]:
    """Visibilities minus the sources, (nrow, nchan).

    A source is ``S / B * A(t, f) (f/f0)**alpha * sinc * sinc * exp(2 pi i f/c (u l + v m + w (n - 1)))``, where B is
    the effective beam. So its peak in an image is S.
    """
    from dsa110_assets.imaging import _kernels

    rest = vis.vis_jy.copy()
    if not len(sources):
        return rest
    ra, dec = grid.sky_of(sources.y, sources.x)
    lmn = direction_cosines(ra, dec, grid.ra_rad, grid.dec_rad, by_products=True)
    sampling = beam_sampling(vis, weights)
    index = np.full(len(sources), options.spectral_index) if sources.spectral_index is None else sources.spectral_index
    response = effective_beam(sampling, ra, dec, options.reference_frequency_hz, index)
    if options.correct_smearing:
        response *= smearing_loss(vis, weights, ra, dec)
    separation = angular_separation_rad(ra[:, None], dec[:, None], sampling.pointing_ra_rad, sampling.pointing_dec_rad)
    spectrum = (vis.frequency_hz / options.reference_frequency_hz) ** index[:, None] * (sources.flux_jy / response)[:, None]
    amplitude = airy_power_beam(separation[:, :, None], vis.frequency_hz, sampling.dish_diameter_m) * spectrum[:, None, :]
    band = float(np.median(vis.channel_width_hz)) / SPEED_OF_LIGHT_M_PER_S if options.correct_smearing else 0.0
    integration = vis.integration_s if options.correct_smearing else 0.0
    pointing = direction_cosines(sampling.pointing_ra_rad, sampling.pointing_dec_rad, grid.ra_rad, grid.dec_rad, by_products=True)
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S
    n_block = -(-f_over_c.size // _kernels.LANES)
    padded = np.zeros((*amplitude.shape[:2], n_block * _kernels.LANES), dtype=np.float32)
    padded[:, :, : f_over_c.size] = amplitude
    blocks = padded.reshape(*amplitude.shape[:2], n_block, _kernels.LANES)

    def subtract_from(rows: slice) -> None:
        rate = baseline_rate(vis.uvw_m[rows], grid.dec_rad) * integration
        _kernels.subtract_points(vis.uvw_m[rows], rate, vis.time_index[rows], f_over_c, lmn, pointing, blocks, band, rest[rows])

    edges = np.linspace(0, rest.shape[0], 4 * options.n_threads + 1).astype(int)
    with ThreadPoolExecutor(options.n_threads) as pool:
        list(pool.map(subtract_from, [slice(a, b) for a, b in itertools.pairwise(edges)]))
    return rest


def dirty_values(
    vis: Visibilities,
    vis_jy: NDArray[np.complex64],
    weights: ImagingWeights,
    grid: ImageGrid,
    options: ImagingOptions,
    y: NDArray[np.float64],
    x: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Dirty image of visibilities ``vis_jy`` at pixel positions, by direct summation; Jy/beam, shape of ``y``.

    The positions may be outside the image.
    """
    from dsa110_assets.imaging import _kernels

    if not y.size:
        return np.zeros(0)
    lmn = direction_cosines(*grid.sky_of(y, x), grid.ra_rad, grid.dec_rad, by_products=True)
    f_over_c = vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S

    def sum_of(rows: slice) -> NDArray[np.float64]:
        return _kernels.sum_at_points(vis.uvw_m[rows], f_over_c, lmn, weights.weight[rows], vis_jy[rows])

    edges = np.linspace(0, vis_jy.shape[0], 4 * options.n_threads + 1).astype(int)
    with ThreadPoolExecutor(options.n_threads) as pool:
        return np.sum(list(pool.map(sum_of, [slice(a, b) for a, b in itertools.pairwise(edges)])), axis=0)


def psf_curvature(vis: Visibilities, weights: ImagingWeights, cell_rad: float) -> NDArray[np.float64]:
    """Minus the second derivatives of the PSF at its peak, per pixel squared, axes (y north, x west).

    The closed form is ``(2 pi cell)^2 sum(w u_i u_j) / sum(w)``. The restoring beam cannot replace it: a few long
    baselines sharpen the peak without narrowing the lobe that the Gaussian fits, and the steps of a fit would then be
    several times too long to converge.
    """
    per_row = (weights.weight.astype(np.float64) @ (vis.frequency_hz / SPEED_OF_LIGHT_M_PER_S) ** 2) / float(
        weights.weight.sum(dtype=np.float64)
    )
    north_west = np.stack([vis.uvw_m[:, 1], -vis.uvw_m[:, 0]])
    return (2 * np.pi * cell_rad) ** 2 * (north_west * per_row) @ north_west.T


def add_to_image(image: NDArray[np.float32], sources: PointSources, beam: RestoringBeam, cell_arcsec: float) -> None:
    """Add the sources to an image in place as Gaussians of the restoring beam, at their sub-pixel positions."""
    inverse = beam.inverse_covariance_px(cell_arcsec)
    reach = int(np.ceil(6 * beam.major_arcsec / cell_arcsec / FWHM_PER_SIGMA)) + 1
    size = image.shape[0]
    for y, x, flux in zip(sources.y, sources.x, sources.flux_jy, strict=True):
        rows = np.arange(max(0, round(y) - reach), min(size, round(y) + reach + 1))
        columns = np.arange(max(0, round(x) - reach), min(size, round(x) + reach + 1))
        if rows.size and columns.size:
            gaussian = np.exp(-0.5 * quadratic_form(inverse, rows[:, None] - y, columns[None, :] - x))
            image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] += (flux * gaussian).astype(np.float32)


def add_to_model(model: NDArray[np.float32], sources: PointSources) -> None:
    """Add the fluxes of sources inside a model image (Jy/pixel) to their nearest pixels, in place."""
    rows, columns = np.round(sources.y).astype(int), np.round(sources.x).astype(int)
    inside = (rows >= 0) & (columns >= 0) & (rows < model.shape[0]) & (columns < model.shape[1])
    np.add.at(model, (rows[inside], columns[inside]), sources.flux_jy[inside].astype(np.float32))


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
        outside: tuple[NDArray[np.float64], NDArray[np.float64]],
    ) -> None:
        """Set up the finder.

        ``limit_jy``: apparent flux of a bright source. ``curvature``: curvature of the PSF at its peak
        (`psf_curvature`). ``outside``: pixel positions (y, x) of catalog sources outside the image.
        """
        self._size = grid.size
        self._psf = psf
        self._outside = outside
        self._outside_added = False
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

    def improve(
        self,
        sources: PointSources,
        image: NDArray[np.float32],
        beam_at: PixelFunction,
        dirty_at: PixelFunction,
    ) -> tuple[PointSources, bool]:
        """Correct the known sources by their residuals in ``image``, and add new sources that it shows.

        ``image`` is that of the visibilities without the known sources. The correction is one Gauss-Newton step for all
        sources together, because the side lobes of each lie under the others. Sources outside the image come from the
        catalog: their positions are fixed, and ``dirty_at`` gives their fluxes.

        Returns:
            The sources, and whether another round would change them significantly.
        """
        sigma, peak = robust_sigma(image[::2, ::2]), float(np.abs(image).max())
        # stop where errors of the PSF matter: the next round has the exact residual
        threshold = max(self.limit_jy, 5 * sigma, 0.5 * self._accepted_fraction * peak)
        y, x, flux = self._group_components(*self._find_components(image, threshold))
        if y.size:
            new = (flux > max(self.limit_jy, self._accepted_fraction * peak)) & ~self._near(y, x, sources.y, sources.x)
            new[new] = beam_at(y[new], x[new]) > LOWEST_BEAM
            y, x, flux = y[new], x[new], flux[new]
        if len(sources) and not self._outside_added:  # once the brightest are known
            self._outside_added = True
            far_y, far_x = self._outside
            unknown = ~self._near(far_y, far_x, sources.y, sources.x)
            far_flux = dirty_at(far_y[unknown], far_x[unknown])
            bright = far_flux > self.limit_jy
            y, x, flux = np.append(y, far_y[unknown][bright]), np.append(x, far_x[unknown][bright]), np.append(flux, far_flux[bright])
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
        found = PointSources((y + shift[0])[real], (x + shift[1])[real], flux[real])
        again = bool(best.size or not real.all() or (known and residual[:known].max() > _RESIDUAL_SIGMA * sigma))
        return found, again

    def _near(
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
        ``P`` and its derivatives. Shifts outside the image are zero.
        """
        inside = self._on_image(y, x)
        n, m = y.size, int(inside.sum())
        value, slope = np.zeros(n), np.zeros((2, m))
        for k, j in enumerate(np.flatnonzero(inside)):
            value[j], slope[:, k] = _value_and_slope(image, y[j], x[j])
        value[~inside] = dirty_at(y[~inside], x[~inside])
        dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
        p, (py, px), (pyy, pyx, pxx) = self._psf_at(dy, dx)
        matrix = np.block(
            [
                [p, -py[:, inside], -px[:, inside]],
                [py[inside], -pyy[np.ix_(inside, inside)], -pyx[np.ix_(inside, inside)]],
                [px[inside], -pyx[np.ix_(inside, inside)], -pxx[np.ix_(inside, inside)]],
            ]
        )
        matrix[np.diag_indices_from(matrix)] *= 1 + _DAMPING
        solution: NDArray[np.float64] = np.linalg.solve(matrix, np.concatenate([value, *slope])).astype(np.float64)
        north, west = np.zeros(n), np.zeros(n)
        north[inside], west[inside] = solution[n : n + m], solution[n + m :]
        return solution[:n], north, west

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

    def _on_image(self, y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.bool_]:
        return on_image(y, x, self._size)

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
        on_image = self._on_image(found[:, 0], found[:, 1])
        return found[on_image, 0], found[on_image, 1], found[on_image, 2]
