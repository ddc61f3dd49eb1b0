"""What is stale in a history: equal to a plain rule on any history, and in proportion to the history's length."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.year_registry import fill
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry import provenance
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, StaleReason
from dsa110_assets.registry.queries.calibration import observations_with_other_tables, upsert_caltables
from dsa110_assets.registry.schema import CaltableRow, ProductVersion
from dsa110_assets.stages.provenance.recipes import recipes
from dsa110_assets_tests.registry.statement_work import Work, work_of
from dsa110_assets_tests.registry_fixture import empty

PRODUCTS = ("measurement_set", "calibrated_ms", "tile_image", "hourly_mosaic", "forced_photometry")
UNKNOWN = "source_catalog"
"""A product without a recipe: it is neither judged nor an input."""
TODAY = {product: Recipe("today", "today") for product in PRODUCTS}
Making = tuple[str, str, str | None, str | None, str, str, list[int]]


@st.composite
def histories(draw: st.DrawFn) -> list[Making]:
    """Makings in order: product, key, path, checksum, code, configuration, and which earlier makings were read."""
    makings: list[Making] = []
    for number in range(draw(st.integers(1, 14))):
        product = draw(st.sampled_from((*PRODUCTS, UNKNOWN)))
        key = draw(st.sampled_from(("a", "b")))
        path = draw(st.sampled_from((None, f"/{product}/{key}", f"/moved/{product}/{key}")))
        checksum = draw(st.sampled_from((None, "x", "y")))
        code, configuration = draw(st.sampled_from(("today", "today", "old"))), draw(st.sampled_from(("today", "today", "old")))
        read = draw(st.lists(st.integers(0, number - 1), max_size=3, unique=True)) if number else []
        makings.append((product, key, path, checksum, code, configuration, read))
    return makings


def stale_by_the_rule(versions: list[ProductVersion], today: dict[str, Recipe], other_tables: set[str]) -> dict[int, set[StaleReason]]:
    """The rule in plain words, one version after another: reasons of each stale current version."""
    by_id = {version.version_id: version for version in versions}
    current = {(v.product, v.key): v for v in versions if v.product in today}
    newest = {provenance.reference(v.product, v.key, v.path): v for v in sorted(current.values(), key=lambda v: v.version_id)}
    reasons: dict[int, set[StaleReason]] = {v.version_id: set() for v in current.values()}
    for v in current.values():
        if v.code_version != today[v.product].code_version:
            reasons[v.version_id].add(StaleReason.CODE)
        if v.config_hash != today[v.product].config_hash:
            reasons[v.version_id].add(StaleReason.CONFIGURATION)
        if v.product == "calibrated_ms" and v.key in other_tables:
            reasons[v.version_id].add(StaleReason.TABLES)
        for name, read in v.inputs.items():
            now = newest.get(name)
            was = by_id.get(read)
            known = was.checksum if was is not None and was.checksum is not None else "unknown"
            if now is not None and now.version_id > read and now.checksum != known:
                reasons[v.version_id].add(StaleReason.INPUTS)
    inherits = True
    while inherits:
        inherits = False
        for v in current.values():
            inputs = [newest[name] for name in v.inputs if name in newest]
            if not reasons[v.version_id] and any(reasons[one.version_id] for one in inputs):
                reasons[v.version_id].add(StaleReason.INPUTS)
                inherits = True
    return {version_id: why for version_id, why in reasons.items() if why}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), forgotten=st.sets(st.integers(0, 13), max_size=2), other_tables=st.sets(st.sampled_from(("a", "b"))))
def test_stale_is_what_the_plain_rule_says_on_any_history(
    database: Database, history: list[Making], forgotten: set[int], other_tables: set[str]
) -> None:
    with database.session() as session:
        session.query(ProductVersion).delete()
        made: list[tuple[int, str]] = []
        for product, key, path, checksum, code, configuration, read in history:
            version = provenance.record_version(
                session,
                product,
                key,
                path=path,
                inputs={made[number][1]: made[number][0] for number in read},
                recipe=Recipe(code, configuration),
                checksum=checksum,
            )
            made.append((version, provenance.reference(product, key, path)))
        lost = [made[number][0] for number in forgotten if number < len(made)]  # housekeeping forgets old versions
        session.query(ProductVersion).where(ProductVersion.version_id.in_(lost)).delete()
        session.flush()
        versions = session.query(ProductVersion).order_by(ProductVersion.version_id).all()
        found = provenance.stale(session, TODAY, other_tables=other_tables)
        assert {one.version_id: set(one.reasons) for one in found} == stale_by_the_rule(versions, TODAY, other_tables)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=histories(), other_tables=st.sets(st.sampled_from(("a", "b"))), marked=st.sets(st.sampled_from(("a", "b"))))
def test_what_people_made_stale_is_what_the_whole_list_says_when_all_else_is_as_today(
    database: Database, history: list[Making], other_tables: set[str], marked: set[str]
) -> None:
    """Each product is made once, at one path, by today's recipe: only people make something stale then."""
    with database.session() as session:
        session.query(ProductVersion).delete()
        made: dict[tuple[str, str], tuple[int, str]] = {}
        order: list[tuple[str, str]] = []
        for product, key, path, checksum, _, _, read in history:
            known = {made[order[number]][1]: made[order[number]][0] for number in read if order[number] != (product, key)}
            order.append((product, key))
            if (product, key) not in made:
                version = provenance.record_version(
                    session, product, key, path=path, inputs=known, recipe=TODAY[PRODUCTS[0]], checksum=checksum
                )
                made[product, key] = version, provenance.reference(product, key, path)
        session.flush()
        images = {("tile_image", key) for key in marked}
        found = provenance.stale_by_people(session, TODAY, other_tables=other_tables, marked=images)
        assert found == provenance.stale(session, TODAY, other_tables=other_tables, marked=images)


def test_what_people_made_stale_includes_what_was_made_from_an_earlier_version(database: Database) -> None:
    """An image was made from the first calibrated set; the second is marked. Products without a recipe do not count."""
    with database.session() as session:

        def made(product: str, *read: tuple[str, int]) -> int:
            inputs = {provenance.reference(name, "a"): version for name, version in read}
            return provenance.record_version(session, product, "a", inputs=inputs, recipe=TODAY[PRODUCTS[0]])

        first = made("calibrated_ms")
        image = made("tile_image", ("calibrated_ms", first))
        second = made("calibrated_ms")
        mosaic = made("hourly_mosaic", ("tile_image", image))
        made(UNKNOWN, ("hourly_mosaic", mosaic))
        session.flush()

        found = provenance.stale_by_people(session, TODAY, marked=[("calibrated_ms", "a")])
        assert {one.version_id: one.reasons for one in found} == {
            second: (StaleReason.MARKS,),
            image: (StaleReason.INPUTS,),
            mosaic: (StaleReason.INPUTS,),
        }
        growing = [("hourly_mosaic", "tile_image")]
        found = provenance.stale_by_people(session, TODAY, marked=[("calibrated_ms", "a")], growing=growing)
        assert {one.version_id for one in found} == {second, image}


def test_what_people_made_stale_costs_the_same_after_more_nights(database: Database, registry_config: PipelineConfig) -> None:
    today = recipes(registry_config)

    def asked(nights: int) -> Work:
        filled = _filled(database, registry_config, nights)
        with filled.session() as session:
            key = session.query(ProductVersion.key).filter_by(product="calibrated_ms").order_by(ProductVersion.key).limit(1).scalar()
        return work_of(filled, lambda session: provenance.stale_by_people(session, today, other_tables=[key]))

    few, many = asked(10), asked(30)
    assert few.rows > 1, "something was made from it"
    assert many.rows < 1.2 * few.rows + 50, (few, many)
    assert many.buffers < 1.2 * few.buffers + 50, (few, many)


def _filled(database: Database, config: PipelineConfig, nights: int, tiles_per_night: int = 48) -> Database:
    empty(database.url)
    fill(database, nights, config, tiles_per_night=tiles_per_night, light_curve_nights=1)
    return database


def _in_proportion(few: Work, many: Work) -> bool:
    """Whether three times the nights cost about three times as much."""
    return few.statements == many.statements == 1 and many.rows < 3.6 * few.rows and many.buffers < 3.6 * few.buffers + 50


@pytest.mark.parametrize("code", [None, "another release"])
def test_what_is_stale_costs_in_proportion_to_history(database: Database, registry_config: PipelineConfig, code: str | None) -> None:
    """Whether nothing is stale or everything."""
    today = {name: Recipe(code or recipe.code_version, recipe.config_hash) for name, recipe in recipes(registry_config).items()}
    few, many = (
        work_of(_filled(database, registry_config, nights), lambda session: provenance.stale(session, today)) for nights in (10, 30)
    )
    assert _in_proportion(few, many), (few, many)


def test_nearer_tables_are_sought_in_proportion_to_history(database: Database, registry_config: PipelineConfig) -> None:
    few, many = (
        work_of(
            _filled(database, registry_config, nights, tiles_per_night=12),
            lambda session: observations_with_other_tables(session, borrow_days=3, tolerance_deg=0.5),
        )
        for nights in (60, 180)
    )
    assert _in_proportion(few, many), (few, many)


def test_a_filled_history_is_current_until_a_nearer_table_is_registered(database: Database, registry_config: PipelineConfig) -> None:
    fill(database, 3, registry_config, tiles_per_night=48)

    def stale() -> set[tuple[str, str]]:
        with database.session() as session:
            others = observations_with_other_tables(session, borrow_days=3, tolerance_deg=0.5)
            return {(one.product, one.key) for one in provenance.stale(session, recipes(registry_config), other_tables=others)}

    assert stale() == set()
    with database.session() as session:
        noon = session.query(CaltableRow).order_by(CaltableRow.mid_mjd.desc()).first()
        assert noon is not None
        night = noon.night.isoformat()
        upsert_caltables(
            session, directory="/evening", group_id=f"{night}T20:00:00", night=night, calibrator="3C286", refant="103", mid_mjd=noon.mid_mjd + 7.9 / 24,
            valid_from_mjd=noon.valid_from_mjd, valid_to_mjd=noon.valid_to_mjd, pointing_dec_deg=noon.pointing_dec_deg, accepted=True, reasons=[], quality={},
        )  # fmt: skip
    tiles = {f"{night}T{hour:02d}:{minute:02d}:00" for hour in range(16, 24) for minute in (0, 30)}
    hours = {f"{night}T{hour:02d}" for hour in range(15, 24)}  # the mosaic of 15 h takes the tile of 16:00
    found = stale()
    assert {key for product, key in found if product == "calibrated_ms"} == tiles
    assert {key for product, key in found if product == "forced_photometry"} == hours
    assert ("nightly_mosaic", night) in found
