"""Where and how deep to clean: the loop of minor and major cycles around radler.

Search: find components inside the catalog circles down to 5 sigma. Add peaks that still stand out elsewhere (a source
that is in no catalog, a flare) to the mask, and search there too. Then clean deeper, at the components found only, down
to 1 sigma. So sources keep no pedestal, and noise is not cleaned (clean bias).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsa110_assets.common.fits_planes import write_plane
from dsa110_assets.common.restoring_beam import RestoringBeam
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.noise import dilate, local_rms_map
from dsa110_assets.imaging.options import ImagingOptions

if TYPE_CHECKING:
    from radler import Radler, Settings

_DEEP_TOLERANCE = 3.0
"""Deep cleaning has converged if the exact residual at the components is within this factor of its threshold.

The rest stays in the restored image in any case, so no flux depends on this factor."""

_SEARCH_TOLERANCE = 1.1
"""A peak must exceed the limit by this factor to start another cycle, because each cycle changes the noise a little."""

_UNEXPECTED_FRACTION = 0.3
"""A peak outside the mask is a source if it exceeds the limit and this fraction of the image's peak.

Lower peaks may be side lobes."""

_STALLED_NOISE_RATIO = 0.97
"""Stop after a complete cycle that leaves more than this fraction of the noise and no peak above `_LAST_PEAK`."""

_LAST_PEAK = 1.5
"""Largest remaining peak after the last cycle, in units of the search limit."""

DEEP_GAIN = 0.1
"""Loop gain of the loop over pixels; radler's is the same."""

_LOCAL_BEAMS = 20.0
"""Width of the boxes of the local noise, in beams.

They are as small as artifacts of a bright source, and hold enough beams to measure the noise."""

_MOST_PEAKS = 20_000
"""Pixels up to which the loop over pixels is faster than radler, which copies and transforms whole images."""

_LOWEST_GAIN = 0.1
"""A cycle that makes the image worse is undone and repeated with half the gain; below this gain, cleaning stops."""


@dataclass(frozen=True)
class _State:
    """Model and exact residual before a cycle, with the peak and noise of the mean residual over channels."""

    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    peak: float
    sigma: float

    def is_better_than(self, peak: float, sigma: float) -> bool:
        """True if CLEAN diverged and this state should be restored.

        CLEAN diverges if side lobes are high and its components are not exactly where the sources are.
        """
        return sigma > 1.1 * self.sigma or peak > 1.2 * max(self.peak, 5 * self.sigma)


@dataclass(frozen=True)
class CleanResult:
    """Result of CLEAN.

    ``model``: Jy/pixel, shape of the dirty image. ``residual``: Jy/beam, same shape. ``converged``: True if the
    thresholds were reached.
    """

    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    major_cycles: int
    minor_iterations: int
    converged: bool


class Cleaner:
    """Deconvolution of one image; `channels.JoinedCleaner` handles a stack of images, (Nchannel, N, N).

    `_band_mean`, the image of the whole band, decides where and how deep to clean.
    """

    def __init__(
        self,
        psf: NDArray[np.float32],
        beam: RestoringBeam,
        options: ImagingOptions,
        mask: NDArray[np.bool_] | None,
        *,
        strict: bool = False,
        artifact_jy: float = 0.0,
    ) -> None:
        """Set up the deconvolution.

        ``strict``: clean nothing outside the mask; otherwise add unexpected peaks to it. ``artifact_jy``: brightest
        known artifact of a bad calibration. What is not brighter is left in the residual: as components, artifacts
        would take flux from the source that makes them.
        """
        self._strict = strict
        self._artifact_jy = artifact_jy
        self._psf = np.ascontiguousarray(psf)
        self._beam_px = max(beam.major_arcsec / options.cell_arcsec, 1.0)
        self._beam_rad = float(np.radians(beam.major_deg))
        self._options = options
        self._mask = mask
        self._iterations_left = options.niter

    def clean(self, dirty: NDArray[np.float32], exact_residual: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> CleanResult:
        """Clean ``dirty``; ``exact_residual(model)`` returns the dirty image of the data minus the model."""
        options = self._options
        residual = dirty.copy()
        model = np.zeros_like(dirty)
        search_mask = self._mask
        emission = np.zeros(dirty.shape[-2:], dtype=bool)
        gain = min(options.major_gain, 0.5) if options.multiscale else options.major_gain
        converged = options.niter == 0
        cycles = 0
        while not converged and cycles < options.max_major and self._iterations_left > 0:
            mean = self._band_mean(residual)
            sigma = robust_sigma(mean[::2, ::2])
            search_limit = max(options.auto_mask_sigma * sigma, self._artifact_jy)
            before = _State(model.copy(), residual.copy(), self._peak(mean, None), sigma)
            search_mask = self._add_unexpected_peaks(mean, search_mask, max(search_limit, _UNEXPECTED_FRACTION * before.peak))
            significant = self._significant(mean, model)
            search = significant if search_mask is None else search_mask if significant is None else search_mask & significant
            if options.multiscale:  # wide components reach everywhere, so the mask is what stood out
                emission |= dilate(mean > search_limit, max(1, round(self._beam_px / 2)))
                emission &= search_mask if self._strict and search_mask is not None else True
                emission &= True if significant is None else significant
            found_all = changed = False
            if self._peak(mean, search) > search_limit * (1.0 if cycles == 0 else _SEARCH_TOLERANCE):
                found_all = self._minor_cycle(residual, model, search, search_limit, gain)
                changed = True
            if found_all or not changed:
                components = emission if options.multiscale else self._band_mean(model) != 0
                limit = options.auto_threshold_sigma * sigma
                if self._peak(self._band_mean(residual), components) > limit * (1.0 if changed else _DEEP_TOLERANCE):
                    self._clean_components(residual, model, components, limit, gain)
                    changed = True
            if not changed:
                converged = True
                break
            residual = np.ascontiguousarray(exact_residual(model))
            cycles += 1
            mean = self._band_mean(residual)
            peak, noise = self._peak(mean, None), robust_sigma(mean[::2, ::2])
            if before.is_better_than(peak, noise):
                model, residual = before.model, before.residual
                gain *= 0.5
                if gain < _LOWEST_GAIN:
                    break
            elif found_all and noise > _STALLED_NOISE_RATIO * sigma:
                converged = self._peak(mean, self._significant(mean, model)) < _LAST_PEAK * search_limit
                if converged:
                    break
        return CleanResult(model, residual, cycles, options.niter - max(self._iterations_left, 0), converged)

    def _band_mean(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the image of the whole band, (N, N)."""
        return image

    def _significant(self, mean: NDArray[np.float32], model: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Mask of components and of peaks above the local noise; None if the noise of the whole image decides."""
        if not self._options.local_rms:
            return None
        noise = local_rms_map(mean, self._beam_px, _LOCAL_BEAMS)
        components = self._band_mean(model) != 0
        return components | dilate(mean > self._options.auto_mask_sigma * noise, max(1, round(self._beam_px / 2)))

    @staticmethod
    def _peak(residual: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> float:
        if mask is None:
            return float(max(residual.max(), -residual.min()))
        selected = residual[mask]
        return float(np.abs(selected).max()) if selected.size else 0.0

    def _add_unexpected_peaks(
        self, residual: NDArray[np.float32], mask: NDArray[np.bool_] | None, limit: float
    ) -> NDArray[np.bool_] | None:
        """Extend the mask by half a beam around positive peaks above the limit that are outside it."""
        if mask is None or self._strict:
            return mask
        unexpected = (residual > limit) & ~mask
        return mask | dilate(unexpected, max(1, round(self._beam_px / 2))) if unexpected.any() else mask

    def _clean_components(
        self, residual: NDArray[np.float32], model: NDArray[np.float32], pixels: NDArray[np.bool_], threshold: float, gain: float
    ) -> None:
        """Clean at the pixels of known components; ``model`` changes in place, ``residual`` only at those pixels."""
        if self._options.multiscale:
            self._minor_cycle(residual, model, pixels, threshold, gain)
            return
        rows, columns = np.nonzero(pixels)
        values = residual[..., rows, columns]
        components = np.zeros_like(values)
        lowest = max(threshold, (1 - gain) * float(np.abs(self._band_mean(values)).max()))
        iterations = self._clean_pixels(rows, columns, values, np.float32(lowest), components)
        if iterations < 0:
            return
        self._iterations_left -= iterations
        residual[..., rows, columns] = values
        model[..., rows, columns] += components

    def _clean_pixels(
        self,
        rows: NDArray[np.int64],
        columns: NDArray[np.int64],
        values: NDArray[np.float32],
        threshold: np.float32,
        components: NDArray[np.float32],
    ) -> int:
        """Clean some pixels by themselves; return the number of iterations, or -1 if it diverges.

        ``values`` (the residual at the pixels) and ``components`` change in place.
        """
        from dsa110_assets.imaging import _kernels

        return int(
            _kernels.clean_pixels(rows, columns, values, self._psf, threshold, np.float32(DEEP_GAIN), self._iterations_left, components)
        )

    def _minor_cycle(
        self,
        residual: NDArray[np.float32],
        model: NDArray[np.float32],
        mask: NDArray[np.bool_] | None,
        threshold: float,
        gain: float,
    ) -> bool:
        """Clean once, point components by the loop over pixels, others by radler; the arrays change in place.

        Returns True if the threshold was reached, False if the limit of the major gain was reached first.
        """
        if residual.ndim == 2 and not self._options.multiscale:
            found_all = self._clean_peaks(residual, model, mask, threshold, gain)
            if found_all is not None:
                return found_all
        settings = self._settings(residual.shape[-1], threshold, gain)
        with tempfile.TemporaryDirectory(prefix="clean-") as scratch:
            if mask is not None:
                mask_file = Path(scratch) / "mask.fits"
                write_plane(mask_file, mask)  # radler takes only files with four axes
                settings.fits_mask = str(mask_file)
            radler = self._make_radler(settings, residual, model)
            radler.worker_thread_count = self._options.n_threads
            needs_another_cycle = bool(radler.perform(0))
            self._iterations_left -= int(radler.iteration_number)
        return not needs_another_cycle

    def _clean_peaks(
        self,
        residual: NDArray[np.float32],
        model: NDArray[np.float32],
        mask: NDArray[np.bool_] | None,
        threshold: float,
        gain: float,
    ) -> bool | None:
        """`_minor_cycle` at the pixels that may get components; None if they are too many, or if CLEAN diverges.

        ``residual`` changes only at those pixels. The cycle ends with an exact residual, which shows all others.
        """
        peaks = np.abs(residual) > 0.5 * threshold
        rows, columns = np.nonzero(peaks if mask is None else peaks & mask)
        if not 0 < rows.size <= _MOST_PEAKS:
            return None
        values = residual[rows, columns]
        components = np.zeros_like(values)
        lowest = max(threshold, (1 - gain) * float(np.abs(values).max()))
        iterations = self._clean_pixels(rows, columns, values, np.float32(lowest), components)
        if iterations < 0:
            return None
        self._iterations_left -= iterations
        residual[rows, columns] = values
        model[rows, columns] += components
        return lowest <= threshold

    def _settings(self, size: int, threshold: float, gain: float) -> Settings:
        """Settings of radler for one call."""
        import radler

        options = self._options
        settings = radler.Settings()
        settings.trimmed_image_width = settings.trimmed_image_height = size
        settings.pixel_scale.x = settings.pixel_scale.y = options.cell_rad
        settings.algorithm_type = radler.AlgorithmType.multiscale if options.multiscale else radler.AlgorithmType.generic_clean
        if options.multiscale:
            settings.multiscale.scale_list = [0.0, 2.0 * self._beam_px, 5.0 * self._beam_px]
        settings.minor_iteration_count = self._iterations_left
        settings.major_loop_gain = gain
        settings.absolute_threshold = threshold
        settings.thread_count = options.n_threads
        settings.parallel.max_threads = options.n_threads
        return settings

    def _make_radler(self, settings: Settings, residual: NDArray[np.float32], model: NDArray[np.float32]) -> Radler:
        """Set up the deconvolution of these images; ``perform`` changes them in place."""
        import radler

        return radler.Radler(settings, self._psf, residual, model, self._beam_rad)
