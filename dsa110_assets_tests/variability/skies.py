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


@dataclass(frozen=True)
class TurningSky:
    """``table``: fluxes; ``gain``: by mosaic; ``position_deg``: of the sources; ``constant``: steady ones."""

    table: pd.DataFrame
    gain: dict[str, float]
    position_deg: np.ndarray
    constant: np.ndarray


def turning(seed, *, n_sources, n_nights, overlap_deg=2.0, gain_rms=0.05, variable_share=0.15, rms_jy=1.5e-3, first_mjd=61100.0):
    """24 hours a night of a telescope that looks at the meridian: a source has one epoch a night, two in an overlap.

    The sky moves by 0.986 deg from night to night. Errors are as stated. Variables have periods of 3 to 20 days.
    """
    rng = np.random.default_rng(seed)
    ra, dec = np.sort(rng.uniform(0, 360, n_sources)), 16.0 + rng.uniform(-1.3, 1.3, n_sources)
    flux = np.minimum(0.01 * rng.random(n_sources) ** (-1 / 1.2), 3.0)
    variable = rng.random(n_sources) < variable_share
    amplitude = np.where(variable, rng.uniform(0.1, 0.4, n_sources), 0.0)
    period, phase = rng.uniform(3, 20, n_sources), rng.uniform(0, 2 * np.pi, n_sources)
    rows, gain = [], {}
    for night in range(n_nights):
        for hour in range(24):
            mjd, name = first_mjd + night + (hour + 0.5) / 24, f"hourly_{night:03d}T{hour:02d}"
            centre = 15.0 * hour + 0.9856 * night
            seen = np.flatnonzero(np.abs((ra - centre + 180) % 360 - 180) < 7.5 + overlap_deg / 2)
            gain[name] = float(np.exp(gain_rms * rng.standard_normal()))
            error = rms_jy * rng.uniform(0.8, 1.4) * np.exp((dec[seen] - 16.0) ** 2 / 3.0)
            true = flux[seen] * (1 + amplitude[seen] * np.sin(2 * np.pi * mjd / period[seen] + phase[seen]))
            measured = gain[name] * true + error * rng.standard_normal(seen.size)
            rows.append(pd.DataFrame({"source_id": seen, "mosaic_name": name, "time_mjd": mjd, "flux_jy": measured, "flux_err_jy": error}))
    table = pd.concat(rows, ignore_index=True)
    return TurningSky(table, gain, np.stack([ra, dec], axis=1), np.flatnonzero(~variable))
