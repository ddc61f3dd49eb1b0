"""One missing, damaged or refused tile does not stop an hour: what the others saw is combined and measured once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import select

from dsa110_assets.errors import MosaicError
from dsa110_assets.mosaicking.tiles import readable_tiles
from dsa110_assets.products import ProductPaths, image_path
from dsa110_assets.quality import gate
from dsa110_assets.registry.queries import upsert_image, upsert_qa_metric, upsert_sources
from dsa110_assets.registry.schema import Photometry, Source
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import hour
from dsa110_assets.times import datetime_to_mjd, group_time
from dsa110_assets_tests.mosaicking.tile_files import DRIFT_DEG, TileTruth, write_tile
from dsa110_assets_tests.registry_fixture import add_observation

START = datetime_to_mjd(group_time("2026-03-12T05:45:00"))
RA_DEG, DEC_DEG = 127.5, 54.6


@pytest.fixture
def night(registry_config, database):
    """Six tiles of a strip, three in each of two hours, and a source at the center of each."""
    with database.session() as session:
        made = []
        for i in range(6):
            truth = TileTruth(RA_DEG + i * DRIFT_DEG, dec_deg=DEC_DEG, size=192, cell_arcsec=50.0, start_mjd=START + i * 309.2376 / 86400)
            tile = write_tile(registry_config.scratch_dir / f"t{i}", truth, [(RA_DEG + i * DRIFT_DEG, DEC_DEG, 0.5)], i)
            made.append(tile)
            add_observation(session, tile.group_id, dec_deg=DEC_DEG)
            upsert_image(
                session, directory=str(tile.directory), group_id=tile.group_id, mid_mjd=tile.mid_mjd, ra_deg=truth.ra_deg,
                dec_deg=DEC_DEG, pointing_dec_deg=DEC_DEG, noise_jy_per_beam=0.005, thermal_jy_per_beam=0.005, peak_jy_per_beam=0.4,
                bmaj_arcsec=150.0, bmin_arcsec=120.0, bpa_deg=25.0,
            )  # fmt: skip
            for check in gate.TILE_CHECKS:
                upsert_qa_metric(session, "tile_image", tile.group_id, check, 1.0, passed=True)
        names = [f"s{i}" for i in range(6)]
        upsert_sources(
            session, pd.DataFrame({"name": names, "ra_deg": RA_DEG + np.arange(6) * DRIFT_DEG, "dec_deg": DEC_DEG}), origin="monitored"
        )
    return Platform(registry_config, ProductPaths.of(registry_config), database), made


def remove(path):
    path.unlink()


def truncate(path):
    path.write_bytes(path.read_bytes()[:20000])


def without_noise(path):
    with fits.open(path, mode="update") as hdus:
        hdus[0].header["DSANOISE"] = "none"


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize(("damage", "suffix"), [(remove, "image"), (remove, "pb"), (truncate, "weight"), (without_noise, "image")])
def test_a_mosaic_is_made_without_a_damaged_tile_and_says_so(night, damage, suffix):
    platform, tiles = night
    bad = tiles[1]
    damage(image_path(bad.directory, bad.name, suffix))
    result = hour.make_mosaic(platform, "2026-03-12", "05", "run")
    assert result is not None
    (verdict,) = [one for one in result.verdicts if one.name == "tiles_unreadable"]
    assert verdict.passed is False
    assert bad.group_id in verdict.reason
    marked = {row["observation"]: row["rejected"] for row in result.tables["tiles"]}
    assert marked[bad.group_id]
    assert not any(reason for name, reason in marked.items() if name != bad.group_id)


def test_too_many_missing_tiles_are_an_error_that_names_them(night):
    _, tiles = night
    for tile in tiles[:3]:
        remove(image_path(tile.directory, tile.name, "image"))
    with pytest.raises(MosaicError, match=f"3 of 6 tiles cannot be read.*{tiles[0].name}"):
        readable_tiles([(tile.directory, tile.name) for tile in tiles])


def measured(platform):
    for hour_of_night in ("05", "06"):
        if hour.make_mosaic(platform, "2026-03-12", hour_of_night, "run") is not None:
            hour.measure(platform, "2026-03-12", hour_of_night, "run")
    with platform.database.session() as session:
        query = select(Source.name, Photometry.mosaic_name).join(Photometry, Photometry.source_id == Source.source_id)
        return sorted(session.execute(query.where(Photometry.flux_jy.is_not(None), Photometry.flux_jy != "NaN")).tuples())


def test_every_position_with_coverage_in_a_good_mosaic_has_one_row_for_its_transit(night, database):
    platform, tiles = night
    rows = measured(platform)
    assert [name for name, _ in rows] == [f"s{i}" for i in range(6)]
    with database.session() as session:
        for tile in tiles[:3]:
            upsert_qa_metric(session, "tile_image", tile.group_id, min(gate.ALWAYS_MEASURABLE), 9.0, passed=False, reason="bad")
        session.execute(Photometry.__table__.delete())
    names = dict(measured(platform))
    assert set(names.values()) == {"hourly_2026-03-12T06"}, "the hour of the refused tiles has no mosaic"
    assert {"s2", "s3", "s4", "s5"} <= set(names), "the next mosaic covers a source whose own tile was refused"
