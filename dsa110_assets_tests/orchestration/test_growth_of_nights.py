"""The stages of an hour and of a night read what is new, not history: the same rows after twice the nights.

Rows are counted by the server, table by table. Some may follow history, and the test says how far: the whole light
curves of the sources that are searched for events, and one row for each epoch (`EACH_EPOCH`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from benchmarks.year import Year, fill_fluxes, fill_sources
from benchmarks.year_registry import DECLINATION_DEG, fill
from benchmarks.year_sky import YearSky
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries.images import image_of
from dsa110_assets.registry.queries.measurements import exclude_epoch, replace_photometry
from dsa110_assets.registry.schema import IngestGroup
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import hour, night
from dsa110_assets.stages.products.events import look_at_hour
from dsa110_assets.stages.provenance.recording import StageResult
from dsa110_assets_tests.mosaicking.tile_files import TileTruth, write_tile
from dsa110_assets_tests.orchestration.work_counter import WorkCounter
from dsa110_assets_tests.registry_fixture import empty

FEW, MANY = 36, 72
"""Nights. Both are longer than the lag of the factors (15 days) and what the quick look reads (32 days)."""
HOURS, SOURCES = 24, 240
LAST = (datetime.now(UTC) - timedelta(days=1)).date()
IMAGED, EXCLUDED, CHANGED = 7, 9, 15
"""Hour of the last night that is made from images; hours of a night long ago that is excluded, and measured again."""
LONG_AGO = 25
MEASUREMENTS = {"photometry", "photometry_channels"}
"""One row for each source and epoch."""
SCANNED = {"reference_factors"}
"""Small in this registry, so the server scans it. `benchmarks.year` shows what that costs after a year."""
EPOCHS = {"epoch_factors", "examined_epochs", "product_versions", "mosaics"}
EACH_EPOCH = 12
"""So often may a stage look at the row of each epoch: 24 rows a night, 8760 after a year."""
READ_TWICE = 3
"""So often may a stage read the whole light curve of a source that it searches, describes or plots."""


class Reading(NamedTuple):
    """Rows of each table that a stage read, and the number of sources whose whole light curves it needs."""

    rows: Counter[str]
    whole: int


def fluxes(sky: YearSky, number: int, of_hour: int, gain: float = 1.0) -> pd.DataFrame:
    """Fluxes of an hour, as forced photometry measures them."""
    source_id, flux, error, noise = sky.hour(number, of_hour)
    snr = gain * flux / error
    return pd.DataFrame({
        "source_id": source_id, "flux_jy": gain * flux, "flux_err_jy": error, "noise_jy_per_beam": noise, "background_jy_per_beam": 0.0,
        "snr": snr, "upper_limit_jy": np.where(snr < 5, 3 * error, np.nan), "is_limit": snr < 5, "time_mjd": sky.middle_mjd(number, of_hour),
    })  # fmt: skip


def write_image(database: Database, group_id: str, sky: YearSky) -> None:
    """Image of an observation with the sources that are there."""
    with database.session() as session:
        tile, group = image_of(session, group_id), session.get(IngestGroup, group_id)
        assert tile is not None
        assert group is not None
        truth = TileTruth(ra_deg=tile.ra_deg, dec_deg=DECLINATION_DEG, start_mjd=group.start_mjd + 1e-6)
        near = np.abs((sky.ra_deg - tile.ra_deg + 180) % 360 - 180) < 3
        sources = list(zip(sky.ra_deg[near], sky.dec_deg[near], sky.flux_jy[near], strict=True))
        write_tile(Path(tile.directory), truth, sources, seed=3)


def readings(database: Database, config: PipelineConfig, nights: int) -> Iterator[tuple[str, Reading]]:
    """What each stage reads in the last of N nights, and after changes of a night long ago."""
    empty(database.url)
    year = Year(config.state_dir, nights, SOURCES, LAST)
    sky, last, then = year.sky, nights - 1, nights - LONG_AGO
    fill(database, nights, config, tiles_per_night=HOURS, last=LAST, light_curve_nights=1, data=config.scratch_dir)
    fill_sources(database, sky)
    fill_fluxes(database, year, sky)
    for one in (IMAGED, IMAGED + 1):  # the tiles within its overlap
        write_image(database, f"{LAST}T{one:02d}:00:00", sky)
    platform = Platform.open(config)
    night.recompute(platform, "history", night=year.night(-2))
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET synchronous_commit = on"))  # else VACUUM does not see the rows as visible to all
        connection.execute(text("VACUUM ANALYZE"))
    database.dispose()
    counter = WorkCounter(database.url)

    def reading(stage: Callable[[], StageResult | None]) -> Reading:
        found: list[StageResult | None] = []
        rows = counter.rows_by_table(lambda: found.append(stage()))
        assert found[0] is not None
        figures = found[0].figures
        return Reading(rows, int(str(figures.get("searched", figures.get("candidates", figures.get("deviating", 0))))))

    def measured(number: int, of_hour: int, gain: float = 1.0) -> None:
        with platform.database.session() as session:
            replace_photometry(session, f"hourly_{year.night(number)}T{of_hour:02d}", fluxes(sky, number, of_hour, gain))

    today = year.night(-1)
    for name, stage in (("hourly_mosaic", hour.make_mosaic), ("forced_photometry", hour.measure)):
        yield f"{name}", reading(lambda stage=stage: stage(platform, today, f"{IMAGED:02d}", "run"))
    for one in range(HOURS):
        measured(last, one)
    yield "look at an hour", reading(lambda: look_at_hour(platform, today, "21", "run"))

    def whole_night(after: str) -> Iterator[tuple[str, Reading]]:
        for name in ("update_light_curves", "update_metrics", "rank_candidates"):
            yield f"{after}: {name}", reading(lambda name=name: getattr(night, name)(platform, today, "run"))

    yield from whole_night("a new night")
    with platform.database.session() as session:
        exclude_epoch(session, f"hourly_{year.night(then)}T{EXCLUDED:02d}", reason="storm", person="J. Doe")
    yield from whole_night("an old epoch is excluded")
    measured(then, CHANGED, gain=1.2)
    yield from whole_night("an old epoch has another factor")
    counter.close()
    platform.database.dispose()


def too_many(name: str, few: Reading, many: Reading) -> Iterator[str]:
    """Tables of which a stage reads more than it may after more nights."""
    nights = MANY - FEW
    for table, rows in many.rows.items():
        may = 1.1 * few.rows[table] + 150
        if table in EPOCHS:
            may += EACH_EPOCH * HOURS * nights
        if table in MEASUREMENTS:
            may += READ_TWICE * max(many.whole, 5) * nights
        if rows > may and table not in SCANNED:
            yield f"{name}: {table}: {few.rows[table]} -> {rows} rows"


@pytest.mark.timeout(900)  # 40 s on a quiet machine
def test_the_stages_of_an_hour_and_of_a_night_read_what_is_new(database: Database, registry_config: PipelineConfig) -> None:
    few = dict(readings(database, registry_config, FEW))
    many = dict(readings(database, registry_config, MANY))
    found = [one for name in many for one in too_many(name, few[name], many[name])]
    assert not found, "\n".join(found)
    for name, one in many.items():
        for table in MEASUREMENTS:
            assert one.rows[table] < SOURCES * MANY, f"{name} reads all of {table}"


@pytest.mark.parametrize("table", ["photometry", "epoch_factors", "variability"])
def test_a_stage_that_reads_history_is_found(table: str) -> None:
    """Twice the rows for twice the nights, of measurements, of epochs in a loop, of figures by source and night."""
    each = {"photometry": SOURCES, "epoch_factors": 50 * HOURS, "variability": SOURCES}[table]
    few, many = (Reading(Counter({table: nights * each}), 10) for nights in (FEW, MANY))
    assert list(too_many("stage", few, many))
