"""Ensemble normalization: correct factors and errors, robust, no source normalizes itself, from two epochs on."""

import numpy as np
import pytest

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability import LightCurves, NormalisationOptions, apply_normalisation, fit_normalisation, normalise

from .skies import simulate

QUIET = {"n_variable": 0, "variable_rms": 0.0, "ese_depths": (), "ese_epochs": ()}


@pytest.mark.parametrize("n_epochs", [2, 3, 12])
def test_factors_deviate_by_their_stated_errors(n_epochs):
    pulls = []
    for seed in range(60):
        night = simulate(500 + seed, n_sources=40, n_epochs=n_epochs, gain_rms=0.08, rms_jy=5e-3, faintest_jy=0.05, **QUIET)
        _, fit = normalise(LightCurves.from_table(night.table))
        log_pull = np.log(fit.factor) - np.log(night.gain) + np.log(night.gain).mean()
        error = fit.factor_err / fit.factor * np.sqrt((n_epochs - 1) / n_epochs)  # the gauge takes one degree of freedom
        pulls.append(log_pull / error)
    pulls = np.concatenate(pulls)
    assert abs(pulls.mean()) < 0.1
    assert pulls.std() == pytest.approx(1.0, abs=0.3)


def test_a_third_of_variable_references_and_wild_measurements_do_not_distort_the_factors():
    night = simulate(
        77, n_sources=60, n_epochs=10, gain_rms=0.05, n_variable=20, variable_rms=0.4, ese_depths=(), ese_epochs=(), faintest_jy=0.05
    )
    table = night.table
    wild = np.random.default_rng(0).choice(len(table), 12, replace=False)
    table.loc[wild, "flux_jy"] *= 8
    _, fit = normalise(LightCurves.from_table(table))
    truth = night.gain / np.exp(np.log(night.gain).mean())
    assert np.abs(fit.factor / truth - 1).max() < 0.015
    bright_variable = night.variable[night.mean_jy[night.variable] > 0.1]
    assert fit.reference[bright_variable].mean() < 0.35


def test_a_source_does_not_normalize_itself():
    """One very bright source fades by 20 %: its own normalized flux must show all of it."""
    night = simulate(78, n_sources=30, n_epochs=2, gain_rms=0.0, rms_jy=1e-3, faintest_jy=0.05, brightest_jy=0.2, **QUIET)
    table = night.table
    table.loc[table["source_id"] == 0, "flux_jy"] = [10.0, 8.0]
    normalised, _ = normalise(LightCurves.from_table(table))
    flux = normalised.flux_jy[normalised.source == 0]
    assert flux[1] / flux[0] == pytest.approx(0.8, rel=0.01)


def test_only_sources_in_the_callers_mask_become_references():
    night = simulate(79, n_sources=40, n_epochs=4, gain_rms=0.05, faintest_jy=0.05, **QUIET)
    mask = np.zeros(40, dtype=bool)
    mask[:12] = True
    _, fit = normalise(LightCurves.from_table(night.table), reference=mask)
    assert not fit.reference[12:].any()
    assert fit.n_reference.max() <= 12


def test_fields_without_common_sources_are_normalized_separately():
    one = simulate(80, n_sources=20, n_epochs=5, gain_rms=0.1, faintest_jy=0.05, **QUIET)
    two = simulate(81, n_sources=20, n_epochs=5, gain_rms=0.1, faintest_jy=0.05, **QUIET)
    other = two.table.assign(
        source_id=two.table["source_id"] + 100, mosaic_name="b" + two.table["mosaic_name"], time_mjd=two.table["time_mjd"] + 0.3
    )
    import pandas as pd

    curves = LightCurves.from_table(pd.concat([one.table, other]))
    _, fit = normalise(curves)
    for prefix, night in (("n", one), ("b", two)):
        epochs = np.array([str(name).startswith(prefix) for name in curves.epoch_name])
        truth = night.gain / np.exp(np.log(night.gain).mean())
        np.testing.assert_allclose(fit.factor[epochs], truth, rtol=0.02)


def test_an_epoch_without_references_is_unusable_and_left_out():
    night = simulate(82, n_sources=30, n_epochs=4, gain_rms=0.05, faintest_jy=0.05, **QUIET)
    table = night.table
    table = table[(table["mosaic_name"] != "nightly_003") | (table["source_id"] < 2)]
    normalised, fit = normalise(LightCurves.from_table(table))
    assert fit.usable.tolist() == [True, True, True, False]
    assert 3 not in normalised.epoch


def test_too_few_references_or_epochs_are_an_error_with_a_next_step():
    night = simulate(83, n_sources=30, n_epochs=2, gain_rms=0.05, **QUIET)
    with pytest.raises(LightCurveError, match="lower min_snr"):
        normalise(LightCurves.from_table(night.table), options=NormalisationOptions(min_snr=1e6))
    single = night.table[night.table["mosaic_name"] == "nightly_000"]
    with pytest.raises(LightCurveError, match="second epoch"):
        normalise(LightCurves.from_table(single))
    normalised, _ = normalise(LightCurves.from_table(night.table))
    with pytest.raises(LightCurveError, match="normalized already"):
        normalise(normalised)


def test_normalizing_in_parts_equals_normalizing_the_whole():
    """Divide light curves part by part, with a fit to some of them, as the stage does when there are many."""
    night = simulate(83, n_sources=300, n_epochs=12, gain_rms=0.05, faintest_jy=0.03, **QUIET)
    curves = LightCurves.from_table(night.table)
    whole, fit = normalise(curves)
    for first in range(0, 300, 90):
        part = LightCurves.from_table(night.table[night.table["source_id"].between(first, first + 89)])
        divided = apply_normalisation(part, fit)
        mine = whole.select(np.flatnonzero((whole.source_id >= first) & (whole.source_id < first + 90)))
        np.testing.assert_allclose(divided.flux_jy, mine.flux_jy, rtol=1e-12)
        np.testing.assert_allclose(divided.flux_err_jy, mine.flux_err_jy, rtol=1e-12)
    sample = curves.select(np.arange(0, 300, 2))
    np.testing.assert_allclose(fit_normalisation(sample).factor, fit.factor, rtol=0.005)


def test_an_epoch_that_is_not_in_the_fit_is_left_out():
    night = simulate(84, n_sources=60, n_epochs=6, gain_rms=0.05, faintest_jy=0.05, **QUIET)
    curves = LightCurves.from_table(night.table)
    fit = fit_normalisation(LightCurves.from_table(night.table[night.table["mosaic_name"] != "nightly_002"]))
    divided = apply_normalisation(curves, fit)
    assert "nightly_002" not in set(divided.to_table()["mosaic_name"])
    assert divided.flux_jy.size == 60 * 5
