"""A tile that was judged bad takes no part in mosaics, and nothing is asked for on its account."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import MosaicError, NonRetriableError
from dsa110_assets.quality import gate
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.images import tiles_in_window, upsert_image
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates, hour
from dsa110_assets.stages.queue.planning import hours_due
from dsa110_assets.stages.table import HOURLY_MOSAIC
from dsa110_assets_tests.registry_fixture import add_group

GROUPS = ["2026-03-01T05:00:00", "2026-03-01T05:05:10", "2026-03-01T05:10:20"]


def add_image(database: Database, group_id: str, directory: Path, *, bad: str | None = None, judged: bool = True) -> None:
    with database.session() as session:
        row = add_group(session, group_id)
        upsert_image(
            session, directory=str(directory), group_id=group_id, mid_mjd=row.mid_mjd, ra_deg=120.0, dec_deg=16.0, pointing_dec_deg=16.0,
            noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0, bmaj_arcsec=40, bmin_arcsec=30, bpa_deg=0,
        )  # fmt: skip
        record_version(
            session, "tile_image", group_id, path=directory, inputs={}, recipe=Recipe("code", "settings"), duration_s=1.0, run_id="r"
        )
        for name in gate.TILE_CHECKS if judged else ():
            upsert_qa_metric(session, "tile_image", group_id, name, 1.0, passed=name != bad, reason=f"{name} as measured")


@pytest.fixture
def platform(registry_config: PipelineConfig) -> Platform:
    return Platform.open(registry_config)


def test_bad_and_never_judged_tiles_are_refused_with_the_reason(database: Database, platform: Platform, tmp_path: Path):
    add_image(database, GROUPS[0], tmp_path / "a")
    add_image(database, GROUPS[1], tmp_path / "b", bad="flux_ratio_to_catalog")
    add_image(database, GROUPS[2], tmp_path / "c", judged=False)
    with database.session() as session:
        refused = gates.refused_tiles(session, GROUPS)
        assert gates.good_tiles(session, GROUPS) == GROUPS[:1]
    assert refused == {
        GROUPS[1]: "flux_ratio_to_catalog: flux_ratio_to_catalog as measured",
        GROUPS[2]: "its image was never judged",
    }


def test_an_hour_is_asked_for_its_good_tiles_only(database: Database, platform: Platform, tmp_path: Path):
    later = datetime.now(UTC) + timedelta(days=1)  # nothing arrives any more
    add_image(database, GROUPS[0], tmp_path / "a", bad="noise_over_thermal")
    with database.session() as session:
        assert hours_due(session, platform.config, later) == []
    add_image(database, GROUPS[1], tmp_path / "b")
    with database.session() as session:
        assert [work.hour for work in hours_due(session, platform.config, later)] == ["05"]


def test_a_mosaic_of_bad_tiles_is_refused_and_says_why(database: Database, platform: Platform, tmp_path: Path):
    add_image(database, GROUPS[0], tmp_path / "a", bad="position_offset_arcsec")
    assert hour.make_mosaic(platform, "2026-03-01", "05", "run") is None
    with database.session() as session:
        tiles = tiles_in_window(session, 0, 1e6)
    with pytest.raises(MosaicError, match=r"none of its 1 tiles is good.*position_offset_arcsec"):
        hour.combine(platform, "hand", HOURLY_MOSAIC, "2026-03-01T05", tiles, 16.0, "run")


def test_judging_an_image_that_does_not_exist_says_what_to_do(database: Database, platform: Platform):
    with pytest.raises(NonRetriableError, match="no image to judge"):
        gates.judge_again(platform, GROUPS[0])
