"""What a wrong sky around the calibrator does to fluxes, with and without fitting that sky.

    python -m benchmarks.calibrator_field [--directory DIR] [--antennas 24] [--seed 1]

Simulates the calibrator's tile (8.8 Jy) three times: with a source of 0.41 Jy, 24' away, that is 50 mJy fainter than
the catalog says, and with six sources that the catalog lacks: at 12', 24' and 48', along the arms of the array and
between them, with 20, 50 and 400 mJy in turn. Solves each tile as if the catalog were right, and with the field free,
applies the tables, and fits all fluxes to the calibrated data. Prints a row for each source, and what the solution
says of itself.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

START_MJD = 61_107.2
DECLINATION_DEG = 54.6
CALIBRATOR_JY = 8.8
OFFSETS_ARCMIN = (12.0, 24.0, 48.0)
FLUXES_JY = (0.02, 0.05, 0.4)
DIRECTIONS = {"along": 0.0, "between": 45.0}
"""Position angles (deg) from north: the arms run north and east."""


@dataclass(frozen=True)
class Experiment:
    """``ms``: the tile. ``truth``: its sky. ``catalog``: what the platform believes. ``missing``: names not in it."""

    ms: Path
    truth: pd.DataFrame
    catalog: pd.DataFrame
    missing: tuple[str, ...]


def sky_of(turn: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """True sky and catalog; ``turn`` permutes the fluxes of the missing sources."""
    from dsa110_assets.simulation.directions import local_sidereal_time_deg

    center_ra, center_dec = local_sidereal_time_deg(START_MJD + 150 / 86_400), DECLINATION_DEG + 0.15

    def at(arcmin: float, angle_deg: float) -> tuple[float, float]:
        north, east = arcmin / 60 * np.cos(np.radians(angle_deg)), arcmin / 60 * np.sin(np.radians(angle_deg))
        dec = center_dec + north
        return (center_ra + east / np.cos(np.radians(dec))) % 360, dec

    rows = [("CAL", center_ra % 360, center_dec, CALIBRATOR_JY), ("varied", *at(24.0, 200.0), 0.41)]
    for number, arcmin in enumerate(OFFSETS_ARCMIN):
        for name, angle in DIRECTIONS.items():
            flux = FLUXES_JY[(number + turn + (name == "between")) % 3]
            rows.append((f"{arcmin:.0f}' {name}", *at(arcmin, angle + (180.0 if number == 1 else 0.0)), flux))
    rng = np.random.default_rng(turn)
    rows += [(f"field {k}", *at(rng.uniform(20, 80), rng.uniform(0, 360)), flux) for k, flux in enumerate((1.2, 0.6, 0.3, 0.2, 0.12, 0.1))]
    truth = pd.DataFrame(rows, columns=["name", "ra_deg", "dec_deg", "flux_jy"]).assign(spectral_index=-0.7)
    catalog = truth.loc[~truth["name"].str.contains("'")].reset_index(drop=True)
    catalog.loc[catalog["name"] == "varied", "flux_jy"] += 0.05
    is_field = catalog["name"].str.startswith("field")
    catalog.loc[is_field, "flux_jy"] *= 1 + 0.1 * rng.standard_normal(is_field.sum())
    return truth, catalog


def simulate(directory: Path, turn: int, *, antennas: int = 24, channels: int = 4, seed: int = 1) -> Experiment:
    """Simulate a tile with receivers and noise, and convert it."""
    from dsa110_assets.conversion import convert_observation
    from dsa110_assets.simulation.array import demo_array, full_array
    from dsa110_assets.simulation.band import BandPlan
    from dsa110_assets.simulation.receivers import Receivers
    from dsa110_assets.simulation.sky import point_sources
    from dsa110_assets.simulation.tile import simulate_tile

    truth, catalog = sky_of(turn)
    sky = point_sources(list(truth["ra_deg"]), list(truth["dec_deg"]), list(truth["flux_jy"]))
    raw = directory / f"raw{turn}"
    files = simulate_tile(
        raw,
        start_mjd=START_MJD,
        declination_deg=DECLINATION_DEG,
        sky=sky,
        seed=10 * seed + turn,
        array=demo_array() if antennas == 24 else full_array(),
        band=BandPlan(channels),
        receivers=Receivers(seed=3),
        smearing=True,
    )
    ms = directory / f"tile{turn}.ms"
    convert_observation(dict(enumerate(files)), ms, flag_rfi=False)
    return Experiment(ms, truth, catalog, tuple(truth["name"][truth["name"].str.contains("'")]))


def measured(experiment: Experiment, tables: list[Path]) -> pd.DataFrame:
    """Fluxes of all sources, fitted to calibrated data with thermal errors: truth, flux, error, pull."""
    from dsa110_assets.calibration.caltable import read_caltable
    from dsa110_assets.calibration.field import unit_visibilities
    from dsa110_assets.calibration.model import build_model
    from dsa110_assets.calibration.solved_data import read_solved
    from dsa110_assets.common.measurement_sets import read_tile_pointing

    solved = read_solved(experiment.ms, [read_caltable(path) for path in tables])
    model = build_model(
        experiment.truth, read_tile_pointing(experiment.ms), solved.frequency_hz, min_apparent_jy=-np.inf, averaging=solved.averaging
    )
    n = len(model.names)
    normal, gradient = np.zeros((n, n)), np.zeros(n)
    for group, unit in unit_visibilities(solved, model):
        weight, data = solved.weight[group].reshape(-1, 2), solved.data[group].reshape(-1, 2)
        root = unit * np.sqrt(weight.sum(axis=1))[:, None]
        normal += (root.conj().T @ root).real
        gradient += (unit.conj().T @ (weight * data).sum(axis=1)).real
    inverse = np.linalg.inv(normal)
    flux = experiment.truth["flux_jy"].to_numpy()
    found, error = inverse @ gradient * flux, np.sqrt(np.diag(inverse)) * flux
    return pd.DataFrame({"source": model.names, "true": flux, "flux": found, "error": error, "pull": (found - flux) / error})


def run(directory: Path, turn: int, *, antennas: int, channels: int, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """One tile: the table of its sources with pulls before and after, and the report's figures."""
    from dsa110_assets.calibration.solve import solve

    experiment = simulate(directory, turn, antennas=antennas, channels=channels, seed=seed)
    believed = solve(experiment.ms, directory / f"believed{turn}", sky=experiment.catalog, refant="103")
    start = time.perf_counter()
    free = solve(experiment.ms, directory / f"free{turn}", sky=experiment.catalog, calibrator="CAL", refant="103")
    seconds = time.perf_counter() - start
    assert free.field is not None
    before, after = measured(experiment, believed.tables), measured(experiment, free.tables)
    table = before.rename(columns={"flux": "believed", "pull": "pull believed"})
    table["fitted"], table["pull fitted"] = after["flux"], after["pull"]
    snr = {name: report.quality["gain.cal"].median_snr for name, report in (("snr_believed", believed), ("snr_fitted", free))}
    return table, {"seconds": seconds, "rounds": free.field.rounds, **snr, **free.field.figures()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--antennas", type=int, choices=(24, 96), default=24)
    parser.add_argument("--channels", type=int, default=4, help="of each subband")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as scratch:
        for turn in range(3):
            table, figures = run(Path(scratch), turn, antennas=options.antennas, channels=options.channels, seed=options.seed)
            rounded = table.round({"true": 4, "believed": 4, "fitted": 4, "error": 5, "pull believed": 1, "pull fitted": 1})
            print(rounded.to_string(index=False))
            print({name: round(float(value), 4) for name, value in figures.items()})


if __name__ == "__main__":
    main()
