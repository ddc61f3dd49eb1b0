"""Time and memory of calibrating one full tile: 96 antennas, 768 channels, 24 integrations, 2 polarizations.

    python -m benchmarks.calibrate_full_tile [--directory DIR] [--sources 20] [--peer] [--keep] [--steps solve,apply]

Simulates a smeared tile with gains, converts it without flagging, and measures each step in a new process: solve
(budget 120 s), apply and average (budget 12 s, 2 GB), the optional phases of the tile, prediction of the model. With
``--peer`` also CASA's applycal and mstransform, and its tasks gaincal, bandpass, gaincal, on a copy. CPU seconds are
printed because wall-clock times vary on a shared machine. Takes about 12 GB of disk in DIR/calibrate-full-tile, removed
at the end unless ``--keep``; ``--steps`` repeats some steps on the kept files. Prints one JSON line for each step.
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
from pathlib import Path

import numpy as np
import pandas as pd

START_MJD = 61_107.2
DECLINATION_DEG = 54.6
BUDGET = {"solve": (120.0, None), "apply": (12.0, 2.0)}


def prepare(directory: Path, n_sources: int) -> None:
    """Make the raw files, the Measurement Set and the sky table."""
    from dsa110_assets.conversion import convert_observation
    from dsa110_assets.simulation.array import full_array
    from dsa110_assets.simulation.band import full_band
    from dsa110_assets.simulation.directions import local_sidereal_time_deg
    from dsa110_assets.simulation.receivers import Receivers
    from dsa110_assets.simulation.sky import draw_fluxes, point_sources
    from dsa110_assets.simulation.tile import simulate_tile

    rng = np.random.default_rng(1)
    centre_deg = local_sidereal_time_deg(START_MJD + 150 / 86_400)
    fluxes = np.concatenate([[8.8], draw_fluxes(rng, n_sources - 1, 0.1, 3.0)])
    offset_ra, offset_dec = rng.uniform(-2, 2, (2, n_sources)) * [[1], [0.7]]
    offset_ra[0], offset_dec[0] = 0.1, 0.3
    sky = point_sources(list((centre_deg + offset_ra) % 360), list(DECLINATION_DEG + offset_dec), list(fluxes))
    files = simulate_tile(
        directory / "raw",
        start_mjd=START_MJD,
        declination_deg=DECLINATION_DEG,
        sky=sky,
        seed=1,
        array=full_array(),
        band=full_band(),
        receivers=Receivers(seed=3),
        smearing=True,
    )
    convert_observation(dict(enumerate(files)), directory / "tile.ms", flag_rfi=False)
    shutil.rmtree(directory / "raw")
    columns = {
        "name": sky.names,
        "ra_deg": sky.ra_deg,
        "dec_deg": sky.dec_deg,
        "flux_jy": sky.flux_jy,
        "spectral_index": sky.spectral_index,
    }
    pd.DataFrame(columns).to_parquet(directory / "sky.parquet")


def step(name: str, directory: Path, n_sources: int) -> dict[str, object]:
    """Run one step in this process. The time starts after imports and compilation."""
    from dsa110_assets.calibration import _kernels  # noqa: F401
    from dsa110_assets.calibration.apply import apply_calibration
    from dsa110_assets.calibration.casa_child import run_tasks
    from dsa110_assets.calibration.model import predict_model
    from dsa110_assets.calibration.solve import solve

    sky = pd.read_parquet(directory / "sky.parquet") if name != "prepare" else pd.DataFrame()
    ms, tables = directory / "tile.ms", [directory / "tables" / name for name in ("bandpass.cal", "gain.cal")]
    start = time.perf_counter()
    figures: dict[str, object] = {}
    if name == "prepare":
        prepare(directory, n_sources)
    elif name == "solve":
        report = solve(ms, directory / "tables", sky=sky, calibrator=sky["name"].iloc[0])
        figures = {"accepted": report.accepted, "snr": {k: round(q.median_snr, 1) for k, q in report.quality.items()}}
    elif name == "apply":
        applied = apply_calibration(ms, tables, directory / "cal.ms")
        figures = {"channels_averaged": applied.channels_averaged, "smearing_loss": round(applied.smearing_loss, 5)}
    elif name == "tile_phase":
        from dsa110_assets.calibration.tile_phase import solve_tile_phases

        phases = solve_tile_phases(ms, tables, sky)
        figures = {"kept": phases.kept, "significance": round(phases.significance, 2), "rms_deg": round(phases.rms_deg, 2)}
    elif name == "casa_solve":
        copy = directory / "copy.ms"
        if not copy.exists():
            shutil.copytree(ms, copy)
        predict_model(copy, sky)
        start = time.perf_counter()
        common = {"vis": str(copy), "refant": "103", "solint": "inf", "uvrange": "", "minsnr": 3.0}
        work = [str(directory / f"casa.{letter}") for letter in "pbg"]
        run_tasks(
            [
                ("gaincal", {**common, "caltable": work[0], "spw": "0:307~459", "calmode": "p", "gaintype": "G"}),
                ("bandpass", {**common, "caltable": work[1], "gaintable": work[:1], "solnorm": True}),
                ("gaincal", {**common, "caltable": work[2], "gaintable": work[1:2], "calmode": "ap", "gaintype": "G"}),
            ],
            work_dir=directory,
            timeout_s=1800,
        )
    elif name == "predict":
        figures = {"sources": predict_model(directory / "cal.ms", sky).n_sources}
    elif name == "flux":
        figures = flux_ratio(directory / "cal.ms")
    else:
        factor = json.loads((directory / "apply.json").read_text())["channels_averaged"]
        copy = directory / "copy.ms"
        if not copy.exists():
            shutil.copytree(ms, copy)
        start = time.perf_counter()
        options = {"gaintable": [str(t) for t in tables], "calwt": [False], "flagbackup": False}
        average = {"outputvis": str(directory / "casa.ms"), "datacolumn": "corrected", "chanaverage": factor > 1, "chanbin": factor}
        run_tasks(
            [("applycal", {"vis": str(copy), **options}), ("mstransform", {"vis": str(copy), **average})],
            work_dir=directory,
            timeout_s=1800,
        )
    return {"step": name, "wall_s": round(time.perf_counter() - start, 1), **figures}


def flux_ratio(ms: Path) -> dict[str, object]:
    """Calibrated over predicted flux, weighted."""
    from casacore.tables import table

    with table(str(ms), ack=False) as main:
        top = bottom = 0.0
        for first in range(0, main.nrows(), 4560):
            data, model, flag = (main.getcol(c, first, 4560) for c in ("DATA", "MODEL_DATA", "FLAG"))
            top += float((~flag * (data * model.conj()).real).sum(dtype=np.float64))
            bottom += float((~flag * np.abs(model) ** 2).sum(dtype=np.float64))
    return {"flux_ratio": round(top / bottom, 5)}


def main() -> None:
    """Run every step in its own process and print its cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--sources", type=int, default=20)
    parser.add_argument("--peer", action="store_true", help="also run CASA's applycal and mstransform")
    parser.add_argument("--keep", action="store_true", help="keep the files for another run with --steps")
    parser.add_argument("--steps", help="only these steps, comma-separated, on the files of --keep")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        figures = step(arguments.step, arguments.directory, arguments.sources)
        own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        figures |= {
            "cpu_s": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 1),
            "peak_rss_gb": round(own.ru_maxrss / 1e6, 2),
            "child_peak_rss_gb": round(children.ru_maxrss / 1e6, 2),
            "budget_s_gb": BUDGET.get(arguments.step),
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        }
        (arguments.directory / f"{arguments.step}.json").write_text(json.dumps(figures, default=lambda value: value.item()))
        print(json.dumps(figures, default=lambda value: value.item()), flush=True)
        return
    directory = arguments.directory / "calibrate-full-tile"
    directory.mkdir(exist_ok=True)
    own = ["prepare", "solve", "apply", "predict", "flux", "tile_phase"]
    steps = arguments.steps.split(",") if arguments.steps else [*own, *(["casa", "casa_solve"] if arguments.peer else [])]
    try:
        for name in steps:
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.calibrate_full_tile",
                    "--directory",
                    str(directory),
                    "--step",
                    name,
                    "--sources",
                    str(arguments.sources),
                ],
                check=True,
            )
    finally:
        if not arguments.keep:
            shutil.rmtree(directory)


if __name__ == "__main__":
    main()
