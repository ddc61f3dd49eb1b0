"""The step of the calibrator's field against a least-squares solution that has every gain among its unknowns."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from dsa110_assets.calibration import field
from dsa110_assets.calibration.model import TileModel
from dsa110_assets.calibration.solved_data import LEAST_NOISE, SolvedData, in_units_of_noise

N_ANTENNAS, N_TIMES, N_GROUPS = 6, 5, 3
FLUXES_JY = np.array([5.0, 0.8, 0.5, 0.3])
"""The first is the calibrator's; the position of the last is free."""
LIGHT_M_PER_S = 299_792_458.0


def problem(rng: np.random.Generator, noise_share: float = 1.0) -> tuple[SolvedData, field.FreeSources]:
    """Visibilities with a share of the noise of their weights, errors of gains, and a sky that is 3 % off."""
    ant1, ant2 = (one.astype(np.int64) for one in np.triu_indices(N_ANTENNAS, 1))
    uvw = rng.normal(size=(N_TIMES, ant1.size, 3)) * [600.0, 600.0, 20.0]
    frequency = np.linspace(1.3e9, 1.5e9, N_GROUPS)
    l, m = rng.normal(size=(2, FLUXES_JY.size)) * 0.01  # noqa: E741
    lmn = np.stack([l, m, np.sqrt(1 - l**2 - m**2) - 1])
    amplitude = np.broadcast_to(FLUXES_JY, (N_TIMES, N_GROUPS, FLUXES_JY.size)).copy()
    model = TileModel(
        names=("c", "1", "2", "3"), lmn=lmn, amplitude_jy=amplitude, frequency_hz=frequency, time_s=np.arange(0.0, 10.0 * N_TIMES, 10.0),
        averaging=None, pointing_lmn=np.zeros((3, N_TIMES)), dec_rad=0.5,
    )  # fmt: skip
    turns = frequency[:, None, None, None] / LIGHT_M_PER_S * (uvw @ lmn)
    sky = (FLUXES_JY * [1.0, 1.03, 0.97, 1.03] * np.exp(2j * np.pi * turns)).sum(axis=-1)
    weight = rng.uniform(0, 400, size=(N_GROUPS, N_TIMES, ant1.size, 2)) * (rng.random((N_GROUPS, N_TIMES, ant1.size, 2)) > 0.1)
    noise = rng.normal(size=(*weight.shape, 2)) @ [1, 1j] * noise_share / np.sqrt(np.maximum(weight, 1e-9))
    gain = 1 + (0.01 if noise_share else 1e-4) * (rng.normal(size=(N_ANTENNAS, 2)) + 1j * rng.normal(size=(N_ANTENNAS, 2)))
    data = np.where(weight > 0, sky[..., None] * gain[ant1] * gain[ant2].conj() + noise, 0)
    solved = SolvedData(
        uvw, np.arange(0.0, 10.0 * N_TIMES, 10.0), ant1, ant2, N_ANTENNAS, frequency, None, data.astype("c8"), weight.astype("f4")
    )
    rows = pd.DataFrame({"name": ["c", "1", "2", "3"], "flux_jy": FLUXES_JY})
    one = np.ones(3)
    return solved, field.FreeSources(rows, model, 1, one, np.array([1.0, 1.0, np.inf]), np.array([False, False, True]), one.copy())


def by_least_squares(solved: SolvedData, sources: field.FreeSources) -> tuple[NDArray, NDArray, NDArray]:
    """Changes of factors and of a position, errors of factors, and shares, from one system with all gains in it."""
    n_gains = N_GROUPS * 2 * 2 * N_ANTENNAS
    lines, sides = [], []
    for g, hz in enumerate(solved.frequency_hz):
        for t in range(N_TIMES):
            for b, (i, j) in enumerate(zip(solved.ant1, solved.ant2, strict=True)):
                u = 2 * np.pi * hz / LIGHT_M_PER_S * solved.uvw_m[t, b]
                each = FLUXES_JY * np.exp(1j * (u @ sources.model.lmn))
                for p in range(2):
                    w = float(solved.weight[g, t, b, p])
                    line = np.zeros(n_gains + 5, dtype=complex)
                    at = (g * 2 + p) * 2 * N_ANTENNAS
                    whole = complex(each.sum())
                    line[[at + i, at + j]] = whole
                    line[at + N_ANTENNAS + i], line[at + N_ANTENNAS + j] = 1j * whole, -1j * whole
                    line[n_gains:] = [*each[1:], 1j * u[0] * each[3], 1j * u[1] * each[3]]
                    left = np.sqrt(w) * (complex(solved.data[g, t, b, p]) - whole)
                    lines += [np.sqrt(w) * np.real(line), np.sqrt(w) * np.imag(line)]
                    sides += [left.real, left.imag]
    prior = np.zeros((2, n_gains + 5))
    prior[0, n_gains], prior[1, n_gains + 1] = 1, 1  # a scatter of 1 around the factor 1, which is where they start
    a, y = np.array([*lines, *prior]), np.array([*sides, 0, 0])
    inverse = np.linalg.pinv(a.T @ a, rcond=1e-12, hermitian=True)
    change = (inverse @ (a.T @ y))[n_gains:]
    data = np.array(lines)
    without_gains = np.linalg.pinv((data.T @ data)[:n_gains, :n_gains], rcond=1e-12, hermitian=True)
    cross = (data.T @ data)[:n_gains, n_gains : n_gains + 3]
    share = np.einsum("gs,gh,hs->s", cross, without_gains, cross) / np.diag(data.T @ data)[n_gains : n_gains + 3]
    return change, np.sqrt(np.diag(inverse)[n_gains : n_gains + 3]), share


@pytest.mark.parametrize("seed", [0, 1])
def test_the_fit_of_a_field_is_the_least_squares_solution_with_free_gains(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field, "_ROWS_OF_A_BLOCK", 32)  # several blocks, the last one shorter
    solved, sources = problem(np.random.default_rng(seed))
    change, error, share = by_least_squares(solved, sources)
    fit = field.best_step(solved, sources)
    assert np.abs(fit.factor - 1 - change[:3]).max() < 1e-3 * error.min(), "a thousandth of an error"
    assert fit.error == pytest.approx(error, rel=1e-4)
    assert fit.share == pytest.approx(share, rel=1e-3)
    assert fit.lmn[:2, 3] - sources.model.lmn[:2, 3] == pytest.approx(change[3:], rel=1e-3)
    assert (fit.lmn[:, :3] == sources.model.lmn[:, :3]).all()


@pytest.mark.parametrize("seed", [0, 1])
def test_data_without_noise_have_finite_weights_and_give_the_sky(seed: int) -> None:
    solved, sources = problem(np.random.default_rng(seed), noise_share=0.0)
    same = solved.data[..., :1].repeat(2, axis=-1)
    weight = in_units_of_noise(same, solved.weight)
    typical = 1 / np.median(weight[weight > 0]) ** 0.5 / np.median(np.abs(same[weight > 0]))
    assert 0.3 * LEAST_NOISE < typical < 3 * LEAST_NOISE
    fit = field.best_step(replace(solved, weight=weight), sources)
    assert fit.factor == pytest.approx([1.03, 0.97, 1.03], abs=2e-3), "one step of a fit that is not linear in positions"


@pytest.mark.parametrize("scale", [1.0, 1e8, 1e16])
def test_a_source_at_the_calibrators_place_keeps_its_flux_however_small_the_noise(scale: float) -> None:
    """Gains of one calibrator absorb it: the fit would divide what rounding leaves by what rounding leaves."""
    solved, sources = problem(np.random.default_rng(0))
    alone = replace(sources.model, names=("c", "1"), lmn=sources.model.lmn[:, [0, 0]], amplitude_jy=sources.model.amplitude_jy[:, :, :2])
    pair = field.FreeSources(sources.rows[:2], alone, 1, np.ones(1), np.array([np.inf]), np.zeros(1, dtype=bool), np.ones(1))
    fit = field.best_step(replace(solved, weight=(scale * solved.weight).astype("f4")), pair)
    assert fit.share[0] == pytest.approx(1.0, abs=1e-6)
    assert abs(fit.factor[0] - 1) < 0.5
    assert fit.error[0] > 0


def test_unit_visibilities_are_those_of_point_sources_in_any_direction() -> None:
    """To the precision of complex64, also many turns away."""
    solved, sources = problem(np.random.default_rng(3))
    for group, unit in field.unit_visibilities(solved, sources.model):
        turns = solved.frequency_hz[group] / LIGHT_M_PER_S * (solved.uvw_m.reshape(-1, 3) @ (sources.model.lmn))
        assert np.abs(turns).max() > 20
        assert np.abs(unit - FLUXES_JY * np.exp(2j * np.pi * turns)).max() < 1e-6 * FLUXES_JY.max()
