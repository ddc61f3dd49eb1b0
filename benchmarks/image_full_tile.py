"""Time, memory and accuracy of imaging one tile, beside WSClean on the same Measurement Set where it is installed.

    python benchmarks/image_full_tile.py [--demo] [--sources 300] [--engine wgridder --engine wsclean] [--keep DIR]

A tile is simulated with perfect receivers, converted, averaged to the platform's channels for imaging; only the imaging is measured, each engine in
a process of its own. ``--demo`` takes the demo size (24 antennas, 2700 pixels of 6 arcsec) instead of the full one (96 antennas, 4096 pixels of
3 arcsec). With ``--keep`` the Measurement Set stays and is used again. Prints one JSON line for each engine.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

START_MJD = 61_107.2
DECLINATION_DEG = 54.6
SEFD_JY = 6500.0


def make_tile(directory: Path, *, demo: bool, n_sources: int) -> tuple[Path, Path]:
    """Calibrated Measurement Set and true catalogue of a simulated tile."""
    from dsa110_assets.conversion import convert_group
    from dsa110_assets.simulation.array import demo_array, full_array
    from dsa110_assets.simulation.band import demo_band, full_band
    from dsa110_assets.simulation.directions import local_sidereal_time_deg
    from dsa110_assets.simulation.receivers import Receivers
    from dsa110_assets.simulation.sky import draw_fluxes, point_sources
    from dsa110_assets.simulation.tile import simulate_tile

    out, catalog = directory / "tile.cal.ms", directory / "sky.parquet"
    if out.exists():
        return out, catalog
    rng = np.random.default_rng(1)
    centre_deg = local_sidereal_time_deg(START_MJD + 155 / 86_400)
    radius, angle = 2.6 * np.sqrt(rng.uniform(size=n_sources)), rng.uniform(0, 2 * np.pi, n_sources)
    dec = DECLINATION_DEG + radius * np.cos(angle)
    ra = (centre_deg + radius * np.sin(angle) / np.cos(np.radians(dec))) % 360
    flux = draw_fluxes(rng, n_sources, 0.02, 6.0)
    pd.DataFrame({"ra_deg": ra, "dec_deg": dec, "flux_jy": flux}).to_parquet(catalog)
    array, band = (demo_array(), demo_band()) if demo else (full_array(), full_band())
    with tempfile.TemporaryDirectory(dir=directory) as scratch:
        files = simulate_tile(
            Path(scratch) / "raw",
            start_mjd=START_MJD,
            declination_deg=DECLINATION_DEG,
            sky=point_sources(list(ra), list(dec), list(flux)),
            array=array,
            band=band,
            seed=1,
            receivers=Receivers.perfect(),
            sefd_jy=SEFD_JY,
            smearing=True,
        )
        numbers = {int(path.name.split("_sb")[1][:2]): path for path in files}
        convert_group(numbers, Path(scratch) / "raw.ms", flag_rfi=False)
        average(Path(scratch) / "raw.ms", out, 1 if demo else 4)
    return out, catalog


def average(ms: Path, out: Path, factor: int) -> None:
    """Cross-correlations with averaged channels, weights of the radiometer equation and baselines for ICRS directions, in the layout of calibrated data."""
    from casacore.tables import table

    from dsa110_assets.calibration.layout import create_like, set_channels
    from dsa110_assets.geometry import read_apparent_scale

    with table(f"{ms}::SPECTRAL_WINDOW", ack=False) as window:
        frequency, width = window.getcell("CHAN_FREQ", 0), window.getcell("CHAN_WIDTH", 0)
    n_out = frequency.size // factor
    with table(str(ms), ack=False) as main:
        cross = main.getcol("ANTENNA1") != main.getcol("ANTENNA2")
        create_like(main, out, n_rows=int(cross.sum()), n_channels=n_out)
        scale = read_apparent_scale(main)
        weight = 2 * width[0] * factor * 12.884901888 / SEFD_JY**2
        filled, step = 0, 4656
        with table(str(out), readonly=False, ack=False) as new:
            for start in range(0, main.nrows(), step):
                rows = cross[start : start + step]
                count = int(rows.sum())
                data = main.getcol("DATA", start, rows.size)[rows].reshape(count, n_out, factor, 2)
                flag = main.getcol("FLAG", start, rows.size)[rows].reshape(count, n_out, factor, 2)
                good = (~flag).mean(axis=2)
                new.putcol("DATA", (np.where(flag, 0, data).sum(axis=2) / np.maximum(factor * good, 1)).astype(np.complex64), filled, count)
                new.putcol("FLAG", good == 0, filled, count)
                new.putcol("WEIGHT_SPECTRUM", (weight * good).astype(np.float32), filled, count)
                new.putcol("UVW", scale * main.getcol("UVW", start, rows.size)[rows], filled, count)
                for column in (
                    "TIME",
                    "TIME_CENTROID",
                    "INTERVAL",
                    "EXPOSURE",
                    "ANTENNA1",
                    "ANTENNA2",
                    "FLAG_ROW",
                    "WEIGHT",
                    "SIGMA",
                ):
                    values = main.getcol(column, start, rows.size)[rows]
                    new.putcol(column, values * read_apparent_scale(main) if column == "UVW" else values, filled, count)
                filled += count
            for column in ("FIELD_ID", "DATA_DESC_ID", "ARRAY_ID", "OBSERVATION_ID", "FEED1", "FEED2", "PROCESSOR_ID", "SCAN_NUMBER"):
                new.putcol(column, np.zeros(filled, dtype=np.int32))
            new.putcol("STATE_ID", np.full(filled, -1, dtype=np.int32))
            new.putcolkeyword("FLAG_CATEGORY", "CATEGORY", ["none"])  # WSClean insists on it
            new.putkeyword("DSA110_CALIBRATED", json.dumps({"caltables": [], "channels_averaged": factor}))
    set_channels(out, frequency.reshape(-1, factor).mean(axis=1), width.reshape(-1, factor).sum(axis=1))


def cpu_seconds() -> float:
    """Of this process and its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(ms: Path, catalog: Path, engine: str, *, demo: bool) -> None:
    """Image in this process and print what it cost and how good it is."""
    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.quality.image import compare_with_catalog, read_tile

    sky = pd.read_parquet(catalog)
    size, cell = (2700, 6.0) if demo else (4096, 3.0)
    with tempfile.TemporaryDirectory(dir=ms.parent) as out:
        cpu, start = cpu_seconds(), time.perf_counter()
        report = image_tile(
            ms, Path(out), "tile", ImagingOptions(engine=engine, image_size=size, cell_arcsec=cell), mask_sky=sky, provenance={}
        )  # type: ignore[arg-type]
        wall_s, cpu_s = time.perf_counter() - start, cpu_seconds() - cpu
        planes = read_tile(Path(out), "tile")
        found = compare_with_catalog(planes, sky, report.noise_jy_per_beam)
        inside = planes.primary_beam >= 0.2
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    weight = np.minimum(found.snr, 500) ** 2
    edge = found.primary_beam < 0.4
    print(
        json.dumps(
            {
                "engine": engine,
                "visibilities": report.visibilities,
                "pixels": size,
                "wall_s": round(wall_s, 1),
                "cpu_s": round(cpu_s, 1),
                "peak_rss_gb": round(peak / 1e6, 2),
                "seconds": report.seconds,
                "major_cycles": report.major_cycles,
                "bright_sources": report.bright_sources,
                "converged": report.converged,
                "beam_arcsec": [round(report.beam.major_arcsec, 2), round(report.beam.minor_arcsec, 2)],
                "noise_mjy": round(report.noise_jy_per_beam * 1e3, 4),
                "noise_over_thermal": round(report.noise_jy_per_beam / report.thermal_jy_per_beam, 3),
                "dynamic_range": round(report.dynamic_range),
                "sources_measured": int(found.snr.size),
                "flux_bias": round(float(np.average(found.flux_ratio, weights=weight) - 1), 5),
                "flux_bias_edge": round(float(np.average(found.flux_ratio[edge], weights=weight[edge]) - 1), 5) if edge.any() else None,
                "flux_scatter": round(float(np.std(found.flux_ratio)), 4),
                "pull_width": round(float(np.std((found.flux_ratio - 1) * found.snr)), 2),
                "position_median_arcsec": round(float(np.median(np.hypot(found.east_arcsec, found.north_arcsec))), 3),
                "position_bias_arcsec": [round(float(np.median(found.east_arcsec)), 3), round(float(np.median(found.north_arcsec)), 3)],
                "residual_peak_sigma": round(float(np.abs(planes.residual[inside]).max()) / report.noise_jy_per_beam, 1),
                "residual_std_over_mad": round(float(planes.residual[inside].std()) / report.noise_jy_per_beam, 3),
                "cores": os.cpu_count(),
                "load_after": round(os.getloadavg()[0], 1),
            }
        )
    )


def main() -> None:
    """Make the tile, then image it with each engine in a child process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--demo", action="store_true")
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--engine", action="append", choices=["wgridder", "wsclean", "wproject"])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--measure", nargs=3, metavar=("MS", "CATALOG", "ENGINE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        ms, catalog, engine = arguments.measure
        measure(Path(ms), Path(catalog), engine, demo=arguments.demo)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        ms, catalog = make_tile(directory, demo=arguments.demo, n_sources=arguments.sources)
        for engine in arguments.engine or ["wgridder"]:
            command = [sys.executable, __file__, "--measure", str(ms), str(catalog), engine, *(["--demo"] if arguments.demo else [])]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(done.stdout.strip().splitlines()[-1] if done.returncode == 0 else done.stderr[-2000:], flush=True)


if __name__ == "__main__":
    main()
