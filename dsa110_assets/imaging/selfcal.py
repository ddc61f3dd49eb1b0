"""Self-calibration: antenna gains from the image's own model, phases first, kept only if the image improves.

With ``V_ij = g_i conj(g_j) M_ij`` and gains that are constant over the band and an interval, the sum of squares depends
on the data only through ``R_ij = sum w V conj(M)`` and ``Q_ij = sum w |M|^2``. So a round needs one pass over the
Measurement Set. The solver is StefCal (Salvini & Wijnholds 2014, A&A 571, A97), for all intervals and polarizations at
once. Every round solves for the full gains from the uncorrected data, so errors do not add up over rounds.

`calibration.tile_phase` solves phases against a catalog.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dsa110_assets.common.instrument import BEAM_CUTOFF
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.visibilities import AntennaGains, Visibilities, blocks_of_rows
from dsa110_assets.imaging.weighting import ImagingWeights

if TYPE_CHECKING:
    from dsa110_assets.imaging.engine import EngineImages

Kind = Literal["phase", "amplitude"]

_LARGEST_TYPICAL_ERROR_RAD = 0.2
"""A field is too faint if the typical phase error would be larger (a signal of 5 times the noise for each receptor)."""
_LARGEST_ERROR_RAD = 0.35
"""Receptors with a larger error keep their gains."""
_LEAST_SIGNIFICANCE = 2.0
"""Make a new image only if the mean square change of the gains is more than this many times that of noise, ..."""
_LEAST_CHANGE = 0.003
"""... and the rms change is larger than this (radians, or fraction of the amplitude).

Smaller changes do not show below a dynamic range of ten thousand."""
_LESS_NOISE = 0.99
"""Keep a round if it lowers the noise by at least this factor, ..."""
_MORE_RANGE = 1.02
"""... or raises the dynamic range by this factor while the noise stays below ..."""
_SAME_NOISE = 1.005
"""... this factor."""
_FLUX_TOLERANCE = 0.01
"""Largest fractional change of fluxes. Phases may raise them more, because they restore coherence."""
_CATALOG_TOLERANCE = 0.1
"""Allowed range of the median ratio to the catalog. Outside it, the ratio must not move farther away."""
_FEWEST_SOURCES = 5
FLUX_SNR = 20.0
"""Fluxes of sources above this many times the thermal noise are monitored."""
_CUT_PX = 6
_ITERATIONS = 500
_CONVERGED = 1e-8


@dataclass(frozen=True)
class SelfcalImage:
    """One image of the tile with certain gains, and its inputs. ``primary_beam``: (N, N)."""

    vis: Visibilities
    weights: ImagingWeights
    primary_beam: NDArray[np.float32]
    images: EngineImages

    @property
    def noise_jy_per_beam(self) -> float:
        """Robust noise of the residual inside the primary beam."""
        return robust_sigma(self.images.residual[self.primary_beam >= BEAM_CUTOFF])

    @property
    def dynamic_range(self) -> float:
        """Peak over noise."""
        return float(self.images.restored[self.primary_beam >= BEAM_CUTOFF].max()) / self.noise_jy_per_beam


@dataclass(frozen=True)
class FluxReference:
    """Sources whose fluxes are monitored.

    ``y``, ``x``: pixel positions, (Nsource,). ``flux_jy``: expected apparent fluxes, (Nsource,). ``from_catalog``: the
    fluxes are those of a catalog.
    """

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    from_catalog: bool

    def ratio(self, image: NDArray[np.float32]) -> float:
        """Median ratio of fluxes in an image to the expected fluxes; NaN without sources."""
        values: list[float] = []
        for y, x, flux in zip(self.y, self.x, self.flux_jy, strict=True):
            row, column = round(float(y)), round(float(x))
            cut = image[row - _CUT_PX : row + _CUT_PX + 1, column - _CUT_PX : column + _CUT_PX + 1]
            if cut.shape == (2 * _CUT_PX + 1, 2 * _CUT_PX + 1):
                position = [[y - row + _CUT_PX], [x - column + _CUT_PX]]
                values.append(float(ndimage.map_coordinates(cut.astype(float), position, order=5)[0]) / float(flux))
        return float(np.median(values)) if values else float("nan")


@dataclass(frozen=True)
class SelfcalRound:
    """Result of one round that made an image.

    ``noise_jy_per_beam``, ``dynamic_range``: before and after. ``flux_ratio``: median flux after over before.
    ``change_rms``: rms change of the gains. ``reason_not_kept``: empty if the gains are kept.
    """

    kind: Kind
    noise_jy_per_beam: tuple[float, float]
    dynamic_range: tuple[float, float]
    flux_ratio: float
    change_rms: float
    reason_not_kept: str

    @property
    def kept(self) -> bool:
        """Whether the gains of this round are in the image."""
        return not self.reason_not_kept


@dataclass(frozen=True)
class SelfcalReport:
    """Result of self-calibration.

    ``gains``: gains applied to the image, None if it is unchanged. ``error_rad``: typical error of a phase.
    ``stopped``: reason for the end.
    """

    rounds: tuple[SelfcalRound, ...]
    gains: AntennaGains | None
    error_rad: float
    stopped: str

    @property
    def header_value(self) -> str:
        """Number of rounds in the image, for the header keyword DSASELF."""
        kept = [one.kind for one in self.rounds if one.kept]
        return f"{kept.count('phase')} phase, {kept.count('amplitude')} amplitude" if kept else "no change"

    @property
    def summary(self) -> str:
        """Summary in one line."""
        kept = [one for one in self.rounds if one.kept]
        if not kept:
            return f"no change: {self.stopped}"
        phases = sum(one.kind == "phase" for one in kept)
        noise = f"noise {1e3 * kept[0].noise_jy_per_beam[0]:.3g} to {1e3 * kept[-1].noise_jy_per_beam[1]:.3g} mJy/beam"
        return f"kept {phases} rounds of phases and {len(kept) - phases} of amplitudes, {noise}; {self.stopped}"


@dataclass(frozen=True)
class Correlations:
    """Sums over rows and channels, shape (Nintervals, 2 polarizations, Nants, Nants), in units of 1/noise^2.

    ``r``: ``sum w V conj(M)``, complex, Hermitian. ``q``: ``sum w |M|^2``, symmetric.
    """

    r: NDArray[np.complex128]
    q: NDArray[np.float64]

    @property
    def error_rad(self) -> NDArray[np.float64]:
        """Thermal error of each phase and of the logarithm of each amplitude, (Nintervals, 2, Nants).

        Infinite without data.
        """
        total = self.q.sum(axis=-1)
        return np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), np.inf)


@dataclass
class _Progress:
    best: SelfcalImage
    gains: AntennaGains
    rounds: list[SelfcalRound] = field(default_factory=list[SelfcalRound])


def self_calibrate(
    ms: Path,
    first: SelfcalImage,
    *,
    n_rounds: int,
    integrations: int,
    reference: FluxReference,
    predict: Callable[[SelfcalImage], NDArray[np.complex64]],
    image_with: Callable[[AntennaGains], SelfcalImage],
) -> tuple[SelfcalImage, SelfcalReport]:
    """Find the best image by self-calibration; return ``first`` if nothing improves it.

    Args:
        ms: calibrated Measurement Set; only read.
        first: image without gains.
        n_rounds: maximum number of rounds. The first half (rounded up) solves for phases, the rest for amplitudes too.
        integrations: number of integrations that share a solution; 0 for the whole tile.
        reference: sources whose fluxes must not change.
        predict: function that returns the visibilities (nrow, nchan) of an image's model.
        image_with: function that images the data after removing these gains.
    """
    gains = _unit_gains(first.vis, integrations)
    progress = _Progress(first, gains)
    error = float("inf")
    stopped = f"all {n_rounds} requested rounds are done"
    for number in range(n_rounds):
        kind: Kind = "phase" if number < (n_rounds + 1) // 2 else "amplitude"
        correlations = correlate(ms, progress.best.vis, predict(progress.best), gains)
        has_data = np.isfinite(correlations.error_rad)
        error = float(np.median(correlations.error_rad[has_data])) if has_data.any() else float("inf")
        if error > _LARGEST_TYPICAL_ERROR_RAD:
            stopped = f"too faint: phases would have errors of {np.degrees(error):.0f} deg" if np.isfinite(error) else "the model is empty"
            break
        solved = solve(correlations, progress.gains, kind)
        change = _significant_change(correlations, progress.gains, solved, kind)
        if change is None and kind == "phase" and n_rounds > 1:
            kind = "amplitude"
            solved = solve(correlations, progress.gains, kind)
            change = _significant_change(correlations, progress.gains, solved, kind)
        if change is None:
            stopped = "the data agree with the model within the noise"
            break
        image = image_with(solved)
        result = _compare_images(progress.best, image, reference, kind, change)
        progress.rounds.append(result)
        if result.kept:
            progress.best, progress.gains = image, solved
        elif kind == "amplitude":
            stopped = result.reason_not_kept
            break
    kept = any(one.kept for one in progress.rounds)
    if not kept and progress.rounds:
        stopped = progress.rounds[-1].reason_not_kept
    return progress.best, SelfcalReport(tuple(progress.rounds), progress.gains if kept else None, error, stopped)


def correlate(ms: Path, vis: Visibilities, model_jy: NDArray[np.complex64], gains: AntennaGains) -> Correlations:
    """Correlate the uncorrected data with a model (nrow, nchan) of the rows of ``vis``, by interval of ``gains``."""
    from dsa110_assets.imaging import _kernels

    n_interval, n_antenna, _ = gains.gain.shape
    r = np.zeros((n_interval, 2, n_antenna, n_antenna), dtype=np.complex128)
    q = np.zeros((n_interval, 2, n_antenna, n_antenna))
    for start, data, flag, weight in blocks_of_rows(ms, vis.frequency_hz.size):
        first, last = np.searchsorted(vis.ms_row, [start, start + data.shape[0]])
        part = slice(int(first), int(last))
        _kernels.correlate_with_model(
            data, flag, weight, vis.ms_row[part] - start, model_jy[part], vis.antenna1[part], vis.antenna2[part],
            gains.interval_of_time[vis.time_index[part]], r, q,
        )  # fmt: skip
    return Correlations(r + np.conj(np.swapaxes(r, 2, 3)), q + np.swapaxes(q, 2, 3))


def solve(correlations: Correlations, start: AntennaGains, kind: Kind) -> AntennaGains:
    """Solve for the gains that fit best. With kind ``phase``, amplitudes are 1.

    The mean phase of each solution is 0. Amplitudes preserve the flux scale of the model. Receptors with too little
    signal, or none, keep their gains from ``start``.
    """
    r, q = correlations.r, correlations.q
    before = np.swapaxes(start.gain, 1, 2).astype(np.complex128)  # (Nintervals, 2, Nants)
    sure = correlations.error_rad < _LARGEST_ERROR_RAD
    gain = before.copy()
    for iteration in range(_ITERATIONS):
        new = (r @ gain[..., None])[..., 0]
        if kind == "phase":
            new /= np.where(np.abs(new) > 0, np.abs(new), 1.0)
        else:
            power = (q @ np.square(np.abs(gain))[..., None])[..., 0]
            new /= np.where(power > 0, power, 1.0)
        new = np.where(sure, new, before)
        if iteration % 2:  # average with the previous one, because two solutions would otherwise alternate
            new = 0.5 * (new + gain)
            if kind == "phase":
                new /= np.where(np.abs(new) > 0, np.abs(new), 1.0)
        change = float(np.abs(new - gain).max(initial=0.0))
        gain = new
        if iteration % 2 and change < _CONVERGED:
            break
    mean = np.where(sure, gain / np.maximum(np.abs(gain), 1e-30), 0).sum(axis=-1, keepdims=True)
    gain = np.where(sure, gain * np.conj(mean) / np.maximum(np.abs(mean), 1e-30), before)
    if kind == "amplitude":
        amplitude = np.abs(gain)
        scale = np.sqrt((q * amplitude[..., :, None] * amplitude[..., None, :]).sum((-1, -2)) / np.maximum(q.sum((-1, -2)), 1e-300))
        gain = np.where(sure, gain / np.maximum(scale, 1e-30)[..., None], before)
    return replace(start, gain=np.ascontiguousarray(np.swapaxes(gain, 1, 2)).astype(np.complex64))


def _unit_gains(vis: Visibilities, integrations: int) -> AntennaGains:
    n_time = vis.pointing.time_mjd.size
    per_solution = min(integrations, n_time) if integrations > 0 else n_time
    n_interval = -(-n_time // per_solution)
    n_antenna = int(max(vis.antenna1.max(), vis.antenna2.max())) + 1
    interval = np.minimum(np.arange(n_time) * n_interval // n_time, n_interval - 1).astype(np.int32)
    return AntennaGains(np.ones((n_interval, n_antenna, 2), dtype=np.complex64), interval)


def _significant_change(correlations: Correlations, before: AntennaGains, after: AntennaGains, kind: Kind) -> float | None:
    """Rms change of the phases (radians) or of the complex gains; None if it is within the noise or negligible."""
    error = np.swapaxes(correlations.error_rad, 1, 2)
    sure = error < _LARGEST_ERROR_RAD
    if not sure.any():
        return None
    relative = after.gain[sure].astype(np.complex128) / before.gain[sure]
    squares = np.square(np.angle(relative))
    degrees_of_freedom = 1.0
    if kind == "amplitude":
        squares, degrees_of_freedom = squares + np.square(np.log(np.abs(relative))), 2.0
    significance = float((squares / np.square(error[sure])).mean())
    rms = float(np.sqrt(squares.mean()))
    return None if significance < _LEAST_SIGNIFICANCE * degrees_of_freedom or rms < _LEAST_CHANGE else rms


def _compare_images(before: SelfcalImage, after: SelfcalImage, reference: FluxReference, kind: Kind, change: float) -> SelfcalRound:
    """Decide whether the new image is better and keeps the fluxes."""
    noise = (before.noise_jy_per_beam, after.noise_jy_per_beam)
    dynamic = (before.dynamic_range, after.dynamic_range)
    ratios = reference.ratio(before.images.restored), reference.ratio(after.images.restored)
    flux_ratio = ratios[1] / ratios[0] if reference.y.size else float("nan")
    reason = ""
    if noise[1] > _LESS_NOISE * noise[0] and not (dynamic[1] > _MORE_RANGE * dynamic[0] and noise[1] < _SAME_NOISE * noise[0]):
        reason = f"{kind}s do not improve the image"
    elif flux_ratio < 1 - _FLUX_TOLERANCE or (kind == "amplitude" and flux_ratio > 1 + _FLUX_TOLERANCE):
        reason = f"{kind}s would change the fluxes by {100 * (flux_ratio - 1):+.1f} %"
    elif reference.from_catalog and reference.y.size >= _FEWEST_SOURCES:
        away = [abs(np.log(ratio)) for ratio in ratios]
        if away[1] > max(away[0], np.log1p(_CATALOG_TOLERANCE)):
            reason = f"{kind}s would bring the fluxes to {ratios[1]:.3f} times those of the catalog"
    return SelfcalRound(kind, noise, dynamic, flux_ratio, change, reason)
