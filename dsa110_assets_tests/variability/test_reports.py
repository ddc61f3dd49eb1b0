"""Reports on light curves, indices and candidates give what the tables hold."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.variability import LightCurves, fit_normalisation
from dsa110_assets.variability.reports import CandidateReport, LightCurveReport, VariabilityReport, small_curve
from dsa110_assets_tests.variability.skies import simulate


def test_light_curves_report_the_factor_of_each_epoch():
    night = simulate(
        1, n_sources=60, n_epochs=60, gain_rms=0.05, n_variable=0, variable_rms=0.0, ese_depths=(), ese_epochs=(), faintest_jy=0.1
    )
    curves = LightCurves.from_table(night.table, source="name" if "name" in night.table else "source_id")
    scale = fit_normalisation(curves)
    report = LightCurveReport(curves, scale, n_sources=60, n_points=3600, n_excluded=2, names={curves.source_id[0]: "0834+555"})
    figures, rows = report.figures(), report.details()["epochs"]
    assert (figures["sources"], figures["epochs"], figures["excluded_epochs"], figures["measurements"]) == (60, 60, 2, 3600)
    assert figures["normalisation_scatter"] == pytest.approx(float(np.std(night.gain)), rel=0.1)
    assert [row["mosaic"] for row in rows] == [str(name) for name in curves.epoch_name[-48:]], "only the newest epochs are shown"
    assert [row["factor"] for row in rows] == scale.factor[-48:].tolist()
    brightest = report.details()["brightest sources"]
    means = [float(row["mean_flux_mjy"]) for row in brightest]
    assert means == sorted(means, reverse=True)
    assert len(brightest) == 50
    assert all(row["epochs"] == 60 for row in brightest)
    assert {row["source"] for row in brightest if row["source_id"] == str(curves.source_id[0])} <= {"0834+555"}
    assert all(len(str(row["curve"])) == 24 for row in brightest), "the curve of the newest epochs"
    assert np.median([float(row["scatter_mjy"]) / float(row["typical_error_mjy"]) for row in brightest]) == pytest.approx(1.0, abs=0.3)


def test_a_small_curve_shows_a_dip_and_leaves_noise_flat():
    flux = np.array([1.0, 1.001, 0.999, 0.9, 0.95, 1.0, 1.2])
    drawn = small_curve(flux, 1.0, 0.01)
    assert drawn[3] == "▁"
    assert drawn[6] == "█"
    assert set(drawn[:3]) <= set("▄▅"), "a tenth of an error is no event"
    assert set(small_curve(flux, 1.0, 0.0)) <= set("▄▅"), "without an error nothing deviates"


def test_indices_of_sources_with_one_epoch_do_not_count():
    indices = pd.DataFrame({"n_epochs": [1, 4, 4], "eta": [np.nan, 1.0, 3.0], "chi2_probability": [np.nan, 0.3, 1e-9]})
    events = pd.DataFrame({"n_channels": [0, 0, 2]})
    assert VariabilityReport(indices, events).figures() == {
        "sources": 2, "median_eta": 2.0, "variable_above_5_sigma": 1, "largest_eta": 3.0, "events_tested_between_channels": 1
    }  # fmt: skip


def test_a_candidate_is_shown_with_its_name_and_folder():
    found = pd.DataFrame(
        {
            "rank": [1, 2],
            "source_id": [7, 8],
            "score": [9.0, 6.0],
            "depth": [0.5, -0.2],
            "kind": ["dip", "brightening"],
            "chromaticity": ["lens", "no channels"],
            "false_alarm_probability": [1e-9, 1e-4],
            "reasons": ["", ""],
        }
    )
    report = CandidateReport(found, {7: "0834+555"}, 5.0, [7], Path("/candidates"))
    assert report.figures() == {"candidates": 2, "top_score": 9.0, "top_source": "0834+555", "threshold": 5.0}
    rows = report.details()["candidates"]
    assert [(row["source"], row["folder"]) for row in rows] == [("0834+555", "/candidates/7"), ("8", "")]
    assert CandidateReport(found.iloc[:0], {}, 5.0, [], Path("/candidates")).figures()["top_source"] is None
