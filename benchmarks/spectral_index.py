"""Spectral indices and channel fluxes of 120 sources over the whole drifting beam, compared with simulated truth.

    python -m benchmarks.spectral_index [--channels 4] [--seed 1]

The field, the demonstration's array and the path are those of `benchmarks.image_science`. The catalog is complete, with
errors of 10 % in its fluxes. Sources have indices 0, -0.7 and -1.5 and 20 to 1200 times the noise. The tile is imaged
with and without channels. Prints one JSON object: CPU and memory, pulls of the indices by index and by ring, flux pulls
of the channels, and the effect of joining the channels on the fluxes of the whole band.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray

from benchmarks.image_full_tile import SEFD_JY, average
from benchmarks.image_science import RINGS_DEG, Setup, draw, fields, pull_figures
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.photometry import measure_tile
from dsa110_assets.products import channel_name
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import simulate_tile

INDICES = (0.0, -0.7, -1.5)


def plane(path: Path) -> NDArray[np.float64]:
    """Pixels of an image, shape (N, N)."""
    return np.asarray(fits.getdata(path), dtype=np.float64).squeeze()


def simulate(directory: Path, seed: int, n_sources: int) -> tuple[Path, pd.DataFrame]:
    """Simulate a calibrated Measurement Set and return it with its true sources."""
    from dsa110_assets.conversion import convert_observation

    setup, rng = Setup.demo(), np.random.default_rng(seed)
    _, dec_deg, start_mjd = fields()[0]
    lst_deg = local_sidereal_time_deg(start_mjd + 155 / 86_400)
    centre = SkyCoord(lst_deg * u.deg, dec_deg * u.deg, frame=FK5(equinox=Time(start_mjd, format="mjd"))).icrs
    truth = draw(rng, float(centre.ra.deg), float(centre.dec.deg), 4 * setup.noise_jy, n_sources)
    truth["index"], truth["name"] = rng.choice(INDICES, n_sources), [f"s{k}" for k in range(n_sources)]
    separation = angular_separation_rad(*(np.radians(truth[c].to_numpy()) for c in ("ra_deg", "dec_deg")), centre.ra.rad, centre.dec.rad)
    truth["radius_deg"] = np.degrees(separation)
    files = simulate_tile(
        directory / "raw", start_mjd=start_mjd, declination_deg=dec_deg, array=setup.array, band=setup.band, seed=seed,
        sky=point_sources(list(truth["ra_deg"]), list(truth["dec_deg"]), list(truth["flux_jy"]), spectral_index=list(truth["index"])),
        receivers=Receivers.perfect(), sefd_jy=SEFD_JY, smearing=True,
    )  # fmt: skip
    convert_observation({int(path.name.split("_sb")[1][:2]): path for path in files}, directory / "raw.ms", flag_rfi=False)
    average(directory / "raw.ms", directory / "tile.cal.ms", setup.average)
    return directory / "tile.cal.ms", truth


def run(channels: int, seed: int, n_sources: int = 120) -> dict[str, object]:
    """Image and measure one field and return the figures."""
    with tempfile.TemporaryDirectory() as scratch:
        ms, truth = simulate(Path(scratch), seed, n_sources)
        rng = np.random.default_rng(seed)
        catalog = truth.assign(flux_jy=truth["flux_jy"] * (1 + 0.1 * rng.standard_normal(len(truth))))
        reports, cpu_s, gigabytes = {}, {}, {}
        for number in (1, channels):
            out = Path(scratch) / str(number)
            out.mkdir()
            began = time.process_time()
            options = ImagingOptions(image_size=Setup.demo().image_size, cell_arcsec=Setup.demo().cell_arcsec, channels=number)
            reports[number] = image_tile(ms, out, "t", options, mask_sky=catalog, provenance={})
            cpu_s[number] = round(time.process_time() - began, 1)
            gigabytes[number] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
        joined, whole = reports[channels], reports[1]
        x, y = WCS(fits.getheader(joined.images["image"])).celestial.world_to_pixel_values(truth["ra_deg"], truth["dec_deg"])
        at = np.round(y).astype(int), np.round(x).astype(int)
        index, error = (plane(joined.images[suffix])[at] for suffix in ("alpha", "alpha-error"))
        given, wrong = np.isfinite(index), index - truth["index"].to_numpy()

        def summary(some: NDArray[np.bool_]) -> dict[str, object]:
            chosen = some & given
            weight = error[chosen] ** -2.0
            return {
                "mean error": round(float(np.average(wrong[chosen], weights=weight)), 4),
                "expected": round(float(weight.sum() ** -0.5), 4),
                "pulls (mean, width, n)": pull_figures((wrong / error)[chosen]),
            }

        positions, pulls = truth[["name", "ra_deg", "dec_deg"]], {}
        for channel in joined.channels:
            found = measure_tile(joined.images["image"].parent, channel_name("t", channel.number), positions).merge(
                truth[["name", "flux_jy", "index"]], on="name", suffixes=("", "_true")
            )
            true = found["flux_jy_true"] * (channel.frequency_hz / 1.4e9) ** found["index"]
            faint = (true / found["flux_err_jy"] < 50).to_numpy()
            pulls[f"{channel.frequency_hz / 1e6:.1f} MHz"] = {
                "below 50 sigma": pull_figures(((found["flux_jy"] - true) / found["flux_err_jy"]).to_numpy()[faint]),
                "ratio above": round(float((found["flux_jy"] / true).to_numpy()[~faint].mean()), 4),
                "noise over thermal": round(channel.noise_jy_per_beam / channel.thermal_jy_per_beam, 3),
            }
        before, after = plane(whole.images["image"])[at], plane(joined.images["image"])[at]
        bright, brightest = (before > limit * joined.noise_jy_per_beam for limit in (30, 200))
        return {
            "sources": len(truth),
            "with an index": int(given.sum()),
            "all": summary(given),
            "by index": {str(one): summary(truth["index"].to_numpy() == one) for one in INDICES},
            "by ring": {f"{low}-{high}": summary(truth["radius_deg"].between(low, high).to_numpy()) for low, high in RINGS_DEG},
            "channels": pulls,
            "whole band, joined over alone": {
                "mean above 30 sigma": round(float((after / before)[bright].mean()), 5),
                "largest deviation above 200 sigma": round(float(np.abs(after / before - 1)[brightest].max()), 5),
            },
            "noise over thermal": {str(n): round(r.noise_jy_per_beam / r.thermal_jy_per_beam, 3) for n, r in reports.items()},
            "cpu_s": cpu_s,
            "peak GB so far": gigabytes,
        }


def main() -> None:
    """Run one field and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.channels, arguments.seed), indent=1))


if __name__ == "__main__":
    main()
