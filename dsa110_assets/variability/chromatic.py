"""Test of an event's frequency dependence: a likelihood ratio for a plasma lens, from fluxes in channel images.

The model for the fluxes ``x_ck`` of channel c at epoch k, each channel in units of its own flux outside the event, is

    x_ck = m_k + b_c m_k + d_ck    (lens)         or    m_k + b_c m_k + kappa g_ck    (power law; achromatic: kappa = 0)

* ``m_k``: all that the channels have in common at an epoch (the event's mean, a gain error, ordinary variability). It
  is free at every epoch. The search used the mean, so this test is independent of the search.
* ``b_c``: error of the channel's flux outside the event.
* ``d_ck``: the lens's effect on channel c beyond the mean, with ``alpha`` proportional to lambda^2 (`lens`). The lens
  (strength, size of the source, center, width, amplitude) is fitted to the *mean* of the channels, so ``d`` is a
  prediction.
* ``g_ck = (m_k - 1) ln(nu_c / nu_0)``: a depth that follows a power of frequency, as in intrinsic variability
  (synchrotron, absorption).

Fit ``m`` and ``b`` and remove them from the data, ``d`` and ``g``. With ``r`` the remaining data in units of the
errors, ``s = |d|`` and ``z = (r . d) / s``, z is N(0, 1) for noise and achromatic events, and N(s, 1) for the lens.

No lens is exactly Gaussian. So the likelihoods of both chromatic models include a model error of `MODEL_ERROR` of the
prediction in each datum, and the lens's likelihood is the highest of the few fits that match the mean. High
signal-to-noise alone then does not refute a lens.

With fewer epochs than `MIN_EPOCHS_TO_FIT`, a dip is taken for the core of a lens in front of the whole source, with
depth ``alpha / (1 + alpha)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import least_squares

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability import lightcurves
from dsa110_assets.variability.lens import core_half_width, gain
from dsa110_assets.variability.lightcurves import LightCurves
from dsa110_assets.variability.normalisation import apply_normalisation, fit_normalisation

F64 = NDArray[np.float64]

DECISIVE = 4.5
"""ln of a decisive likelihood ratio; it corresponds to 3 sigma."""
CHANNEL_ERROR = 0.005
"""Relative error of a channel's flux scale at one epoch and position in the field, which the ensemble does not show."""
MODEL_ERROR = 0.3
MIN_EPOCHS_TO_FIT = 8
_FIT_ALPHAS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_FIT_SIZES = (0.2, 0.5, 1.0)
_MOST_FITS = 4
_MOST_EPOCHS = 300
_SAME_EPOCH_D = 0.01
MOST_CHANNEL_TESTS = 200
"""Number of a night's strongest events to compare between channels."""
CHANNEL_REFERENCES = 500


@dataclass(frozen=True)
class Event:
    """An event of one source.

    ``first_mjd``, ``last_mjd``: of its epochs. ``width_d``: duration. ``depth``: 1 - F / B, negative for a brightening.
    """

    first_mjd: float
    last_mjd: float
    width_d: float
    depth: float


@dataclass(frozen=True)
class Lens:
    """A lens fitted to the mean of the channels.

    ``width_d``: width of the core at half depth. ``amplitude``: share of the source that is lensed.
    """

    alpha: float
    source_size: float
    centre_mjd: float
    width_d: float
    amplitude: float
    chi2: float

    def flux(self, time_mjd: F64, stronger: float = 1.0) -> F64:
        """Relative flux minus 1, with alpha ``stronger`` times that of the fit."""
        place = 2.0 * core_half_width(self.alpha, self.source_size) * (time_mjd - self.centre_mjd) / self.width_d
        return self.amplitude * (gain(place, self.alpha * stronger, self.source_size) - 1.0)


@dataclass(frozen=True)
class Chromaticity:
    """Result of the test; see the module. ``expected``: s. ``lens``: the best fit, None with too few epochs."""

    n_channels: int
    z: float
    expected: float
    ln_lens_to_achromatic: float
    ln_lens_to_power_law: float
    lens: Lens | None

    @property
    def verdict(self) -> str:
        """``lens``, ``achromatic``, ``intrinsic`` (a power of frequency) or ``undecided``."""
        power_law_to_achromatic = self.ln_lens_to_achromatic - self.ln_lens_to_power_law
        if self.ln_lens_to_achromatic < -DECISIVE and power_law_to_achromatic < DECISIVE:
            return "achromatic"
        if self.ln_lens_to_power_law < -DECISIVE and self.z < 0.5 * self.expected:
            return "intrinsic"
        return "lens" if self.ln_lens_to_achromatic > DECISIVE else "undecided"


def chromaticity(event: Event, channels: pd.DataFrame, *, ordinary_variability: float = 0.05) -> Chromaticity | None:
    """Test one source's event.

    Args:
        event: from the search.
        channels: of this source: ``mosaic_name, channel, time_mjd, frequency_hz, flux_jy, flux_err_jy``, normalized
            (`normalised_channels`).
        ordinary_variability: modulation index that the fit of the lens to the mean allows for.

    Returns:
        The result, or None if nothing can be compared: fewer than two channels have epochs both during and outside the
        event, the event is a brightening at few epochs, or no lens predicts a difference.
    """
    usable = channels.loc[np.isfinite(channels["flux_jy"].to_numpy()) & (channels["flux_err_jy"].to_numpy() > 0.0)]
    usable = usable.iloc[np.argsort(usable["time_mjd"].to_numpy(), kind="stable")]
    time, nu, flux, error = (
        usable[name].to_numpy(np.float64, copy=True) for name in ("time_mjd", "frequency_hz", "flux_jy", "flux_err_jy")
    )
    epoch, code = pd.factorize(usable["mosaic_name"])[0], usable["channel"].to_numpy(np.int64)
    affected = (time >= event.first_mjd - _SAME_EPOCH_D) & (time <= event.last_mjd + _SAME_EPOCH_D)
    level = np.zeros(code.size)
    for c in np.unique(code):
        here = code == c
        calm = here & ~affected
        if calm.any() and (here & affected).any():
            level[here] = np.median(flux[calm])
            nu[here] = nu[here].mean()
    good = level > 0.0
    time, nu, flux, error, level = (a[good] for a in (time, nu, flux, error, level))
    epoch, code, affected = pd.factorize(epoch[good])[0], code[good], affected[good]
    n_channels = int(np.unique(code).size)
    if n_channels < 2:
        return None
    x, variance = flux / level, (error / level) ** 2 + CHANNEL_ERROR**2
    weight = 1.0 / variance
    reference = float(np.exp(np.average(np.log(nu), weights=weight)))
    at = np.bincount(epoch, time) / np.bincount(epoch)
    mean = np.bincount(epoch, weight * x) / np.bincount(epoch, weight)
    lenses = _fit_lenses(event, at, mean, 1.0 / np.bincount(epoch, weight) + (ordinary_variability * np.median(mean)) ** 2)
    if lenses:
        predictions = [_chromatic(lens, time, nu, reference) for lens in lenses]
    elif at.size < MIN_EPOCHS_TO_FIT and event.depth > 0.0:
        depth = min(event.depth, 0.98)
        alpha = depth / (1.0 - depth)
        predictions = [np.where(affected, 1.0 / (1.0 + alpha * (reference / nu) ** 2) - 1.0 / (1.0 + alpha), 0.0)]
    else:
        return None
    power_law = (mean[epoch] - 1.0) * np.log(nu / reference)
    design = [np.where(code == c, mean[epoch], 0.0) for c in np.unique(code)]
    r, g, *d = _without_means([x, power_law, *predictions], design, weight, epoch)
    calm = ~affected & (np.abs(d[0]) <= 0.1 * np.abs(d[0]).max())
    freedom = int(calm.sum() - np.unique(epoch[calm]).size - (n_channels - 1))
    scatter = float(np.sqrt(max(1.0, np.sum(r[calm] ** 2) / freedom))) if freedom >= 10 else 1.0
    r, g, d = r / scatter, g / scatter, [one / scatter for one in d]
    s = float(np.linalg.norm(d[0]))
    if s < 1e-6:
        return None
    achromatic, lens = _ln_likelihood(r, 0.0 * r), max(_ln_likelihood(r, one) for one in d)
    power = max(achromatic, _ln_likelihood(r, g * float(r @ g) / max(float(g @ g), 1e-12)))
    return Chromaticity(n_channels, float(r @ d[0]) / s, s, lens - achromatic, lens - power, lenses[0] if lenses else None)


def _ln_likelihood(r: F64, model: F64) -> float:
    variance = 1.0 + (MODEL_ERROR * model) ** 2
    return -0.5 * float(np.sum((r - model) ** 2 / variance + np.log(variance)))


def _chromatic(lens: Lens, time: F64, nu: F64, reference: float) -> F64:
    at_reference, result = lens.flux(time), np.zeros(time.size)
    for frequency in np.unique(nu):
        here = nu == frequency
        result[here] = lens.flux(time[here], (reference / frequency) ** 2) - at_reference[here]
    return result


def _without_means(columns: list[F64], design: list[F64], weight: F64, epoch: NDArray[np.intp]) -> list[F64]:
    """Columns in units of the errors, with the epochs' means and then the channels' levels (``design``) removed."""
    root, total = np.sqrt(weight), np.bincount(epoch, weight)
    within = [root * (one - (np.bincount(epoch, weight * one) / total)[epoch]) for one in (*columns, *design)]
    matrix = np.stack(within[len(columns) :], axis=1)
    return [one - matrix @ np.linalg.lstsq(matrix, one, rcond=None)[0] for one in within[: len(columns)]]


def _fit_lenses(event: Event, time: F64, flux: F64, variance: F64) -> list[Lens]:
    """Lenses that match the light curve around the event, the best first.

    Try each strength and size on a grid of centers and widths, and refine the best.
    """
    if time.size < MIN_EPOCHS_TO_FIT:
        return []
    middle, unit = 0.5 * (event.first_mjd + event.last_mjd), max(event.width_d, 1e-3)
    near = np.sort(np.argsort(np.abs(time - middle), kind="stable")[:_MOST_EPOCHS])
    time, flux, weight = time[near], flux[near], 1.0 / variance[near]
    dips = event.depth > 0.0
    widths = unit * (np.geomspace(0.5, 2.0, 7) if dips else np.geomspace(1.0, 12.0, 9))
    centres = middle + unit * (np.linspace(-1.0, 1.0, 21) if dips else np.linspace(-10.0, 10.0, 61))
    scaled = (time[None, None, :] - centres[None, :, None]) / widths[:, None, None]
    coarse: list[tuple[float, float, float, float, float]] = []
    for alpha, size in product(_FIT_ALPHAS, _FIT_SIZES):
        shape = gain(2.0 * core_half_width(alpha, size) * scaled, alpha, size) - 1.0
        chi2, amplitude = _amplitudes(shape, flux, weight)
        chi2 = np.where(amplitude > 0.0, chi2, np.inf)
        i, j = np.unravel_index(int(np.argmin(chi2)), chi2.shape)
        coarse.append((float(chi2[i, j]), alpha, size, float(centres[j]), float(widths[i])))
    fits = [_refine(*one[1:], time, flux, weight) for one in sorted(coarse)[: 2 * _MOST_FITS] if np.isfinite(one[0])]
    fits = sorted((fit for fit in fits if fit.amplitude > 0.0), key=lambda fit: fit.chi2)[:_MOST_FITS]
    return [fit for fit in fits if fit.chi2 < fits[0].chi2 + 9.0 * max(1.0, fits[0].chi2 / time.size)]


def _amplitudes(shape: F64, flux: F64, weight: F64) -> tuple[F64, F64]:
    """Chi-square and amplitude of ``flux = level (1 + amplitude shape)``; the last axis of ``shape`` is the epochs."""
    w = weight / weight.sum()
    shape_mean, flux_mean = shape @ w, float(flux @ w)
    centred = shape - shape_mean[..., None]
    slope = (centred * (flux - flux_mean)) @ w / np.maximum((centred**2) @ w, 1e-12)
    residual = flux - flux_mean - slope[..., None] * centred
    level = flux_mean - slope * shape_mean
    return (residual**2) @ weight, np.where(level > 0.0, slope / np.where(level > 0.0, level, 1.0), 0.0)


def _refine(alpha: float, size: float, centre: float, width: float, time: F64, flux: F64, weight: F64) -> Lens:
    """Fit center and width by least squares; amplitude and level are linear."""
    half = core_half_width(alpha, size)

    def shape(place: F64) -> F64:
        return gain(2.0 * half * (time - centre - width * place[0]) / (width * np.exp(place[1])), alpha, size) - 1.0

    def residuals(place: F64) -> F64:
        one = shape(place)
        matrix = np.stack([np.ones(time.size), one], axis=1) * np.sqrt(weight)[:, None]
        target = flux * np.sqrt(weight)
        return target - matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]

    found = least_squares(residuals, np.zeros(2), bounds=([-1.0, -0.7], [1.0, 0.7]), diff_step=1e-3, max_nfev=25)
    chi2, amplitude = _amplitudes(shape(found.x), flux, weight)
    return Lens(alpha, size, centre + width * float(found.x[0]), width * float(np.exp(found.x[1])), float(amplitude), float(chi2))


def references_for(n_images: int) -> int:
    """Number of the brightest cataloged sources that normalize channel fluxes, limited so that they fit into memory.

    ``n_images``: epochs times channels.
    """
    return min(CHANNEL_REFERENCES, lightcurves.POINTS_AT_ONCE // n_images)


def normalised_channels(channels: pd.DataFrame, references: NDArray[np.generic]) -> pd.DataFrame:
    """Channel fluxes divided by the factors of their epochs. Each channel has its own factors, from its references.

    Args:
        channels: ``source_id, mosaic_name, channel, time_mjd, frequency_hz, flux_jy, flux_err_jy`` of the events'
            sources and of references.
        references: identifiers of sources that may be references, shape (Nref,).

    Returns:
        The same columns, without measurements of epochs that have no factor and without channels with too few
        references.
    """
    tables: list[pd.DataFrame] = []
    for _, part in channels.groupby("channel", sort=True):
        curves = LightCurves.from_table(part)
        try:
            fit = fit_normalisation(curves, reference=np.isin(curves.source_id, references))
        except LightCurveError:  # this channel has too few bright sources; the others may have enough
            continue
        points = apply_normalisation(curves, fit).to_table().drop(columns="is_limit")
        tables.append(points.merge(part[["source_id", "mosaic_name", "channel", "frequency_hz"]], on=["source_id", "mosaic_name"]))
    return pd.concat(tables, ignore_index=True) if tables else channels.iloc[:0]
