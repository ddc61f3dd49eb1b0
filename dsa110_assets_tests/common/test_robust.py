"""The robust scatter agrees with scipy and astropy, and ignores outliers and missing values."""

import numpy as np
import pytest
from astropy.stats import mad_std
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dsa110_assets.common.robust import MAD_TO_SIGMA, MAD_TO_SIGMA_ROUNDED, MEDIAN_ERROR, robust_sigma, robust_sigma_along


def test_the_factors_are_those_of_a_normal_distribution():
    assert pytest.approx(1 / stats.norm.ppf(0.75), rel=1e-12) == MAD_TO_SIGMA
    assert round(MAD_TO_SIGMA, 4) == MAD_TO_SIGMA_ROUNDED
    assert pytest.approx(np.sqrt(np.pi / 2), abs=5e-5) == MEDIAN_ERROR


@given(st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_the_scatter_equals_that_of_scipy_bit_for_bit_and_that_of_astropy(n, seed):
    values = np.random.default_rng(seed).normal(3.0, 2.0, n)
    assert robust_sigma(values) == MAD_TO_SIGMA * stats.median_abs_deviation(values)
    assert robust_sigma(values) == pytest.approx(float(mad_std(values)), rel=1e-14)
    image = values.astype(np.float32)
    assert robust_sigma(image) == float(mad_std(image))


def test_outliers_and_missing_values_do_not_count():
    values = np.random.default_rng(1).normal(0.0, 2.0, (100, 100))
    clean = robust_sigma(values)
    assert clean == pytest.approx(2.0, rel=0.03)
    dirty = values.copy()
    dirty[:2] = 1e6
    dirty[50, :10] = np.nan
    dirty[51, :10] = np.inf
    assert robust_sigma(dirty) == pytest.approx(clean, rel=0.06)
    assert np.isnan(robust_sigma(np.full(4, np.nan)))
    assert np.isnan(robust_sigma(np.empty(0)))


def test_each_line_along_an_axis_has_its_own_scatter():
    values = np.random.default_rng(2).normal(0.0, [[1.0], [5.0]], (2, 500)).T
    values[::7, 0] = np.nan
    found = robust_sigma_along(values, axis=0)
    assert found == pytest.approx([robust_sigma(values[:, 0]), robust_sigma(values[:, 1])], rel=1e-15)
    np.testing.assert_array_equal(found, MAD_TO_SIGMA * stats.median_abs_deviation(values, axis=0, nan_policy="omit"))
    rounded = robust_sigma_along(values, axis=0, mad_to_sigma=MAD_TO_SIGMA_ROUNDED)
    assert rounded / found == pytest.approx(MAD_TO_SIGMA_ROUNDED / MAD_TO_SIGMA)
