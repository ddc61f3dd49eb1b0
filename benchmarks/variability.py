"""Time and memory of a night's variability: normalisation, indices and ESE score of 60 000 sources at 1000 epochs.

    python benchmarks/variability.py [--sources 60000] [--epochs 1000]
    python benchmarks/variability.py --false-alarms 600

Simulated gains of 5 %, 1 % of the sources variable by 20 %, ten ESEs; part by part, as the night's stages do it, so that memory does not
grow with the number of measurements. The simulation of each part is not counted. Prints one JSON line. With ``--false-alarms`` instead the
share of lists of 60 ordinary sources with an event below a stated false-alarm probability, for several numbers of epochs.
"""

import argparse
import json
import os
import resource
import time

import numpy as np
import pandas as pd

from dsa110_assets.stages.night import POINTS_AT_ONCE
from dsa110_assets.variability import EventSearch, LightCurves, apply_normalisation, ese_candidates, ese_scores, fit_normalisation, metrics


def sky(rng: np.random.Generator, n_sources: int, n_epochs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean fluxes, and gain and noise of each epoch."""
    mean = 0.005 * rng.random(n_sources) ** (-1 / 1.2)
    mean[:10] = 0.3
    return mean, np.exp(0.05 * rng.standard_normal(n_epochs)), 2e-3 * rng.uniform(0.8, 1.4, n_epochs)


def measure(mean: np.ndarray, gain: np.ndarray, sigma: np.ndarray, ids: np.ndarray) -> LightCurves:
    """Measured light curves of some sources, the same whenever they are asked for."""
    n_epochs = gain.size
    flux = np.empty((ids.size, n_epochs))
    for row, source in enumerate(ids):
        rng = np.random.default_rng(int(source))
        shape = np.ones(n_epochs)
        if source < 10:
            shape[n_epochs // 2 : n_epochs // 2 + 8] = 0.5
        elif source < mean.size // 100:
            shape += 0.2 * rng.standard_normal(n_epochs)
        flux[row] = gain * mean[source] * shape + sigma * rng.standard_normal(n_epochs)
    return LightCurves(
        source_id=ids,
        epoch_name=np.array([f"hourly_{k:05d}" for k in range(n_epochs)]),
        epoch_mjd=61000.0 + np.arange(n_epochs, dtype=float),
        offsets=np.arange(ids.size + 1, dtype=np.int64) * n_epochs,
        epoch=np.tile(np.arange(n_epochs, dtype=np.int32), ids.size),
        flux_jy=flux.reshape(-1),
        flux_err_jy=np.tile(sigma, ids.size),
        is_limit=np.zeros(flux.size, dtype=bool),
    )


def false_alarms(lists: int) -> None:
    """Stated and actual false-alarm rates under the null hypothesis, one JSON line for each number of epochs."""
    for n_epochs in (2, 3, 6, 12, 30):
        rng = np.random.default_rng(n_epochs)
        lowest = np.empty(lists)
        for k in range(lists):
            mean = 10 ** rng.uniform(-2, 0, (60, 1))
            sigma = mean * 10 ** rng.uniform(-2, -0.7, (60, 1)) * rng.uniform(0.7, 1.5, (1, n_epochs))
            flux = mean * (1 + 0.05 * rng.standard_normal((60, n_epochs))) + sigma * rng.standard_normal((60, n_epochs))
            curves = LightCurves(
                source_id=np.arange(60),
                epoch_name=np.arange(n_epochs).astype(str),
                epoch_mjd=61000.0 + np.arange(n_epochs, dtype=float),
                offsets=np.arange(61, dtype=np.int64) * n_epochs,
                epoch=np.tile(np.arange(n_epochs, dtype=np.int32), 60),
                flux_jy=flux.ravel(),
                flux_err_jy=sigma.ravel(),
                is_limit=np.zeros(flux.size, dtype=bool),
                normalised=True,
            )
            lowest[k] = ese_scores(curves)["false_alarm_probability"].min()
        print(
            json.dumps(
                {"epochs": n_epochs, "lists": lists} | {f"stated_{p}": round(float(np.mean(lowest < p)), 3) for p in (0.05, 0.1, 0.3)}
            )
        )


def main() -> None:
    """Simulate, run the three steps, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--false-alarms", type=int, default=0, metavar="LISTS")
    arguments = parser.parse_args()
    if arguments.false_alarms:
        false_alarms(arguments.false_alarms)
        return
    run(300, 10)  # compiles
    print(json.dumps(run(arguments.sources, arguments.epochs)))


def run(n_sources: int, n_epochs: int) -> dict[str, object]:
    """Fit the epochs' factors to a sample, then normalise, index and search all sources part by part, as the night's stages do."""
    mean, gain, sigma = sky(np.random.default_rng(1), n_sources, n_epochs)
    seconds = dict.fromkeys(("simulation", "fit", "normalise", "metrics", "ese"), 0.0)
    last = time.perf_counter()

    def lap(step: str) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[step] += now - last
        last = now

    sample = np.union1d(np.argsort(-mean)[:2500], np.arange(0, n_sources, max(1, n_sources // 2500)))
    curves = measure(mean, gain, sigma, sample)
    lap("simulation")
    fit = fit_normalisation(curves)
    del curves
    lap("fit")
    search, tables = EventSearch(), []
    step = max(1, POINTS_AT_ONCE // n_epochs)
    for first in range(0, n_sources, step):
        part = measure(mean, gain, sigma, np.arange(first, min(first + step, n_sources)))
        lap("simulation")
        normalised = apply_normalisation(part, fit)
        lap("normalise")
        tables.append(metrics(normalised))
        lap("metrics")
        search.add(normalised)
        lap("ese")
    table, candidates = pd.concat(tables, ignore_index=True), ese_candidates(search.scores())
    lap("ese")
    constant = table.iloc[n_sources // 100 :]
    return {
        "sources": n_sources,
        "epochs": n_epochs,
        **{f"{name}_s": round(value, 1) for name, value in seconds.items()},
        "total_without_simulation_s": round(sum(seconds.values()) - seconds["simulation"], 1),
        "largest_factor_error": float(np.abs(fit.factor / gain * np.exp(np.log(gain).mean()) - 1).max()),
        "noise_scale": round(fit.noise_scale, 4),
        "mean_eta_of_constants": round(float(constant["eta"].mean()), 4),
        "events_found_of_10": int((candidates["source_id"] < 10).sum()) if n_sources > 10 else 0,
        "false_candidates": int((candidates["source_id"] >= 10).sum()),
        "peak_rss_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
        "load_after": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
