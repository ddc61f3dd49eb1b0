"""The report counts measurements, detections and limits."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.photometry import PhotometryReport


def test_figures_count_what_was_measured_and_detected():
    fluxes = pd.DataFrame(
        {
            "name": ["a", "b", "c", "d"],
            "flux_jy": [1.1, 0.002, np.nan, 0.45],
            "flux_err_jy": [0.01, 0.002, np.nan, 0.01],
            "snr": [110.0, 1.0, np.nan, 45.0],
            "is_limit": [False, True, False, False],
            "reference_flux_jy": [1.0, np.nan, 1.0, 0.5],
            "noise_jy_per_beam": [1e-3, 2e-3, 9.0, 3e-3],
            "error_scale": [1.2, 1.2, 1.2, 1.2],
        }
    )
    channels = pd.DataFrame({"channel": [0, 0, 1], "flux_jy": [1.0, np.nan, 1.2]})
    report = PhotometryReport(5, fluxes, channels)
    assert len(report.measured) == 3
    assert report.figures() == {
        "positions": 5,
        "measured": 3,
        "detected": 2,
        "limits": 1,
        "median_flux_ratio_to_catalog": pytest.approx(1.0),
        "median_noise_mjy_per_beam": pytest.approx(2.0),
        "error_scale": 1.2,
        "channels": 2,
        "measured_in_channels": 2,
    }
    tables = report.details()
    brightest = tables["the 3 highest S/N"]
    assert [row["source"] for row in brightest] == ["a", "d", "b"]
    assert brightest[0]["flux_mjy"] == pytest.approx(1100.0)
    assert sum(int(row["positions"]) for row in tables["positions left out"]) == 5 - 3, "each position is accounted for"
