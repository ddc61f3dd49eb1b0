"""Indices from totals equal those of whole light curves, in whatever order epochs arrive."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.variability import LightCurves, metrics
from dsa110_assets.variability.totals import Totals
from dsa110_assets_tests.variability.test_indices import ragged


def of(table):
    return Totals.of(LightCurves.from_table(table, normalised=True))


@pytest.mark.parametrize("night_by_night", [True, False])
def test_totals_that_grow_give_every_index_of_the_whole_light_curves_to_1e_10(night_by_night):
    table = ragged(3, n_sources=80, most=60)
    epochs = np.array(sorted(set(table["mosaic_name"])))
    parts = [[name] for name in epochs] if night_by_night else np.array_split(np.random.default_rng(1).permutation(epochs), 4)
    totals = of(table[table["mosaic_name"].isin(parts[0])])
    for names in parts[1:]:
        totals = totals.plus(of(table[table["mosaic_name"].isin(names)]))
    whole = metrics(LightCurves.from_table(table, normalised=True))
    pd.testing.assert_frame_equal(totals.indices(), whole, rtol=1e-10, atol=1e-13)


def test_totals_of_a_bright_source_with_tiny_errors_have_no_cancellation():
    """Fluxes of 1000 +- 1e-6 Jy: a sum of weighted squares in double precision would keep nothing of chi-square."""
    rng = np.random.default_rng(2)
    flux = 1e3 + 1e-6 * rng.standard_normal(400)
    table = pd.DataFrame({"source_id": 1, "mosaic_name": [f"{k:03d}" for k in range(400)], "time_mjd": np.arange(400.0), "flux_jy": flux,
                          "flux_err_jy": 1e-6})  # fmt: skip
    totals = of(table.iloc[:1])
    for k in range(1, 400):
        totals = totals.plus(of(table.iloc[k : k + 1]))
    deviations = flux - 1e3  # exact in double precision
    eta = np.sum((deviations - deviations.mean()) ** 2) / 1e-12 / 399
    assert totals.indices()["eta"].iloc[0] == pytest.approx(eta, rel=1e-6)  # what the rounding of 1000 Jy itself allows


def test_the_extremes_of_a_source_are_few_after_years():
    rng = np.random.default_rng(3)
    n_sources, n = 50, 2000
    table = pd.DataFrame(
        {"source_id": np.repeat(np.arange(n_sources), n), "mosaic_name": np.tile([f"{k:04d}" for k in range(n)], n_sources),
         "time_mjd": np.tile(np.arange(float(n)), n_sources), "flux_jy": 1 + 0.1 * rng.standard_normal(n * n_sources),
         "flux_err_jy": rng.uniform(0.05, 0.2, n * n_sources)}
    )  # fmt: skip
    number = np.diff(of(table).offsets)
    assert number.mean() < 3 * np.log(n)


def test_sources_keep_their_totals_when_others_are_added_or_chosen():
    table = ragged(4, n_sources=20)
    some = table["source_id"].isin([f"J{k:04d}" for k in range(0, 20, 2)])
    together = of(table[some]).plus(of(table[~some]))
    pd.testing.assert_frame_equal(together.indices(), of(table).indices(), rtol=1e-12)
    pd.testing.assert_frame_equal(together.select(np.array([7, 3])).indices(), of(table).indices().iloc[[7, 3]].reset_index(drop=True))
