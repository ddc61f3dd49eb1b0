"""Fluxes, positions, errors and completeness of tile images against simulated truth: 200 sources down to 5 sigma over the whole drifting beam.

    python -m benchmarks.image_science [--full] [--seed 1] [--only N]

Three fields: declination +54.6, declination +16.3, and across 0h right ascension. Each is simulated with perfect receivers and smearing, converted, averaged and
imaged with a catalogue that lacks a fifth of the sources and is wrong by 10 % about the fluxes of the others. ``--full`` takes the full array and 4096 pixels of 3 arcsec, else the
demonstration's array (24 antennas) and 2880 pixels of 4 arcsec. Prints one JSON line for each field.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from scipy import ndimage

from benchmarks.image_full_tile import SEFD_JY, average
from dsa110_assets.geometry import read_tile_pointing
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.instrument import airy_power_beam, angular_separation_rad
from dsa110_assets.quality.image import compare_with_catalog, read_tile
from dsa110_assets.simulation.array import demo_array, full_array
from dsa110_assets.simulation.band import demo_band, full_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import simulate_tile

SIDEREAL_DAY = 0.99726957
N_SOURCES = 200
RINGS_DEG = ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5))
SNR_BINS = (4, 6, 8, 10, 15, 20, 50, 1000)


def fields() -> list[tuple[str, float, float]]:
    """(name, declination in deg, start in UTC MJD)."""
    start = 61_107.2
    lst = local_sidereal_time_deg(start + 155 / 86_400)
    return [("dec +54.6", 54.6, start), ("dec +16.3", 16.3, start), ("across 0h", 54.6, start + (360 - lst) / 360 * SIDEREAL_DAY)]


def draw(rng: np.random.Generator, ra0_deg: float, dec0_deg: float, noise_jy: float) -> pd.DataFrame:
    """Sources in the beam, none closer than 3.5 arcmin to another, with apparent S/N evenly spread in its logarithm from 5 to 300."""
    rows: list[tuple[float, float]] = []
    while len(rows) < N_SOURCES:
        radius, angle = 1.5 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        y, x = radius * np.cos(angle), radius * np.sin(angle)
        if all((y - b) ** 2 + (x - a) ** 2 > (3.5 / 60) ** 2 for a, b in rows):
            rows.append((x, y))
    east, north = np.array(rows).T
    dec = dec0_deg + north
    ra = (ra0_deg + east / np.cos(np.radians(dec))) % 360
    separation = angular_separation_rad(np.radians(ra), np.radians(dec), np.radians(ra0_deg), np.radians(dec0_deg))
    snr = 10 ** rng.uniform(np.log10(5), np.log10(300), N_SOURCES)
    return pd.DataFrame({"ra_deg": ra, "dec_deg": dec, "flux_jy": snr * noise_jy / airy_power_beam(separation, np.array(1.4e9))})


def run(name: str, dec_deg: float, start_mjd: float, *, full: bool, seed: int) -> dict[str, object]:
    """Simulate, image, compare."""
    from dsa110_assets.conversion import convert_group

    rng = np.random.default_rng(seed)
    array, band = (full_array(), full_band()) if full else (demo_array(), demo_band())
    meridian = SkyCoord(
        local_sidereal_time_deg(start_mjd + 155 / 86_400) * u.deg, dec_deg * u.deg, frame=FK5(equinox=Time(start_mjd, format="mjd"))
    ).icrs
    truth = draw(rng, float(meridian.ra.deg), float(meridian.dec.deg), 2.3e-4 if full else 1e-3)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        files = simulate_tile(
            directory / "raw", start_mjd=start_mjd, declination_deg=dec_deg, array=array, band=band, seed=seed,
            sky=point_sources(list(truth["ra_deg"]), list(truth["dec_deg"]), list(truth["flux_jy"])),
            receivers=Receivers.perfect(), sefd_jy=SEFD_JY, smearing=True,
        )  # fmt: skip
        convert_group({int(path.name.split("_sb")[1][:2]): path for path in files}, directory / "raw.ms", flag_rfi=False)
        average(directory / "raw.ms", directory / "tile.cal.ms", 4 if full else 1)
        known = truth[rng.uniform(size=N_SOURCES) < 0.8]
        catalog = known.assign(flux_jy=known["flux_jy"] * (1 + 0.1 * rng.standard_normal(len(known))))
        size, cell = (4096, 3.0) if full else (2880, 4.0)
        report = image_tile(
            directory / "tile.cal.ms", directory, "t", ImagingOptions(image_size=size, cell_arcsec=cell), mask_sky=catalog, provenance={}
        )
        planes, pointing = read_tile(directory, "t"), read_tile_pointing(directory / "tile.cal.ms")
    noise = report.noise_jy_per_beam
    x, y = WCS(planes.header).celestial.world_to_pixel_values(truth["ra_deg"], truth["dec_deg"])
    expected = truth["flux_jy"].to_numpy() * ndimage.map_coordinates(planes.primary_beam.astype(float), [y, x], order=1)
    peak = ndimage.map_coordinates(planes.image.astype(float), [y, x], order=3)
    reach = max(1, round(0.5 * report.beam.major_arcsec / cell))
    near = np.array(
        [
            planes.image[round(b) - reach : round(b) + reach + 1, round(a) - reach : round(a) + reach + 1].max()
            for a, b in zip(x, y, strict=True)
        ]
    )
    snr, pull = expected / noise, (peak - expected) / noise
    radius = np.degrees(
        angular_separation_rad(
            np.radians(truth["ra_deg"].to_numpy()), np.radians(truth["dec_deg"].to_numpy()),
            np.radians(pointing.phase_ra_deg), np.radians(pointing.phase_dec_deg),
        )
    )  # fmt: skip
    exact = compare_with_catalog(planes, truth, noise)
    strong = snr > 20
    rings = {}
    for low, high in RINGS_DEG:
        inside = (radius >= low) & (radius < high) & strong
        ratio = peak[inside] / expected[inside]
        rings[f"{low}-{high}"] = [
            round(float(np.median(ratio)), 4),
            round(float(1.2533 * ratio.std() / np.sqrt(inside.sum())), 4),
            int(inside.sum()),
        ]
    found = {
        f"{low}-{high}": [round(float((near[(snr >= low) & (snr < high)] > 5 * noise).mean()), 2), int(((snr >= low) & (snr < high)).sum())]
        for low, high in itertools.pairwise(SNR_BINS)
        if ((snr >= low) & (snr < high)).any()
    }
    return {
        "field": name,
        "noise_over_thermal": round(noise / report.thermal_jy_per_beam, 3),
        "flux_ratio_by_ring (median, error, n)": rings,
        "flux_pull_mean_width": [round(float(pull[snr < 50].mean()), 3), round(float(pull[snr < 50].std()), 3)],
        "flux_pull_width_above_50_sigma": round(float(pull[snr >= 50].std()), 3),
        "position_bias_arcsec": [round(float(np.median(exact.east_arcsec)), 3), round(float(np.median(exact.north_arcsec)), 3)],
        "position_pull_widths": [
            round(float(np.std(exact.east_arcsec / exact.east_error_arcsec)), 3),
            round(float(np.std(exact.north_arcsec / exact.north_error_arcsec)), 3),
        ],
        "beam_arcsec": [round(report.beam.major_arcsec, 1), round(report.beam.minor_arcsec, 1)],
        "completeness by S/N (share, n)": found,
        "seconds": report.seconds,
    }


def main() -> None:
    """All fields."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of one field, 0 to 2")
    arguments = parser.parse_args()
    for number, (name, dec_deg, start_mjd) in enumerate(fields()):
        if arguments.only in (None, number):
            print(json.dumps(run(name, dec_deg, start_mjd, full=arguments.full, seed=arguments.seed)), flush=True)


if __name__ == "__main__":
    main()
