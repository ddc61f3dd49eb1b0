"""Simulated light curves with known truth, as the tables that forced photometry makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Night:
    table: pd.DataFrame
    mean_jy: np.ndarray
    gain: np.ndarray
    variable: np.ndarray
    ese: np.ndarray


def simulate(
    seed,
    *,
    n_sources,
    n_epochs,
    gain_rms,
    n_variable,
    variable_rms,
    ese_depths,
    ese_epochs,
    rms_jy=2e-3,
    faintest_jy=0.01,
    brightest_jy=3.0,
):
    """Simulate constant sources, variables (independent at each epoch) and ESEs (a boxcar dip), with noise and gains.

    Sources 0, 1, ... have the ESEs, the next ``n_variable`` vary. Source counts ~ S^-1.2 in number per log flux.
    """
    rng = np.random.default_rng(seed)
    u = rng.random(n_sources)
    slope = -1.2
    mean = (faintest_jy**slope + u * (brightest_jy**slope - faintest_jy**slope)) ** (1 / slope)
    n_ese = len(ese_depths)
    mean[:n_ese] = np.maximum(mean[:n_ese], 40 * rms_jy)
    shape = np.ones((n_sources, n_epochs))
    variable = np.arange(n_ese, n_ese + n_variable)
    shape[variable] = np.maximum(1 + variable_rms * rng.standard_normal((n_variable, n_epochs)), 0.05)
    for source, (depth, (start, length)) in enumerate(zip(ese_depths, ese_epochs, strict=True)):
        shape[source, start : start + length] = 1 - depth
    gain = np.exp(gain_rms * rng.standard_normal(n_epochs))
    error = np.full((n_sources, n_epochs), rms_jy) * rng.uniform(0.8, 1.4, n_epochs)
    flux = gain * (mean[:, None] * shape) + error * rng.standard_normal((n_sources, n_epochs))
    source, epoch = (a.ravel() for a in np.mgrid[:n_sources, :n_epochs])
    table = pd.DataFrame(
        {
            "source_id": source,
            "mosaic_name": [f"nightly_{e:03d}" for e in epoch],
            "time_mjd": 61000.0 + epoch,
            "flux_jy": flux.ravel(),
            "flux_err_jy": error.ravel(),
            "is_limit": flux.ravel() < 3 * error.ravel(),
        }
    )
    return Night(table, mean, gain, variable, np.arange(n_ese))
