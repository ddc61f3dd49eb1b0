"""Self-calibration: gains of the antennas from the image's own model, phases first, kept only where the image gets better.

With ``V_ij = g_i conj(g_j) M_ij`` and gains that are the same over the band and an interval, the sum of squares depends on the data through
``R_ij = sum w V conj(M)`` and ``Q_ij = sum w |M|^2`` alone, so that one pass over the Measurement Set suffices for a round. The solver is StefCal (Salvini & Wijnholds
2014, A&A 571, A97), for all intervals and polarizations at once. Every round solves for the whole gains from the uncorrected data: rounds do not add up errors.
What does not belong here: calibration tables, and phases against a catalogue (`calibration.tile_phase`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dsa110_assets.common.instrument import BEAM_CUTOFF
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.imaging.engine import EngineImages
from dsa110_assets.imaging.visibilities import AntennaGains, Visibilities, blocks_of_rows
from dsa110_assets.imaging.weighting import ImagingWeights

Kind = Literal["phase", "amplitude"]

_FAINTEST_RAD = 0.2
"""A field whose typical phase would have a larger error (a signal of 5 times the noise for each receptor) is too faint."""
_UNSURE_RAD = 0.35
"""Receptors with a larger error are left as they are."""
_SIGNIFICANT = 2.0
"""Gains are worth an image when their changes are, in the mean of their squares, more than this many times what noise makes, and ..."""
_NOTICEABLE = 0.003
"""... larger than this (radians, or fraction of the amplitude): less does not show below a dynamic range of ten thousand."""
_LESS_NOISE = 0.99
"""A round is kept that lowers the noise to this ..."""
_MORE_RANGE = 1.02
"""... or raises the dynamic range by this, without more noise."""
_SAME_NOISE = 1.005
_FLUX_TOLERANCE = 0.01
"""Fluxes may not change by more; phases may raise them, because they regain what was not coherent."""
_CATALOG_TOLERANCE = 0.1
"""But the median ratio to the catalogue may not leave this range, nor go further away outside of it."""
_FEWEST_SOURCES = 5
FLUX_SNR = 20.0
"""Sources above this many times the thermal noise are watched."""
_CUT_PX = 6
_ITERATIONS = 500
_CONVERGED = 1e-8


@dataclass(frozen=True)
class Attempt:
    """One image of the tile with some gains, and what it was made of; ``primary_beam`` (N, N)."""

    vis: Visibilities
    weights: ImagingWeights
    primary_beam: NDArray[np.float32]
    images: EngineImages

    @property
    def noise_jy_per_beam(self) -> float:
        """Robust rms of the residual inside the primary beam."""
        return robust_sigma(self.images.residual[self.primary_beam >= BEAM_CUTOFF])

    @property
    def dynamic_range(self) -> float:
        """Peak over noise."""
        return float(self.images.restored[self.primary_beam >= BEAM_CUTOFF].max()) / self.noise_jy_per_beam


@dataclass(frozen=True)
class FluxReference:
    """Where fluxes are watched: pixels ``y``, ``x`` and apparent fluxes expected there, (Nsource,); ``from_catalog``: these are a catalogue's."""

    y: NDArray[np.float64]
    x: NDArray[np.float64]
    flux_jy: NDArray[np.float64]
    from_catalog: bool

    def ratio(self, image: NDArray[np.float32]) -> float:
        """Median flux in an image over that expected; NaN with too few sources."""
        values: list[float] = []
        for y, x, flux in zip(self.y, self.x, self.flux_jy, strict=True):
            row, column = round(float(y)), round(float(x))
            cut = image[row - _CUT_PX : row + _CUT_PX + 1, column - _CUT_PX : column + _CUT_PX + 1]
            if cut.shape == (2 * _CUT_PX + 1, 2 * _CUT_PX + 1):
                place = [[y - row + _CUT_PX], [x - column + _CUT_PX]]
                values.append(float(ndimage.map_coordinates(cut.astype(float), place, order=5)[0]) / float(flux))
        return float(np.median(values)) if values else float("nan")


@dataclass(frozen=True)
class SelfcalRound:
    """One round that was imaged: noise (Jy/beam) and dynamic range (before, after), median flux after over before, what changed (rms), and why it was not kept."""

    kind: Kind
    noise_jy_per_beam: tuple[float, float]
    dynamic_range: tuple[float, float]
    flux_ratio: float
    change_rms: float
    refused: str

    @property
    def kept(self) -> bool:
        """Whether the gains of this round are in the image."""
        return not self.refused


@dataclass(frozen=True)
class SelfcalReport:
    """What self-calibration did. ``gains``: those in the image, None when it was left alone. ``error_rad``: typical error of a phase. ``stopped``: why it ended."""

    rounds: tuple[SelfcalRound, ...]
    gains: AntennaGains | None
    error_rad: float
    stopped: str

    @property
    def keyword(self) -> str:
        """For headers: how many rounds are in the image."""
        kept = [one.kind for one in self.rounds if one.kept]
        return f"{kept.count('phase')} phase, {kept.count('amplitude')} amplitude" if kept else "no change"

    @property
    def words(self) -> str:
        """One line for people."""
        kept = [one for one in self.rounds if one.kept]
        if not kept:
            return f"nothing changed: {self.stopped}"
        phases = sum(one.kind == "phase" for one in kept)
        noise = f"noise {1e3 * kept[0].noise_jy_per_beam[0]:.3g} to {1e3 * kept[-1].noise_jy_per_beam[1]:.3g} mJy/beam"
        return f"{phases} of phases, {len(kept) - phases} of amplitudes kept, {noise}; {self.stopped}"


@dataclass(frozen=True)
class Correlations:
    """``r`` (complex) and ``q``: sums over rows and channels, (Nintervals, 2 polarizations, Nants, Nants), r hermitian, q symmetric, 1/noise^2."""

    r: NDArray[np.complex128]
    q: NDArray[np.float64]

    @property
    def error_rad(self) -> NDArray[np.float64]:
        """Standard deviation of each phase, and of each logarithm of an amplitude, by thermal noise, (Nintervals, 2, Nants); infinite without data."""
        total = self.q.sum(axis=-1)
        return np.where(total > 0, 1 / np.sqrt(np.where(total > 0, total, 1.0)), np.inf)


@dataclass
class _Progress:
    best: Attempt
    gains: AntennaGains
    rounds: list[SelfcalRound] = field(default_factory=list[SelfcalRound])


def self_calibrate(
    ms: Path,
    first: Attempt,
    n_rounds: int,
    integrations: int,
    reference: FluxReference,
    predict: Callable[[Attempt], NDArray[np.complex64]],
    image_with: Callable[[AntennaGains], Attempt],
) -> tuple[Attempt, SelfcalReport]:
    """The best image that self-calibration comes to, ``first`` itself when nothing helps.

    Args:
        ms: calibrated Measurement Set; only read.
        first: image without gains.
        n_rounds: most rounds; the first half (rounded up) solves for phases, the others for amplitudes too.
        integrations: that share a solution; 0: all of the tile.
        reference: fluxes that must stay.
        predict: visibilities (nrow, nchan) of an image's model.
        image_with: an image of the data with these gains taken out.
    """
    gains = _unit_gains(first.vis, integrations)
    now = _Progress(first, gains)
    error = float("inf")
    stopped = f"the {n_rounds} rounds asked for are done"
    for number in range(n_rounds):
        kind: Kind = "phase" if number < (n_rounds + 1) // 2 else "amplitude"
        correlations = correlate(ms, now.best.vis, predict(now.best), gains)
        has_data = np.isfinite(correlations.error_rad)
        error = float(np.median(correlations.error_rad[has_data])) if has_data.any() else float("inf")
        if error > _FAINTEST_RAD:
            stopped = f"too faint: phases would have errors of {np.degrees(error):.0f} deg" if np.isfinite(error) else "the model is empty"
            break
        solved = solve(correlations, now.gains, kind)
        change = _noticeable_change(correlations, now.gains, solved, kind)
        if change is None and kind == "phase" and n_rounds > 1:
            kind = "amplitude"
            solved = solve(correlations, now.gains, kind)
            change = _noticeable_change(correlations, now.gains, solved, kind)
        if change is None:
            stopped = "the data agree with the model within the noise"
            break
        attempt = image_with(solved)
        done = _judge(now.best, attempt, reference, kind, change)
        now.rounds.append(done)
        if done.kept:
            now.best, now.gains = attempt, solved
        elif kind == "amplitude":
            stopped = done.refused
            break
    kept = any(one.kept for one in now.rounds)
    if not kept and now.rounds:
        stopped = now.rounds[-1].refused
    return now.best, SelfcalReport(tuple(now.rounds), now.gains if kept else None, error, stopped)


def correlate(ms: Path, vis: Visibilities, model_jy: NDArray[np.complex64], gains: AntennaGains) -> Correlations:
    """Sums over the uncorrected data against the model (nrow, nchan) of the rows of ``vis``, for the intervals of ``gains``."""
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
    """Gains that fit best; phases alone have amplitude 1. The mean phase of each solution is 0; amplitudes leave the flux scale of the model as it is.

    Receptors with too little signal, or none, keep their gains of ``start``.
    """
    r, q = correlations.r, correlations.q
    before = np.swapaxes(start.gain, 1, 2).astype(np.complex128)  # (Nintervals, 2, Nants)
    sure = correlations.error_rad < _UNSURE_RAD
    gain = before.copy()
    for iteration in range(_ITERATIONS):
        new = (r @ gain[..., None])[..., 0]
        if kind == "phase":
            new /= np.where(np.abs(new) > 0, np.abs(new), 1.0)
        else:
            power = (q @ np.square(np.abs(gain))[..., None])[..., 0]
            new /= np.where(power > 0, power, 1.0)
        new = np.where(sure, new, before)
        if iteration % 2:  # the mean with the last one: two solutions would alternate otherwise
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


def _noticeable_change(correlations: Correlations, before: AntennaGains, after: AntennaGains, kind: Kind) -> float | None:
    """Rms change of the phases (radians), or of the gains' values, where it is more than noise and more than nothing."""
    error = np.swapaxes(correlations.error_rad, 1, 2)
    sure = error < _UNSURE_RAD
    if not sure.any():
        return None
    relative = after.gain[sure].astype(np.complex128) / before.gain[sure]
    squares = np.square(np.angle(relative))
    freedoms = 1.0
    if kind == "amplitude":
        squares, freedoms = squares + np.square(np.log(np.abs(relative))), 2.0
    if float((squares / np.square(error[sure])).mean()) < _SIGNIFICANT * freedoms or float(np.sqrt(squares.mean())) < _NOTICEABLE:
        return None
    return float(np.sqrt(squares.mean()))


def _judge(before: Attempt, after: Attempt, reference: FluxReference, kind: Kind, change: float) -> SelfcalRound:
    noise = (before.noise_jy_per_beam, after.noise_jy_per_beam)
    dynamic = (before.dynamic_range, after.dynamic_range)
    ratios = reference.ratio(before.images.restored), reference.ratio(after.images.restored)
    moved = ratios[1] / ratios[0] if reference.y.size else float("nan")
    refused = ""
    if noise[1] > _LESS_NOISE * noise[0] and not (dynamic[1] > _MORE_RANGE * dynamic[0] and noise[1] < _SAME_NOISE * noise[0]):
        refused = f"{kind}s do not make the image better"
    elif moved < 1 - _FLUX_TOLERANCE or (kind == "amplitude" and moved > 1 + _FLUX_TOLERANCE):
        refused = f"{kind}s would change the fluxes by {100 * (moved - 1):+.1f} %"
    elif reference.from_catalog and reference.y.size >= _FEWEST_SOURCES:
        away = [abs(np.log(ratio)) for ratio in ratios]
        if away[1] > max(away[0], np.log1p(_CATALOG_TOLERANCE)):
            refused = f"{kind}s would bring the fluxes to {ratios[1]:.3f} of the catalogue's"
    return SelfcalRound(kind, noise, dynamic, moved, change, refused)
