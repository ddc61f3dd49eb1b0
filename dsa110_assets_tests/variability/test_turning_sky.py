"""Normalization of a sky that turns: each hour sees other sources, and a source has one or two epochs a night."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.variability import LightCurves, fit_normalisation, metrics, normalise
from dsa110_assets.variability.normalisation import History, apply_normalisation

from .skies import turning


def by_hour(epoch_name, logarithm, error):
    """Deviations in units of their errors, without what is linear in time in each hour.

    Light curves compare epochs of the same sources only. Far from each other on the sky, factors may have other scales,
    and in each hour the sky moves by a degree from night to night.
    """
    night, hour = (np.array([int(str(name)[part]) for name in epoch_name]) for part in (slice(7, 10), slice(-2, None)))
    found = []
    for one in range(24):
        inside = (hour == one) & np.isfinite(logarithm)
        n = inside.sum()
        trend = np.polyval(np.polyfit(night[inside], logarithm[inside], 1), night[inside])
        found.append((logarithm[inside] - trend) / error[inside] * np.sqrt(n / (n - 2)))
    return np.concatenate(found)


def pulls(sky, epoch_name, factor, factor_err):
    """Deviations of the factors from the true gains in units of their errors; see `by_hour`."""
    return by_hour(epoch_name, np.log(factor) - np.log([sky.gain[str(name)] for name in epoch_name]), factor_err / factor)


@pytest.mark.parametrize("overlap_deg", [0.0, 3.0])
def test_a_sky_that_turns_has_light_curves_from_the_second_night_on(overlap_deg):
    sky = turning(1, n_sources=1500, n_nights=2, overlap_deg=overlap_deg)
    curves = LightCurves.from_table(sky.table)
    normalized, fit = normalise(curves)
    assert fit.usable.all()
    assert fit.n_reference.min() >= 10
    assert (normalized.counts >= 2).mean() > 0.9


def test_constant_sources_scatter_by_their_errors_and_factors_by_theirs():
    sky = turning(2, n_sources=2000, n_nights=12)
    curves = LightCurves.from_table(sky.table)
    fit = fit_normalisation(curves, position_deg=sky.position_deg[curves.source_id])
    assert fit.usable.all()
    table = metrics(apply_normalisation(curves, fit)).set_index("source_id")
    constant = table.loc[table.index.isin(sky.constant) & (table["n_epochs"] > 5).to_numpy()]
    assert len(constant) > 1200
    assert constant["eta"].mean() == pytest.approx(1.0, abs=0.1)
    deviations = pulls(sky, fit.epoch_name, fit.factor, fit.factor_err)
    assert abs(deviations.mean()) < 0.1
    assert deviations.std() == pytest.approx(1.0, abs=0.15)
    references = fit.reference[np.isin(curves.source_id, sky.constant)]
    assert references.mean() > 0.35
    assert np.log(list(sky.gain.values())).std() > 10 * np.median(fit.factor_err)


def test_a_source_that_misses_epochs_that_covered_it_is_no_reference():
    sky = turning(3, n_sources=1200, n_nights=8, variable_share=0.0)
    half = sky.table["source_id"].isin(range(0, 1200, 10)) & (sky.table["mosaic_name"].str[7:10].astype(int) % 4 != 0)
    curves = LightCurves.from_table(sky.table[~half])
    fit = fit_normalisation(curves, position_deg=sky.position_deg[curves.source_id])
    missing = np.isin(curves.source_id, range(0, 1200, 10))
    assert fit.reference[missing].mean() < 0.02
    assert fit.reference[~missing].mean() > 0.35
    assert fit_normalisation(curves).reference[missing].mean() > 0.3, "without positions, coverage is unknown"


def test_epochs_fitted_after_a_history_equal_those_of_one_fit_to_all():
    """The sums of six settled nights and the fluxes of six new ones, against all fluxes at once."""
    sky = turning(4, n_sources=1500, n_nights=12)
    curves = LightCurves.from_table(sky.table)
    whole = fit_normalisation(curves)
    first = sky.table["mosaic_name"].str[7:10].astype(int) < 6
    early = fit_normalisation(LightCurves.from_table(sky.table[first]))
    sums = early.references().groupby("source_id")[["weight", "weighted_flux"]].sum()
    zero = np.zeros(len(sums), dtype=np.int64)
    history = History(sums.index.to_numpy(), sums["weight"].to_numpy(), sums["weighted_flux"].to_numpy(), zero)
    late = fit_normalisation(LightCurves.from_table(sky.table[~first]), history=history)
    assert (late.gauge == 0).all()
    assert late.merged == {}
    names = np.concatenate([early.epoch_name, late.epoch_name])
    factor, error = np.concatenate([early.factor, late.factor]), np.concatenate([early.factor_err, late.factor_err])
    of_whole = {name: i for i, name in enumerate(whole.epoch_name)}
    difference = np.log(factor / whole.factor[[of_whole[name] for name in names]])
    assert by_hour(names, difference, error / factor).std() < 0.5
    deviations = pulls(sky, late.epoch_name, late.factor, late.factor_err)
    assert deviations.std() == pytest.approx(1.0, abs=0.2)


def test_gauges_that_new_epochs_connect_become_one():
    """Two fields were normalized apart. An epoch that covers both says by how much their scales differ."""
    sky = turning(5, n_sources=600, n_nights=6, variable_share=0.0, rms_jy=5e-4)
    flux = sky.table.groupby("source_id")["flux_jy"].median()
    flux = flux[flux > 0.02]
    weight = np.full(len(flux), 1e7)
    gauge = (np.arange(len(flux)) >= len(flux) // 2).astype(np.int64) + 3
    scale = np.where(gauge == 3, 1.0, 1.1)
    true = flux.to_numpy()
    rng = np.random.default_rng(1)
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "source_id": flux.index, "mosaic_name": f"m{i}", "time_mjd": 61200.0 + i, "flux_err_jy": 5e-4,
                    "flux_jy": gain * true + 5e-4 * rng.standard_normal(len(flux)),
                }
            )
            for i, gain in enumerate((1.05, 0.95, 1.0))
        ]
    )  # fmt: skip
    history = History(flux.index.to_numpy(), weight, weight * true / scale, gauge)
    fit = fit_normalisation(LightCurves.from_table(table), history=history)
    ((other, (target, factor)),) = fit.merged.items()
    assert {other, target} == {3, 4}
    assert factor == pytest.approx(1.1 if target == 4 else 1 / 1.1, rel=2e-3)
    gain = np.array([1.05, 0.95, 1.0]) * (1.0 if target == 3 else 1.1)
    np.testing.assert_allclose(fit.factor, gain, rtol=2e-3)
    assert (fit.gauge == target).all()
