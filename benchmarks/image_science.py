"""Fluxes, positions, errors and completeness of tile images, compared with simulated truth.

    python -m benchmarks.image_science [--full] [--seed 1] [--only N] [--repeat 1]

Three fields (declination +54.6, declination +16.3, and across 0h right ascension) have 200 sources down to 5 sigma over
the whole drifting beam. Each is simulated with perfect receivers and smearing, converted, averaged and imaged with a
catalog that lacks a fifth of the sources and has errors of 10 % in the fluxes of the others. ``--full`` takes the full
array and 4096 pixels of 3 arcsec instead of the demonstration's array (24 antennas) and 2880 pixels of 4 arcsec.
``--repeat`` draws a field several times and combines the sources. Prints one JSON line for each field.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.time import Time
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.image_full_tile import SEFD_JY, average
from dsa110_assets.common.directions import TilePointing, angular_separation_rad
from dsa110_assets.common.instrument import airy_power_beam
from dsa110_assets.common.measurement_sets import read_tile_pointing
from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets.quality.image import CatalogComparison, TilePlanes, compare_with_catalog, read_tile
from dsa110_assets.simulation.array import ArrayLayout, demo_array, full_array
from dsa110_assets.simulation.band import BandPlan, demo_band, full_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import simulate_tile

SIDEREAL_DAY = 0.99726957
RINGS_DEG = ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5))
SNR_BINS = (4, 6, 8, 10, 15, 20, 50, 1000)


@dataclass(frozen=True)
class Setup:
    """Size of the simulation.

    ``noise_jy``: approximate noise of the image, which sets the fluxes. ``average``: channels averaged before imaging.
    """

    array: ArrayLayout
    band: BandPlan
    image_size: int
    cell_arcsec: float
    noise_jy: float
    average: int = 1
    n_sources: int = 200

    @classmethod
    def full(cls) -> Setup:
        """The full array."""
        return cls(full_array(), full_band(), 4096, 3.0, 2.3e-4, average=4)

    @classmethod
    def small(cls) -> Setup:
        """A size for the test suite: few sources, pixels of half a beam."""
        return cls(demo_array(), BandPlan(4), 1470, 7.6, 1.1e-3, n_sources=60)

    @classmethod
    def demo(cls) -> Setup:
        """The demonstration's array."""
        return cls(demo_array(), demo_band(), 2880, 4.0, 1e-3)


@dataclass(frozen=True)
class Measured:
    """One imaged field.

    ``sources``: one row for each true source. ``exact``: positions and fluxes of those above 20 sigma. ``report``: of
    the imager.
    """

    sources: pd.DataFrame
    exact: CatalogComparison
    report: ImageReport


def fields() -> list[tuple[str, float, float]]:
    """Name, declination (deg) and start (UTC MJD) of each field."""
    start = 61_107.2
    lst = local_sidereal_time_deg(start + 155 / 86_400)
    return [("dec +54.6", 54.6, start), ("dec +16.3", 16.3, start), ("across 0h", 54.6, start + (360 - lst) / 360 * SIDEREAL_DAY)]


def draw(rng: np.random.Generator, ra0_deg: float, dec0_deg: float, noise_jy: float, n_sources: int) -> pd.DataFrame:
    """Draw sources in the beam, at least 3.5 arcmin apart, with log-uniform apparent S/N from 5 to 300."""
    rows: list[tuple[float, float]] = []
    while len(rows) < n_sources:
        radius, angle = 1.5 * np.sqrt(rng.uniform()), rng.uniform(0, 2 * np.pi)
        y, x = radius * np.cos(angle), radius * np.sin(angle)
        if all((y - b) ** 2 + (x - a) ** 2 > (3.5 / 60) ** 2 for a, b in rows):
            rows.append((x, y))
    east, north = np.array(rows).T
    dec = dec0_deg + north
    ra = (ra0_deg + east / np.cos(np.radians(dec))) % 360
    separation = angular_separation_rad(np.radians(ra), np.radians(dec), np.radians(ra0_deg), np.radians(dec0_deg))
    snr = 10 ** rng.uniform(np.log10(5), np.log10(300), n_sources)
    return pd.DataFrame({"ra_deg": ra, "dec_deg": dec, "flux_jy": snr * noise_jy / airy_power_beam(separation, np.array(1.4e9))})


def observe(dec_deg: float, start_mjd: float, setup: Setup, seed: int) -> Measured:
    """Simulate, convert, image and measure one field."""
    from dsa110_assets.conversion import convert_observation

    rng = np.random.default_rng(seed)
    meridian = SkyCoord(
        local_sidereal_time_deg(start_mjd + 155 / 86_400) * u.deg, dec_deg * u.deg, frame=FK5(equinox=Time(start_mjd, format="mjd"))
    ).icrs
    truth = draw(rng, float(meridian.ra.deg), float(meridian.dec.deg), setup.noise_jy, setup.n_sources)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        files = simulate_tile(
            directory / "raw", start_mjd=start_mjd, declination_deg=dec_deg, array=setup.array, band=setup.band, seed=seed,
            sky=point_sources(list(truth["ra_deg"]), list(truth["dec_deg"]), list(truth["flux_jy"])),
            receivers=Receivers.perfect(), sefd_jy=SEFD_JY, smearing=True,
        )  # fmt: skip
        convert_observation({int(path.name.split("_sb")[1][:2]): path for path in files}, directory / "raw.ms", flag_rfi=False)
        average(directory / "raw.ms", directory / "tile.cal.ms", setup.average)
        known = truth[rng.uniform(size=len(truth)) < 0.8]
        catalog = known.assign(flux_jy=known["flux_jy"] * (1 + 0.1 * rng.standard_normal(len(known))))
        options = ImagingOptions(image_size=setup.image_size, cell_arcsec=setup.cell_arcsec)
        report = image_tile(directory / "tile.cal.ms", directory, "t", options, mask_sky=catalog, provenance={})
        planes, pointing = read_tile(directory, "t"), read_tile_pointing(directory / "tile.cal.ms")
    return Measured(_measure(truth, planes, pointing, report), compare_with_catalog(planes, truth, report.noise_jy_per_beam), report)


def _measure(truth: pd.DataFrame, planes: TilePlanes, pointing: TilePointing, report: ImageReport) -> pd.DataFrame:
    """Measure each true source.

    Columns: distance from the phase center (deg), expected S/N, flux at the true position over the expected one, pull,
    and whether a pixel near it is above 5 sigma.
    """
    noise, cell = report.noise_jy_per_beam, abs(float(planes.header["CDELT2"])) * 3600
    x, y = WCS(planes.header).celestial.world_to_pixel_values(truth["ra_deg"], truth["dec_deg"])
    expected = truth["flux_jy"].to_numpy() * ndimage.map_coordinates(planes.primary_beam.astype(float), [y, x], order=3)
    reach = max(1, round(0.5 * report.beam.major_arcsec / cell))
    inverse = report.beam.inverse_covariance_px(cell)
    flux, near = np.empty(len(truth)), np.empty(len(truth))
    for k, (row, column) in enumerate(zip(np.round(y).astype(int), np.round(x).astype(int), strict=True)):
        near[k] = planes.image[row - reach : row + reach + 1, column - reach : column + reach + 1].max()
        rows, columns = np.mgrid[row - 2 * reach : row + 2 * reach + 1, column - 2 * reach : column + 2 * reach + 1]
        north, west = rows - y[k], columns - x[k]
        beam = np.exp(-0.5 * (inverse[0, 0] * north**2 + 2 * inverse[0, 1] * north * west + inverse[1, 1] * west**2))
        flux[k] = (beam**5 * planes.image[rows, columns]).sum() / (beam**6).sum()  # weights: the square of the beam
    radius = angular_separation_rad(
        np.radians(truth["ra_deg"].to_numpy()), np.radians(truth["dec_deg"].to_numpy()),
        np.radians(pointing.phase_ra_deg), np.radians(pointing.phase_dec_deg),
    )  # fmt: skip
    return pd.DataFrame(
        {
            "radius_deg": np.degrees(radius),
            "snr": expected / noise,
            "ratio": flux / expected,
            "pull": (flux - expected) / noise,
            "seen": near > 5 * noise,
        }
    )


def run(name: str, dec_deg: float, start_mjd: float, *, setup: Setup, seeds: Sequence[int]) -> dict[str, object]:
    """Figures of one field, drawn once for each seed."""
    fields = [observe(dec_deg, start_mjd, setup, seed) for seed in seeds]
    sources, report = pd.concat([field.sources for field in fields]), fields[0].report

    def exact(quantity: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(field.exact, quantity) for field in fields])

    strong = sources[sources["snr"] > 20]
    rings = {
        f"{low}-{high}": median_with_error(strong["ratio"][strong["radius_deg"].between(low, high, inclusive="left")])
        for low, high in RINGS_DEG
    }
    found = {
        f"{low}-{high}": [round(float(seen.mean()), 3), int(seen.size)]
        for low, high in itertools.pairwise(SNR_BINS)
        if (seen := sources["seen"][sources["snr"].between(low, high, inclusive="left")]).size
    }
    snr = exact("snr")
    shifts = {axis: exact(f"{axis}_arcsec") for axis in ("east", "north")}
    pulls = {
        "flux": (sources["pull"].to_numpy(), sources["snr"].to_numpy()),
        **{axis: (shift / exact(f"{axis}_error_arcsec"), snr) for axis, shift in shifts.items()},
    }
    return {
        "field": name,
        "sources": len(sources),
        "noise_over_thermal": [round(field.report.noise_jy_per_beam / field.report.thermal_jy_per_beam, 3) for field in fields],
        "flux_ratio_by_ring (median, error, n)": rings,
        "position_bias_arcsec": {axis: round(float(np.median(shift)), 3) for axis, shift in shifts.items()},
        "pulls (mean, width, n) below 50 sigma": {name: pull_figures(pull[of < 50]) for name, (pull, of) in pulls.items()},
        "pulls above 50 sigma": {name: pull_figures(pull[of >= 50]) for name, (pull, of) in pulls.items()},
        "completeness by S/N (share, n)": found,
        "beam_arcsec": [round(report.beam.major_arcsec, 1), round(report.beam.minor_arcsec, 1)],
        "seconds": report.seconds,
    }


def median_with_error(ratio: pd.Series) -> tuple[float, float, int]:
    """Median, its error (from the scatter), and number."""
    return round(float(ratio.median()), 4), round(float(1.2533 * ratio.std() / np.sqrt(len(ratio))), 4), len(ratio)


def pull_figures(pull: NDArray[np.float64]) -> tuple[float, float, int]:
    """Mean, standard deviation, and number."""
    return round(float(pull.mean()), 3), round(float(pull.std()), 3), pull.size


def main() -> None:
    """Run all fields, or one, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--only", type=int, help="number of one field, 0 to 2")
    arguments = parser.parse_args()
    for number, (name, dec_deg, start_mjd) in enumerate(fields()):
        if arguments.only in (None, number):
            setup, seeds = Setup.full() if arguments.full else Setup.demo(), range(arguments.seed, arguments.seed + arguments.repeat)
            print(json.dumps(run(name, dec_deg, start_mjd, setup=setup, seeds=seeds)), flush=True)


if __name__ == "__main__":
    main()
