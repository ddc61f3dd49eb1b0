"""A simulated month of one strip, from raw visibilities to ranked candidates, compared with the truth.

    python -m benchmarks.month [--directory DIR] [--nights 30] [--tiles 1] [--most N]

Thirty nights one sidereal day apart, with one demonstration-sized observation each, go through the platform's own
stages: ingest, conversion, flagging, calibration, imaging, mosaic, forced photometry, and at the end light curves,
variability and candidates. Of 300 sources, 15 are variable and 3 have extreme scattering events. All nights are
calibrated with the first night's solutions, and the receivers' power drifts by 5 % (rms) from night to night, so the
light curves contain the drift and the ensemble has to find it. Nights that are already in ``DIR`` (build/month) are not
made again; ``--most N`` makes N more and stops. When all nights are made, it prints one JSON line: mean reduced
chi-square of constant sources, the events' ranks, false candidates, errors of the epochs' factors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.coordinates import SkyCoord
from sqlalchemy import select

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.bulk import read_frame
from dsa110_assets.registry.queries.measurements import photometry
from dsa110_assets.registry.queries.sources import source_table
from dsa110_assets.registry.queries.variability import candidates, variability
from dsa110_assets.registry.schema import LightCurvePoint, ProductVersion
from dsa110_assets.registry.server import stop_server
from dsa110_assets.simulation.night import SIDEREAL_DAY_S, DemoPlan, demo_plan, tile_starts_mjd
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.reference import write_reference_catalogs
from dsa110_assets.simulation.sky import Constant, ScatteringEvent, Sinusoid, Sky, draw_fluxes, iau_name
from dsa110_assets.simulation.tile import simulate_tile
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import calibrator, hour, night, references, tile
from dsa110_assets.stages.queue import intake
from dsa110_assets.stages.queue.work import TileRun, TileWork
from dsa110_assets.times import hour_partition, mjd_to_datetime

N_SOURCES, N_VARIABLE, N_EVENTS = 300, 15, 3
GAIN_RMS = 0.05
FAINTEST_JY, BRIGHTEST_JY = 0.012, 1.5
FIELD_RADIUS_DEG = 1.9
FIRST_TILE = 9
"""First tile of the demonstration's night to use.

It is 40 minutes after the calibrator's transit in tile 1, so that 0834+555 is far outside the field.
"""
EVENTS = ((0.5, 8.0, 9.0), (0.4, 12.0, 16.0), (0.6, 18.0, 25.0))
"""Depth, first and last night of each event."""


@dataclass(frozen=True)
class Month:
    """The simulated month.

    ``sky``: the calibrator, then the events' sources, the variables and the constant sources. ``start_mjd``: first tile
    of each night. ``gain``: power of each night. ``event``, ``variable``: names of sources.
    """

    sky: Sky
    plan: DemoPlan
    start_mjd: tuple[float, ...]
    gain: np.ndarray
    event: tuple[str, ...]
    variable: tuple[str, ...]


def plan_month(n_nights: int, n_tiles: int, seed: int = 5) -> Month:
    """Draw the sky, the variations and the drifts."""
    plan = demo_plan(n_tiles=FIRST_TILE + n_tiles)
    rng = np.random.default_rng(seed)
    first = tile_starts_mjd(plan.nights[0].start_mjd, FIRST_TILE + 1)[FIRST_TILE]
    starts = tuple(first + k * SIDEREAL_DAY_S / 86400 for k in range(n_nights))
    centre = SkyCoord(pointing_ra_deg(first + n_tiles * 309.2376 / 86400 / 2), plan.declination_deg, unit="deg")
    ra: list[float] = []
    dec: list[float] = []
    while len(ra) < N_SOURCES:
        one = centre.directional_offset_by(rng.uniform(0, 360) * _DEG, FIELD_RADIUS_DEG * np.sqrt(rng.uniform()) * _DEG)
        if not ra or one.separation(SkyCoord(ra, dec, unit="deg")).min().arcmin > 3.0:
            ra.append(float(one.ra.deg))
            dec.append(float(one.dec.deg))
    flux = draw_fluxes(rng, N_SOURCES, FAINTEST_JY, BRIGHTEST_JY)
    flux[:N_EVENTS] = np.maximum(flux[:N_EVENTS], 0.08)  # S/N above 40 at the center, so that the events reach 5 sigma
    curves = [
        *(ScatteringEvent(first + a - 0.5, first + b - 0.5, depth=d, spike=0.2, flank_days=0.1) for d, a, b in EVENTS),
        *(Sinusoid(rng.uniform(0.1, 0.3), rng.uniform(3.0, 20.0), first + rng.uniform(0, 20)) for _ in range(N_VARIABLE)),
        *(Constant() for _ in range(N_SOURCES - N_EVENTS - N_VARIABLE)),
    ]
    bright = plan.sky.select(np.array([0]))
    names = [iau_name(r, d) for r, d in zip(ra, dec, strict=True)]
    sky = Sky(
        (plan.calibrator, *names),
        np.concatenate([bright.ra_deg, ra]),
        np.concatenate([bright.dec_deg, dec]),
        np.concatenate([bright.flux_jy, flux]),
        np.concatenate([bright.spectral_index, np.full(N_SOURCES, -0.7)]),
        (Constant(), *curves),
    )
    gain = np.exp(GAIN_RMS * rng.standard_normal(n_nights))
    gain[0] = 1.0
    return Month(sky, plan, starts, gain, tuple(names[:N_EVENTS]), tuple(names[N_EVENTS : N_EVENTS + N_VARIABLE]))


def pointing_ra_deg(time_mjd: float) -> float:
    """ICRS right ascension on the meridian, to a few arcminutes."""
    from dsa110_assets.simulation.directions import local_sidereal_time_deg

    return local_sidereal_time_deg(time_mjd) - 0.34


def configuration(root: Path) -> PipelineConfig:
    """Settings with the demonstration's sizes and one calibration for the whole month."""
    for name in ("incoming", "reference"):
        (root / name).mkdir(parents=True, exist_ok=True)
    return PipelineConfig(
        _env_file=None,  # pyright: ignore[reportCallIssue]
        input_dir=root / "incoming",
        output_dir=root / "ms",
        scratch_dir=root / "products",
        state_dir=root / "state",
        vla_calibrators_file=root / "reference/vla_calibrators.txt",
        nvss_file=root / "reference/nvss.parquet",
        monitored_sources_file=root / "reference/monitored.csv",
        image_size=2160,
        cell_arcsec=7.0,
        auto_threshold_sigma=3.0,
        correct_smearing=False,
        cal_borrow_days=60,
        scan_interval_s=0.01,
        threads_per_worker=1,
    )


def observe(platform: Platform, month: Month, number: int, n_tiles: int) -> float:
    """Make one night from raw files to photometry and return the seconds that it took."""
    began = time.perf_counter()
    receivers = Receivers(seed=month.plan.seed, median_amplitude=0.068 * float(np.sqrt(month.gain[number])))
    starts = [month.start_mjd[number] + i * 309.2376 / 86400 for i in range(n_tiles)]
    if number == 0:
        starts.insert(0, tile_starts_mjd(month.plan.nights[0].start_mjd, 2)[month.plan.calibrator_tile])
    for i, start in enumerate(starts):
        simulate_tile(
            platform.config.input_dir,
            start_mjd=start,
            declination_deg=month.plan.declination_deg,
            sky=month.sky,
            array=month.plan.array,
            band=month.plan.band,
            seed=1000 * number + i,
            receivers=receivers,
        )
    hours: set[tuple[str, str]] = set()
    works: dict[str, TileWork] = {}
    for _ in range(60):  # ingest takes a file only some time after it was closed
        works |= {work.group_id: work for work in intake.tick(platform, most=len(starts)).works}
        if len(works) == len(starts):
            break
        time.sleep(0.5)
    assert len(works) == len(starts), "an observation was not accepted"
    for group_id in sorted(works):
        tile.make_measurement_set(platform, TileRun(group_id, f"ms {group_id}", works[group_id].attempt, final=True))
        if number == 0 and group_id == min(works):
            calibrator.solve_night(platform, group_id[:10], "month")
        tile.calibrate(platform, TileRun(group_id, f"cal {group_id}", None, final=True))
        if number > 0 or group_id != min(works):
            tile.make_image(platform, TileRun(group_id, f"image {group_id}", None, final=True))
            hours.add(hour_partition(group_id))
    for one_night, one_hour in sorted(hours):
        hour.make_mosaic(platform, one_night, one_hour, "month")
        hour.measure(platform, one_night, one_hour, "month")
    for group_id in works:  # free the disk of the night's Measurement Sets
        for path in (platform.paths.measurement_set(group_id), platform.paths.calibrated_ms(group_id)):
            shutil.rmtree(path, ignore_errors=True)
    for path in platform.config.input_dir.iterdir():
        path.unlink()
    return time.perf_counter() - began


def nights_done(platform: Platform, month: Month) -> int:
    """Number of nights whose photometry is registered."""
    with platform.database.session() as session:
        keys = set(session.scalars(select(ProductVersion.key).where(ProductVersion.product == "forced_photometry")))
    seen = {key[:10] for key in keys}
    return sum(mjd_to_datetime(start + 1e-9).strftime("%Y-%m-%d") in seen for start in month.start_mjd)


def judge(platform: Platform, month: Month) -> dict[str, object]:
    """Make light curves, variability and candidates, and compare them with the simulated truth."""
    last = (mjd_to_datetime(month.start_mjd[-1]) + timedelta(hours=1)).strftime("%Y-%m-%d")
    night.update_light_curves(platform, last, "month")
    night.update_metrics(platform, last, "month")
    night.rank_candidates(platform, last, "month")
    with platform.database.session() as session:
        figures, found = variability(session, last), candidates(session, last)
        points = read_frame(session, select(LightCurvePoint.mosaic_name, LightCurvePoint.time_mjd, LightCurvePoint.normalisation))
        fluxes, names = photometry(session), source_table(session, active_only=False)
    return compare_with_truth(month, figures, found, points, fluxes.merge(names[["source_id", "name"]], on="source_id"))


def compare_with_truth(
    month: Month, figures: pd.DataFrame, found: pd.DataFrame, points: pd.DataFrame, fluxes: pd.DataFrame
) -> dict[str, object]:
    """Figures of the month's promises."""
    position = SkyCoord(month.sky.ra_deg, month.sky.dec_deg, unit="deg")
    true = np.asarray(month.sky.names)[SkyCoord(figures["ra_deg"], figures["dec_deg"], unit="deg").match_to_catalog_sky(position)[0]]
    table = figures.assign(true_name=true).set_index("true_name")
    constant = table.drop(index=[*month.event, *month.variable, month.plan.calibrator], errors="ignore")
    constant = constant[constant["n_epochs"] > 1]
    snr = fluxes.groupby("source_id", observed=True)["snr"].mean().reindex(constant["source_id"]).to_numpy()
    epochs = points.groupby("mosaic_name", observed=True)[["time_mjd", "normalisation"]].first()
    nearest = np.abs(epochs["time_mjd"].to_numpy()[:, None] - np.array(month.start_mjd)[None, :]).argmin(axis=1)
    ratio = np.log(epochs["normalisation"].to_numpy() / month.gain[nearest])
    ranked = table.sort_values("ese_score", ascending=False)
    listed = set(ranked.index[ranked["source_id"].isin(found["source_id"])])
    rank = {name: int(np.flatnonzero(ranked.index == name)[0]) + 1 for name in month.event}
    return {
        "nights": len(month.start_mjd),
        "epochs": len(epochs),
        "sources_with_light_curves": len(table),
        "constant_sources": len(constant),
        "reduced_chi2_of_constants_mean": round(float(constant["eta"].mean()), 3),
        "reduced_chi2_of_constants_median": round(float(constant["eta"].median()), 3),
        "reduced_chi2_by_snr": {
            f"{low:g}-{high:g}": [int(inside.sum()), round(float(constant["eta"][inside].mean()), 3)]
            for low, high in ((0, 5), (5, 20), (20, 100), (100, 10_000))
            if (inside := (snr >= low) & (snr < high)).any()
        },
        "gain_rms": round(float(np.std(np.log(month.gain))), 4),
        "factor_error_rms": round(float(np.std(ratio)), 5),
        "event_scores": {name: round(float(table.loc[name, "ese_score"]), 1) for name in month.event},
        "event_ranks": rank,
        "candidates": len(found),
        "candidates_that_are_variables": len(listed & set(month.variable)),
        "false_candidates": len(listed - set(month.event) - set(month.variable)),
        "variables_by_chi2": int((table.reindex(list(month.variable))["chi2_probability"] < 5.7e-7).sum()),
        "constants_by_chi2": int((constant["chi2_probability"] < 5.7e-7).sum()),
    }


_DEG = SkyCoord(0, 0, unit="deg").ra.unit


def main() -> None:
    """Make the missing nights, then compare with the truth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path("build/month"))
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--tiles", type=int, default=1, help="observations per night")
    parser.add_argument("--truth", type=Path, help="write the fluxes of the first night to this CSV file and stop")
    parser.add_argument("--most", type=int, default=None, help="make at most this many nights now")
    arguments = parser.parse_args()
    month = plan_month(arguments.nights, arguments.tiles)
    if arguments.truth is not None:
        fluxes = month.sky.flux_at(month.start_mjd[0], 1.4e9)
        truth = pd.DataFrame({"name": month.sky.names, "ra_deg": month.sky.ra_deg, "dec_deg": month.sky.dec_deg, "flux_jy": fluxes})
        truth.to_csv(arguments.truth, index=False)
        return
    root: Path = arguments.directory.absolute()
    config = configuration(root)
    write_reference_catalogs(month.sky, root / "reference", calibrators=(month.plan.calibrator,), monitored=())
    platform = Platform.open(config)
    try:
        done = nights_done(platform, month)
        if done == 0:
            for refresh in (references.refresh_calibrators, references.refresh_nvss, references.refresh_monitored):
                refresh(platform, "month")
        end = arguments.nights if arguments.most is None else min(arguments.nights, done + arguments.most)
        for number in range(done, end):
            print(json.dumps({"night": number, "seconds": round(observe(platform, month, number, arguments.tiles), 1)}), flush=True)
        if end == arguments.nights:
            print(json.dumps(judge(platform, month)))
    finally:
        platform.database.dispose()
        stop_server(config)


if __name__ == "__main__":
    main()
