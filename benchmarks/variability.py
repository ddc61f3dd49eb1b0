"""Time and memory of a night's variability: normalization, indices and ESE score of 60 000 sources at 1000 epochs.

    python -m benchmarks.variability [--sources 60000] [--epochs 1000]
    python -m benchmarks.variability --false-alarms 200000
    python -m benchmarks.variability --completeness 400

The simulation has gains of 5 %, 1 % of the sources variable by 20 %, and ten ESEs. It runs part by part like the
night's stages, so memory does not grow with the number of measurements. The simulation of each part is not counted.
Prints one JSON line.

``--false-alarms`` prints instead how many light curves without an event score above 3, 4 and 5. Each light curve is a
separate list; there are several numbers of epochs, ordinary variability that is new at every epoch or lasts for four,
and fluxes in four channels. ``--completeness`` prints the share of plasma lenses that are found among those with a
score of 5, or of 5 + 1.645, without noise.
"""

import argparse
import json
import os
import resource
import time

import numpy as np
import pandas as pd
from scipy.stats import norm

from dsa110_assets.variability import EventSearch, LightCurves, apply_normalisation, ese_candidates, ese_scores, fit_normalisation, metrics
from dsa110_assets.variability.ese import trials_corrected
from dsa110_assets.variability.lens import core_half_width, gain
from dsa110_assets.variability.lightcurves import POINTS_AT_ONCE

CHANNELS_HZ = np.array([1.335e9, 1.381e9, 1.428e9, 1.475e9])


def sky(rng: np.random.Generator, n_sources: int, n_epochs: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean fluxes, and gain and noise of each epoch."""
    mean = 0.005 * rng.random(n_sources) ** (-1 / 1.2)
    mean[:10] = 0.3
    return mean, np.exp(0.05 * rng.standard_normal(n_epochs)), 2e-3 * rng.uniform(0.8, 1.4, n_epochs)


def measure(mean: np.ndarray, gain: np.ndarray, sigma: np.ndarray, ids: np.ndarray) -> LightCurves:
    """Measured light curves of some sources, the same at every call."""
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


def light_curves(flux: np.ndarray, error: np.ndarray) -> LightCurves:
    """Normalized light curves from arrays of shape (Nsources, Nepochs), one epoch a day."""
    n_sources, n_epochs = flux.shape
    return LightCurves(
        source_id=np.arange(n_sources),
        epoch_name=np.arange(n_epochs).astype(str),
        epoch_mjd=61000.0 + np.arange(n_epochs, dtype=float),
        offsets=np.arange(n_sources + 1, dtype=np.int64) * n_epochs,
        epoch=np.tile(np.arange(n_epochs, dtype=np.int32), n_sources),
        flux_jy=flux.ravel(),
        flux_err_jy=error.ravel(),
        is_limit=np.zeros(flux.size, dtype=bool),
        normalised=True,
    )


def channel_fluxes(
    rng: np.random.Generator, ids: np.ndarray, flux: np.ndarray, error: np.ndarray, change: np.ndarray | None = None
) -> pd.DataFrame:
    """Four channels of equal weight with the mean ``flux``; ``change`` (Nchannels, Nsources, Nepochs), Jy, is added."""
    parts = []
    noise = 2.0 * error * rng.standard_normal((CHANNELS_HZ.size, *flux.shape))
    noise -= noise.mean(axis=0)
    for c, frequency in enumerate(CHANNELS_HZ):
        slope = (frequency / CHANNELS_HZ.mean()) ** -0.7
        own = slope * (flux + noise[c] + (0.0 if change is None else change[c]))
        table = light_curves(own, 2.0 * slope * error).to_table()
        parts.append(table.assign(source_id=ids[table["source_id"]], channel=c, frequency_hz=frequency))
    return pd.concat(parts, ignore_index=True)


def false_alarms(n_lists: int) -> None:
    """Print stated and actual rates of scores without an event, for each number of epochs and kind of variability."""
    for n_epochs, lasting in ((2, 1), (3, 1), (6, 1), (12, 1), (30, 1), (30, 4), (100, 1), (100, 4)):
        rng = np.random.default_rng(1000 * lasting + n_epochs)
        found, found_channels, tested, done = np.zeros(3, int), np.zeros(3, int), 0, 0
        while done < n_lists:
            n = min(10_000, n_lists - done)
            mean = 10 ** rng.uniform(-2, 0, (n, 1))
            sigma = mean * 10 ** rng.uniform(-2, -0.7, (n, 1)) * rng.uniform(0.7, 1.5, (1, n_epochs))
            shape = rng.standard_normal((n, -(-n_epochs // lasting) + 1)).repeat(lasting, axis=1)
            begin = int(rng.integers(lasting))
            flux = mean * (1 + 0.05 * shape[:, begin : begin + n_epochs]) + sigma * rng.standard_normal((n, n_epochs))
            search = EventSearch()
            search.add(light_curves(flux, sigma))
            strong = np.array(search.strongest(n), dtype=int)
            for counts, channels in ((found, None), (found_channels, channel_fluxes(rng, strong, flux[strong], sigma[strong]))):
                table = search.scores(channels)
                score, _ = trials_corrected(table["significance"].to_numpy(), table["trials"].to_numpy())
                counts += [int((score >= threshold).sum()) for threshold in (3, 4, 5)]
            tested, done = tested + int((table["n_channels"] > 0).sum()), done + n
        stated = [round(float(2 * norm.sf(threshold) * done), 1) for threshold in (3, 4, 5)]
        names = ("score_3", "score_4", "score_5")
        print(
            json.dumps(
                {"epochs": n_epochs, "variability_lasts_epochs": lasting, "lists": done, "stated": dict(zip(names, stated, strict=True))}
                | {
                    "found": dict(zip(names, found.tolist(), strict=True)),
                    "found_with_channels": dict(zip(names, found_channels.tolist(), strict=True)),
                }
                | {"tested_between_channels": tested}
            ),
            flush=True,
        )


def completeness(n_events: int) -> None:
    """Print the share of plasma lenses with noise, among 50 sources, that score 5, and their kinds."""
    for n_epochs, width in ((12, 2.0), (30, 4.0), (100, 12.0), (300, 12.0)):
        rng = np.random.default_rng(n_epochs)
        one_list = ese_scores(light_curves(np.ones((50, n_epochs)), np.full((50, n_epochs), 0.02))).attrs["trials"]
        for alpha in (1.0, 5.0, 20.0):
            day = np.arange(n_epochs) - (n_epochs - 1) / 2 + 0.2
            place = 2 * core_half_width(alpha) * day / width
            shape = gain(place, alpha) - 1.0
            share = np.geomspace(0.02, 1.0, 300)[:, None]
            errors = np.full((300, n_epochs), 0.02)
            clean = ese_scores(light_curves(1 + share * shape, errors))
            expected, _ = trials_corrected(clean["significance"].to_numpy(), one_list)
            line = {"epochs": n_epochs, "core_epochs": width, "alpha": alpha}
            if expected.max() < 5 + 1.645:
                print(json.dumps(line | {"largest_score": round(float(expected.max()), 1)}))
                continue
            for name, wanted in (("at_5", 5.0), ("at_5_and_noise", 5 + 1.645)):
                amplitude = float(share[np.argmax(expected >= wanted), 0])
                flux = 1 + amplitude * shape + 0.02 * rng.standard_normal((n_events, n_epochs))
                search = EventSearch()
                search.add(light_curves(flux, np.full(flux.shape, 0.02)))
                table = search.scores()
                score, _ = trials_corrected(table["significance"].to_numpy(), one_list)
                line |= {f"{name}_depth": round(-amplitude * float(shape.min()), 2), f"{name}_found": round(float(np.mean(score >= 5)), 3)}
                line |= {f"{name}_as_lens": round(float((table["kind"] == "lens").mean()), 2)}
            print(json.dumps(line), flush=True)


def main() -> None:
    """Simulate, run the three steps, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sources", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--false-alarms", type=int, default=0, metavar="LISTS")
    parser.add_argument("--completeness", type=int, default=0, metavar="EVENTS")
    arguments = parser.parse_args()
    if arguments.completeness:
        completeness(arguments.completeness)
        return
    if arguments.false_alarms:
        false_alarms(arguments.false_alarms)
        return
    run(300, 10)  # compiles
    print(json.dumps(run(arguments.sources, arguments.epochs)))


def run(n_sources: int, n_epochs: int) -> dict[str, object]:
    """Fit the epochs' factors to a sample, then normalize, index and search all sources part by part."""
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
