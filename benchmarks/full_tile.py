"""Time and peak memory of each stage for one full-size tile, from raw files to photometry.

    python -m benchmarks.full_tile [--directory DIR] [--min-jy MIN_JY] [--keep]

96 antennas, 16 x 48 channels, 24 integrations, 2 polarizations: 2.3 GB of raw files and about 10 GB of disk in all,
removed at the end unless ``--keep``. The times include the embedded database, ingest, registration and checksums, as in
production, but not Dagster's own overhead.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.server import stop_server
from dsa110_assets.simulation.array import full_array
from dsa110_assets.simulation.band import full_band
from dsa110_assets.simulation.night import demo_plan
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.tile import simulate_tile
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import calibrator, hour, references, tile
from dsa110_assets.stages.provenance.recording import StageResult, measured
from dsa110_assets.stages.queue import intake
from dsa110_assets.stages.queue.work import TileRun

BUDGET_S = {"measurement_set": 40, "calibration_tables": 60, "calibrated_ms": 12, "tile_image": 90, "forced_photometry": 5}


def main() -> None:
    """Run all stages and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--min-jy", type=float, default=0.05)
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    root = arguments.directory or Path(tempfile.mkdtemp(prefix="full-tile-"))
    for name in ("incoming", "reference"):
        (root / name).mkdir(parents=True, exist_ok=True)
    config = PipelineConfig(
        _env_file=None,  # pyright: ignore[reportCallIssue]
        input_dir=root / "incoming",
        output_dir=root / "ms",
        scratch_dir=root / "products",
        state_dir=root / "state",
        vla_calibrators_file=root / "reference/vla_calibrators.txt",
        nvss_file=root / "reference/nvss.parquet",
        monitored_sources_file=root / "reference/monitored.csv",
        correct_smearing=False,
    )
    try:
        rows, truth = run(config, root, arguments.min_jy)
        show(rows, truth)
    finally:
        stop_server(config)
        if not arguments.keep:
            shutil.rmtree(root, ignore_errors=True)


def run(config: PipelineConfig, root: Path, min_jy: float) -> tuple[list[tuple[str, float, float, str]], str]:
    """Return (stage, seconds, peak MB, note) of each stage, and a line that compares fluxes with the truth."""
    plan = demo_plan(min_jy=min_jy)
    plan.write_references(root / "reference")
    rows: list[tuple[str, float, float, str]] = []
    with measured() as cost:
        simulate_tile(
            root / "incoming",
            start_mjd=plan.nights[0].start_mjd + plan.calibrator_tile * 309.2376 / 86400,
            declination_deg=plan.declination_deg,
            sky=plan.sky,
            array=full_array(),
            band=full_band(),
            seed=1,
            receivers=Receivers(seed=1),
        )
    size = sum(path.stat().st_size for path in (root / "incoming").iterdir()) / 1e9
    rows.append(("(simulation)", cost.duration_s, cost.peak_memory_mb, f"{size:.2f} GB, {len(plan.sky)} sources in the sky"))
    platform = Platform.open(config)
    for refresh in (references.refresh_calibrators, references.refresh_nvss, references.refresh_monitored):
        refresh(platform, "benchmark")
    with measured() as cost:
        (work,) = intake.tick(platform, most=1).works
    rows.append(("ingest", cost.duration_s, cost.peak_memory_mb, "sixteen files validated and booked, one lease"))
    results: list[StageResult] = []

    def add_row(result: StageResult | None, wall_s: float) -> None:
        assert result is not None
        results.append(result)
        overhead = wall_s - float(result.figures["duration_s"] or 0)
        rows.append(
            (
                result.product,
                float(result.figures["duration_s"] or 0),
                float(result.figures["peak_memory_mb"] or 0),
                f"+ {overhead:.1f} s registration, checksum, imports",
            )
        )

    def run_stage(function: object, *parameters: object) -> None:
        begin = time.perf_counter()
        add_row(function(*parameters), time.perf_counter() - begin)  # type: ignore[operator]

    night = work.night
    run_stage(tile.make_measurement_set, platform, TileRun(work.group_id, "benchmark-1", work.attempt, final=True))
    run_stage(calibrator.solve_night, platform, night, "benchmark")
    run_stage(tile.calibrate, platform, TileRun(work.group_id, "benchmark-2", None, final=True))
    run_stage(tile.make_image, platform, TileRun(work.group_id, "benchmark-3", None, final=True))
    run_stage(hour.make_mosaic, platform, night, "05", "benchmark")
    run_stage(hour.measure, platform, night, "05", "benchmark")
    image = next(r for r in results if r.product == "tile_image")
    photometry = results[-1]
    truth = (
        f"noise over thermal {image.figures['noise_over_thermal']}, dynamic range {image.figures['dynamic_range']:.0f}, "
        f"{photometry.figures['detected']} of {photometry.figures['positions']} positions detected, "
        f"median flux over true flux {photometry.figures['median_flux_ratio_to_catalog']:.4f}"
    )
    platform.database.dispose()
    return rows, truth


def show(rows: list[tuple[str, float, float, str]], truth: str) -> None:
    """Print the table."""
    table = Table(title=f"Full-size tile, {len(os.sched_getaffinity(0))} cores, load {np.mean(os.getloadavg()[:2]):.1f}")
    for name in ("stage", "s", "budget s", "peak MB", "note"):
        table.add_column(name)
    for stage, seconds, peak_mb, note in rows:
        table.add_row(stage, f"{seconds:.1f}", str(BUDGET_S.get(stage, "")), f"{peak_mb:.0f}", note)
    console = Console(width=140)
    console.print(table)
    console.print(truth)


if __name__ == "__main__":
    main()
