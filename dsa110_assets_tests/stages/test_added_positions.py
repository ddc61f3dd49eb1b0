"""A new position is measured in past mosaics as if it had always been listed; nothing else changes or becomes stale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.year_registry import fill
from dsa110_assets.config import PipelineConfig
from dsa110_assets.photometry.additions import may_cover
from dsa110_assets.quality import gate
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.queries import channel_photometry, photometry, source_table, upsert_image, upsert_qa_metric
from dsa110_assets.registry.queries.examination import epochs as examined_epochs
from dsa110_assets.registry.queries.examination import touched_sources
from dsa110_assets.registry.queries.sources import open_addition, past_mosaics
from dsa110_assets.registry.schema import PositionAddition, ProductVersion
from dsa110_assets.stages.operations.staleness import stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import additions, hour
from dsa110_assets.stages.products.references import reference_path, refresh_monitored
from dsa110_assets.stages.provenance.contents import agrees
from dsa110_assets.stages.queue.planning import additions_due
from dsa110_assets.times import datetime_to_mjd, group_time
from dsa110_assets_tests.mosaicking.tile_files import DRIFT_DEG, TileTruth, write_tile
from dsa110_assets_tests.registry.statement_work import work_of
from dsa110_assets_tests.registry_fixture import add_observation, empty

SOURCES = {"a": (128.3, 54.6, 1.4), "b": (129.6, 54.2, 1.25), "c": (129.62, 54.28, 1.3)}
"""Name: RA, Dec (deg), flux (Jy). The last two are a blend."""
FAR = (310.0, 20.0)
NIGHTS = ("2026-03-12", "2026-03-13")
List = Callable[..., None]


@pytest.fixture
def platform(registry_config: PipelineConfig, database: Database, tmp_path: Path) -> Platform:
    """The same hour of two nights, each of three good tiles in two channels."""
    platform = Platform.open(registry_config.model_copy(update={"monitored_sources_file": tmp_path / "list.csv"}))
    with database.session() as session:
        for night in NIGHTS:
            start = datetime_to_mjd(group_time(f"{night}T05:00:00"))
            for i in range(3):
                truth = TileTruth(
                    127.5 + i * DRIFT_DEG, size=160, cell_arcsec=60.0, start_mjd=start + i * 309.2376 / 86400, beam_arcsec=(180, 150, 25)
                )
                directory = registry_config.scratch_dir / f"{night}-{i}"
                made = write_tile(directory, truth, list(SOURCES.values()), i)
                for channel, frequency in enumerate((1.358e9, 1.452e9)):
                    write_tile(directory, truth, list(SOURCES.values()), 10 * channel + i, channel=channel, frequency_hz=frequency)
                add_observation(session, made.group_id, dec_deg=truth.dec_deg)
                upsert_image(
                    session, directory=str(made.directory), group_id=made.group_id, mid_mjd=made.mid_mjd, ra_deg=truth.ra_deg,
                    dec_deg=truth.dec_deg, pointing_dec_deg=truth.dec_deg, noise_jy_per_beam=0.005, thermal_jy_per_beam=0.005,
                    peak_jy_per_beam=0.4, bmaj_arcsec=150.0, bmin_arcsec=120.0, bpa_deg=25.0,
                )  # fmt: skip
                for check in gate.TILE_CHECKS:
                    upsert_qa_metric(session, "tile_image", made.group_id, check, 1.0, passed=True)
    reference_path(platform).parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"name": ["faint"], "ra_deg": [0.0], "dec_deg": [0.0], "flux_jy": [1e-6], "spectral_index": [0.0]}).to_parquet(
        reference_path(platform)
    )
    return platform


def listed(platform: Platform, *names: str, **others: tuple[float, float]) -> None:
    """Refresh the list with sources by name, and others at their positions."""
    rows = [(name, *SOURCES[name][:2]) for name in names] + [(name, *place) for name, place in others.items()]
    assert platform.config.monitored_sources_file is not None
    pd.DataFrame(rows, columns=["name", "ra_deg", "dec_deg"]).to_csv(platform.config.monitored_sources_file, index=False)
    refresh_monitored(platform, "list")


def hours(platform: Platform) -> None:
    for night in NIGHTS:
        if not (platform.paths.mosaic_dir(f"hourly_{night}T05")).is_dir():
            hour.make_mosaic(platform, night, "05", "hour")
        hour.measure(platform, night, "05", "hour")


def fluxes(platform: Platform, *, channels: bool = False) -> pd.DataFrame:
    """All fluxes by source, mosaic and channel."""
    with platform.database.session() as session:
        names = source_table(session, active_only=False).set_index("source_id")["name"].to_dict()
        table = channel_photometry(session) if channels else photometry(session)
    table["name"] = table["source_id"].map(names)
    keys = ["name", "mosaic_name", "channel"] if channels else ["name", "mosaic_name"]
    return table.astype({"mosaic_name": str}).set_index(keys).sort_index().drop(columns="source_id")


def of(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    return table.loc[table.index.get_level_values("name").isin(names)]


def measure_all(platform: Platform) -> int:
    runs = 0
    while additions.measure_added(platform, f"added {runs}") is not None:
        runs += 1
    return runs


def test_a_new_position_gets_the_fluxes_that_it_would_have_had(platform: Platform) -> None:
    listed(platform, "a", "b")
    hours(platform)
    before = fluxes(platform), fluxes(platform, channels=True)
    listed(platform, "a", "b", "c")
    with platform.database.session() as session:
        assert [work.job for work in additions_due(session)] == ["new_positions"]
    assert measure_all(platform) == 1
    after = fluxes(platform), fluxes(platform, channels=True)
    for old, new in zip(before, after, strict=True):
        pd.testing.assert_frame_equal(of(new, "a", "b"), old)
    assert [len(of(new, "c")) for new in after] == [2, 4]
    with platform.database.session() as session:
        assert additions_due(session) == []
    hours(platform)  # the whole hours again, with the position on the list
    for added, whole in zip(after, (fluxes(platform), fluxes(platform, channels=True)), strict=True):
        pd.testing.assert_frame_equal(of(added, "c"), of(whole, "c"))


def test_nothing_becomes_stale_and_the_registry_knows_where_the_fluxes_come_from(platform: Platform) -> None:
    listed(platform, "a", "b")
    hours(platform)
    with platform.database.session() as session:
        versions = session.query(ProductVersion).filter_by(product="forced_photometry").count()
    listed(platform, "a", "b", "c", far=FAR)
    assert stale_partitions(platform) == []
    measure_all(platform)
    assert stale_partitions(platform) == []
    with platform.database.session() as session:
        assert session.query(ProductVersion).filter_by(product="forced_photometry").count() == versions
        (made,) = session.query(ProductVersion).filter_by(product="added_photometry")
        mosaics = [current_version(session, "hourly_mosaic", f"{night}T05") for night in NIGHTS]
        positions = current_version(session, "monitored_sources", "all")
        assert positions is not None
        assert made.inputs == {one.path: one.version_id for one in mosaics if one} | {"monitored_sources/all": positions.version_id}
        for night in NIGHTS:
            photometry_of = current_version(session, "forced_photometry", f"{night}T05")
            assert photometry_of is not None
            assert agrees(session, photometry_of)


def test_a_position_that_is_no_longer_listed_keeps_its_past_also_when_an_hour_is_measured_again(platform: Platform) -> None:
    listed(platform, "a", "b")
    hours(platform)
    before = fluxes(platform)
    listed(platform, "a")
    assert measure_all(platform) == 0
    hours(platform)
    pd.testing.assert_frame_equal(fluxes(platform), before)


def test_a_moved_position_is_measured_again_at_its_new_place(platform: Platform) -> None:
    listed(platform, "a", moved=(SOURCES["b"][0], SOURCES["b"][1] + 4 / 3600))
    hours(platform)
    before = of(fluxes(platform), "moved")
    listed(platform, "a", moved=SOURCES["b"][:2])
    assert measure_all(platform) == 1
    after = of(fluxes(platform), "moved")
    assert (after["flux_jy"] != before["flux_jy"]).all()
    hours(platform)
    pd.testing.assert_frame_equal(of(fluxes(platform), "moved"), after)


def test_batches_are_bounded_and_a_killed_run_is_continued(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    listed(platform, "a", "b")
    hours(platform)
    listed(platform, "a", "b", "c")
    monkeypatch.setattr(additions, "MEASURED_AT_ONCE", 1)
    with platform.database.session() as session:
        first = additions_due(session)
    with monkeypatch.context() as broken:
        broken.setattr(additions, "add_photometry", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            additions.measure_added(platform, "killed")
    with platform.database.session() as session:
        assert additions_due(session) == first
    done = additions.measure_added(platform, "one")
    assert done is not None
    assert (done.figures["mosaics"], done.figures["finished"]) == (1, False)
    with platform.database.session() as session:
        assert additions_due(session)[0].run_key != first[0].run_key, "another run is requested"
    assert measure_all(platform) == 1
    assert len(of(fluxes(platform), "c")) == 2


def test_the_next_examination_of_variability_reads_the_added_light_curves_once(platform: Platform) -> None:
    listed(platform, "a", "b")
    hours(platform)
    listed(platform, "a", "b", "c")
    measure_all(platform)

    def touched() -> list[str]:
        with platform.database.session() as session:
            names = source_table(session).set_index("source_id")["name"]
            return [str(names[number]) for number in touched_sources(session, examined_epochs(session, 1e9))]

    assert touched() == ["c"]
    assert touched() == []


def test_a_mosaic_without_files_is_left_out_and_named(platform: Platform) -> None:
    listed(platform, "a", "b")
    hours(platform)
    listed(platform, "a", "b", "c")
    for file in platform.paths.mosaic_dir(f"hourly_{NIGHTS[0]}T05").glob("*.fits"):
        file.unlink()
    done = additions.measure_added(platform, "run")
    assert done is not None
    assert done.figures["mosaics"] == done.figures["mosaics_left_out"] == 1
    assert NIGHTS[0] in done.tables["left out"][0]["mosaic"]
    with platform.database.session() as session:
        assert open_addition(session) is None


def test_the_first_list_and_an_unchanged_list_add_nothing(platform: Platform) -> None:
    listed(platform, "a", "b")
    hours(platform)
    listed(platform, "a", "b")
    with platform.database.session() as session:
        assert session.query(PositionAddition).count() == 0
    assert additions.measure_added(platform, "run") is None


def test_no_mosaic_that_covers_a_position_is_passed_over() -> None:
    position = pd.DataFrame({"ra_deg": [0.5], "dec_deg": [56.0]})
    hour = np.full(3, 1 / 24)
    assert may_cover(position, np.array([355.0, 8.0, 180.0]), np.full(3, 54.6), hour).tolist() == [True, True, False]
    assert may_cover(position.assign(dec_deg=30.0), np.array([0.5]), np.array([54.6]), hour[:1]).tolist() == [False]


def test_what_is_due_reads_the_same_at_any_length_of_history(database: Database, registry_config: PipelineConfig) -> None:
    work: dict[int, list[tuple[int, int]]] = {}
    for nights in (60, 180):
        empty(database.url)
        fill(database, nights, registry_config, tiles_per_night=24, light_curve_nights=1)
        costs = [work_of(database, additions_due), work_of(database, lambda session: past_mosaics(session, 1e9, 50))]
        work[nights] = [(cost.rows, cost.buffers) for cost in costs]
    for (few_rows, few_buffers), (rows, buffers) in zip(work[60], work[180], strict=True):
        assert rows <= 1.1 * few_rows + 20, work
        assert buffers <= 1.3 * few_buffers + 40, work
