"""What each imperfection of telescope, sky and catalog does to fluxes, positions, noise and source lists.

    python -m benchmarks.sky [--effects EFFECT ...] [--declination 54.6] [--seed 1] [--full] [--results FILE]
        [--table FILE] [--no-tile-phases] [--selfcal ROUNDS] [--keep DIRECTORY]

For each effect of `simulation.imperfections` alone ("none", "all", and "wrong catalog", which are its variables, its
errors and what it lacks, are names, too): a calibrator's tile and two tiles
45 and 90 minutes later. The sky has a calibrator of 8.8 Jy, twelve sources of 50 to 400 mJy 12, 24 and 48 arcmin from
it, and sources above 25 mJy within 2.6 deg and above 0.3 Jy within 8 deg of each tile. 24 antennas (``--full``: 96),
smeared. Each tile goes through conversion, flagging, calibration, imaging, photometry and source finding with the
platform's defaults; only the image's pixels are larger (6 arcsec). The pipeline sees the raw files and the catalog; the
true sky is only compared. Pulls are of the sources that are points to the beam; what photometry of points
measures of the extended ones is listed apart, with pulls of the total flux and of the part that a point can measure.
"Noise only" are pulls with errors without `calibration_err_jy`. Noise is also measured more than 30 arcmin away from
sources above 1 Jy.
Prints one JSON line for each effect, appended to ``--results``, and the table of all
results. ``--table`` prints the table of a file of results and ends.

``--no-tile-phases`` switches off what the platform does against phases that change, ``--selfcal`` switches on what it
can do about the rest. ``--keep`` keeps the flagged Measurement Sets (0.2 GB for each effect): another run with the same
sky takes them from there.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.time import Time
from numpy.typing import NDArray

from dsa110_assets.calibration.apply import apply_calibration
from dsa110_assets.calibration.caltable import CalTable
from dsa110_assets.calibration.solve import solve
from dsa110_assets.calibration.tile_phase import solve_tile_phases
from dsa110_assets.catalogs.sky import cone, separation_deg
from dsa110_assets.common.cross_match import nearest
from dsa110_assets.common.directions import angular_separation_rad
from dsa110_assets.common.fits_planes import celestial_wcs, read_plane, sky_positions
from dsa110_assets.common.instrument import BEAM_CUTOFF, SKY_RADIUS_DEG
from dsa110_assets.common.restoring_beam import RestoringBeam, quadratic_form
from dsa110_assets.common.robust import robust_sigma
from dsa110_assets.conversion import convert_observation
from dsa110_assets.imaging import ImagingOptions, image_tile
from dsa110_assets.mosaicking.finding import find_sources
from dsa110_assets.photometry.images import measure_tile
from dsa110_assets.products import image_path
from dsa110_assets.quality.image import CatalogComparison, compare_with_catalog, judge_tile, read_tile
from dsa110_assets.simulation.array import demo_array, full_array
from dsa110_assets.simulation.band import demo_band, full_band
from dsa110_assets.simulation.directions import local_sidereal_time_deg
from dsa110_assets.simulation.imperfect_sky import cataloged, resolved, true_sky
from dsa110_assets.simulation.imperfections import REAL, Imperfections
from dsa110_assets.simulation.receivers import Receivers
from dsa110_assets.simulation.sky import CALIBRATOR_JY, CALIBRATOR_NAME, Sky, draw_fluxes, iau_name, sources_per_square_degree
from dsa110_assets.simulation.tile import simulate_tile

START_MJD = 61_107.2
LATER_S = (0.0, 2700.0, 5400.0)
RINGS_DEG = ((0.0, 0.5), (0.5, 1.0), (1.0, 1.5))
FROM_CALIBRATOR_DEG = ((0.1, 0.3), (0.3, 0.6), (0.6, 1.0))
SMALLEST_SEPARATION_ARCMIN = 3.0
GROWTH_SNR = ((8, 20), (20, 50), (50, 100), (100, np.inf))
BRIGHT_SNR, SEEN_SNR, FINDER_SNR = 20.0, 8.0, 7.0
POINT_SIGMA = 0.5
"""A source is a point if its size hides less than this many errors from photometry of points."""
BRIGHT_JY, AWAY_DEG = 1.0, 0.5
HALF_TILE_S = 12 * 12.884901888


@dataclass(frozen=True)
class Setup:
    """What is simulated: ``declination_deg``, ``seed`` of sky, noise and effects, and the size of the array."""

    declination_deg: float
    seed: int
    full: bool = False
    tile_phases: bool = True
    selfcal_rounds: int = 0
    keep: Path | None = None


def centers(setup: Setup) -> list[tuple[float, float]]:
    """ICRS right ascension and declination of the middle of each tile."""
    places = []
    for later_s in LATER_S:
        mjd = START_MJD + (later_s + HALF_TILE_S) / 86_400
        of_date = SkyCoord(local_sidereal_time_deg(mjd) * u.deg, setup.declination_deg * u.deg, frame=FK5(equinox=Time(mjd, format="mjd")))
        places.append((float(of_date.icrs.ra.deg), float(of_date.icrs.dec.deg)))  # type: ignore[union-attr]
    return places


def draw_sky(setup: Setup) -> Sky:
    """Sources with realistic counts around each tile.

    The first is the calibrator, 0.3 deg north of the first tile's center; around it lie sources along the array's arms
    and between them.
    """
    rng = np.random.default_rng([setup.seed, 110])
    tiles = centers(setup)
    ra, dec, flux = [tiles[0][0]], [tiles[0][1] + 0.3], [CALIBRATOR_JY]
    for number, (distance_deg, angle) in enumerate(itertools.product((0.2, 0.4, 0.8), np.radians((0, 45, 90, 135)))):
        dec.append(dec[0] + distance_deg * np.cos(angle))
        ra.append(ra[0] + distance_deg * np.sin(angle) / np.cos(np.radians(dec[-1])))
        flux.append((0.05, 0.1, 0.2, 0.4)[(number + number // 4) % 4])
    for ra0, dec0 in tiles:
        for inner_deg, outer_deg, low_jy, high_jy in ((0.0, 2.6, 0.025, 3.0), (2.6, 8.0, 0.3, 5.0)):
            area = np.pi * (outer_deg**2 - inner_deg**2)
            for one_jy in draw_fluxes(rng, rng.poisson(area * sources_per_square_degree(low_jy, high_jy)), low_jy, high_jy):
                for _ in range(1000):
                    radius, angle = np.sqrt(rng.uniform(inner_deg**2, outer_deg**2)), rng.uniform(0, 2 * np.pi)
                    one_dec = dec0 + radius * np.cos(angle)
                    one_ra = (ra0 + radius * np.sin(angle) / np.cos(np.radians(one_dec))) % 360
                    apart = angular_separation_rad(np.radians(ra), np.radians(dec), np.radians(one_ra), np.radians(one_dec))
                    if np.degrees(apart.min()) * 60 > SMALLEST_SEPARATION_ARCMIN:
                        break
                ra.append(one_ra)
                dec.append(one_dec)
                flux.append(float(one_jy))
    names = [iau_name(*place) for place in zip(ra, dec, strict=True)]
    names[0] = CALIBRATOR_NAME
    return Sky(tuple(names), np.array(ra), np.array(dec), np.array(flux), np.full(len(ra), -0.7))


def as_table(sky: Sky, flux_jy: NDArray[np.float64] | None = None) -> pd.DataFrame:
    """A sky as a catalog, without spectra, which catalogs do not have."""
    return pd.DataFrame(
        {
            "name": sky.names,
            "ra_deg": sky.ra_deg,
            "dec_deg": sky.dec_deg,
            "flux_jy": sky.flux_jy if flux_jy is None else flux_jy,
            "spectral_index": np.nan,
        }
    )


def effects_of(name: str, seed: int) -> Imperfections:
    """The imperfections of a row of the table."""
    real = replace(REAL, seed=seed)
    if name == "none":
        return Imperfections(seed=seed)
    if name == "all":
        return real
    if name == "wrong catalog":
        return real.only("variables", "catalog errors", "catalog lacks a fifth")
    return real.only(name)


@dataclass(frozen=True)
class TileResult:
    """One tile.

    ``sources``: one row for each true source that is measured. ``exact``: fits to the isolated ones above 20 sigma.
    ``detected``, ``false``: reliable rows of the blind search above 7 sigma, and those of them without a true source
    within a beam. ``noise_away_over_thermal``: more than `AWAY_DEG` from sources above `BRIGHT_JY`. ``failed_checks``:
    names of the platform's verdicts.
    """

    sources: pd.DataFrame
    exact: CatalogComparison
    noise_over_thermal: float
    noise_away_over_thermal: float
    detected: int
    false: int
    failed_checks: tuple[str, ...]


@contextmanager
def timed(clock: dict[str, float], step: str) -> Iterator[None]:
    """Add the duration of a block to a step."""
    start = time.perf_counter()
    yield
    clock[step] = clock.get(step, 0.0) + time.perf_counter() - start


def observe(effect: str, setup: Setup) -> dict[str, Any]:
    """Simulate three tiles with one effect, take them through the platform, and compare with the true sky."""
    effects = effects_of(effect, setup.seed)
    base = draw_sky(setup)
    sky, catalog = true_sky(base, effects), as_table(cataloged(base, effects))
    clock: dict[str, float] = {}
    results: list[TileResult] = []
    tables: list[Path] = []
    about: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(len(LATER_S)):
            here = Path(scratch) / str(number)
            raw = raw_tile(here, number, effect, (sky, effects), setup, clock)
            if number == 0:
                with timed(clock, "solve"):
                    report = solve(raw, Path(scratch) / "tables", sky=catalog, calibrator=CALIBRATOR_NAME)
                tables, about = report.tables, {"accepted": bool(report.accepted), "reasons": report.reasons}
            results.append(measure(raw, here, number, (sky, catalog), effects, tables, setup, clock))
            shutil.rmtree(here)
    return {
        "effect": effect,
        **asdict(replace(setup, keep=None)),
        **figures(results),
        **about,
        "seconds": {key: round(value) for key, value in clock.items()},
    }


def raw_tile(here: Path, number: int, effect: str, truth: tuple[Sky, Imperfections], setup: Setup, clock: dict[str, float]) -> Path:
    """Measurement Set of a simulated tile, flagged; from ``setup.keep`` if an earlier run kept it.

    ``truth``: sky and telescope.
    """
    sky, effects = truth
    here.mkdir()
    kept = None
    if setup.keep is not None:
        about = f"{effect} {setup.declination_deg:+.1f} {setup.seed} {'full ' if setup.full else ''}{number}.ms"
        kept = setup.keep / about.replace(" ", "-")
        if kept.exists():
            return kept
    with timed(clock, "simulate"):
        files = simulate_tile(
            here / "raw",
            start_mjd=START_MJD + LATER_S[number] / 86_400,
            declination_deg=setup.declination_deg,
            sky=sky,
            array=full_array() if setup.full else demo_array(),
            band=full_band() if setup.full else demo_band(),
            seed=setup.seed,
            receivers=Receivers(seed=setup.seed),
            smearing=True,
            imperfections=effects,
        )
    with timed(clock, "convert"):
        convert_observation({int(path.name.split("_sb")[1][:2]): path for path in files}, here / "raw.ms")
    if kept is None:
        return here / "raw.ms"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(here / "raw.ms", kept)
    return kept


def measure(
    raw: Path,
    here: Path,
    number: int,
    skies: tuple[Sky, pd.DataFrame],
    effects: Imperfections,
    tables: Sequence[Path],
    setup: Setup,
    clock: dict[str, float],
) -> TileResult:
    """Calibrate, image and measure one tile, and compare with the true sky. ``skies``: the true one and the catalog."""
    sky, catalog = skies
    applied: list[Path | CalTable] = list(tables)
    with timed(clock, "apply"):
        if setup.tile_phases and (phases := solve_tile_phases(raw, tables, catalog).solutions) is not None:
            applied.append(phases)
        apply_calibration(raw, applied, here / "cal.ms")
    ra0, dec0 = centers(setup)[number]
    near = cone(catalog, ra0, dec0, SKY_RADIUS_DEG)
    size, cell = (4096, 3.0) if setup.full else (2048, 6.0)
    options = ImagingOptions(image_size=size, cell_arcsec=cell, selfcal_rounds=setup.selfcal_rounds)
    with timed(clock, "image"):
        report = image_tile(here / "cal.ms", here, "t", options, mask_sky=near, provenance={})
    planes = read_tile(here, "t")
    mid_mjd = START_MJD + (LATER_S[number] + HALF_TILE_S) / 86_400
    truth = cone(as_table(sky, sky.flux_at(mid_mjd)), ra0, dec0, 2.0)
    truth["true_jy"] = truth["flux_jy"]
    with timed(clock, "measure"):
        measured = measure_tile(here, "t", truth)
        found = find_sources(image_path(here, "t", "image-pb"), image_path(here, "t", "noise"), sigma=FINDER_SNR)
    reach_deg = report.beam.major_deg
    parts = resolved(sky, effects)
    reliable = found[found["reliable"]]
    measured["from_center_deg"] = separation_deg(measured, ra0, dec0)
    measured["from_calibrator_deg"] = separation_deg(measured, float(sky.ra_deg[0]), float(sky.dec_deg[0])) if number == 0 else np.nan
    measured["pull"] = (measured["flux_jy"] - measured["true_jy"]) / measured["flux_err_jy"]
    noise_jy = np.sqrt(np.maximum(measured["flux_err_jy"] ** 2 - measured["calibration_err_jy"] ** 2, 0))
    measured["pull_by_noise"] = (measured["flux_jy"] - measured["true_jy"]) / noise_jy
    measured["growth"] = measured["flux_err_jy"] / noise_jy
    measured["true_snr"] = measured["true_jy"] / noise_jy
    measured["ratio"] = measured["flux_jy"] / measured["true_jy"]
    measured["catalog_jy"] = measured["name"].map(dict(zip(catalog["name"], catalog["flux_jy"], strict=True))).fillna(0.0)
    measured["point_share"] = measured["name"].map(shares_of_points(parts, sky, report.beam))
    measured["seen"] = within(measured, found, reach_deg)
    return TileResult(
        sources=measured[np.isfinite(measured["flux_jy"])],
        exact=compare_with_catalog(planes, truth, report.noise_jy_per_beam),
        noise_over_thermal=report.noise_jy_per_beam / report.thermal_jy_per_beam,
        noise_away_over_thermal=noise_away(here, truth[truth["true_jy"] > BRIGHT_JY]) / report.thermal_jy_per_beam,
        detected=len(reliable),
        false=int((~within(reliable, as_table(parts), reach_deg)).sum()),
        failed_checks=tuple(verdict.name for verdict in judge_tile(planes, near) if verdict.passed is False),
    )


def noise_away(directory: Path, bright: pd.DataFrame) -> float:
    """Scatter of a tile's residual inside the beam and away from bright sources, Jy/beam."""
    residual, header = read_plane(image_path(directory, "t", "residual"))
    pb, _ = read_plane(image_path(directory, "t", "pb"))
    rows, columns = (one.ravel() for one in np.mgrid[: residual.shape[0] : 2, : residual.shape[1] : 2])
    inside = pb[rows, columns] >= BEAM_CUTOFF
    rows, columns = rows[inside], columns[inside]
    away = np.ones(rows.size, dtype=bool)
    if len(bright):
        ra, dec = sky_positions(celestial_wcs(header), columns, rows)
        away = nearest(ra, dec, bright["ra_deg"], bright["dec_deg"])[1] > AWAY_DEG
    return robust_sigma(residual[rows[away], columns[away]])


def shares_of_points(parts: Sky, sky: Sky, beam: RestoringBeam) -> dict[str, float]:
    """What photometry of a point at a source's cataloged place measures of its flux; 1 for a point.

    A matched filter finds ``exp(-d C^-1 d / 4)`` of a component at an offset d, C being the beam's covariance.
    """
    number = {name: i for i, name in enumerate(sky.names)}
    of = np.array([number[name.split("#")[0]] for name in parts.names])
    east_deg = ((parts.ra_deg - sky.ra_deg[of] + 180) % 360 - 180) * np.cos(np.radians(parts.dec_deg))
    form = quadratic_form(np.linalg.inv(beam.covariance_deg2()), parts.dec_deg - sky.dec_deg[of], east_deg)
    share = np.bincount(of, parts.flux_jy / sky.flux_jy[of] * np.exp(-form / 4))
    return dict(zip(sky.names, share.tolist(), strict=False))


def within(table: pd.DataFrame, others: pd.DataFrame, radius_deg: float) -> NDArray[np.bool_]:
    """Whether each row has one of the others within a radius."""
    if table.empty or others.empty:
        return np.zeros(len(table), dtype=bool)
    return nearest(table["ra_deg"], table["dec_deg"], others["ra_deg"], others["dec_deg"])[1] <= radius_deg


def figures(tiles: Sequence[TileResult]) -> dict[str, Any]:
    """Figures of one row of the table."""
    sources = pd.concat([tile.sources.assign(tile=number) for number, tile in enumerate(tiles)])
    later = sources[sources["tile"] > 0]
    inside = sources[(sources["from_center_deg"] < RINGS_DEG[-1][1]) & (sources["true_snr"] > SEEN_SNR)]
    ours = inside[inside["name"] != CALIBRATOR_NAME]
    calibrator = sources[sources["name"] == CALIBRATOR_NAME]
    by_noise = {"flux_err_jy": lambda table: table["true_jy"] / table["true_snr"], "pull": lambda table: table["pull_by_noise"]}

    def bias(table: pd.DataFrame, column: str, ring: tuple[float, float]) -> list[float]:
        chosen = table[
            (table["true_snr"] > BRIGHT_SNR) & table[column].between(*ring, inclusive="left") & (table["name"] != CALIBRATOR_NAME)
        ]
        error = 1.2533 * chosen["ratio"].std() / np.sqrt(max(len(chosen), 1))
        return [round(100 * (float(chosen["ratio"].median()) - 1), 2), round(100 * float(error), 2), len(chosen)]

    shifts = {axis: np.concatenate([getattr(tile.exact, f"{axis}_arcsec") for tile in tiles[1:]]) for axis in ("east", "north")}
    errors = {axis: np.concatenate([getattr(tile.exact, f"{axis}_error_arcsec") for tile in tiles[1:]]) for axis in ("east", "north")}
    pulls = np.concatenate([shifts[axis] / errors[axis] for axis in shifts])
    is_point = (1 - ours["point_share"]) * ours["true_snr"] < POINT_SIGMA
    points, extended = ours[is_point], ours[~is_point]
    as_points = (extended["flux_jy"] - extended["point_share"] * extended["true_jy"]) / extended["flux_err_jy"]
    worst = points.iloc[int(np.argmax(np.abs(points["pull"].to_numpy())))]
    return {
        "sources": len(ours),
        "bias_percent": [bias(later, "from_center_deg", ring) for ring in RINGS_DEG],
        "bias_from_calibrator_percent": [bias(sources[sources["tile"] == 0], "from_calibrator_deg", ring) for ring in FROM_CALIBRATOR_DEG],
        "to_catalog_percent": {
            "calibrator's tile": towards_catalog(ours[ours["tile"] == 0].assign(**by_noise)),
            "later": towards_catalog(ours[ours["tile"] > 0].assign(**by_noise)),
        },
        "calibrator_percent": round(100 * (float(calibrator["ratio"].iloc[0]) - 1), 2) if len(calibrator) else None,
        "pull_width": round(float(points["pull"].std()), 2),
        "pull_width_robust": round(robust_sigma(points["pull"].to_numpy()), 2),
        "pull_width_by_noise": round(float(points["pull_by_noise"].std()), 2),
        "error_growth": [
            round(float(points.loc[points["true_snr"].between(*snr, inclusive="left"), "growth"].median()), 2) for snr in GROWTH_SNR
        ],
        "extended": [
            len(extended),
            *([round(float(p), 1) for p in (extended["pull"].min(), as_points.min(), as_points.max())] if len(extended) else []),
        ],
        "largest_pull": [round(float(worst["pull"]), 1), str(worst["name"]), round(float(worst["true_jy"]), 3), int(worst["tile"])],
        "noise_over_thermal": [round(tile.noise_over_thermal, 2) for tile in tiles],
        "noise_away_over_thermal": [round(tile.noise_away_over_thermal, 2) for tile in tiles],
        "false": [tile.false for tile in tiles],
        "detected": [tile.detected for tile in tiles],
        "lost": [int((~ours["seen"]).sum()), len(ours), int((~points["seen"]).sum())],
        "position_median_arcsec": [round(float(np.median(shifts[axis])), 2) for axis in shifts],
        "position_pull_width": round(float(pulls.std()), 2),
        "position_largest_arcsec": round(float(np.hypot(*shifts.values()).max()), 2),
        "failed_checks": [list(tile.failed_checks) for tile in tiles],
    }


def towards_catalog(sources: pd.DataFrame) -> list[float] | None:
    """Share of the catalog's errors that comes back as flux, in percent, and its error; None if the catalog is right.

    The slope of measured minus true on cataloged minus true flux, weighted; a source that the catalog lacks has 0 Jy
    in it.
    """
    wrong = (sources["catalog_jy"] - sources["true_jy"]) / sources["flux_err_jy"]
    square = float((wrong**2).sum())
    if square < 1.0:
        return None
    return [round(100 * float((wrong * sources["pull"]).sum()) / square, 2), round(100 / float(np.sqrt(square)), 2)]


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown table of results."""
    head = (
        "effect | bias by ring, % | by distance from the calibrator, % | pulled to the catalog, % (calibrator's tile; later) | pulls: width (robust; noise only) | largest pull | extended sources: number, lowest pull | noise / thermal | the same away from 1 Jy | "
        "false above 7 sigma | lost above 8 sigma | position: bias, largest, arcsec | pull width | refused by"
    )
    lines = [f"| {head} |", "|" + " --- |" * (head.count("|") + 1)]
    for row in rows:
        rings, near = (", ".join(f"{b:+.1f}" for b, *_ in row[key]) for key in ("bias_percent", "bias_from_calibrator_percent"))
        east, north = row["position_median_arcsec"]
        pulled = "; ".join("-" if one is None else f"{one[0]:+.1f} +- {one[1]:.1f}" for one in row["to_catalog_percent"].values())
        checks = sorted({check for tile in row["failed_checks"] for check in tile})
        lost_points = f", points {row['lost'][2]}" if len(row["lost"]) > 2 else ""
        lines.append(
            f"| {row['effect']} | {rings} | {near} | {pulled} | {row['pull_width']} ({row['pull_width_robust']}; {row['pull_width_by_noise']}) | {row['largest_pull'][0]:+.1f} | "
            f"{', '.join(f'{value:.0f}' for value in row['extended'][:2])} | "
            f"{', '.join(f'{value:.2f}' for value in row['noise_over_thermal'])} | "
            f"{', '.join(f'{value:.2f}' for value in row['noise_away_over_thermal'])} | {sum(row['false'])} of {sum(row['detected'])} | "
            f"{row['lost'][0]} of {row['lost'][1]}{lost_points} | {east:+.2f}, {north:+.2f}, {row['position_largest_arcsec']} | "
            f"{row['position_pull_width']} | {', '.join(checks) or '-'}{'' if row['accepted'] else '; tables'} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the effects and print their figures, and the table."""
    names = ["none", *Imperfections.EFFECTS, "wrong catalog", "all"]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--effects", nargs="+", choices=names, default=names)
    parser.add_argument("--declination", type=float, default=54.6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--tile-phases", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--selfcal", type=int, default=0)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", type=Path)
    arguments = parser.parse_args()
    if arguments.table:
        print(table([json.loads(line) for line in arguments.table.read_text().splitlines()]))
        return
    setup = Setup(arguments.declination, arguments.seed, arguments.full, arguments.tile_phases, arguments.selfcal, arguments.keep)
    rows = []
    for effect in arguments.effects:
        rows.append(observe(effect, setup))
        print(json.dumps(rows[-1]), flush=True)
        if arguments.results:
            with arguments.results.open("a") as stream:
                stream.write(json.dumps(rows[-1]) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
