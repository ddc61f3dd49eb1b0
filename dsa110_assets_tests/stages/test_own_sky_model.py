"""What an image finds outside its frame becomes part of the platform's own sky, unless a catalog has it."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from astropy.io import fits

from dsa110_assets.catalogs.calibrators import read_manual, write_calibrator_db
from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import image_path
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import sky_model, upsert_measurement_set
from dsa110_assets.registry.schema import GroupState, IngestGroup
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import tile
from dsa110_assets.stages.products.references import calibrators_path, imaging_sky, reference_path
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-12T05:00:00"


@pytest.fixture
def tile_with_unknown(registry_config: PipelineConfig, database: Database) -> tuple[Platform, tuple[float, float]]:
    """A calibrated tile whose image ends before a cataloged and an unknown bright source; where the latter is."""
    platform = Platform.open(registry_config.model_copy(update={"image_size": 256, "cell_arcsec": 12.0, "correct_smearing": False}))
    inside, unknown, cataloged = (offset_position(150.0, 54.6, east, north) for east, north in ((0.05, 0.04), (0.7, -0.2), (-0.8, 0.3)))
    ms = platform.paths.calibrated_ms(GROUP)
    ms.parent.mkdir(parents=True)
    write_tile(ms, [(*inside, 1.0, -0.7), (*unknown, 2.0, -0.7), (*cataloged, 1.5, -0.7)], n_antenna=20, n_time=6, n_channel=16)
    platform.paths.catalogs_dir.mkdir(parents=True, exist_ok=True)
    rows = [(name, *where, flux, -0.7) for name, where, flux in (("a", inside, 1.0), ("b", cataloged, 1.4))]
    pd.DataFrame(rows, columns=["name", "ra_deg", "dec_deg", "flux_jy", "spectral_index"]).to_parquet(reference_path(platform))
    write_calibrator_db(read_manual(MANUAL), calibrators_path(platform))
    with database.session() as session:
        row = add_observation(session, GROUP, state=GroupState.PENDING)
        upsert_measurement_set(
            session, path=str(ms), group_id=GROUP, kind="calibrated", status="calibrated", start_mjd=row.start_mjd, mid_mjd=row.mid_mjd,
            end_mjd=row.end_mjd, ra_deg=150.0, dec_deg=54.6, pointing_dec_deg=54.6, calibrator=None, n_channels=16, flagged_fraction=0.0, size_bytes=1,
        )  # fmt: skip
    return platform, unknown


def test_a_source_outside_the_image_serves_later_images(
    tile_with_unknown: tuple[Platform, tuple[float, float]], database: Database
) -> None:
    platform, unknown = tile_with_unknown
    assert len(imaging_sky(platform, 150.0, 54.6)) == 2
    result = tile.make_image(platform, TileRun(GROUP, "run"))
    assert result.figures["sources_outside"] == 2
    with database.session() as session:
        (own,) = sky_model.newest(session, limit=10).rows  # the cataloged one is not repeated
    assert (own["group_id"], own["origin"]) == (GROUP, sky_model.OUTSIDE)
    assert own["flux_jy"] == pytest.approx(2.0, rel=0.03)
    assert own["ra_deg"] == pytest.approx(unknown[0], abs=2 / 3600)
    assert own["dec_deg"] == pytest.approx(unknown[1], abs=1 / 3600)
    known = imaging_sky(platform, 150.0, 54.6)
    assert sorted(known["name"]) == ["a", "b", f"own {own['source_id']}"]
    assert result.figures["own_sources"] == 0
    assert "own_sky_model = nothing" in _history(platform)
    with database.session() as session:
        session.get_one(IngestGroup, GROUP).state = GroupState.PENDING
    assert tile.make_image(platform, TileRun(GROUP, "again")).figures["own_sources"] == 1
    assert f"own_sky_model = own {own['source_id']}" in _history(platform)
    with database.session() as session:
        assert len(sky_model.newest(session, limit=10).rows) == 1


def test_a_refused_tile_adds_nothing_to_the_sky_model(tile_with_unknown: tuple[Platform, tuple[float, float]], database: Database) -> None:
    """What a bad calibration makes out of bright sources must not serve other images."""
    platform, _ = tile_with_unknown
    platform = replace(platform, config=platform.config.model_copy(update={"qa_noise_over_thermal_max": 1e-3}))
    result = tile.make_image(platform, TileRun(GROUP, "run"))
    assert result.figures["sources_outside"] == 2
    with database.session() as session:
        assert sky_model.newest(session, limit=10).rows == []


def _history(platform: Platform) -> str:
    return str(fits.getheader(image_path(platform.paths.image_dir(GROUP), GROUP, "image"))["HISTORY"])
