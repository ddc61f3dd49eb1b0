"""Detections are numbered, matched with the catalog, and reported."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.mosaicking.detections import Detections

CATALOG = pd.DataFrame({"name": ["A", "B"], "ra_deg": [10.0, 20.0], "dec_deg": [16.0, 16.0], "flux_jy": [2.0, 1.0]})
FOUND = pd.DataFrame(
    {
        "name": ["DSA 1", "DSA 2"],
        "ra_deg": [10.0, 30.0],
        "dec_deg": [16.0 + 3.6 / 3600, 16.0],
        "ra_err_deg": [1e-4, 2e-4],
        "dec_err_deg": [3e-4, 4e-4],
        "flux_jy": [1.9, 0.5],
        "snr": [100.0, 25.0],
    }
)


def test_a_detection_keeps_its_counterpart_and_one_without_has_none():
    table = Detections.matched(FOUND, CATALOG).table
    assert table["number"].tolist() == [1, 2]
    assert table["matched_name"].iloc[0] == "A"
    assert pd.isna(table["matched_name"].iloc[1])
    assert table["separation_arcsec"].iloc[0] == pytest.approx(3.6, rel=1e-6)
    assert np.isnan(table["separation_arcsec"].iloc[1])
    np.testing.assert_allclose(table["ra_err_arcsec"], [0.36, 0.72])


def test_the_figures_count_and_compare_with_the_catalog():
    found = Detections.matched(FOUND, CATALOG)
    assert found.figures() == {
        "found": 2,
        "matched": 1,
        "median_flux_ratio": pytest.approx(0.95),
        "median_offset_arcsec": pytest.approx(3.6, rel=1e-6),
    }
    assert [row["name"] for row in found.details()["brightest"]] == ["DSA 1", "DSA 2"]


def test_an_empty_search_has_no_medians():
    assert Detections.matched(FOUND.iloc[:0], CATALOG).figures() == {
        "found": 0, "matched": 0, "median_flux_ratio": None, "median_offset_arcsec": None
    }  # fmt: skip
