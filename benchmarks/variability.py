"""Time and memory of a night's variability: normalisation, indices and ESE score of 60 000 sources at 1000 epochs.

    python benchmarks/variability.py [--sources 60000] [--epochs 1000]
    python benchmarks/variability.py --false-alarms 600

Simulated gains of 5 %, 1 % of the sources variable by 20 %, ten ESEs. Prints one JSON line. With ``--false-alarms`` instead the
share of lists of 60 ordinary sources with an event below a stated false-alarm probability, for several numbers of epochs.
"""

import argparse
import json
import os
import resource
import time

import numpy as np

from dsa110_assets.variability import LightCurves, ese_candidates, ese_scores, metrics, normalise


def simulate(rng: np.random.Generator, n_sources: int, n_epochs: int) -> tuple[LightCurves, np.ndarray]:
    """Light curves and the epochs' true gains."""
    mean = 0.005 * rng.random(n_sources) ** (-1 / 1.2)
    gain = np.exp(0.05 * rng.standard_normal(n_epochs))
    sigma = 2e-3 * rng.uniform(0.8, 1.4, n_epochs)
    flux = rng.standard_normal((n_sources, n_epochs))
    flux *= sigma
    shape = np.ones((n_sources // 100, n_epochs)) + 0.2 * rng.standard_normal((n_sources // 100, n_epochs))
    mean[:10] = 0.3
    shape[:10] = 1.0
    shape[:10, n_epochs // 2 : n_epochs // 2 + 8] = 0.5
    flux[: n_sources // 100] += gain * mean[: n_sources // 100, None] * (shape - 1)
    flux += gain * mean[:, None]
    curves = LightCurves(
        source_id=np.arange(n_sources),
        epoch_name=np.array([f"hourly_{k:05d}" for k in range(n_epochs)]),
        epoch_mjd=61000.0 + np.arange(n_epochs, dtype=float),
        offsets=np.arange(n_sources + 1, dtype=np.int64) * n_epochs,
        epoch=np.tile(np.arange(n_epochs, dtype=np.int32), n_sources),
        flux_jy=flux.reshape(-1),
        flux_err_jy=np.tile(sigma, n_sources),
        is_limit=np.zeros(flux.size, dtype=bool),
    )
    return curves, gain


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
    warm, _ = simulate(np.random.default_rng(0), 300, 10)
    warm, _ = normalise(warm)
    metrics(warm)
    ese_scores(warm)
    measured, gain = simulate(np.random.default_rng(1), arguments.sources, arguments.epochs)
    result = {"sources": arguments.sources, "epochs": arguments.epochs, "input_gb": round(measured.flux_jy.size * 29 / 1e9, 2)}
    result["rss_before_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    began = time.perf_counter()
    normalised, fit = normalise(measured)
    del measured
    result["normalise_s"] = round(time.perf_counter() - began, 1)
    step = time.perf_counter()
    table = metrics(normalised)
    result["metrics_s"] = round(time.perf_counter() - step, 1)
    step = time.perf_counter()
    candidates = ese_candidates(ese_scores(normalised))
    result["ese_s"] = round(time.perf_counter() - step, 1)
    result["total_s"] = round(time.perf_counter() - began, 1)
    constant = table.iloc[arguments.sources // 100 :]
    result["largest_factor_error"] = float(np.abs(fit.factor / gain * np.exp(np.log(gain).mean()) - 1).max())
    result["mean_eta_of_constants"] = round(float(constant["eta"].mean()), 4)
    result["events_found_of_10"] = int((candidates["source_id"] < 10).sum())
    result["false_candidates"] = int((candidates["source_id"] >= 10).sum())
    result["peak_rss_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    result["load_after"] = round(os.getloadavg()[0], 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
