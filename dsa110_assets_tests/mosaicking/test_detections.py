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
        "reliable": True,
    }
)


def test_a_detection_keeps_its_counterpart_and_one_without_has_none():
    table = Detections.matched(FOUND, CATALOG, 0).table
    assert table["number"].tolist() == [1, 2]
    assert table["matched_name"].iloc[0] == "A"
    assert pd.isna(table["matched_name"].iloc[1])
    assert table["separation_arcsec"].iloc[0] == pytest.approx(3.6, rel=1e-6)
    assert np.isnan(table["separation_arcsec"].iloc[1])
    np.testing.assert_allclose(table["ra_err_arcsec"], [0.36, 0.72])


def test_the_figures_count_and_compare_with_the_catalog():
    found = Detections.matched(FOUND, CATALOG, 3)
    assert found.figures() == {
        "found": 2,
        "doubtful": 0,
        "negative": 3,
        "matched": 1,
        "median_flux_ratio": pytest.approx(0.95),
        "median_offset_arcsec": pytest.approx(3.6, rel=1e-6),
    }
    assert [row["name"] for row in found.details()["brightest"]] == ["DSA 1", "DSA 2"]


def test_an_empty_search_has_no_medians():
    assert Detections.matched(FOUND.iloc[:0], CATALOG, 0).figures() == {
        "found": 0, "doubtful": 0, "negative": 0, "matched": 0, "median_flux_ratio": None, "median_offset_arcsec": None
    }  # fmt: skip


def test_a_doubtful_detection_is_listed_last_and_counts_nowhere():
    found = FOUND.assign(reliable=[False, True])
    made = Detections.matched(found, CATALOG, 0)
    assert made.table["name"].tolist() == ["DSA 2", "DSA 1"]
    assert made.table["reliable"].tolist() == [True, False]
    assert made.pairs.empty  # the doubtful one lies on A
    assert (made.figures()["found"], made.figures()["doubtful"]) == (1, 1)


def many(n: int, known: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """``n`` detections of 50 mJy, of which a catalog that is complete above 10 mJy has ``known``."""
    ra = 10.0 + 0.1 * np.arange(n)
    columns = {"name": [f"s{i}" for i in range(n)], "ra_deg": ra, "dec_deg": 16.0, "flux_jy": 0.05}
    found = pd.DataFrame(columns | {"ra_err_deg": 1e-4, "dec_err_deg": 1e-4, "snr": 50.0, "reliable": True})
    faint = pd.DataFrame(
        {"name": [f"f{i}" for i in range(100)], "ra_deg": 200.0, "dec_deg": 16.0, "flux_jy": np.geomspace(0.005, 0.05, 100)}
    )
    return found, pd.concat([pd.DataFrame(columns).iloc[:known], faint], ignore_index=True)


@pytest.mark.parametrize(
    ("n", "known", "negative", "expected"),
    [
        (120, 110, 1, {"false_share": True, "matched_share": True}),
        (120, 110, 2, {"false_share": False, "matched_share": True}),
        (114, 34, 0, {"false_share": True, "matched_share": False}),
        (8, 1, 0, {"false_share": True, "matched_share": None}),
        (0, 0, 1, {"false_share": False, "matched_share": None}),
    ],
)
def test_a_catalog_of_false_or_unknown_detections_is_bad(n, known, negative, expected):
    made = Detections.matched(*many(n, known), negative)
    assert {one.name: one.passed for one in made.verdicts()} == expected
