"""Mosaics use good tiles only, and bad tiles cause no requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dsa110_assets.calibration.select import Rung
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import MosaicError, NonRetriableError
from dsa110_assets.quality import gate
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.calibration import record_calibration_applied, upsert_caltables
from dsa110_assets.registry.queries.images import tiles_in_window, upsert_image
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import CalibrationApplied, GroupState, IngestGroup, QaMetric
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import gates, hour, injection, mosaics, night
from dsa110_assets.stages.products.combining import MosaicRequest, combine
from dsa110_assets.stages.queue.planning import hours_due
from dsa110_assets.stages.table import HOURLY_MOSAIC
from dsa110_assets_tests.registry_fixture import add_observation

CALIBRATOR = "2026-02-28T05:00:00"
GROUPS = ["2026-03-01T05:00:00", "2026-03-01T05:05:10", "2026-03-01T05:10:20"]


def add_image(database: Database, group_id: str, directory: Path, *, bad: str | None = None, judged: bool = True) -> None:
    with database.session() as session:
        row = add_observation(session, group_id)
        upsert_image(
            session, directory=str(directory), group_id=group_id, mid_mjd=row.mid_mjd, ra_deg=120.0, dec_deg=16.0, pointing_dec_deg=16.0,
            noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0, bmaj_arcsec=40, bmin_arcsec=30, bpa_deg=0,
        )  # fmt: skip
        record_version(
            session, "tile_image", group_id, path=directory, inputs={}, recipe=Recipe("code", "settings"), duration_s=1.0, run_id="r"
        )
        for name in gate.TILE_CHECKS if judged else ():
            upsert_qa_metric(session, "tile_image", group_id, name, 1.0, passed=name != bad, reason=f"{name} as measured")


def borrow_tables(database: Database, group_id: str, applied_at: datetime | None = None) -> None:
    """Record that an observation was calibrated with tables of the night before."""
    with database.session() as session:
        if session.get(IngestGroup, CALIBRATOR) is None:
            add_observation(session, CALIBRATOR)
            upsert_caltables(
                session, directory="/cal/before", group_id=CALIBRATOR, night=CALIBRATOR[:10], calibrator="0834+555", refant="103",
                mid_mjd=61_099.3, valid_from_mjd=61_099.0, valid_to_mjd=61_100.0, pointing_dec_deg=16.0, accepted=True, reasons=[],
                quality={},
            )  # fmt: skip
        record_calibration_applied(session, group_id=group_id, caltable_directory="/cal/before", rung=Rung.BORROWED, hours_away=-20.0)
        if applied_at is not None:
            session.get_one(CalibrationApplied, group_id).applied_at = applied_at


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
        verdicts = gates.verdicts(session, GROUPS)
    assert refused == {group_id: verdicts[group_id].line() for group_id in GROUPS[1:]}
    assert refused[GROUPS[1]].startswith("refused: fluxes 1 times the catalog's. Next: the flux scale is wrong")
    assert refused[GROUPS[2]].startswith("not measured: its image was never judged. Next: ")


def test_only_good_tiles_make_an_hour_due(database: Database, platform: Platform, tmp_path: Path):
    later = datetime.now(UTC) + timedelta(days=1)  # no more files arrive
    add_image(database, GROUPS[0], tmp_path / "a", bad="noise_over_thermal")
    with database.session() as session:
        assert hours_due(session, platform.config, later) == []
    add_image(database, GROUPS[1], tmp_path / "b")
    with database.session() as session:
        assert [work.hour for work in hours_due(session, platform.config, later)] == ["05"]


def test_a_mosaic_of_bad_tiles_is_an_error_with_the_reason(database: Database, platform: Platform, tmp_path: Path):
    add_image(database, GROUPS[0], tmp_path / "a", bad="position_offset_arcsec")
    assert hour.make_mosaic(platform, "2026-03-01", "05", "run") is None
    with database.session() as session:
        tiles = tiles_in_window(session, 0, 1e6)
    with pytest.raises(MosaicError, match=r"none of its 1 tiles is good.*refused: positions off by.*Next: .*ingest status --refused"):
        combine(platform, MosaicRequest(HOURLY_MOSAIC, "2026-03-01T05", "hand", tiles, 16.0), "run")


def test_judging_a_missing_image_is_an_error(database: Database, platform: Platform):
    with pytest.raises(NonRetriableError, match="no image to judge"):
        gates.judge_again(platform, GROUPS[0])


def test_no_product_takes_a_tile_that_is_not_good(database: Database, platform: Platform, tmp_path: Path):
    """Mosaics of all kinds and injections leave out bad, unmeasured, unjudged and provisional tiles."""
    add_image(database, GROUPS[0], tmp_path / "a", bad="beam_axis_ratio")
    borrow_tables(database, GROUPS[0])
    add_image(database, GROUPS[1], tmp_path / "b")
    add_image(database, GROUPS[2], tmp_path / "c", judged=False)
    with database.session() as session:
        upsert_qa_metric(session, "tile_image", GROUPS[1], "noise_over_thermal", None, passed=None, reason="no noise")
    for group_id in GROUPS:
        platform.paths.calibrated_ms(group_id).mkdir(parents=True)
    assert hour.make_mosaic(platform, "2026-03-01", "05", "run") is None
    assert night.make_mosaic(platform, "2026-03-01", "run") is None
    assert injection.recover_injections(platform, "2026-03-01", "run") is None
    since = datetime(2026, 3, 1, tzinfo=UTC)
    with pytest.raises(MosaicError, match=r"no tile of the interval is good.*beam.*never judged"):
        mosaics.plan_mosaic(platform, "by_hand", since, since + timedelta(days=1))


def test_the_query_for_refused_tiles_agrees_with_the_verdict_on_each(database: Database, platform: Platform, tmp_path: Path):
    """Each check bad, not measured, never judged: SQL and `gate.verdict_on` agree on which tiles are good."""
    groups = [f"2026-03-01T{hour:02d}:{minute:02d}:00" for hour in range(4) for minute in range(0, 60, 5)][: 3 * len(gate.TILE_CHECKS) + 1]
    for number, group_id in enumerate(groups):
        add_image(database, group_id, tmp_path / str(number))
    with database.session() as session:
        for number, name in enumerate(gate.TILE_CHECKS):
            upsert_qa_metric(session, "tile_image", groups[3 * number], name, 9.0, passed=False, reason="")
            upsert_qa_metric(session, "tile_image", groups[3 * number + 1], name, None, passed=None, reason="none there")
            session.delete(session.get_one(QaMetric, ("tile_image", groups[3 * number + 2], name)))
        ended = datetime(2026, 3, 1, 5, tzinfo=UTC)
        for group_id in groups:
            row = session.get_one(IngestGroup, group_id)
            row.state, row.completed_at = GroupState.COMPLETED.value, ended
    before = ended - timedelta(seconds=1)
    with database.session() as session:
        found = gates.not_good(session, completed_after=before, limit=100)
        good = gates.good_tiles(session, groups)
        assert set(found) == set(groups) - set(good)
        assert found == {g: verdict for g, verdict in gates.verdicts(session, groups).items() if not verdict.is_good}
        assert list(found) == sorted(found, reverse=True)
        assert list(gates.not_good(session, completed_after=before, limit=2)) == sorted(found, reverse=True)[:2]
        assert gates.not_good(session, completed_after=ended, limit=100) == {}


def test_a_refusal_is_provisional_for_a_day_after_tables_were_borrowed(database: Database, platform: Platform, tmp_path: Path):
    for number, group_id in enumerate(GROUPS):
        add_image(database, group_id, tmp_path / str(number), bad="flux_ratio_to_catalog")
    borrow_tables(database, GROUPS[0])
    borrow_tables(database, GROUPS[1], datetime.now(UTC) - timedelta(days=1, minutes=1))
    with database.session() as session:
        verdicts = gates.verdicts(session, GROUPS)
    assert [verdicts[group_id].provisional for group_id in GROUPS] == [True, False, False]
    assert verdicts[GROUPS[1]].next_step == gate.TILE_CHECKS["flux_ratio_to_catalog"].next_step
