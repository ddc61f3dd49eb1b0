"""Two short nights go from raw files to ranked candidates through the real sensors, jobs, assets and registry."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from dsa110_assets.cli import demo_report
from dsa110_assets.cli.demo import MIN_JY
from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.cli.services import free_port
from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.ingest import status
from dsa110_assets.orchestration import sensors
from dsa110_assets.orchestration.partitions import tile_key
from dsa110_assets.orchestration.resources import PlatformResource
from dsa110_assets.registry.provenance import current_version
from dsa110_assets.registry.schema import CaltableRow, GroupState, ImageRow, ProductVersion
from dsa110_assets.simulation import faults
from dsa110_assets.simulation.night import DemoPlan, demo_plan
from dsa110_assets.stages.operations import alerts, backfill, kernels, retiring
from dsa110_assets.stages.operations.staleness import stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Level
from dsa110_assets.stages.products import gates
from dsa110_assets.stages.provenance import contents
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets.stages.table import TABLE
from dsa110_assets.times import tile_partition
from dsa110_assets_tests.api.conftest import serving
from dsa110_assets_tests.e2e.reading import READ, WatchedConfig, watched_stages
from dsa110_assets_tests.notebooks import NOTEBOOKS, run_notebook
from dsa110_assets_tests.registry_fixture import empty

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]
N_TILES = 2
FROM_LIGHT_CURVES = ("light_curves", "variability_metrics", "ese_candidates")
MOST_ROUNDS = 40


class Night:
    """A platform in this process: evaluate the sensors in turn and execute the runs that they request."""

    def __init__(self, config: PipelineConfig, instance: dg.DagsterInstance) -> None:
        self.definitions = build_defs(config)
        self.instance = instance
        self.resource = PlatformResource.with_config(config)
        self.run_keys: set[str] = set()
        self.loops: set[str] = set()

    def run_until_quiet(self) -> None:
        """Evaluate the sensors until two rounds in a row request nothing new."""
        quiet = 0
        for _ in range(MOST_ROUNDS):
            requests = [*self._tick_raw_files(), *self._tick_follow_up()]
            fresh = [request for request in requests if request.run_key not in self.run_keys]
            quiet = 0 if fresh else quiet + 1
            if quiet == 2:
                return
            for request in fresh:
                self.run_keys.add(str(request.run_key))
                self._execute(request)
        pytest.fail(f"the sensors still request runs after {MOST_ROUNDS} rounds: {sorted(self.run_keys)}")

    def _tick_raw_files(self) -> Sequence[dg.RunRequest]:
        context = dg.build_sensor_context(instance=self.instance, resources={"platform": self.resource})
        answer: Any = sensors.raw_files(context)
        if isinstance(answer, dg.SkipReason):
            return []
        for event in answer.asset_events:
            self.instance.report_runless_asset_event(event)
        return answer.run_requests

    def _tick_follow_up(self) -> Sequence[dg.RunRequest]:
        context = dg.build_sensor_context(instance=self.instance, resources={"platform": self.resource})
        answers: Any = sensors.follow_up(context)
        return [answer for answer in answers if isinstance(answer, dg.RunRequest)]

    def _execute(self, request: dg.RunRequest) -> None:
        job = self.definitions.resolve_job_def(str(request.job_name))
        result = job.execute_in_process(
            instance=self.instance,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            asset_selection=list(request.asset_selection) if request.asset_selection else None,
        )
        assert result.success, request.run_key


def loops_compiled() -> set[str]:
    """Loops that this process has compiled, or read from disk."""
    return set(
        kernels.compiled([one for name, one in sys.modules.items() if name.startswith("dsa110_assets.") and name.endswith("kernels")])
    )


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory, registry_url: str) -> tuple[Night, Platform, DemoPlan, DemoPlaces, dict[str, str]]:
    empty(registry_url)
    places = DemoPlaces(tmp_path_factory.mktemp("night"))
    for folder in (places.incoming, places.truth, places.reference):
        folder.mkdir()
    plan = demo_plan(n_tiles=N_TILES, min_jy=MIN_JY)
    plan.write_references(places.reference)
    plan.write_truth(places.truth)
    settings = {name.removeprefix("PIPELINE_").lower(): value for name, value in places.settings(3999).items()}
    config: PipelineConfig = WatchedConfig(_env_file=None, **settings, database_url=SecretStr(registry_url)).model_copy(
        update={"hour_settle_s": 0.001}
    )
    before_loops = loops_compiled()  # other tests call loops with other types
    for number in range(2):
        truth = plan.simulate(places.incoming, number)
    broken = places.incoming / "2026-03-12T04:50:00_sb03.hdf5"
    broken.write_bytes(truth.files[0][3].read_bytes())
    faults.truncate(broken)
    (places.incoming / "notes.txt").write_text("foreign")
    before = _digests(places.incoming)
    platform = Platform.open(config)
    with dg.DagsterInstance.local_temp(str(tmp_path_factory.mktemp("dagster"))) as instance:
        one = Night(config, instance)
        with watched_stages():
            one.run_until_quiet()
        one.loops = loops_compiled() - before_loops
        yield one, platform, plan, places, before


def _digests(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())}


def test_every_asset_from_raw_subbands_to_candidates_is_materialized(night: Any) -> None:
    one, _, plan, _, _ = night
    for name in (
        "raw_subbands", "measurement_set", "calibration_tables", "calibrated_ms", "tile_image", "hourly_mosaic", "source_catalog",
        "forced_photometry", "light_curves", "variability_metrics", "ese_candidates", "calibrator_catalog", "nvss_catalog", "monitored_sources",
    ):  # fmt: skip
        assert one.instance.get_latest_materialization_event(dg.AssetKey(name)) is not None, name
    tiles = one.instance.get_materialized_partitions(dg.AssetKey("tile_image"))
    assert len(tiles) == N_TILES * len(plan.nights)


def test_every_loop_that_the_night_calls_is_compiled_at_installation(night: Any) -> None:
    lacking = sorted(night[0].loops - set(kernels.listed()))
    assert not lacking, f"add to {kernels.LIST.name}: {lacking}"


def test_the_tile_image_shows_a_preview_and_numbers(night: Any) -> None:
    one = night[0]
    event = one.instance.get_latest_materialization_event(dg.AssetKey("tile_image"))
    metadata = event.asset_materialization.metadata
    assert metadata["preview"].value.startswith("![preview](data:image/png;base64,")
    assert metadata["noise_mjy_per_beam"].value > 0
    assert {"peak_memory_mb", "duration_s", "path", "code_version", "configuration"} <= set(metadata)


def test_fluxes_positions_noise_and_the_event_agree_with_the_simulation(night: Any) -> None:
    _, platform, plan, places, _ = night
    report = demo_report.compare(platform, places.truth, plan)
    broken = [f"{promise}: {figure}" for promise, figure, kept in report.promises() if not kept]
    assert not broken, f"{broken}\n{report.sources.to_string()}"


def test_broken_and_foreign_files_are_listed_with_a_reason_and_left_untouched(night: Any) -> None:
    _, platform, _, places, before = night
    with platform.database.session() as session:
        reasons = {Path(one.path).name: one.reason or "" for one in status.rejected_files(session)}
        counts = status.backlog(session, now()).counts
    assert set(reasons) == {"2026-03-12T04:50:00_sb03.hdf5", "notes.txt"}
    assert all(reasons.values())
    assert counts[GroupState.COMPLETED] == N_TILES * 2
    assert counts[GroupState.FAILED] == 0
    assert _digests(places.incoming) == before


def test_a_second_round_requests_nothing(night: Any) -> None:
    one = night[0]
    known = set(one.run_keys)
    one.run_until_quiet()
    assert one.run_keys == known


def test_each_stage_has_read_exactly_the_settings_that_are_declared_for_its_product(night: Any) -> None:
    scientific = {name for row in TABLE.with_recipe() for name in row.recipe.settings}
    read = {product: names & scientific for product, names in READ.items()}
    assert read == {product: set(TABLE[product].recipe.settings) for product in READ}


def _newest_versions(platform: Platform) -> dict[tuple[str, str], int]:
    with platform.database.session() as session:
        return {(row.product, row.key): row.version_id for row in session.query(ProductVersion).order_by(ProductVersion.version_id)}


def test_what_retention_removed_is_made_again_with_the_same_content_and_nothing_becomes_stale(night: Any) -> None:
    """The sets and planes of a tile are retired by their rules; a backfill of the observation makes them again."""
    one, platform, _, _, _ = night
    assert stale_partitions(platform) == []
    made = ("measurement_set", "calibrated_ms", "tile_image")
    with platform.database.session() as session:
        calibrators = set(session.scalars(select(CaltableRow.group_id)))
        group_id = next(found for found in session.scalars(select(ImageRow.group_id)) if found not in calibrators)
        before = {name: current_version(session, name, group_id) for name in made}
    later = now() + timedelta(days=400)
    parts = [part for part in retiring.due(platform, later) if part.key == group_id and part.product in made]
    assert {part.product for part in parts} == set(made)
    assert [why for part in parts if (why := retiring.retire(platform, part, later)) is not None] == []
    assert not Path(str(before["measurement_set"].path)).exists()
    assert stale_partitions(platform) == [], "what is gone for a reason is not stale"

    chosen = backfill.plan(platform, None, observation=group_id)
    names = [name for name in chosen.partitions if TABLE[name].level is Level.TILE]
    assert set(made) <= set(names)
    request = dg.RunRequest(
        job_name="tile", partition_key=tile_key(*tile_partition(group_id)), asset_selection=[dg.AssetKey(name) for name in names]
    )
    Night(platform.config, one.instance)._execute(request)
    with platform.database.session() as session:
        for name, old in before.items():
            new = current_version(session, name, group_id)
            assert new.version_id > old.version_id, name
            assert new.checksum == old.checksum, f"{name} came out differently"
            assert contents.agrees(session, new), name
    assert stale_partitions(platform) == [], "mosaics, photometry and light curves stay as they are"


def test_after_a_change_of_an_imaging_setting_a_backfill_makes_only_images_and_their_products(night: Any) -> None:
    """The backfill is of the second night; the first stays stale. Runs are grouped like the daemon's."""
    one, platform, plan, _, _ = night
    assert stale_partitions(platform) == []
    changed = Platform(platform.config.model_copy(update={"auto_threshold_sigma": 4.0}), platform.paths, platform.database)
    follows = {
        "tile_image",
        "hourly_mosaic",
        "source_catalog",
        "forced_photometry",
        "light_curves",
        "variability_metrics",
        "ese_candidates",
    }
    stale_assets = {stale.asset for stale in stale_partitions(changed)}
    assert stale_assets == follows, "add a new product that is made from images to `follows`, and to the runs below"
    last = date.fromisoformat(plan.nights[-1].date)
    chosen = backfill.plan(changed, last, only_stale=True)
    assert set(chosen.partitions) == follows
    before, files = _newest_versions(changed), _change_times(platform)

    again = Night(changed.config, one.instance)
    for job, assets in (("tile", ("tile_image",)), ("hour", TABLE.made(Level.HOUR)), ("night", FROM_LIGHT_CURVES)):
        for partition in chosen.partitions[assets[0]]:
            again._execute(dg.RunRequest(job_name=job, partition_key=partition, asset_selection=[dg.AssetKey(name) for name in assets]))

    after = _newest_versions(changed)
    made = {product for (product, key), version in after.items() if before[product, key] != version}
    assert made == follows
    assert {key[:10] for (product, key), version in after.items() if before[product, key] != version} == {last.isoformat()}
    assert _change_times(platform) == files, "Measurement Sets and tables were not touched"
    left = {stale.asset for stale in stale_partitions(changed) if stale.night == last.isoformat()}
    assert left == set(FROM_LIGHT_CURVES), "light curves include the first night, whose photometry is still stale; all else is made"
    assert [*again._tick_raw_files(), *again._tick_follow_up()] == [], "nothing is made twice: no sensor follows up on a finished backfill"


def _change_times(platform: Platform) -> dict[str, int]:
    roots = (platform.paths.output_dir, platform.paths.scratch_dir / "caltables")
    return {
        str(path): path.stat().st_mtime_ns for root in roots for path in root.rglob("*") if path.is_file() and path.name != "table.lock"
    }


@pytest.mark.parametrize("name", ["light_curves", "field", "candidate", "api"])
def test_the_notebooks_run_on_the_products_of_the_night(night: Any, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, platform, plan, places, _ = night
    for setting, value in places.settings(3999).items():
        monkeypatch.setenv(setting, value)
    assert platform.config.database_url is not None
    monkeypatch.setenv("PIPELINE_DATABASE_URL", platform.config.database_url.get_secret_value())
    monkeypatch.setenv("MPLBACKEND", "Agg")
    config = platform.config.model_copy(update={"api_port": free_port()})
    monkeypatch.setenv("PIPELINE_API_PORT", str(config.api_port))
    with serving(config) if name == "api" else nullcontext():
        found = run_notebook(NOTEBOOKS / f"{name}.ipynb", tmp_path)
    if name == "api":
        curve: Any = found["curve"]
        assert set(curve["mosaic_name"].str[:7]) == {"hourly_"}
        assert set(curve["mosaic_name"].str[7:17]) == {night.date for night in plan.nights}
    elif name == "light_curves":
        assert (tmp_path / "light_curve.vot").stat().st_size > 1000
    elif name == "candidate":
        position = plan.sky.names.index(plan.event_source)
        best: Any = found["best"]
        assert best["ra_deg"] == pytest.approx(plan.sky.ra_deg[position], abs=1e-3)
        assert len(found["stamps"]) == len(plan.nights)  # type: ignore[arg-type]
    else:
        assert len(found["matched"]) > 5  # type: ignore[arg-type]


def test_artificial_sources_are_recovered_from_the_data_of_the_night(night: Any) -> None:
    one, _, plan, _, _ = night
    job = one.definitions.resolve_job_def("injections")
    result = job.execute_in_process(instance=one.instance, partition_key=plan.nights[0].date)
    assert result.success
    (event,) = result.asset_materializations_for_node("injection_recovery")
    figures = {name: value.value for name, value in event.metadata.items()}
    assert figures["completeness_above_threshold"] > 0.9
    assert abs(figures["flux_bias"]) < 0.01 + 3 * figures["flux_bias_err"]
    assert "against S/N" in figures


def test_a_refused_tile_is_a_green_run_with_one_verdict_everywhere(night: Any) -> None:
    """The limit is one that no tile meets; the job `judge_again` with the old limits makes the tile good."""
    one, platform, plan, _, _ = night
    strict = Platform(platform.config.model_copy(update={"qa_noise_over_thermal_max": 0.81}), platform.paths, platform.database)
    with platform.database.session() as session:
        group_id = next(group_id for group_id in session.scalars(select(ImageRow.group_id)) if group_id[:10] == plan.nights[-1].date)
        assert gates.good_tiles(session, [group_id]) == [group_id]
    request = dg.RunRequest(job_name="tile", partition_key=tile_key(*tile_partition(group_id)), asset_selection=[dg.AssetKey("tile_image")])
    Night(strict.config, one.instance)._execute(request)  # checks that the run succeeds

    with platform.database.session() as session:
        verdict = gates.verdicts(session, [group_id])[group_id]
        assert gates.good_tiles(session, [group_id]) == []
    assert verdict.line().startswith("refused: noise ")
    (run,) = one.instance.get_runs(limit=1)
    assert run.tags["dsa110/verdict"] == "refused"
    metadata = one.instance.get_latest_materialization_event(dg.AssetKey("tile_image")).asset_materialization.metadata
    assert metadata["verdict"].value == verdict.line()
    (alert,) = [alert for alert in alerts.conditions(strict, now()) if alert.key == f"tiles-refused/{group_id[:10]}"]
    assert verdict.next_step in alert.next_step

    job = one.definitions.resolve_job_def("judge_again")
    assert job.execute_in_process(
        instance=one.instance, run_config={"ops": {"judge_images": {"config": {"observation": group_id}}}}
    ).success
    with platform.database.session() as session:
        assert gates.good_tiles(session, [group_id]) == [group_id]
    checks = {
        event.asset_check_evaluation_data.asset_key
        for event in one.instance.all_logs(run.run_id)
        if event.dagster_event is not None and event.dagster_event.event_type_value.startswith("ASSET_CHECK")
    }
    assert checks == set(), "the run of a tile leaves no rows of checks"
