"""Indices equal their published formulas, computed here by brute force. Chi-square probabilities equal scipy.stats."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability import LightCurves, metrics


def ragged(seed, n_sources=60, most=40):
    rng = np.random.default_rng(seed)
    rows = []
    for source in range(n_sources):
        epochs = np.sort(rng.choice(most, rng.integers(1, most), replace=False))
        mean = 10 ** rng.uniform(-2, 0.5)
        error = mean * rng.uniform(0.01, 0.2, epochs.size)
        flux = mean * (1 + 0.1 * rng.standard_normal(epochs.size)) + error * rng.standard_normal(epochs.size)
        rows += [(f"J{source:04d}", f"m{e:02d}", 61000.0 + e, f, s) for e, f, s in zip(epochs, flux, error, strict=True)]
    table = pd.DataFrame(rows, columns=["source_id", "mosaic_name", "time_mjd", "flux_jy", "flux_err_jy"])
    return table.sample(frac=1.0, random_state=seed)


def test_every_index_equals_its_brute_force_formula_to_1e_9():
    table = ragged(5)
    got = metrics(LightCurves.from_table(table, normalised=True)).set_index("source_id")
    assert len(got) == 60
    for name, group in table.groupby("source_id"):
        part = group.sort_values("time_mjd")
        flux, sigma = part["flux_jy"].to_numpy(), part["flux_err_jy"].to_numpy()
        row, n = got.loc[name], len(part)
        assert row["n_epochs"] == n
        assert row["mean_flux_jy"] == pytest.approx(flux.mean(), rel=1e-12)
        if n < 2:
            assert np.isnan(row[["eta", "v", "vs", "m", "chi2", "chi2_probability"]].to_numpy(dtype=float)).all()
            continue
        w = sigma**-2
        eta = n / (n - 1) * ((w * flux**2).mean() - (w * flux).mean() ** 2 / w.mean())
        v = np.sqrt(n / (n - 1) * ((flux**2).mean() - flux.mean() ** 2)) / flux.mean()
        assert row["eta"] == pytest.approx(eta, rel=1e-9)
        assert row["v"] == pytest.approx(v, rel=1e-9)
        pairs = [(abs(flux[i] - flux[j]) / np.hypot(sigma[i], sigma[j]), i, j) for i, j in combinations(range(n), 2)]
        _, i, j = max(pairs)
        assert row["vs"] == pytest.approx((flux[i] - flux[j]) / np.hypot(sigma[i], sigma[j]), rel=1e-9)
        assert row["m"] == pytest.approx((flux[i] - flux[j]) / ((flux[i] + flux[j]) / 2), rel=1e-9)
        assert (row["vs_mjd_1"], row["vs_mjd_2"]) == (part["time_mjd"].iloc[i], part["time_mjd"].iloc[j])
        excess = flux.var() - (sigma**2).mean()
        assert row["modulation_index"] == pytest.approx(np.sign(excess) * np.sqrt(abs(excess)) / flux.mean(), rel=1e-9)
        chi2 = np.sum((flux - np.average(flux, weights=w)) ** 2 * w)
        assert row["chi2"] == pytest.approx(chi2, rel=1e-9)
        assert row["chi2_probability"] == pytest.approx(stats.chi2.sf(chi2, n - 1), rel=1e-7, abs=1e-300)


def test_eta_has_no_cancellation_for_a_bright_source_with_tiny_errors():
    flux, sigma = np.array([1e3, 1e3 + 1e-6, 1e3 - 1e-6]), np.full(3, 1e-6)
    table = pd.DataFrame({"source_id": 1, "mosaic_name": list("abc"), "time_mjd": [1.0, 2.0, 3.0], "flux_jy": flux, "flux_err_jy": sigma})
    assert metrics(LightCurves.from_table(table, normalised=True))["eta"].iloc[0] == pytest.approx(1.0, rel=1e-6)


def test_identical_fluxes_have_no_two_epoch_variability():
    table = pd.DataFrame({"source_id": 1, "mosaic_name": list("ab"), "time_mjd": [1.0, 2.0], "flux_jy": 0.5, "flux_err_jy": 0.01})
    row = metrics(LightCurves.from_table(table, normalised=True)).iloc[0]
    assert (row["eta"], row["v"], row["vs"], row["m"]) == (0.0, 0.0, 0.0, 0.0)


def test_a_source_twice_in_an_epoch_and_missing_columns_are_refused():
    table = ragged(6)
    with pytest.raises(LightCurveError, match="occurs twice"):
        LightCurves.from_table(pd.concat([table, table.iloc[:1]]))
    with pytest.raises(LightCurveError, match="time_mjd"):
        LightCurves.from_table(table.drop(columns="time_mjd"))


def test_a_round_trip_keeps_a_table_except_for_its_unmeasured_rows():
    table = ragged(7)
    table.iloc[3, table.columns.get_loc("flux_jy")] = np.nan
    again = LightCurves.from_table(table).to_table().set_index(["source_id", "mosaic_name"]).sort_index()
    expected = table.dropna().set_index(["source_id", "mosaic_name"]).sort_index()
    pd.testing.assert_frame_equal(
        again[["flux_jy", "flux_err_jy", "time_mjd"]], expected[["flux_jy", "flux_err_jy", "time_mjd"]], check_index_type=False
    )
