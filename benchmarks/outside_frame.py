"""What bright sources outside an image do to it: noise and false detections, with and without the search for them.

    python -m benchmarks.outside_frame [--full] [--seed 1]

A simulated tile has 60 cataloged sources in the image and, outside it, a source of 1.2 Jy 4.7 arcmin beyond the edge,
five more that no catalog has, and a calibrator of 8 Jy at 2.5 deg that only the list of calibrators has. It is imaged
with nothing, the calibrator or all of them known, without and with the search. ``--full`` takes the full array
and 4096 pixels of 3 arcsec. Prints one JSON line for each.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.time import Time

from benchmarks.image_full_tile import SEFD_JY, average
from benchmarks.image_science import Setup, draw
from dsa110_assets import products
from dsa110_assets.imaging import ImageReport, ImagingOptions, image_tile
from dsa110_assets.mosaicking import crossmatch, find_sources
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import point_sources
from dsa110_assets.simulation.tile import simulate_tile

START_MJD = 61_107.2
DECLINATION_DEG = 54.6
FALSE_SIGMA = 7.0
BEYOND_EDGE_DEG = 4.7 / 60
CALIBRATOR = (2.5, 200.0, 8.0)
"""Distance (deg), position angle (deg) and flux (Jy)."""
UNKNOWN = ((2.0, 35.0, 0.9), (2.1, 140.0, 0.7), (2.3, 250.0, 1.5), (2.0, 275.0, 0.5), (2.6, 75.0, 2.5))


@dataclass(frozen=True)
class Field:
    """A simulated tile and its truth.

    ``ms``: calibrated Measurement Set. ``inside``: cataloged sources in the image. ``outside``: sources outside it that
    no catalog has. ``calibrator``: one row.
    """

    ms: Path
    inside: pd.DataFrame
    outside: pd.DataFrame
    calibrator: pd.DataFrame


def make_field(directory: Path, setup: Setup, seed: int) -> Field:
    """Simulate a tile with geometry alone, convert it, and average it as the platform does."""
    from dsa110_assets.conversion import convert_observation

    rng = np.random.default_rng(seed)
    equinox = FK5(equinox=Time(START_MJD, format="mjd"))
    center = SkyCoord(local_sidereal_time_deg(START_MJD + 155 / 86_400) * u.deg, DECLINATION_DEG * u.deg, frame=equinox).icrs
    half_deg = setup.image_size * setup.cell_arcsec / 7200
    east_of_edge = np.hypot(half_deg + BEYOND_EDGE_DEG, 0.3), np.degrees(np.arctan2(half_deg + BEYOND_EDGE_DEG, 0.3)), 1.2

    def placed(rows: list[tuple[float, float, float]]) -> pd.DataFrame:
        there = [center.directional_offset_by(angle * u.deg, distance * u.deg) for distance, angle, _ in rows]
        return pd.DataFrame(
            {"ra_deg": [one.ra.deg for one in there], "dec_deg": [one.dec.deg for one in there], "flux_jy": [flux for *_, flux in rows]}
        )

    inside = draw(rng, float(center.ra.deg), float(center.dec.deg), setup.noise_jy, setup.n_sources)
    outside, calibrator = placed([east_of_edge, *UNKNOWN]), placed([CALIBRATOR])
    every = pd.concat([inside, outside, calibrator])
    files = simulate_tile(
        directory / "raw", start_mjd=START_MJD, declination_deg=DECLINATION_DEG, array=setup.array, band=setup.band, seed=seed,
        sky=point_sources(list(every["ra_deg"]), list(every["dec_deg"]), list(every["flux_jy"])),
        receivers=Receivers.perfect(), sefd_jy=SEFD_JY, smearing=True,
    )  # fmt: skip
    convert_observation({int(path.name.split("_sb")[1][:2]): path for path in files}, directory / "raw.ms", flag_rfi=False)
    average(directory / "raw.ms", directory / "tile.cal.ms", setup.average)
    return Field(directory / "tile.cal.ms", inside, outside, calibrator)


KNOWN = ("nothing", "calibrator", "all")
"""What the imager knows of the sources outside."""


def image(field: Field, setup: Setup, *, known: int, search: bool, find: bool = True) -> tuple[ImageReport, dict[str, Any]]:
    """Image the field with one of `KNOWN`; return report and figures. ``find``: sources, to count false ones."""
    options = ImagingOptions(image_size=setup.image_size, cell_arcsec=setup.cell_arcsec, search_outside=search)
    sky = pd.concat([field.inside, field.calibrator, field.outside][: 1 + known])
    with tempfile.TemporaryDirectory(dir=field.ms.parent) as scratch:
        start, cpu = time.perf_counter(), time.process_time()
        report = image_tile(field.ms, Path(scratch), "t", options, mask_sky=sky, provenance={})
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        figures: dict[str, Any] = {
            "known": KNOWN[known],
            "search": search,
            "noise_over_thermal": round(report.noise_jy_per_beam / report.thermal_jy_per_beam, 3),
            "bright_sources": report.bright_sources,
            "seconds": round(seconds, 1),
            "cpu_seconds": round(cpu_seconds, 1),
        }
        if find:
            found = find_sources(*(products.image_path(Path(scratch), "t", kind) for kind in ("image-pb", "noise")), sigma=FALSE_SIGMA)
            reliable = found[found["reliable"]]
            true = pd.concat([field.inside, field.outside, field.calibrator], ignore_index=True)
            pairs = crossmatch(reliable, true.assign(name=[f"S{i}" for i in range(len(true))]), report.beam.major_arcsec)
            figures |= {"detections_above_7_sigma": len(reliable), "false": len(reliable) - len(pairs)}
    return report, figures


def small() -> Setup:
    """A size for the test suite."""
    return replace(Setup.small(), n_sources=40)


def main() -> None:
    """Make the field and print the figures of each way to image it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=None, help="directory for the tile, kept")
    arguments = parser.parse_args()
    setup = Setup.full() if arguments.full else Setup.demo()
    with tempfile.TemporaryDirectory() as scratch:
        field = make_field(arguments.keep or Path(scratch), setup, arguments.seed)
        for known, search in ((0, False), (1, False), (0, True), (1, True), (2, False), (2, True)):
            print(json.dumps(image(field, setup, known=known, search=search)[1]), flush=True)


if __name__ == "__main__":
    main()
