"""Time, memory and accuracy of imaging one tile, and of WSClean on the same Measurement Set if it is installed.

    python benchmarks/image_full_tile.py [--demo] [--steady] [--sources 300] [--engine wgridder --engine wsclean]
        [--keep DIR]

A tile is simulated with perfect receivers, converted, and averaged to the platform's channels for imaging. Only the
imaging is measured, each engine in its own process. ``--demo`` takes the demo size (24 antennas, 2700 pixels of 6
arcsec) instead of the full one (96 antennas, 4096 pixels of 3 arcsec). ``--steady`` replaces the visibilities with
those of dishes that track the field's center, so that each source's apparent flux is constant. Other imagers assume
this, so results can then be compared number by number. ``--keep`` keeps the Measurement Set for the next run. Prints
one JSON line for each engine, then one that compares each further engine with the first.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

START_MJD = 61_107.2
DECLINATION_DEG = 54.6
STEADY_INDEX = 0.2
SEFD_JY = 6500.0


def make_tile(directory: Path, *, demo: bool, n_sources: int) -> tuple[Path, Path]:
    """Calibrated Measurement Set and true catalog of a simulated tile."""
    from dsa110_assets.conversion import convert_observation
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
        convert_observation(numbers, Path(scratch) / "raw.ms", flag_rfi=False)
        average(Path(scratch) / "raw.ms", out, 1 if demo else 4)
    return out, catalog


def average(ms: Path, out: Path, factor: int) -> None:
    """Write cross-correlations with averaged channels in the layout of calibrated data.

    Weights follow the radiometer equation; baselines are for ICRS directions.
    """
    from casacore.tables import table

    from dsa110_assets.calibration.layout import create_like, set_channels
    from dsa110_assets.common.measurement_sets import read_apparent_scale

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
            new.putcolkeyword("FLAG_CATEGORY", "CATEGORY", ["none"])  # WSClean requires it
            new.putkeyword("DSA110_CALIBRATED", json.dumps({"caltables": [], "channels_averaged": factor}))
    set_channels(out, frequency.reshape(-1, factor).mean(axis=1), width.reshape(-1, factor).sum(axis=1))


def make_steady(ms: Path, directory: Path, n_sources: int = 100) -> tuple[Path, Path]:
    """Copy ``ms`` as if its dishes tracked: sources by a direct sum in double precision, with the noise of the weights.

    The sources have 5 to 100 mJy and lie within 0.7 deg. Their spectral index of 0.2 cancels the primary beam's
    spectrum to 1.3 %, so imagers without spectra can model them.
    """
    import numba
    from casacore.tables import table
    from scipy.special import j1

    out, catalog = directory / "steady.cal.ms", directory / "steady.parquet"
    if out.exists():
        return out, catalog
    rng = np.random.default_rng(2)
    shutil.copytree(ms, directory / "steady.part")
    with table(f"{ms}::FIELD", ack=False) as field:
        ra0, dec0 = field.getcell("PHASE_DIR", 0)[0]
    with table(f"{directory / 'steady.part'}::POINTING", ack=False, readonly=False) as pointing:
        direction = pointing.getcol("DIRECTION")
        direction[:] = ra0, dec0
        pointing.putcol("DIRECTION", direction)
    with table(f"{ms}::SPECTRAL_WINDOW", ack=False) as window:
        frequency = window.getcell("CHAN_FREQ", 0)
    radius, angle = np.radians(0.7) * np.sqrt(rng.uniform(size=n_sources)), rng.uniform(0, 2 * np.pi, n_sources)
    dec = np.arcsin(np.sin(dec0) * np.cos(radius) + np.cos(dec0) * np.sin(radius) * np.cos(angle))
    ra = ra0 + np.arctan2(np.sin(angle) * np.sin(radius) * np.cos(dec0), np.cos(radius) - np.sin(dec0) * np.sin(dec))
    flux = np.exp(rng.uniform(np.log(0.005), np.log(0.1), n_sources))
    pd.DataFrame({"ra_deg": np.degrees(ra) % 360, "dec_deg": np.degrees(dec), "flux_jy": flux}).to_parquet(catalog)
    lmn = np.stack(
        [
            np.cos(dec) * np.sin(ra - ra0),
            np.sin(dec) * np.cos(dec0) - np.cos(dec) * np.sin(dec0) * np.cos(ra - ra0),
            np.sin(dec) * np.sin(dec0) + np.cos(dec) * np.cos(dec0) * np.cos(ra - ra0) - 1,
        ],
        axis=1,
    )
    x = np.pi * 4.65 * np.sin(radius)[:, None] * frequency / 299_792_458.0
    amplitude = flux[:, None] * (2 * j1(x) / x) ** 2 * (frequency / 1.4e9) ** STEADY_INDEX

    @numba.njit(parallel=True)
    def predict(uvw, f_over_c, lmn, amplitude, vis):  # type: ignore[no-untyped-def]
        for row in numba.prange(uvw.shape[0]):
            for source in range(lmn.shape[0]):
                turns = uvw[row, 0] * lmn[source, 0] + uvw[row, 1] * lmn[source, 1] + uvw[row, 2] * lmn[source, 2]
                for channel in range(f_over_c.size):
                    phase = 2 * np.pi * turns * f_over_c[channel]
                    vis[row, channel] += amplitude[source, channel] * complex(np.cos(phase), np.sin(phase))

    with table(str(directory / "steady.part"), ack=False, readonly=False) as main:
        step = 27_360
        for start in range(0, main.nrows(), step):
            count = min(step, main.nrows() - start)
            weight = main.getcol("WEIGHT_SPECTRUM", start, count)
            vis = np.zeros(weight.shape[:2], dtype=np.complex128)
            predict(main.getcol("UVW", start, count), frequency / 299_792_458.0, lmn, amplitude, vis)
            sigma = np.where(weight > 0, 1 / np.sqrt(np.maximum(weight, 1e-20)), 0)
            noise = sigma * (rng.standard_normal(weight.shape) + 1j * rng.standard_normal(weight.shape))
            main.putcol("DATA", (vis[:, :, None] + noise).astype(np.complex64), start, count)
    (directory / "steady.part").rename(out)
    return out, catalog


def compare(first: Path, other: Path) -> dict[str, object]:
    """Fluxes, positions and residuals of the sources that both engines measured."""
    a, b = np.load(first), np.load(other)
    n = min(a["flux_ratio"].size, b["flux_ratio"].size)
    ratio = a["flux_ratio"][:n] / b["flux_ratio"][:n]
    bright = a["snr"][:n] > 100
    apart = np.hypot(a["east_arcsec"][:n] - b["east_arcsec"][:n], a["north_arcsec"][:n] - b["north_arcsec"][:n])
    return {
        "compared": f"{first.stem} with {other.stem}",
        "sources": n,
        "flux_ratio_median": round(float(np.median(ratio)), 5),
        "flux_ratio_scatter_above_100_sigma": round(float(np.std(ratio[bright])), 5),
        "noise_ratio": round(float(a["noise"] / b["noise"]), 4),
        "position_difference_median_beams": round(float(np.median(apart) / a["beam_arcsec"]), 4),
        "position_difference_largest_beams_above_100_sigma": round(float(apart[bright].max() / a["beam_arcsec"]), 4),
        "residual_peaks_sigma": [round(float(one["residual_peak"] / one["noise"]), 1) for one in (a, b)],
    }


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def measure(ms: Path, catalog: Path, engine: str, *, demo: bool, steady: bool) -> None:
    """Image in this process and print cost and accuracy."""
    from dsa110_assets.imaging import ImagingOptions, image_tile
    from dsa110_assets.quality.image import compare_with_catalog, read_tile

    sky = pd.read_parquet(catalog)
    size, cell = (2700, 6.0) if demo else (4096, 3.0)
    with tempfile.TemporaryDirectory(dir=ms.parent) as out:
        cpu, start = cpu_seconds(), time.perf_counter()
        options = ImagingOptions(engine=engine, image_size=size, cell_arcsec=cell)  # type: ignore[arg-type]
        if steady:
            options = replace(options, correct_smearing=False, spectral_index=STEADY_INDEX)
        report = image_tile(ms, Path(out), "tile", options, mask_sky=sky, provenance={})
        wall_s, cpu_s = time.perf_counter() - start, cpu_seconds() - cpu
        planes = read_tile(Path(out), "tile")
        found = compare_with_catalog(planes, sky, report.noise_jy_per_beam)
        inside = planes.primary_beam >= 0.2
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    np.savez(
        ms.parent / f"{engine}.npz",
        **{name: getattr(found, name) for name in ("flux_ratio", "snr", "east_arcsec", "north_arcsec")},
        noise=report.noise_jy_per_beam,
        beam_arcsec=report.beam.minor_arcsec,
        residual_peak=np.abs(planes.residual[inside]).max(),
    )
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
    parser.add_argument("--steady", action="store_true")
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--engine", action="append", choices=["wgridder", "wsclean", "wproject"])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--measure", nargs=3, metavar=("MS", "CATALOG", "ENGINE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        ms, catalog, engine = arguments.measure
        measure(Path(ms), Path(catalog), engine, demo=arguments.demo, steady=arguments.steady)
        return
    with tempfile.TemporaryDirectory() as scratch:
        directory = arguments.keep or Path(scratch)
        directory.mkdir(parents=True, exist_ok=True)
        ms, catalog = make_tile(directory, demo=arguments.demo, n_sources=arguments.sources)
        if arguments.steady:
            ms, catalog = make_steady(ms, directory)
        flags = [flag for flag, wanted in (("--demo", arguments.demo), ("--steady", arguments.steady)) if wanted]
        engines = arguments.engine or ["wgridder"]
        for engine in engines:
            command = [sys.executable, __file__, "--measure", str(ms), str(catalog), engine, *flags]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            print(done.stdout.strip().splitlines()[-1] if done.returncode == 0 else done.stderr[-2000:], flush=True)
        for other in engines[1:]:
            print(json.dumps(compare(directory / f"{engines[0]}.npz", directory / f"{other}.npz")))


if __name__ == "__main__":
    main()
