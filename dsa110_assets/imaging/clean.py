"""Where and how deep to clean: the loop of minor and major cycles around radler.

Search: components are taken inside the catalogue circles down to 5 sigma; what then still stands out elsewhere (a
source that no catalogue has, a flare) is added to the mask and searched as well. Deepen: around the components found cleaning goes on down to 1 sigma, so that
sources are not left with a pedestal and noise is not cleaned (clean bias). What does not belong here: visibilities.
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
"""Deep cleaning has converged when the exact residual at the components is within this factor of its threshold.

The rest stays in the restored image in any case, so that no flux depends on it."""

_SEARCH_TOLERANCE = 1.1
"""The noise changes a little with every cycle; a peak that exceeds the limit by less is no reason for another one."""

_UNEXPECTED = 0.3
"""A peak outside the mask is taken for a source when it is above the limit and this fraction of the image's peak: lower ones may be side lobes."""

_NO_BETTER = 0.97
"""A complete cycle that lowers the noise by less, and leaves no peak above ..."""

_UNEXPECTED_LEFT = 1.5
"""... this many times the limit, was the last one."""

DEEP_GAIN = 0.1
"""Loop gain at known components."""

_LOCAL_BEAMS = 20.0
"""Width of the boxes of the local noise, in beams: as small as artefacts of a bright source, with enough beams to measure noise."""

_LOWEST_GAIN = 0.1
"""A cycle that makes things worse is taken back and tried with half the gain; below this the image is left as it is."""


@dataclass(frozen=True)
class _State:
    """Model and exact residual before a cycle, with the peak and noise of the residual's mean over channels."""

    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    peak: float
    sigma: float

    def is_better_than(self, peak: float, sigma: float) -> bool:
        """CLEAN diverges where the PSF's sidelobes are high and not where it thinks they are."""
        return sigma > 1.1 * self.sigma or peak > 1.2 * max(self.peak, 5 * self.sigma)


@dataclass(frozen=True)
class CleanResult:
    """``model`` Jy/pixel and ``residual`` Jy/beam, shape of the dirty image; how many cycles; whether the thresholds were reached."""

    model: NDArray[np.float32]
    residual: NDArray[np.float32]
    major_cycles: int
    minor_iterations: int
    converged: bool


class Cleaner:
    """Deconvolution of one image; `channels.JoinedCleaner` does it with a stack of them, (Nchannel, N, N).

    Where and how deep to clean is decided by `_mean`, the image of the whole band.
    """

    def __init__(
        self,
        psf: NDArray[np.float32],
        beam: RestoringBeam,
        options: ImagingOptions,
        mask: NDArray[np.bool_] | None,
        *,
        strict: bool = False,
    ) -> None:
        """``strict``: nothing is cleaned outside the mask; else unexpected peaks are added to it."""
        self._strict = strict
        self._psf = np.ascontiguousarray(psf)
        self._beam_px = max(beam.major_arcsec / options.cell_arcsec, 1.0)
        self._beam_rad = float(np.radians(beam.major_deg))
        self._options = options
        self._mask = mask
        self._iterations_left = options.niter

    def clean(self, dirty: NDArray[np.float32], exact_residual: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> CleanResult:
        """Clean ``dirty``; ``exact_residual(model)`` gives the dirty image of the data less the model."""
        options = self._options
        residual = dirty.copy()
        model = np.zeros_like(dirty)
        search_mask = self._mask
        emission = np.zeros(dirty.shape[-2:], dtype=bool)
        gain = min(options.major_gain, 0.5) if options.multiscale else options.major_gain
        converged = options.niter == 0
        cycles = 0
        while not converged and cycles < options.max_major and self._iterations_left > 0:
            mean = self._mean(residual)
            sigma = robust_sigma(mean[::2, ::2])
            search_limit = options.auto_mask_sigma * sigma
            before = _State(model.copy(), residual.copy(), self._peak(mean, None), sigma)
            search_mask = self._with_unexpected(mean, search_mask, max(search_limit, _UNEXPECTED * before.peak))
            significant = self._significant(mean, model)
            search = significant if search_mask is None else search_mask if significant is None else search_mask & significant
            if options.multiscale:  # wide components reach everywhere: what stood out is the mask
                emission |= dilate(mean > search_limit, max(1, round(self._beam_px / 2)))
                emission &= search_mask if self._strict and search_mask is not None else True
                emission &= True if significant is None else significant
            found_all = changed = False
            if self._peak(mean, search) > search_limit * (1.0 if cycles == 0 else _SEARCH_TOLERANCE):
                found_all = self._minor(residual, model, search, search_limit, gain)
                changed = True
            if found_all or not changed:
                components = emission if options.multiscale else self._mean(model) != 0
                limit = options.auto_threshold_sigma * sigma
                if self._peak(self._mean(residual), components) > limit * (1.0 if changed else _DEEP_TOLERANCE):
                    self._deepen(residual, model, components, limit, gain)
                    changed = True
            if not changed:
                converged = True
                break
            residual = np.ascontiguousarray(exact_residual(model))
            cycles += 1
            mean = self._mean(residual)
            peak, noise = self._peak(mean, None), robust_sigma(mean[::2, ::2])
            if before.is_better_than(peak, noise):
                model, residual = before.model, before.residual
                gain *= 0.5
                if gain < _LOWEST_GAIN:
                    break
            elif found_all and noise > _NO_BETTER * sigma:
                converged = self._peak(mean, self._significant(mean, model)) < _UNEXPECTED_LEFT * search_limit
                if converged:
                    break
        return CleanResult(model, residual, cycles, options.niter - max(self._iterations_left, 0), converged)

    def _mean(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Image of the whole band, (N, N)."""
        return image

    def _significant(self, mean: NDArray[np.float32], model: NDArray[np.float32]) -> NDArray[np.bool_] | None:
        """Around what stands out from the noise of its surroundings, and components; None where the noise of the whole image decides."""
        if not self._options.local_rms:
            return None
        noise = local_rms_map(mean, self._beam_px, _LOCAL_BEAMS)
        components = self._mean(model) != 0
        return components | dilate(mean > self._options.auto_mask_sigma * noise, max(1, round(self._beam_px / 2)))

    @staticmethod
    def _peak(residual: NDArray[np.float32], mask: NDArray[np.bool_] | None) -> float:
        if mask is None:
            return float(max(residual.max(), -residual.min()))
        selected = residual[mask]
        return float(np.abs(selected).max()) if selected.size else 0.0

    def _with_unexpected(self, residual: NDArray[np.float32], mask: NDArray[np.bool_] | None, limit: float) -> NDArray[np.bool_] | None:
        """Extend the mask by half a beam around positive peaks above the limit that no catalogue source explains."""
        if mask is None or self._strict:
            return mask
        unexpected = (residual > limit) & ~mask
        return mask | dilate(unexpected, max(1, round(self._beam_px / 2))) if unexpected.any() else mask

    def _deepen(
        self, residual: NDArray[np.float32], model: NDArray[np.float32], pixels: NDArray[np.bool_], threshold: float, gain: float
    ) -> None:
        """Clean at the pixels of known components; ``model`` changes in place, ``residual`` only at those pixels."""
        if self._options.multiscale:
            self._minor(residual, model, pixels, threshold, gain)
            return
        rows, columns = np.nonzero(pixels)
        values = residual[..., rows, columns]
        components = np.zeros_like(values)
        lowest = max(threshold, (1 - gain) * float(np.abs(self._mean(values)).max()))
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
        """Clean some pixels by themselves; ``values`` (their residuals) and ``components`` change in place. Returns the iterations, -1 if it diverges."""
        from dsa110_assets.imaging import _kernels

        return int(
            _kernels.clean_pixels(rows, columns, values, self._psf, threshold, np.float32(DEEP_GAIN), self._iterations_left, components)
        )

    def _minor(
        self,
        residual: NDArray[np.float32],
        model: NDArray[np.float32],
        mask: NDArray[np.bool_] | None,
        threshold: float,
        gain: float,
    ) -> bool:
        """One call of radler; ``residual`` and ``model`` change in place. Returns whether the threshold was reached (not the major gain's limit)."""
        settings = self._settings(residual.shape[-1], threshold, gain)
        with tempfile.TemporaryDirectory(prefix="clean-") as scratch:
            if mask is not None:
                settings.fits_mask = str(_write_mask(Path(scratch) / "mask.fits", mask))
            minor = self._radler(settings, residual, model)
            minor.worker_thread_count = self._options.n_threads
            goes_on = bool(minor.perform(0))
            self._iterations_left -= int(minor.iteration_number)
        return not goes_on

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

    def _radler(self, settings: Settings, residual: NDArray[np.float32], model: NDArray[np.float32]) -> Radler:
        """The deconvolution of these images; changes them in place when it is performed."""
        import radler

        return radler.Radler(settings, self._psf, residual, model, self._beam_rad)


def _write_mask(path: Path, mask: NDArray[np.bool_]) -> Path:
    """Radler takes masks as files only; 4-D, as it expects."""
    write_plane(path, mask)
    return path
