"""Pitfall 19: eta was computed with w = 1 / sigma; the published definition has w = 1 / sigma^2."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.photometry import PhotometryOptions
from dsa110_assets.variability import LightCurves, metrics


def test_pitfall_19_eta_has_inverse_variance_weights_and_is_the_reduced_chi_square():
    flux, sigma = np.array([1.0, 1.3, 0.9, 1.1]), np.array([0.05, 0.2, 0.1, 0.02])
    table = pd.DataFrame({"source_id": 1, "mosaic_name": list("abcd"), "time_mjd": [1.0, 2, 3, 4], "flux_jy": flux, "flux_err_jy": sigma})
    eta = metrics(LightCurves.from_table(table, normalised=True))["eta"].iloc[0]

    def published(w):
        return 4 / 3 * ((w * flux**2).mean() - (w * flux).mean() ** 2 / w.mean())

    assert eta == pytest.approx(published(sigma**-2.0), rel=1e-9)
    assert eta == pytest.approx(np.polynomial.polynomial.polyfit(np.arange(4), flux, 0, w=1 / sigma, full=True)[1][0][0] / 3, rel=1e-9)
    assert abs(eta / published(sigma**-1.0) - 1) > 0.5


def test_pitfall_19_condon_errors_are_available():
    assert PhotometryOptions(error_model="condon1997").error_model == "condon1997"
