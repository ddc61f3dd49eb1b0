"""The work that is due agrees with a plain rule, and finding it does not read all of history."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from benchmarks.year_registry import fill
from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest import ledger
from dsa110_assets.quality.gate import TILE_CHECKS
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries import storage
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.schema import CalibrationApplied, CaltableRow, GroupState, IngestGroup, ProductVersion, TileStage
from dsa110_assets.stages.operations import alerts, old_rows, retiring
from dsa110_assets.stages.products.gates import good_tiles
from dsa110_assets.stages.queue import intake, planning
from dsa110_assets.times import group_time, hour_partition, hour_window
from dsa110_assets_tests.registry.statement_work import work_of
from dsa110_assets_tests.registry_fixture import add_observation, empty

SLOTS = [f"2026-03-01T{hour:02d}:{minute:02d}:00" for hour in (4, 5, 6, 7) for minute in (0, 8, 30, 52)]
UNFINISHED = {GroupState.COLLECTING, GroupState.PENDING, GroupState.IN_PROGRESS}


def hours_by_the_rule(session: Session, config: PipelineConfig, *, quiet: bool) -> set[str]:
    """Run keys of the hours that are due, one hour after another from all rows."""
    overlap = timedelta(minutes=config.mosaic_overlap_minutes)
    versions = session.query(ProductVersion).order_by(ProductVersion.version_id).all()
    images = {v.key: v.version_id for v in versions if v.product == "tile_image"}
    measured = {v.key: v.version_id for v in versions if v.product == "forced_photometry"}
    groups = session.query(IngestGroup).all()
    due: set[str] = set()
    for night, hour in {hour_partition(group_id) for group_id in images}:
        start, end = hour_window(night, hour)
        start, end = start - overlap, end + overlap
        usable = good_tiles(session, [group_id for group_id in images if start <= group_time(group_id) < end])
        newest = max((images[group_id] for group_id in usable), default=0)
        own = any(hour_partition(group_id) == (night, hour) for group_id in usable)
        unfinished = any(g.state in UNFINISHED and start <= group_time(g.group_id) < end for g in groups)
        waits_long = quiet and any(
            one > measured.get(f"{night}T{hour}", 0) for tile, one in images.items() if tile[:13] == f"{night}T{hour}"
        )
        later = any(group_time(g.group_id) >= end for g in groups)
        if own and (waits_long or not unfinished) and (quiet or later) and measured.get(f"{night}T{hour}", 0) <= newest:
            due.add(f"hour/{night}T{hour}/{newest}")
    return due


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.dictionaries(st.sampled_from(SLOTS), st.sampled_from(list(GroupState)), min_size=1),
    makings=st.lists(st.one_of(st.sampled_from(SLOTS), st.sampled_from(sorted({slot[:13] for slot in SLOTS}))), max_size=14),
    bad=st.sets(st.sampled_from(SLOTS), max_size=3),
    quiet=st.booleans(),
)
def test_an_hour_is_due_by_the_plain_rule_on_any_night(
    database: Database, registry_config: PipelineConfig, states: dict[str, GroupState], makings: list[str], bad: set[str], quiet: bool
) -> None:
    with Session(database.engine) as session:  # rolled back
        for group_id, state in states.items():
            group = add_observation(session, group_id, stage=TileStage.IMAGED)
            group.state, group.lease_owner = state.value, "test" if state is GroupState.IN_PROGRESS else None
        for key in makings:  # observations become images, hours photometry
            product = "tile_image" if key in SLOTS else "forced_photometry"
            if key in states or product == "forced_photometry":
                record_version(session, product, key, recipe=Recipe("code", "settings"))
        for group_id in states:
            for check in TILE_CHECKS:
                upsert_qa_metric(session, "tile_image", group_id, check, 1.0, passed=group_id not in bad)
        session.flush()
        now = datetime.now(UTC) + timedelta(days=1 if quiet else 0)
        found = planning.hours_due(session, registry_config, now)
        assert {work.run_key for work in found} == hours_by_the_rule(session, registry_config, quiet=quiet)
        assert [work.run_key for work in found] == sorted((work.run_key for work in found), reverse=True), "newest first"


def test_a_due_hour_of_a_night_in_a_backfill_does_not_hide_others(database: Database, registry_config: PipelineConfig) -> None:
    fill(database, 3, registry_config, tiles_per_night=48)
    with database.session() as session:
        session.query(ProductVersion).filter_by(product="forced_photometry").delete()
        last, before = ((datetime.now(UTC) - timedelta(days=days)).date().isoformat() for days in (1, 2))
        assert {work.night for work in planning.hours_due(session, registry_config, datetime.now(UTC))} == {last}
        assert {work.night for work in planning.hours_due(session, registry_config, datetime.now(UTC), {last})} == {before}


def test_a_night_is_ranked_once_when_it_has_ended_and_nothing_of_it_is_unfinished(database: Database) -> None:
    recipe = Recipe("code", "settings")
    noon = datetime(2026, 3, 12, 12, tzinfo=UTC)
    with Session(database.engine) as session:  # rolled back
        for hour in range(12):
            version = record_version(session, "forced_photometry", f"2026-03-12T{hour:02d}", recipe=recipe)
            assert planning.nights_due(session, noon) == [], "the night goes on"
        group = add_observation(session, "2026-03-12T11:55:00", state=GroupState.PENDING)
        midnight = noon + timedelta(hours=12, minutes=1)
        assert planning.nights_due(session, midnight) == [], "an observation is unfinished"
        group.stage = TileStage.AWAITING_CALIBRATION
        session.flush()
        assert planning.nights_due(session, midnight, {"2026-03-12"}) == [], "an hour is due"
        (due,) = planning.nights_due(session, midnight)
        assert due.run_key == f"night/2026-03-12/{version}"
        record_version(session, "ese_candidates", "2026-03-12", recipe=recipe)
        assert planning.nights_due(session, midnight) == []
        record_version(session, "forced_photometry", "2026-03-12T03", recipe=recipe)
        assert len(planning.nights_due(session, midnight)) == 1, "an hour was made again"


def test_a_stuck_observation_holds_its_hour_and_its_night_for_12_hours_and_is_an_alert(
    database: Database, registry_config: PipelineConfig
) -> None:
    recipe, night, now = Recipe("code", "settings"), "2026-03-12", datetime.now(UTC)
    made = {"tile_image": f"{night}T05:10:00", "forced_photometry": f"{night}T05"}

    def due(session: Session, hours: float) -> tuple[list[str], list[str], list[str]]:
        then = now + timedelta(hours=hours)
        found = planning.hours_due(session, registry_config, then), planning.nights_due(session, then)
        return [one.run_key for one in found[0]], [one.run_key for one in found[1]], [one.key for one in alerts._stuck(session, then)]

    with Session(database.engine) as session:  # rolled back
        for state, start in ((GroupState.COMPLETED, "05:10:00"), (GroupState.PENDING, "05:20:00")):
            add_observation(
                session, f"{night}T{start}", state=state, stage=TileStage.IMAGED if state is GroupState.COMPLETED else TileStage.RAW
            )
        photometry = record_version(session, "forced_photometry", made["forced_photometry"], recipe=recipe)
        image = record_version(session, "tile_image", made["tile_image"], recipe=recipe)
        for check in TILE_CHECKS:
            upsert_qa_metric(session, "tile_image", made["tile_image"], check, 1.0, passed=True)
        session.flush()
        assert due(session, 11) == ([], [], []), "it may still come"
        waited = ([f"hour/{night}T05/{image}"], [f"night/{night}/{photometry}"], [f"stuck/{night}"])
        assert due(session, 13) == waited
        photometry = record_version(session, "forced_photometry", made["forced_photometry"], recipe=recipe)
        record_version(session, "ese_candidates", night, recipe=recipe)
        assert due(session, 13) == ([], [], [f"stuck/{night}"]), "once"
        session.query(IngestGroup).filter_by(group_id=f"{night}T05:20:00").update({"state": GroupState.FAILED.value})
        later = record_version(session, "forced_photometry", made["forced_photometry"], recipe=recipe)
        assert due(session, 1) == ([], [f"night/{night}/{later}"], [])


def _questions(config: PipelineConfig) -> dict[str, Callable[[Session], object]]:
    now = datetime.now(UTC)
    return {
        "calibrations_due": planning.calibrations_due,
        "hours_due": lambda session: planning.hours_due(session, config, now),
        "nights_due": lambda session: planning.nights_due(session, now),
        "nightly_mosaics_due": planning.nightly_mosaics_due,
    }


def _make_something_due(session: Session) -> None:
    """A tile of the last night was made again, and its calibrator's tables and candidates are missing."""
    last = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    recipe = Recipe("code", "settings")
    record_version(session, "tile_image", f"{last}T12:00:00", path=f"/data/images/{last}/{last}T12:00:00", recipe=recipe)
    record_version(session, "forced_photometry", f"{last}T05", recipe=recipe)
    session.query(CaltableRow).filter_by(group_id=f"{last}T12:00:00").update({"created_at": datetime(2020, 1, 1, tzinfo=UTC)})


def test_no_question_of_the_sensor_reads_more_when_history_grows(database: Database, registry_config: PipelineConfig) -> None:
    """Three times the nights, the same rows and buffers, up to a level of an index."""
    work: dict[int, dict[str, tuple[int, int]]] = {}
    for nights in (60, 180):
        empty(database.url)
        fill(database, nights, registry_config, tiles_per_night=24, light_curve_nights=1)
        with database.session() as session:
            _make_something_due(session)
            assert {work.job for question in _questions(registry_config).values() for work in question(session)} == {  # type: ignore[attr-defined]
                "calibration", "hour", "night", "mosaic_of_the_night",
            }  # fmt: skip
        asked = {**_questions(registry_config), "completed_recently": intake.completed_recently, "n_in_progress": ledger.n_in_progress}
        costs = {name: work_of(database, question) for name, question in asked.items()}
        work[nights] = {name: (cost.rows, cost.buffers) for name, cost in costs.items()}
    for name, (rows, buffers) in work[180].items():
        few_rows, few_buffers = work[60][name]
        assert rows <= 1.1 * few_rows + 20, (name, work)
        assert buffers <= 1.3 * few_buffers + 40, (name, work)


def _questions_of_a_cleaning(config: PipelineConfig) -> dict[str, Callable[[Session], object]]:
    now = datetime.now(UTC)
    kept = [(rule, days) for rule, (_, days) in retiring.rules(config).items()]
    last = (now - timedelta(days=1)).date().isoformat()
    return {
        **{f"due: {rule}": partial(storage.parts_due, rule=rule, before=now - timedelta(days=days)) for rule, days in kept if days},
        **{f"by day: {rule}": partial(storage.bytes_by_day, rule=rule, since=now - timedelta(days=2 * days + 8)) for rule, days in kept},
        **{f"rows: {rule.name}": partial(rule.count, config=config, now=now) for rule in old_rows.RULES},
        "retired": lambda session: storage.retired(session, [("measurement_set", f"{last}T12:00:00")]),
        "counts": lambda session: ledger.counts(session, completed_after=now - timedelta(days=1)),
    }


def test_a_daily_cleaning_reads_what_is_due_and_not_the_archive(database: Database, registry_config: PipelineConfig) -> None:
    """Four times the nights, the same rows and buffers. A plan may sort rows or not, which counts them once more."""
    shorter = dict.fromkeys(("keep_versions_days", "keep_quality_days", "keep_hourly_images_days"), 30.0)
    config = registry_config.model_copy(update=shorter)
    work: dict[int, dict[str, tuple[int, int]]] = {}
    for nights in (150, 600):
        empty(database.url)
        fill(database, nights, config, tiles_per_night=8, light_curve_nights=1, incoming=Path("/data/incoming"), files_present=80)
        for rule in old_rows.RULES:  # what the cleanings until yesterday removed
            rule.delete(database, config, datetime.now(UTC) - timedelta(days=1))
        with database.session() as session:  # ten images were made again a month ago
            keys = session.scalars(
                select(ProductVersion.key)
                .where(ProductVersion.product == "tile_image")
                .order_by(ProductVersion.version_id.desc())
                .limit(10)
            ).all()
            for key in keys:
                record_version(session, "tile_image", key, path=f"/data/images/{key[:10]}/{key}", recipe=Recipe("code", "settings"))
            session.execute(text("UPDATE product_versions SET superseded_at = now() - interval '31 days' WHERE superseded_at IS NOT NULL"))
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
        asked = _questions_of_a_cleaning(config)
        with database.session() as session:
            assert all(asked[f"due: {rule}"](session) for rule in ("measurement_sets", "working_planes", "tile_maps"))
            assert asked["rows: gone_files"](session)
            assert asked["rows: quality"](session)
        costs = {name: work_of(database, question) for name, question in asked.items()}
        work[nights] = {name: (cost.rows, cost.buffers) for name, cost in costs.items()}
    for name, (rows, buffers) in work[600].items():
        few_rows, few_buffers = work[150][name]
        assert rows <= 2.2 * few_rows + 20, (name, work)
        assert buffers <= 1.3 * few_buffers + 40, (name, work)


def test_with_500_observations_waiting_the_newest_go_first_and_a_tick_stays_cheap(
    database: Database, registry_config: PipelineConfig
) -> None:
    """A day's outage and a backfill: newest first, a calibrator before the tiles of its night, the backfill last."""
    fill(database, 10, registry_config)
    now = datetime.now(UTC)
    with database.session() as session:
        session.query(CalibrationApplied).delete()
        waiting = session.scalars(select(IngestGroup).order_by(IngestGroup.start_mjd.desc()).limit(500)).all()
        for number, group in enumerate(waiting):
            group.state, group.stage, group.pending_at = GroupState.PENDING.value, TileStage.RAW.value, now - timedelta(hours=1)
            group.priority = 10 if number < 400 else 0
            if group.calibrator is not None:
                session.query(CaltableRow).filter_by(group_id=group.group_id).delete()
    order: list[tuple[int, str, bool]] = []
    ticks: list[float] = []
    while True:
        began = time.process_time()
        with database.session() as session:
            leases = ledger.lease_pending(session, "test", 20, now, lease_s=1800.0)
            for question in _questions(registry_config).values():
                question(session)
            ledger.n_in_progress(session)
        ticks.append(time.process_time() - began)
        if not leases:
            break
        order += [(lease.priority, lease.group_id, lease.calibrator is not None) for lease in leases]
    assert len(order) == 500
    assert [priority for priority, *_ in order] == [10] * 400 + [0] * 100, "backfill last"
    nights = [(priority, group_id[:10]) for priority, group_id, _ in order]
    assert nights == sorted(nights, reverse=True), "newest night first"
    for priority, night in set(nights):
        own = [(group_id, is_calibrator) for p, group_id, is_calibrator in order if (p, group_id[:10]) == (priority, night)]
        assert own == sorted(own, key=lambda one: (one[1], one[0]), reverse=True), "the calibrator, then the newest"
    assert sorted(ticks)[len(ticks) // 2] < 0.2, ticks


def test_a_tick_at_full_cadence_costs_less_than_a_fifth_of_a_second(database: Database, registry_config: PipelineConfig) -> None:
    """CPU time of this process after 10 nights; the server's share is held by the rows above."""
    fill(database, 10, registry_config)
    with database.session() as session:
        assert session.scalar(select(func.count()).select_from(IngestGroup)) == 2500
        for question in _questions(registry_config).values():  # the first time statements are compiled
            question(session)
        began = time.process_time()
        for question in _questions(registry_config).values():
            assert question(session) == []
        assert time.process_time() - began < 0.2


def test_hours_that_are_settled_do_not_hide_older_hours(database: Database, registry_config: PipelineConfig) -> None:
    fill(database, 3, registry_config, tiles_per_night=48)
    now = datetime.now(UTC)
    with database.session() as session:
        session.query(ProductVersion).filter_by(product="forced_photometry").delete()
        newest = [work.run_key for work in planning.hours_due(session, registry_config, now)]
        older = [work.run_key for work in planning.hours_due(session, registry_config, now, settled=newest)]
    assert len(newest) == len(older) == 24
    assert min(newest) > max(older)
