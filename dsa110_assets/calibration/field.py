"""The sky around a calibrator, fitted to its own tile together with the gains.

Bandpass and gains absorb a part of what the sky model lacks: about 2 over the number of antennas, more along the arms
of the array, and every tile that they calibrate gets it back as a false sky. So fluxes are free. With the residual ``r
= V - M`` of calibrated data, errors ``x_i + i y_i`` of the gains and errors ``p_s`` of the fluxes,

    r_ij = M_ij (x_i + x_j + i (y_i - y_j)) + sum_s p_s M_s,ij

in every group of channels and polarization. This is linear. We remove the gains from the normal equations (their Schur
complement), group by group, and solve for the fluxes: the result is what infinitely many rounds of solving gains and
fitting fluxes in turn would give, of which each removes only ``1 - a`` of the error. The absorbed share a of a source
is the part of its normal equation that goes with the gains. Fluxes are drawn to the catalog by a weak prior only; the
calibrator's flux is fixed and carries the scale.

What the residual image still shows is added to the model, at the position of a catalog source if one is there, else
with a free position.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dsa110_assets.calibration.model import PART_OF, TileModel, build_model
from dsa110_assets.calibration.solved_data import SolvedData
from dsa110_assets.common.directions import TilePointing, angular_separation_rad
from dsa110_assets.common.figures import Row
from dsa110_assets.common.instrument import DISH_DIAMETER_M
from dsa110_assets.common.interferometry import SPEED_OF_LIGHT_M_PER_S

CATALOG_SCATTER = 1.0
"""Relative scatter of fluxes around the catalog's. So weak a prior anchors nothing, least of all a variable source; it
only keeps the fluxes of sources that the data cannot separate from the calibrator near the catalog's."""
DETECTION_SIGMA = 6.0
"""Peaks of the residual image above this, in units of its noise, are sources."""
SURE_SIGMA = 10.0
"""Of these sources gains must have absorbed next to nothing."""
MAX_NOISE_OVER_THERMAL = 3.0
"""Larger residuals of the calibrator's tile mean that its sky, or the gains, are not what they are taken for."""
_BESIDE_ARCSEC = 60.0
"""Closer to the calibrator, a residual is the calibrator's own structure."""
_SAME_ARCSEC = 25.0
_RADIUS = 0.6
"""Of the residual image, in wavelengths over the dish's diameter: 1.6 deg here."""
_LARGEST_IMAGE = 4096
_EDGE_DEG = 2.0
_SEARCHES = 6
_BRIGHTEST_SHARE = 0.3
"""A search takes peaks down to this share of the brightest; the others may be its side lobes."""
_VISIBILITIES_OF_A_STEP, _FEWEST_GROUPS = 400_000, 8
_MOST_NEW = 60
_MOST_AT_ONCE = 20
_EVERYWHERE_DEG = 180.0
_ROWS_OF_A_BLOCK = 8192
_LONGEST_STEP_RAD = np.radians(5 / 3600)
_NEW = "new"
_ROUNDING = 1e-6
"""Of a source's normal equation, what single precision leaves uncertain. A source of which gains absorb all but this,
such as one at the calibrator's place, keeps its flux."""


@dataclass(frozen=True)
class FieldSource:
    """A source of the field.

    ``flux_jy``: fitted, at 1.4 GHz, with ``error_jy``. ``apparent_jy``: the same through the beam. ``catalog_jy``: NaN
    for a source that the catalog lacks. ``share``: of a change of its flux, what gains absorb. ``missing``: of its
    flux, what the gains that were applied have absorbed.
    """

    name: str
    ra_deg: float
    dec_deg: float
    flux_jy: float
    error_jy: float
    apparent_jy: float
    catalog_jy: float
    share: float
    missing: float

    @property
    def sigma(self) -> float:
        """Flux in units of its error."""
        return self.flux_jy / self.error_jy


@dataclass(frozen=True)
class Field:
    """The fitted sky around a calibrator.

    ``sky``: columns of `catalogs.sky.COLUMNS` and `model.PART_OF`, for `model.build_model`: the calibrator and every
    fitted source. ``sources``: the fitted ones. ``largest_change``: of a flux against the sky that the gains were
    solved with, in units of its error. ``noise_over_thermal``: of residuals averaged over the tile; errors of the model
    raise it.
    """

    sky: pd.DataFrame = field(repr=False)
    sources: tuple[FieldSource, ...]
    largest_change: float
    noise_over_thermal: float


@dataclass(frozen=True)
class FieldReport:
    """How the field of a calibrator was solved.

    ``rounds``: of gains and field. ``n_new``: sources that the catalog lacks. ``largest_share``: of a change of a
    source's flux, what gains absorb. ``largest_missing``: of the flux of a source above 10 sigma, what the final gains
    have absorbed. ``largest_change``: of a flux in the last round, in units of its error.
    """

    rounds: int
    n_new: int
    largest_share: float
    largest_missing: float
    largest_change: float
    noise_over_thermal: float
    sources: tuple[FieldSource, ...]

    @classmethod
    def of(cls, found: Field, rounds: int) -> Self:
        """Report of the field that the last round has found."""
        sure = [one for one in found.sources if one.sigma > SURE_SIGMA]
        return cls(
            rounds=rounds,
            n_new=sum(not np.isfinite(one.catalog_jy) for one in found.sources),
            largest_share=max((one.share for one in found.sources), default=0.0),
            largest_missing=max((one.missing for one in sure), default=0.0),
            largest_change=found.largest_change,
            noise_over_thermal=found.noise_over_thermal,
            sources=found.sources,
        )

    def figures(self) -> dict[str, float | int]:
        """The named figures that are registered with the tables."""
        return {
            "field_sources": len(self.sources),
            "field_new_sources": self.n_new,
            "field_absorbed_share": self.largest_share,
            "field_missing_fraction": self.largest_missing,
            "field_noise_over_thermal": self.noise_over_thermal,
        }

    def rows(self) -> list[Row]:
        """Table of the sources, the brightest through the beam first."""
        return [
            {
                "source": one.name,
                "flux (mJy)": round(1e3 * one.flux_jy, 2),
                "error (mJy)": round(1e3 * one.error_jy, 2),
                "catalog (mJy)": round(1e3 * one.catalog_jy, 2) if np.isfinite(one.catalog_jy) else "none",
                "absorbed share": round(one.share, 4),
            }
            for one in sorted(self.sources, key=lambda one: -one.apparent_jy)
        ]

    def reasons(self) -> list[str]:
        """Why the tables are refused."""
        if self.noise_over_thermal <= MAX_NOISE_OVER_THERMAL:
            return []
        return [
            f"residuals of the calibrator's tile are {self.noise_over_thermal:.1f} times the thermal noise, above {MAX_NOISE_OVER_THERMAL:g}"
        ]


@dataclass
class FreeSources:
    """Sources of a fit: ``rows`` and ``model`` of unit factors; the first ``n_fixed`` are the calibrator's.

    Of the others: ``factor``, its ``prior`` scatter around 1, ``is_new`` (not in the catalog, position free), and the
    factor that was ``used`` when the gains were solved.
    """

    rows: pd.DataFrame
    model: TileModel
    n_fixed: int
    factor: NDArray[np.float64]
    prior: NDArray[np.float64]
    is_new: NDArray[np.bool_]
    used: NDArray[np.float64]


@dataclass(frozen=True)
class _Gains:
    """Normal equations of errors of gains: amplitudes of a baseline's antennas add, phases subtract.

    ``ant1``, ``ant2`` (Nbl,). ``shape``: (Ntimes, Nbl) of the rows.
    """

    ant1: NDArray[np.int64]
    ant2: NDArray[np.int64]
    n_antennas: int
    shape: tuple[int, int]

    @classmethod
    def of(cls, solved: SolvedData) -> Self:
        return cls(solved.ant1, solved.ant2, solved.n_antennas, (solved.time_s.size, solved.ant1.size))

    def equations(
        self, q: NDArray[np.float64], re: NDArray[np.float64], im: NDArray[np.float64]
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Amplitudes, then phases: matrix (Nants, Nants), and the right-hand side of each column (Nants, Ncolumns).

        ``q`` (Nbl,): the sky's weighted power. ``re``, ``im`` (Nbl, Ncolumns): parts of ``sum w conj(sky) column``.
        """
        from dsa110_assets.calibration._field_kernels import by_antenna

        own = np.bincount(self.ant1, q, self.n_antennas) + np.bincount(self.ant2, q, self.n_antennas)
        between = np.zeros((own.size, own.size))
        between[self.ant1, self.ant2] = q
        between += between.T
        small = 1e-9 * max(float(own.sum()), 1e-300)  # phases have no zero point, dead antennas no data
        for sign, part in ((1.0, re), (-1.0, im)):
            side = np.zeros((own.size, part.shape[1]))
            by_antenna(part, self.ant1, self.ant2, sign, side)
            yield np.diag(own + small) + sign * between, side

    def errors(self, weight: NDArray[np.float32], sky: NDArray[np.complex64], residual: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """What the best errors of gains explain of residuals, (Nrows,)."""
        ours = weight * sky.conj()
        q = (ours * sky).real.reshape(self.shape).sum(axis=0, dtype=np.float64)
        sums = (ours * residual).reshape(self.shape).sum(axis=0, dtype=np.complex128)[:, None]
        (h, side), (h_phase, side_phase) = self.equations(q, sums.real, sums.imag)
        x, y = np.linalg.solve(h, side[:, 0]), np.linalg.solve(h_phase, side_phase[:, 0])
        relative = (x[self.ant1] + x[self.ant2] + 1j * (y[self.ant1] - y[self.ant2])).astype(np.complex64)
        return (sky.reshape(self.shape) * relative).ravel()


@dataclass(frozen=True)
class Step:
    """Factors after a step, their ``error`` and absorbed ``share`` (Nfree,), and ``lmn`` (3, Nsources) of all."""

    factor: NDArray[np.float64]
    error: NDArray[np.float64]
    share: NDArray[np.float64]
    lmn: NDArray[np.float64]


def fit_field(
    solved: SolvedData,
    sky: pd.DataFrame,
    calibrator: str,
    pointing: TilePointing,
    *,
    used: pd.DataFrame | None = None,
    min_apparent_jy: float = 0.05,
    radius_deg: float = 3.0,
) -> Field:
    """Fit the sky around a calibrator to its calibrated tile.

    Args:
        solved: the tile with the tables that were solved on it.
        sky: the catalog's, the calibrator included, with its components if it has some.
        calibrator: its name.
        pointing: of the tile.
        used: the sky that the tables were solved with; None: ``sky`` down to ``min_apparent_jy``.
        min_apparent_jy, radius_deg: of sources that are in the model whether the residual image shows them or not.
    """
    sky = _near(sky, pointing, radius_deg + _EDGE_DEG)
    start = _in_field(sky if used is None else used, pointing, solved, -np.inf if used is not None else min_apparent_jy, radius_deg)
    sources = _sources(start, sky, calibrator, pointing, solved)
    # steps on the way take a part of a large tile, the last one four times as much: noise is no matter there
    every = max(1, min(solved.weight.size // _VISIBILITIES_OF_A_STEP, solved.frequency_hz.size // _FEWEST_GROUPS))
    sources = _moved(sources, best_step(solved, sources, every), pointing)
    for _ in range(_SEARCHES):
        found = _search(solved, sources, sky, pointing)
        if found.empty or sources.is_new.sum() + len(found) > _MOST_NEW:
            break
        before = sources.factor.size
        sources = _with(sources, found, sky, pointing, solved)
        sources = _moved(sources, best_step(solved, sources, every), pointing)
        fit = best_step(solved, sources, every)
        sources = _moved(sources, fit, pointing)
        weak = sources.factor < DETECTION_SIGMA * fit.error / np.sqrt(every)
        sources = _without(sources, sources.is_new & weak)
        if sources.factor.size <= before:
            break
    fit = best_step(solved, sources, (every + 3) // 4)
    sources = _moved(sources, fit, pointing)
    return _result(solved, sources, fit, sky)


def _near(sky: pd.DataFrame, pointing: TilePointing, radius_deg: float) -> pd.DataFrame:
    """The rows of a sky around the phase center."""
    band = sky.loc[np.abs(sky["dec_deg"].to_numpy(np.float64) - pointing.phase_dec_deg) <= radius_deg]
    ra, dec = np.radians(band["ra_deg"].to_numpy(np.float64)), np.radians(band["dec_deg"].to_numpy(np.float64))
    away = angular_separation_rad(ra, dec, np.radians(pointing.phase_ra_deg), np.radians(pointing.phase_dec_deg))
    return band.loc[away <= np.radians(radius_deg)].reset_index(drop=True)


def _in_field(sky: pd.DataFrame, pointing: TilePointing, solved: SolvedData, min_apparent_jy: float, radius_deg: float) -> pd.DataFrame:
    """The rows of a sky that `build_model` takes."""
    numbered = sky.assign(name=np.arange(len(sky)).astype(str))
    model = build_model(numbered, pointing, solved.frequency_hz, min_apparent_jy=min_apparent_jy, radius_deg=radius_deg)
    return sky.iloc[[int(name) for name in model.names]].reset_index(drop=True)


def _is_calibrator(rows: pd.DataFrame, calibrator: str) -> NDArray[np.bool_]:
    own = rows["name"].to_numpy() == calibrator
    return own | (rows[PART_OF].to_numpy() == calibrator) if PART_OF in rows.columns else own


def _sources(
    rows: pd.DataFrame,
    sky: pd.DataFrame,
    calibrator: str,
    pointing: TilePointing,
    solved: SolvedData,
) -> FreeSources:
    """Sources with factors to their catalog fluxes; those that the catalog lacks, to their fluxes in ``rows``."""
    own = _is_calibrator(rows, calibrator)
    rows = pd.concat([rows.loc[own], rows.loc[~own]], ignore_index=True)
    n_fixed = int(own.sum())
    catalog = pd.Series(sky["flux_jy"].to_numpy(np.float64), index=sky["name"].to_numpy())
    catalog = catalog.loc[~catalog.index.duplicated()]
    flux = rows["flux_jy"].to_numpy(np.float64)
    known = rows["name"].isin(catalog.index).to_numpy()
    unit = np.where(known, catalog.reindex(rows["name"]).to_numpy(np.float64), flux)
    unit[:n_fixed] = flux[:n_fixed]
    rows = rows.assign(flux_jy=unit)
    model = build_model(
        rows, pointing, solved.frequency_hz, min_apparent_jy=-np.inf, radius_deg=_EVERYWHERE_DEG, averaging=solved.averaging
    )
    free = ~known[n_fixed:]
    factor = flux[n_fixed:] / unit[n_fixed:]
    return FreeSources(rows, model, n_fixed, factor, np.where(free, np.inf, CATALOG_SCATTER), free, factor.copy())


def unit_visibilities(solved: SolvedData, model: TileModel) -> Iterator[tuple[int, NDArray[np.complex64]]]:
    """Visibilities of each source of a model, (Ntimes * Nbl, Nsources), for each group of channels."""
    units = _Units.of(solved, model)
    for group in range(solved.frequency_hz.size):
        re, im = units.block(group, 0, units.delay_s.shape[0])
        yield group, (re + 1j * im).astype(np.complex64)


@dataclass(frozen=True)
class _Units:
    """What the visibilities of sources of unit factor follow from, in all groups of channels."""

    frequency_hz: NDArray[np.float64]
    n_baselines: int
    delay_s: NDArray[np.float64]
    response: NDArray[np.float64]
    amplitude_jy: NDArray[np.float64]

    @classmethod
    def of(cls, solved: SolvedData, model: TileModel) -> Self:
        uvw = solved.uvw_m.reshape(-1, 3)
        index = np.repeat(np.arange(solved.time_s.size), solved.ant1.size)
        delay_s = (uvw @ model.lmn) / SPEED_OF_LIGHT_M_PER_S
        amplitude_jy = np.ascontiguousarray(np.moveaxis(model.amplitude_jy, 1, 0))
        return cls(solved.frequency_hz, solved.ant1.size, delay_s, model.response(uvw, index), amplitude_jy)

    def block(self, group: int, first: int, last: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Real and imaginary parts of some rows in a group, (Nblock, Nsources)."""
        from dsa110_assets.calibration._field_kernels import unit_block

        x = 2.0 * group / max(self.frequency_hz.size - 1, 1) - 1.0
        re, im = (np.empty((last - first, self.delay_s.shape[1]), dtype=np.float32) for _ in range(2))
        amplitude_jy = self.amplitude_jy[group]
        unit_block(self.delay_s, amplitude_jy, self.response, x, float(self.frequency_hz[group]), first, self.n_baselines, re, im)
        return re, im


@dataclass(frozen=True)
class _Normal:
    """Normal equations of a step without gains; ``plain``: diagonal before the gains were removed."""

    matrix: NDArray[np.float64]
    plain: NDArray[np.float64]
    gradient: NDArray[np.float64]


def _normal_of_group(solved: SolvedData, sources: FreeSources, units: _Units, gains: _Gains, group: int) -> _Normal:
    """Normal equations of one group of channels."""
    from dsa110_assets.calibration._field_kernels import add_block

    new = np.flatnonzero(sources.is_new)
    n_par, n_bl = sources.factor.size + 2 * new.size, solved.ant1.size
    turn = 2 * np.pi * solved.frequency_hz[group] / SPEED_OF_LIGHT_M_PER_S * solved.uvw_m.reshape(-1, 3)[:, :2]
    data, weight = solved.data[group].reshape(-1, 2), solved.weight[group].reshape(-1, 2)
    normal, gradient = np.zeros((n_par, n_par)), np.zeros(n_par)
    q, side = np.zeros((2, n_bl)), np.zeros((2, 2, n_bl, n_par + 1))
    for first in range(0, len(data), _ROWS_OF_A_BLOCK):
        re, im = units.block(group, first, min(first + _ROWS_OF_A_BLOCK, len(data)))
        planes = np.empty((2, len(re), n_par), dtype=np.float32)
        add_block(re, im, sources.factor, sources.n_fixed, new, turn, data, weight, first, n_bl, planes, q, side, gradient)
        flat = planes.reshape(-1, n_par)
        normal += flat.T @ flat
    plain = np.diag(normal).copy()
    for p in range(2):
        for h, of_antennas in gains.equations(q[p], side[p, 0], side[p, 1]):
            gone = of_antennas[:, :-1].T @ np.linalg.solve(h, of_antennas)
            normal -= gone[:, :-1]
            gradient -= gone[:, -1]
    return _Normal(normal, plain, gradient)


def best_step(solved: SolvedData, sources: FreeSources, every: int = 1) -> Step:
    """One step: factors, and positions of new sources, with the gains free; from every so many groups of channels."""
    from threadpoolctl import threadpool_limits

    model, n_fixed = sources.model, sources.n_fixed
    n_free = sources.factor.size
    new = np.flatnonzero(sources.is_new)
    n_par = n_free + 2 * new.size
    if n_par == 0:
        return Step(np.zeros(0), np.zeros(0), np.zeros(0), model.lmn)
    units, gains = _Units.of(solved, model), _Gains.of(solved)
    normal, plain, gradient = np.zeros((n_par, n_par)), np.zeros(n_par), np.zeros(n_par)
    groups = range(every // 2, solved.frequency_hz.size, every)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for one in pool.map(partial(_normal_of_group, solved, sources, units, gains), groups):
            normal += one.matrix
            plain += one.plain
            gradient += one.gradient
    inverse_prior = np.zeros(n_par)
    inverse_prior[:n_free] = sources.prior**-2.0
    gradient[:n_free] += inverse_prior[:n_free] * (1.0 - sources.factor)
    share = 1.0 - np.diag(normal)[:n_free] / np.maximum(plain[:n_free], 1e-300)
    full = normal + np.diag(inverse_prior + _ROUNDING * plain)
    scale = 1 / np.sqrt(np.maximum(np.diag(full), 1e-300))
    inverse = np.linalg.pinv(full * scale[:, None] * scale, rcond=1e-9, hermitian=True) * scale[:, None] * scale
    step = inverse @ gradient
    error = np.sqrt(np.maximum(np.diag(inverse)[:n_free], 0.0))
    lmn = model.lmn.copy()
    for axis, turned in ((0, step[n_free : n_free + new.size]), (1, step[n_free + new.size :])):
        lmn[axis, n_fixed + new] += np.clip(turned, -_LONGEST_STEP_RAD, _LONGEST_STEP_RAD)
    return Step(sources.factor + step[:n_free], error, share, lmn)


def _without(sources: FreeSources, which: NDArray[np.bool_]) -> FreeSources:
    """The sources but those of a mask."""
    keep = np.concatenate([np.ones(sources.n_fixed, dtype=bool), ~which])
    model = replace(
        sources.model,
        names=tuple(name for name, kept in zip(sources.model.names, keep, strict=True) if kept),
        lmn=np.ascontiguousarray(sources.model.lmn[:, keep]),
        amplitude_jy=np.ascontiguousarray(sources.model.amplitude_jy[:, :, keep]),
    )
    return FreeSources(
        sources.rows.loc[keep].reset_index(drop=True), model, sources.n_fixed, sources.factor[~which], sources.prior[~which],
        sources.is_new[~which], sources.used[~which],
    )  # fmt: skip


def _moved(sources: FreeSources, fit: Step, pointing: TilePointing) -> FreeSources:
    """Sources with new factors; new ones also at their new positions."""
    lmn = fit.lmn.copy()
    lmn[2] = np.sqrt(1 - lmn[0] ** 2 - lmn[1] ** 2) - 1
    at = sources.n_fixed + np.flatnonzero(sources.is_new)
    rows = sources.rows.copy()
    ra, dec = _directions(lmn[0, at], lmn[1, at], pointing)
    rows.loc[at, "ra_deg"], rows.loc[at, "dec_deg"] = ra, dec
    return replace(sources, rows=rows, factor=fit.factor, model=replace(sources.model, lmn=lmn))


def _directions(l: NDArray[np.float64], m: NDArray[np.float64], pointing: TilePointing) -> tuple[NDArray[np.float64], NDArray[np.float64]]:  # noqa: E741
    """Right ascension and declination (deg) of direction cosines."""
    n = np.sqrt(1 - l**2 - m**2)
    dec0 = np.radians(pointing.phase_dec_deg)
    ra = pointing.phase_ra_deg + np.degrees(np.arctan2(l, n * np.cos(dec0) - m * np.sin(dec0)))
    return np.mod(ra, 360.0), np.degrees(np.arcsin(m * np.cos(dec0) + n * np.sin(dec0)))


def _residuals(solved: SolvedData, sources: FreeSources) -> NDArray[np.complex64]:
    """Residuals (Nrows, Ngroups), mean of the polarizations, without what errors of the gains explain."""
    factor = np.concatenate([np.ones(sources.n_fixed), sources.factor])
    whole = replace(sources.model, amplitude_jy=np.ascontiguousarray(sources.model.amplitude_jy * factor))
    predicted = whole.predict(solved.uvw_m.reshape(-1, 3), np.repeat(solved.time_s, solved.ant1.size))
    out = np.empty_like(predicted)
    gains = _Gains.of(solved)
    for group in range(solved.frequency_hz.size):
        sky = np.ascontiguousarray(predicted[:, group])
        weight, data = solved.weight[group].reshape(-1, 2), solved.data[group].reshape(-1, 2)
        total = weight.sum(axis=1)
        mean = np.zeros_like(sky)
        for p in range(2):
            residual = np.where(weight[:, p] > 0, data[:, p] - sky, 0)
            mean += weight[:, p] * (residual - gains.errors(weight[:, p], sky, residual))
        out[:, group] = mean / np.where(total > 0, total, 1)
    return out


def _search(solved: SolvedData, sources: FreeSources, sky: pd.DataFrame, pointing: TilePointing) -> pd.DataFrame:
    """Peaks of the residual image that are no source yet: position, apparent flux, and name if the catalog has it."""
    from ducc0 import wgridder

    weight = np.ascontiguousarray(solved.weight.sum(axis=3).reshape(solved.frequency_hz.size, -1).T)
    uvw = solved.uvw_m.reshape(-1, 3)
    longest = float(np.hypot(uvw[:, 0], uvw[:, 1]).max()) * solved.frequency_hz[-1] / SPEED_OF_LIGHT_M_PER_S
    cell = 1 / (3.5 * longest)
    wavelength_m = SPEED_OF_LIGHT_M_PER_S / float(solved.frequency_hz.mean())
    radius = _RADIUS * wavelength_m / (pointing.dish_diameter_m or DISH_DIAMETER_M)
    size = min(int(np.ceil(radius / cell)) * 2, _LARGEST_IMAGE)

    def image_of(vis: NDArray[np.complex64]) -> NDArray[np.float32]:
        # rows along m and columns along -l, as ducc0 sums V exp(2 pi i (u x + v y - w (n - 1)))
        return wgridder.vis2dirty(
            uvw=np.ascontiguousarray(np.stack([-uvw[:, 1], uvw[:, 0], uvw[:, 2]], axis=1)), freq=solved.frequency_hz, vis=vis, wgt=weight,
            npix_x=size, npix_y=size, pixsize_x=cell, pixsize_y=cell, epsilon=1e-4, do_wgridding=True, divide_by_n=False, nthreads=0,
        ) / np.float32(weight.sum(dtype=np.float64))  # fmt: skip

    image = image_of(_residuals(solved, sources))
    noise = max(1.4826 * float(np.median(np.abs(image))), float(1 / np.sqrt(weight.sum(dtype=np.float64))))
    allowed = _allowed(sources, size, cell)
    limit = max(DETECTION_SIGMA * noise, _BRIGHTEST_SHARE * float(image[allowed].max()))
    psf: NDArray[np.float32] | None = None
    found: list[tuple[float, float, float]] = []
    while len(found) < _MOST_AT_ONCE:
        row, column = np.unravel_index(int(np.argmax(np.where(allowed, image, -np.inf))), image.shape)
        peak = float(image[row, column])
        if peak < limit:
            break
        psf = image_of(np.ones((uvw.shape[0], solved.frequency_hz.size), dtype=np.complex64)) if psf is None else psf
        m = (row + _vertex(image[row - 1 : row + 2, column]) - size / 2) * cell
        l = -(column + _vertex(image[row, column - 1 : column + 2]) - size / 2) * cell  # noqa: E741
        found.append((l, m, peak))
        image -= peak * np.roll(psf, (row - size // 2, column - size // 2), axis=(0, 1))
    if not found:
        return pd.DataFrame(columns=["ra_deg", "dec_deg", "flux_jy", "name"])
    l, m, peaks = np.array(found).T  # noqa: E741
    ra, dec = _directions(l, m, pointing)
    away = np.degrees(
        angular_separation_rad(
            np.radians(ra)[:, None],
            np.radians(dec)[:, None],
            np.radians(sky["ra_deg"].to_numpy(np.float64))[None],
            np.radians(sky["dec_deg"].to_numpy(np.float64))[None],
        )
    )
    name = np.where(away.min(axis=1) * 3600 < _SAME_ARCSEC, sky["name"].to_numpy()[away.argmin(axis=1)], "")
    found_sources = pd.DataFrame({"ra_deg": ra, "dec_deg": dec, "flux_jy": peaks, "name": name})
    return found_sources.loc[~found_sources["name"].isin(sources.rows["name"])]


def _allowed(sources: FreeSources, size: int, cell: float) -> NDArray[np.bool_]:
    """Pixels of the residual image that are beside no known source and not at the edge."""
    allowed = np.ones((size, size), dtype=bool)
    allowed[[0, -1]], allowed[:, [0, -1]] = False, False
    for number, (east, north, _) in enumerate(sources.model.lmn.T):
        reach = int(np.ceil(np.radians((_BESIDE_ARCSEC if number < sources.n_fixed else _SAME_ARCSEC) / 3600) / cell))
        row, column = round(north / cell + size / 2), round(-east / cell + size / 2)
        allowed[max(row - reach, 0) : max(row + reach + 1, 0), max(column - reach, 0) : max(column + reach + 1, 0)] = False
    return allowed


def _vertex(three: NDArray[np.float32]) -> float:
    """Offset of a parabola's vertex from the middle of three values, in steps."""
    before, at, after = (float(one) for one in three)
    curvature = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5)) if curvature < 0 else 0.0


def _with(
    sources: FreeSources,
    found: pd.DataFrame,
    sky: pd.DataFrame,
    pointing: TilePointing,
    solved: SolvedData,
) -> FreeSources:
    """The sources and those that a search has found: new ones begin at their peak's flux, those of the catalog at 0."""
    in_catalog = sky.loc[sky["name"].isin(found["name"])].drop_duplicates("name")
    new = found.loc[found["name"] == ""].reset_index(drop=True)
    new = new.assign(
        name=[f"{_NEW} {ra:.4f}{dec:+.4f}" for ra, dec in zip(new["ra_deg"], new["dec_deg"], strict=True)], spectral_index=np.nan
    )
    if len(new):  # through the beam: a model of 1 Jy says what reaches the array
        unit = build_model(
            new.assign(flux_jy=1.0, name=np.arange(len(new)).astype(str)),
            pointing,
            solved.frequency_hz,
            min_apparent_jy=-np.inf,
            radius_deg=_EVERYWHERE_DEG,
        )
        new["flux_jy"] /= unit.amplitude_jy.mean(axis=(0, 1))
    present = sources.rows.assign(flux_jy=np.concatenate([sources.rows["flux_jy"].to_numpy()[: sources.n_fixed], _fluxes(sources)]))
    rows = pd.concat([present, in_catalog.assign(flux_jy=0.0), new], ignore_index=True)
    if PART_OF in rows.columns:
        rows[PART_OF] = rows[PART_OF].where(rows[PART_OF].notna(), rows["name"])
    calibrator = rows["name"].to_numpy()[0] if PART_OF not in rows.columns else rows[PART_OF].to_numpy()[0]
    both = _sources(rows, sky, str(calibrator), pointing, solved)
    n_before = sources.factor.size
    # a new source keeps the unit with which it came, so that its factor stays near 1
    unit = both.rows["flux_jy"].to_numpy(np.float64).copy()
    earlier = np.flatnonzero(sources.is_new)
    unit[sources.n_fixed + earlier] = sources.rows["flux_jy"].to_numpy()[sources.n_fixed + earlier]
    amplitude = both.model.amplitude_jy * (unit / both.rows["flux_jy"].to_numpy(np.float64))
    both = replace(both, rows=both.rows.assign(flux_jy=unit), model=replace(both.model, amplitude_jy=np.ascontiguousarray(amplitude)))
    both.factor[:n_before] = sources.factor
    both.used[:n_before] = sources.used
    both.used[n_before:] = 0.0
    return both


def _fluxes(sources: FreeSources) -> NDArray[np.float64]:
    return sources.rows["flux_jy"].to_numpy(np.float64)[sources.n_fixed :] * sources.factor


def _result(solved: SolvedData, sources: FreeSources, fit: Step, sky: pd.DataFrame) -> Field:
    rows, n_fixed = sources.rows, sources.n_fixed
    unit = rows["flux_jy"].to_numpy(np.float64)[n_fixed:]
    flux, error = unit * fit.factor, np.maximum(unit * fit.error, 1e-12)
    beam = sources.model.amplitude_jy.mean(axis=(0, 1))[n_fixed:]
    change = (fit.factor - sources.used) * unit
    missing = np.abs(fit.share * change) / np.maximum(np.abs(flux), 1e-12)
    cataloged = rows["name"].isin(sky["name"]).to_numpy()[n_fixed:]
    fitted = rows.assign(flux_jy=np.concatenate([rows["flux_jy"].to_numpy(np.float64)[:n_fixed], flux]))
    free = rows.iloc[n_fixed:]
    return Field(
        sky=fitted,
        sources=tuple(
            FieldSource(
                str(name), float(ra), float(dec), float(flux[k]), float(error[k]), float(beam[k] * fit.factor[k]),
                float(unit[k]) if cataloged[k] else float("nan"), float(fit.share[k]), float(missing[k]),
            )
            for k, (name, ra, dec) in enumerate(zip(free["name"], free["ra_deg"], free["dec_deg"], strict=True))
        ),
        largest_change=float(np.max(np.abs(change) / error, initial=0.0)),
        noise_over_thermal=_noise_over_thermal(solved, sources),
    )  # fmt: skip


def _noise_over_thermal(solved: SolvedData, sources: FreeSources) -> float:
    """Scatter of each baseline's and group's residual, averaged over the tile, over that of the noise."""
    residual = _residuals(solved, sources)
    n_times, n_bl, n_groups = solved.time_s.size, solved.ant1.size, solved.frequency_hz.size
    weight = solved.weight.sum(axis=3).reshape(n_groups, n_times, n_bl)
    total = weight.sum(axis=1)
    mean = (weight * np.moveaxis(residual.reshape(n_times, n_bl, n_groups), 2, 0)).sum(axis=1)
    has = total > 0
    chi2 = float(np.mean(np.abs(mean[has]) ** 2 / total[has])) / 2
    solved_share = 2 / max(solved.n_antennas - 1, 3)  # of the noise, which gains absorb as they do sources
    return float(np.sqrt(chi2 / (1 - solved_share)))
