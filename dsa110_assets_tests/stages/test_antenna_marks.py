"""An antenna that a person marks as bad is flagged in exactly the observations of its span, and they are made again."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, update

from dsa110_assets.catalogs import calibrators
from dsa110_assets.common.measurement_sets import open_table, read_summary
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NotFoundError
from dsa110_assets.ingest.scan import scan_directory
from dsa110_assets.products import ProductPaths
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import record_version
from dsa110_assets.registry.queries import antenna_marks
from dsa110_assets.registry.queries.calibration import upsert_caltables
from dsa110_assets.registry.queries.observations import upsert_measurement_set
from dsa110_assets.registry.queries.storage import record_parts
from dsa110_assets.registry.schema import GroupState, IngestGroup, StoredPart
from dsa110_assets.stages.operations import backfill
from dsa110_assets.stages.operations.antenna_marks import mark_antenna, unmark_antenna
from dsa110_assets.stages.operations.staleness import stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.tile import make_measurement_set
from dsa110_assets.stages.provenance.recipes import recipe_of
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.times import datetime_to_mjd
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.registry_fixture import add_observation

FIRST, SECOND, THIRD = "2026-03-01T05:10:00", "2026-03-01T05:20:00", "2026-03-01T05:30:00"
WHY = {"reason": "a warm receiver", "person": "J. Doe"}


def mjd(text: str) -> float:
    return datetime_to_mjd(datetime.fromisoformat(text).replace(tzinfo=UTC))


def make(platform: Platform, group_id: str) -> None:
    """Register the products of an observation as its stages would today."""
    config = platform.config
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, group_id)
        upsert_measurement_set(
            session, path=f"/ms/{group_id}", group_id=group_id, kind="raw", status="flagged", start_mjd=group.start_mjd,
            mid_mjd=group.mid_mjd, end_mjd=group.end_mjd, ra_deg=0, dec_deg=16, pointing_dec_deg=16, n_channels=1, flagged_fraction=0,
            size_bytes=1, bad_antennas=antenna_marks.bad_antennas(session, group_id),
        )  # fmt: skip
        inputs: dict[str, int] = {}
        for product in ("measurement_set", "calibrated_ms", "tile_image"):
            version = record_version(
                session, product, group_id, path=f"/{product}/{group_id}", inputs=inputs, recipe=recipe_of(product, config)
            )
            inputs = {f"/{product}/{group_id}": version}


@pytest.fixture
def platform(database: Database, registry_config: PipelineConfig) -> Platform:
    """Three observations, each with its Measurement Sets and image."""
    opened = Platform.open(registry_config)
    with database.session() as session:
        for group_id in (FIRST, SECOND, THIRD):
            add_observation(session, group_id)
    for group_id in (FIRST, SECOND, THIRD):
        make(opened, group_id)
    return opened


def stale(platform: Platform, *, only_marked: bool = False) -> set[str]:
    return {f"{one.asset} {one.key[11:16]} {'+'.join(one.reasons)}" for one in stale_partitions(platform, only_marked=only_marked)}


def of(*times: str) -> set[str]:
    return {f"{product} {time} {why}" for time in times for product, why in (
        ("measurement_set", "marks"), ("calibrated_ms", "inputs"), ("tile_image", "inputs"),
    )}  # fmt: skip


def test_exactly_the_observations_of_the_span_are_made_again(platform: Platform) -> None:
    assert stale(platform) == set()
    found = mark_antenna(platform, "24", from_mjd=mjd("2026-03-01T05:16:00"), to_mjd=mjd("2026-03-01T05:26:00"), **WHY)
    assert found.products == (("measurement_set", SECOND),)
    assert stale(platform) == stale(platform, only_marked=True) == of("05:20")
    plan = backfill.plan(platform, only_marked=True)
    assert plan.partitions == dict.fromkeys(("measurement_set", "calibrated_ms", "tile_image"), ("2026-03-01|05:20",))
    make(platform, SECOND)
    assert stale(platform) == set()


def test_an_observation_with_a_part_in_the_span_belongs_to_it(platform: Platform) -> None:
    mark_antenna(platform, "24", from_mjd=mjd("2026-03-01T05:15:00"), to_mjd=mjd("2026-03-01T05:20:01"), **WHY)
    assert stale(platform) == of("05:10", "05:20")


def test_a_mark_without_an_end_holds_until_it_gets_one(platform: Platform) -> None:
    since = mjd("2026-03-01T05:16:00")
    mark_antenna(platform, "24", from_mjd=since, **WHY)
    assert stale(platform) == of("05:20", "05:30")
    make(platform, SECOND)
    make(platform, THIRD)
    repaired = mark_antenna(platform, "24", from_mjd=since, to_mjd=mjd("2026-03-01T05:29:00"), reason="repaired", person="A. Roe")
    assert repaired.products == (("measurement_set", THIRD),), "what was made while the mark had no end"
    assert stale(platform) == of("05:30")
    with platform.database.session() as session:
        rows = antenna_marks.newest(session, valid_only=False, after=None, limit=10).rows
    assert [(one["reason"], one["removed_by"]) for one in rows] == [("repaired", None), ("a warm receiver", "A. Roe")]


def test_a_mark_that_is_removed_leaves_nothing_to_do_unless_it_was_followed(platform: Platform) -> None:
    for follow in (False, True):
        mark_antenna(platform, "24", from_mjd=mjd("2026-03-01T05:16:00"), to_mjd=mjd("2026-03-01T05:26:00"), **WHY)
        if follow:
            make(platform, SECOND)
        with platform.database.session() as session:
            (row,) = antenna_marks.newest(session, valid_only=True, after=None, limit=10).rows
        found = unmark_antenna(platform, row["mark_id"], person="A. Roe")
        assert found.products == ((("measurement_set", SECOND),) if follow else ())
        assert stale(platform) == (of("05:20") if follow else set())
    with pytest.raises(NotFoundError):
        unmark_antenna(platform, row["mark_id"], person="A. Roe")


def test_a_second_mark_of_the_same_antenna_in_the_same_time_changes_nothing(platform: Platform) -> None:
    mark_antenna(platform, "24", from_mjd=mjd("2026-03-01T05:16:00"), to_mjd=mjd("2026-03-01T05:26:00"), **WHY)
    make(platform, SECOND)
    mark_antenna(platform, "24", from_mjd=mjd("2026-03-01T05:17:00"), to_mjd=mjd("2026-03-01T05:26:00"), **WHY)
    assert stale(platform) == set()
    mark_antenna(platform, "103", from_mjd=mjd("2026-03-01T05:17:00"), to_mjd=mjd("2026-03-01T05:26:00"), **WHY)
    assert stale(platform) == of("05:20")


def test_an_observation_without_its_measurement_set_is_named_and_left_out(platform: Platform) -> None:
    with platform.database.session() as session:
        record_parts(session, "measurement_set", SECOND, f"/measurement_set/{SECOND}", {"measurement_sets": 1})
        session.execute(update(StoredPart).values(retired_at=func.now()))
    found = mark_antenna(platform, "24", from_mjd=mjd("2026-03-01T05:16:00"), **WHY)
    assert found.products == (("measurement_set", THIRD),)
    assert found.without_files == (SECOND,)
    assert stale(platform) == of("05:30")


def test_a_mark_needs_a_reason_a_name_a_span_and_an_antenna_that_exists(platform: Platform) -> None:
    since = mjd("2026-03-01T05:16:00")
    for change in ({"reason": " "}, {"person": "\x00"}, {"antenna": ""}, {"to_mjd": since}):
        with pytest.raises(InvalidRequestError):
            mark_antenna(platform, **{"antenna": "24", "from_mjd": since, **WHY, **change})  # pyright: ignore[reportArgumentType]
    with platform.database.session() as session:
        upsert_caltables(
            session, directory="/cal", group_id=FIRST, night="2026-03-01", calibrator="3C147", refant="103", mid_mjd=since,
            valid_from_mjd=since - 1, valid_to_mjd=since + 1, pointing_dec_deg=16.0, accepted=True, reasons=[],
            quality={"antennas": {"24": {}, "103": {}}},
        )  # fmt: skip
    with pytest.raises(NotFoundError, match="l03"):
        mark_antenna(platform, "l03", from_mjd=since, **WHY)
    mark_antenna(platform, "103", from_mjd=since, **WHY)


def test_the_stage_flags_the_antenna_and_no_other(registry_config, database, tiny_raw_tile, tmp_path) -> None:
    """From raw files to the flags of the Measurement Set, with a mark and without."""
    for path in tiny_raw_tile.files:
        os.link(path, registry_config.input_dir / path.name)
    paths = ProductPaths.of(registry_config)
    (tmp_path / "manual.txt").write_text(MANUAL)
    calibrators.build_calibrator_db(tmp_path / "manual.txt", paths.catalogs_dir / "vla_calibrators.sqlite3")
    group_id = scan_directory(database, registry_config.input_dir, registry_config, datetime.now(UTC)).pending[0]
    platform = Platform(registry_config, paths, database)
    before = _flags(make_measurement_set(platform, TileRun(group_id, run_id="1")).paths["path"])
    name = sorted(before)[1]
    assert all(fraction < 0.5 for fraction in before.values())
    with database.session() as session:
        group = session.get_one(IngestGroup, group_id)
        start, end = group.start_mjd, group.end_mjd
        group.state, group.lease_owner, group.lease_expires_at = GroupState.COMPLETED.value, None, None
    mark_antenna(platform, name, from_mjd=start - 1, to_mjd=end + 1, **WHY)
    mark_antenna(platform, "no such antenna", from_mjd=start - 1, **WHY)
    result = make_measurement_set(platform, TileRun(group_id, run_id="2"))
    after = _flags(result.paths["path"])
    assert after[name] == 1.0
    assert {one: after[one] for one in after if one != name} == pytest.approx({one: before[one] for one in before if one != name}, abs=0.02)
    assert result.figures["bad_antennas"] == f"{name}, no such antenna"
    by_reason = {str(row["reason"]): float(row["fraction"]) for row in result.tables["flagged by reason"]}
    assert by_reason["bad_antenna"] == pytest.approx(2 / len(before), abs=0.02)
    assert stale(platform) == set()


def _flags(ms: Path) -> dict[str, float]:
    """Flagged fraction of each antenna's visibilities, of baselines to antennas that are not flagged themselves."""
    names = read_summary(ms).antenna_names
    with open_table(ms) as main:
        first, second, flag = (np.asarray(main.getcol(name)) for name in ("ANTENNA1", "ANTENNA2", "FLAG"))
    cross = first != second
    lost = {number: flag[cross & ((first == number) | (second == number))].mean() for number in np.unique(first)}
    whole = {number for number, fraction in lost.items() if fraction == 1.0}
    return {
        names[number]: float(flag[cross & ((first == number) | (second == number)) & ~_with(first, second, whole - {number})].mean())
        for number in lost
    }


def _with(first: np.ndarray, second: np.ndarray, numbers: set[int]) -> np.ndarray:
    return np.isin(first, list(numbers)) | np.isin(second, list(numbers))


def test_marks_that_overlap_or_lie_apart_find_exactly_the_sets_of_their_spans(database: Database) -> None:
    """The condition on each span only helps an index; what it finds is what each mark says of each observation."""
    starts = [f"2026-03-{day:02d}T{hour:02d}:00:00" for day in range(1, 11) for hour in (5, 17)]
    marks = [
        ("1", "2026-03-02T00:00:00", "2026-03-02T06:00:00"),
        ("2", "2026-03-02T05:02:00", "2026-03-03T17:01:00"),  # begins and ends within an observation
        ("1", "2026-03-05T00:00:00", "2026-03-05T04:00:00"),  # between two of them
        ("3", "2026-03-08T12:00:00", None),
        ("4", "2026-03-09T00:00:00", "2026-03-09T01:00:00"),  # within the one without an end
    ]
    with database.session() as session:
        for start in starts:
            add_observation(session, start)
    with database.session() as session:
        for start in starts:
            group = session.get_one(IngestGroup, start)
            upsert_measurement_set(
                session, path=f"/ms/{start}", group_id=start, kind="raw", status="flagged", start_mjd=group.start_mjd, mid_mjd=group.mid_mjd,
                end_mjd=group.end_mjd, ra_deg=0, dec_deg=16, pointing_dec_deg=16, n_channels=1, flagged_fraction=0, size_bytes=1, bad_antennas=[],
            )  # fmt: skip
        assert antenna_marks.flagged_otherwise(session) == []
        for antenna, begin, end in marks:
            antenna_marks.put(session, antenna, from_mjd=mjd(begin), to_mjd=None if end is None else mjd(end), reason="x", person="y")
        session.flush()
        spans = [(mjd(begin), np.inf if end is None else mjd(end)) for _, begin, end in marks]
        rows = [session.get_one(IngestGroup, start) for start in starts]
        expected = [row.group_id for row in rows if any(begin < row.end_mjd and row.start_mjd < end for begin, end in spans)]
        assert antenna_marks.flagged_otherwise(session) == expected
        assert 0 < len(expected) < len(starts)
