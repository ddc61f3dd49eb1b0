"""Pitfall 18: max|f - mean| / std cannot exceed (N - 1) / sqrt(N), so below 27 epochs no event reaches 5 sigma."""

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.variability import LightCurves, ese_candidates, ese_scores


@pytest.mark.parametrize("n_epochs", [2, 3, 5, 10, 26])
def test_pitfall_18_a_real_event_is_found_with_few_epochs(n_epochs):
    rng = np.random.default_rng(n_epochs)
    flux = 0.5 + 0.01 * rng.standard_normal((40, n_epochs))
    flux[7, n_epochs // 2] -= 0.3
    own_scatter = np.abs(flux[7] - flux[7].mean()).max() / flux[7].std()
    assert own_scatter <= (n_epochs - 1) / np.sqrt(n_epochs) * np.sqrt(n_epochs / (n_epochs - 1)) + 1e-9
    assert own_scatter < 5.0
    source, epoch = (a.ravel() for a in np.mgrid[:40, :n_epochs])
    table = pd.DataFrame(
        {
            "source_id": source,
            "mosaic_name": [f"n{e:02d}" for e in epoch],
            "time_mjd": 61000.0 + epoch,
            "flux_jy": flux.ravel(),
            "flux_err_jy": 0.01,
        }
    )
    candidates = ese_candidates(ese_scores(LightCurves.from_table(table, normalised=True)), min_score=5.0)
    assert candidates["source_id"].tolist() == [7]
    assert candidates["false_alarm_probability"].iloc[0] < 1e-6
    assert candidates["epoch_name"].iloc[0] == f"n{n_epochs // 2:02d}"
