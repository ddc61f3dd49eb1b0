"""Pitfall 20: variability computed from fluxes that are not normalized, and mJy mixed with Jy."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.errors import LightCurveError
from dsa110_assets.variability import LightCurves, ese_scores, metrics, normalise


@pytest.fixture
def table():
    rng = np.random.default_rng(20)
    source, epoch = (a.ravel() for a in np.mgrid[:30, :4])
    flux = (10 ** rng.uniform(-1.5, 0, 30))[source] * np.array([1.0, 1.06, 0.94, 1.02])[epoch] + 1e-3 * rng.standard_normal(120)
    return pd.DataFrame(
        {"source_id": source, "mosaic_name": [f"n{e}" for e in epoch], "time_mjd": 61000.0 + epoch, "flux_jy": flux, "flux_err_jy": 1e-3}
    )


@pytest.mark.parametrize("function", [metrics, ese_scores])
def test_pitfall_20_fluxes_that_are_not_normalized_are_refused(table, function):
    with pytest.raises(LightCurveError, match="not normalized"):
        function(LightCurves.from_table(table))
    normalised, _ = normalise(LightCurves.from_table(table))
    assert len(function(normalised)) == 30


def test_pitfall_20_a_table_in_mjy_is_refused_by_its_unit(table):
    with pytest.raises(LightCurveError, match="mJy"):
        LightCurves.from_table(table, unit="mJy")


def test_pitfall_20_one_night_in_mjy_among_nights_in_jy_is_refused_by_its_numbers(table):
    night = table["mosaic_name"] == "n2"
    table.loc[night, ["flux_jy", "flux_err_jy"]] *= 1000
    with pytest.raises(LightCurveError, match=r"n2: fluxes differ .* the units differ"):
        normalise(LightCurves.from_table(table))
    two = table[table["mosaic_name"].isin(["n1", "n2"])]
    with pytest.raises(LightCurveError, match="the units differ"):
        normalise(LightCurves.from_table(two))


def test_pitfall_20_normalization_removes_the_gain_and_keeps_jy(table):
    normalised, fit = normalise(LightCurves.from_table(table))
    assert normalised.unit == "Jy"
    np.testing.assert_allclose(fit.factor / fit.factor[0], np.array([1.0, 1.06, 0.94, 1.02]), rtol=5e-3)
    assert metrics(normalised)["eta"].mean() == pytest.approx(1.0, abs=0.35)
