"""Make the products to compare: two tiles, their hour, and light curves of a few nights, with the stages' functions.

This is the only module here that calls the package. Edit it when stages move, but do not change what it makes.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import text

from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import register_epoch
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import calibrator, hour, injection, night, references, tile
from dsa110_assets.stages.queue import intake
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.times import JD_MINUS_MJD, group_id_of, hour_partition
from dsa110_assets_tests.chaos.small_night import CALIBRATOR_TILE, SmallNight, prepare
from dsa110_assets_tests.registry_fixture import TEST_SETTINGS

RUN = "same"
CALIBRATOR = "0834+555"
TILES = (CALIBRATOR_TILE, CALIBRATOR_TILE + 1)
SETTINGS = {"PIPELINE_IMAGE_CHANNELS": "2", "PIPELINE_INJECTION_SOURCES": "20"}
"""Settings in addition to the small night's: two channels, so that spectra and channel mosaics are made too."""
SIDEREAL_DAY = 0.997_269_57
N_EPOCHS = 16
EVENT_EPOCHS = (7, 8, 9)
EVENT_RANK = 2
EVENT = (0.45, 0.55)
"""Fraction of the flux in each channel, lower frequency first: a plasma lens, so that the event becomes a candidate."""
LAST_NIGHT = "2026-03-27"


@dataclass(frozen=True)
class Made:
    """A finished night. ``outcomes``: each stage's result, by product and key. ``url``: of the registry."""

    outcomes: dict[str, Mapping[str, Any]]
    url: str
    platform: Platform


class Night:
    """A platform under an empty ``root``. Its database server runs during the block."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.server = EmbeddedServer(root.parent / "postgres", settings=TEST_SETTINGS)

    def __enter__(self) -> Made:
        url = self.server.ensure().url("postgres")
        Database(url).migrate()
        outcomes, platform = make(self.root, url)
        return Made(outcomes, url, platform)

    def __exit__(self, *_: object) -> None:
        self.server.stop(immediate=True)


def make(root: Path, url: str) -> tuple[dict[str, Mapping[str, Any]], Platform]:
    """Make a night from raw files to candidates. Return each stage's result, by product and key, and the platform."""
    small = SmallNight.of(max(TILES) + 1)
    _, settings = prepare(root, small, 3999)
    values: dict[str, Any] = {name.removeprefix("PIPELINE_").lower(): value for name, value in (settings | SETTINGS).items()}
    config = PipelineConfig(_env_file=None, **values | {"database_url": url})  # type: ignore[call-arg]
    for folder in (config.output_dir, config.scratch_dir, config.state_dir):
        folder.mkdir(parents=True, exist_ok=True)
    _write_raw_files(small, config.input_dir)
    platform = Platform.open(config)
    group_ids = [group_id_of(small.start_mjd(number) + JD_MINUS_MJD) for number in TILES]
    date, hour_name = hour_partition(group_ids[0])
    assert all(hour_partition(group_id) == (date, hour_name) for group_id in group_ids)

    results = [
        refresh(platform, RUN) for refresh in (references.refresh_calibrators, references.refresh_nvss, references.refresh_monitored)
    ]
    intake.scan_input(platform)
    while not intake.sweep_is_done(platform):  # on a busy machine one call leaves files to the next
        intake.scan_input(platform)
    results += [tile.make_measurement_set(platform, TileRun(group_id, RUN)) for group_id in group_ids]
    results.append(calibrator.solve_transit(platform, group_ids[0], CALIBRATOR, RUN))
    results += [tile.calibrate(platform, TileRun(group_id, RUN)) for group_id in group_ids]
    results += [tile.make_image(platform, TileRun(group_id, RUN)) for group_id in group_ids]
    results += [stage(platform, date, hour_name, RUN) for stage in (hour.make_mosaic, hour.find_sources, hour.measure)]
    results += [stage(platform, date, RUN) for stage in (night.make_mosaic, injection.recover_injections)]
    add_epochs(platform.database)
    results += [stage(platform, LAST_NIGHT, RUN) for stage in (night.update_light_curves, night.update_metrics, night.rank_candidates)]
    platform.database.dispose()
    assert all(result is not None for result in results), "a stage found nothing to do"
    outcomes = {
        f"{result.product} {result.key}": {
            "figures": result.figures,
            "tables": result.tables,
            "verdicts": [asdict(verdict) for verdict in result.verdicts],
        }
        for result in results
    }
    return outcomes, platform


def _write_raw_files(small: SmallNight, directory: Path) -> None:
    """Write the raw files in a child, to keep the simulator's threads out of this process."""
    child = multiprocessing.get_context("spawn").Process(target=_write, args=(small, directory))
    child.start()
    child.join()
    assert child.exitcode == 0, "the raw files could not be written"


def _write(small: SmallNight, directory: Path) -> None:
    for number in TILES:
        small.write(directory, number)


def add_epochs(database: Database) -> None:
    """Add rows of the same sky on the following nights, with noise, gains and an event.

    Light curves and events need more epochs than can be imaged in a minute. These rows come from random numbers.
    """
    rng = np.random.default_rng(12)
    with database.session() as session:
        name, time = session.execute(text("SELECT name, mid_mjd FROM mosaics WHERE kind = 'hourly'")).one()
        measured = session.execute(
            text("SELECT source_id, flux_jy, flux_err_jy FROM photometry WHERE mosaic_name = :name ORDER BY flux_jy DESC"), {"name": name}
        ).all()
        for epoch in range(1, N_EPOCHS):
            day = int(time + epoch * SIDEREAL_DAY) - int(time)
            other = f"{name[:-5]}{int(name[-5:-3]) + day:02d}{name[-3:]}"
            new = {"name": name, "other": other, "later": epoch * SIDEREAL_DAY}
            session.execute(
                text(
                    "INSERT INTO mosaics (name, kind, directory, start_mjd, mid_mjd, end_mjd, ra_deg, dec_deg, n_tiles, noise_jy_per_beam) "
                    "SELECT :other, kind, directory, start_mjd + :later, mid_mjd + :later, end_mjd + :later, ra_deg, dec_deg, n_tiles, "
                    "noise_jy_per_beam FROM mosaics WHERE name = :name"
                ),
                new,
            )
            gain = 1 + 0.02 * rng.standard_normal()
            noise = rng.standard_normal(len(measured))
            for rank, row in enumerate(measured):
                low, high = EVENT if rank == EVENT_RANK and epoch in EVENT_EPOCHS else (1.0, 1.0)
                error = noise[rank] * row.flux_err_jy / row.flux_jy
                factors = {
                    name: float(gain * (left + error)) for name, left in (("factor", (low + high) / 2), ("low", low), ("high", high))
                }
                values = new | {"source": row.source_id} | factors
                session.execute(
                    text(
                        "INSERT INTO photometry (time_mjd, source_id, mosaic_name, flux_jy, flux_err_jy, noise_jy_per_beam, "
                        "background_jy_per_beam, snr, upper_limit_jy, is_limit, flags) SELECT time_mjd + :later, source_id, :other, "
                        "flux_jy * :factor, flux_err_jy, noise_jy_per_beam, background_jy_per_beam, snr * :factor, upper_limit_jy, "
                        "is_limit, flags FROM photometry WHERE mosaic_name = :name AND source_id = :source"
                    ),
                    values,
                )
                session.execute(
                    text(
                        "INSERT INTO photometry_channels (source_id, mosaic_name, channel, time_mjd, frequency_hz, flux_jy, flux_err_jy) "
                        "SELECT source_id, :other, channel, time_mjd + :later, frequency_hz, "
                        "flux_jy * CASE channel WHEN 0 THEN :low ELSE :high END, flux_err_jy "
                        "FROM photometry_channels WHERE mosaic_name = :name AND source_id = :source"
                    ),
                    values,
                )
            register_epoch(session, other)
