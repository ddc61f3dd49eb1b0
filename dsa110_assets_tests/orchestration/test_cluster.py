"""The profile `distributed`: a launcher that judges runs by their beats, and workers. One machine needs none of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.launcher.base import LaunchRunContext, WorkerStatus
from sqlalchemy import text

from dsa110_assets.cli.main import run
from dsa110_assets.cli.services import dagster_home
from dsa110_assets.config import PipelineConfig
from dsa110_assets.orchestration.cluster import broker, lost_runs, worker
from dsa110_assets.orchestration.cluster.launcher import ClusterRunLauncher
from dsa110_assets.orchestration.cluster.worker import Worker
from dsa110_assets.orchestration.running import GROUP_TAG
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import workers
from dsa110_assets.registry.schema import ProductVersion, RunWorker
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.provenance import installed
from dsa110_assets.stages.provenance.installed import Installed

NOBODY = "redis://127.0.0.1:1/0"
"""A broker that does not answer: nothing may depend on it."""


@pytest.fixture
def config(registry_config: PipelineConfig, database: Database, monkeypatch: pytest.MonkeyPatch) -> PipelineConfig:
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    monkeypatch.setenv("PIPELINE_CLUSTER_RUNS", "40")
    monkeypatch.setenv("PIPELINE_PROFILE", "distributed")
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    monkeypatch.setenv("PIPELINE_BROKER_URL", NOBODY)
    return PipelineConfig.from_env()


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as one:
        yield one


@pytest.fixture
def launcher(config: PipelineConfig, instance: dg.DagsterInstance) -> Iterator[ClusterRunLauncher]:
    one = ClusterRunLauncher()
    one.register_instance(instance)
    yield one
    one.dispose()


def launched(launcher: ClusterRunLauncher, instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    @dg.job(name="tile")
    def tile() -> None:
        """Replaces the tile's job, which is not executed here."""

    made = instance.create_run_for_job(tile, tags=tags, status=dg.DagsterRunStatus.STARTING)
    launcher.launch_run(LaunchRunContext(made, None))
    return made


def status_of(instance: dg.DagsterInstance, one: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(one.run_id)
    assert found is not None
    return found.status


def test_a_run_waits_in_the_registry_though_the_broker_is_dead(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, database: Database, config: PipelineConfig
) -> None:
    one = launched(launcher, instance, **{"dagster/priority": "11"})
    with database.session() as session:
        row = workers.state_of(session, one.run_id)
    assert row is not None
    assert (row.queue, row.priority, row.version) == ("dsa110-pipeline", 11, str(installed.installed(config)))
    assert launcher.check_run_worker_health(one).status == WorkerStatus.RUNNING, "it waits"
    began = time.monotonic()
    launched(launcher, instance)
    assert time.monotonic() - began < 1.0, "the launcher asks a dead broker only now and then"


def test_the_host_that_made_the_measurement_set_is_preferred(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, database: Database
) -> None:
    group_id = "2026-03-01T05:10:11"
    with database.session() as session:
        session.add(RunWorker(run_id="earlier", queue="q", version="v", priority=0, host="host7"))
        session.add(ProductVersion(product="measurement_set", key=group_id, code_version="x", config_hash="x", run_id="earlier", inputs={}))
    one = launched(launcher, instance, **{GROUP_TAG: group_id})
    with database.session() as session:
        assert session.get_one(RunWorker, one.run_id).preferred_host == "host7"


def test_a_silent_run_is_unhealthy_and_the_run_of_a_worker_that_died_before_it_began_fails(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, database: Database, config: PipelineConfig
) -> None:
    one = launched(launcher, instance)
    with database.session() as session:
        workers.claim(session, worker="host7:1", host=workers.Host("host7", "b"), queue="dsa110-pipeline", version=launcher._version)
    assert launcher.check_run_worker_health(one).status == WorkerStatus.RUNNING
    platform = Platform.open(config)
    assert lost_runs.end_lost(instance, platform) == []
    with database.session() as session:
        session.execute(text("UPDATE run_workers SET lost_at = now(), lost_why = 'host host7 gave no sign of life for 61 s'"))
    health = launcher.check_run_worker_health(one)
    assert health.status == WorkerStatus.FAILED
    assert "host7 gave no sign of life" in str(health.msg)
    assert lost_runs.end_lost(instance, platform) == [one.run_id]
    assert status_of(instance, one) == dg.DagsterRunStatus.FAILURE


def test_deleted_runs_are_given_up(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, database: Database, config: PipelineConfig
) -> None:
    kept, deleted = launched(launcher, instance), launched(launcher, instance)
    instance.delete_run(deleted.run_id)
    lost_runs.end_lost(instance, Platform.open(config))
    with database.session() as session:
        assert workers.open_runs(session) == [kept.run_id]


def test_a_run_that_waits_is_canceled_at_once_and_one_at_work_by_its_worker(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, database: Database
) -> None:
    waits = launched(launcher, instance)
    assert launcher.terminate(waits.run_id)
    assert status_of(instance, waits) == dg.DagsterRunStatus.CANCELED
    works = launched(launcher, instance)
    with database.session() as session:
        workers.claim(session, worker="host7:1", host=workers.Host("host7", "b"), queue="dsa110-pipeline", version=launcher._version)
    assert launcher.terminate(works.run_id)
    assert status_of(instance, works) == dg.DagsterRunStatus.CANCELING
    assert not launcher.terminate(waits.run_id)


# --- workers ----------------------------------------------------------------------------------------------------------
def test_a_worker_of_other_code_or_settings_takes_no_run_and_says_so(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, config: PipelineConfig, database: Database
) -> None:
    launched(launcher, instance)
    other = Worker(config.model_copy(update={"cell_arcsec": 4.0}), queue="dsa110-pipeline", slots=1)
    other.join()
    assert other.beat() == 0
    assert other.refusal is not None
    assert other.refusal.startswith("its settings are")
    other.beat()
    assert other.work() is None
    with database.session() as session:
        (row,) = workers.states(session)
    assert row.refusal == other.refusal
    same = Worker(config.model_copy(update={"threads_per_worker": 3, "api_port": 9}), queue="dsa110-pipeline", slots=1)
    assert same.beat() == 1, "settings of the host do not count"


def test_a_worker_whose_files_change_takes_no_run_any_more(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, config: PipelineConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched(launcher, instance)
    one = Worker(config, queue="dsa110-pipeline", slots=1)
    monkeypatch.setattr(worker, "installed", lambda _config: Installed("other", one.version.settings))
    assert one.beat() == 0
    assert one.work() is None
    assert "have changed since the worker began" in str(one.refusal)


def test_a_run_without_code_is_made_by_a_process_of_its_own_whose_failure_is_reported(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, config: PipelineConfig, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process knows nothing of this instance, so it ends with an error, and the worker says so."""
    one = launched(launcher, instance)
    monkeypatch.setattr(dg.DagsterInstance, "get", lambda: dg.DagsterInstance.from_ref(instance.get_ref()))
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home(config)))
    assert Worker(config, queue="dsa110-pipeline", slots=1).work() == one.run_id
    assert status_of(instance, one) == dg.DagsterRunStatus.FAILURE
    with database.session() as session:
        row = session.get_one(RunWorker, one.run_id)
    assert row.ended_at is not None
    assert row.exit_code == 1
    assert row.pid is not None
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"dsa110-run-{os.getpid()}-*"))


def test_a_run_that_ends_while_its_worker_stops_is_excused_and_one_that_is_killed_for_its_memory_is_not(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, config: PipelineConfig, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scancel` tells the run too, which may end first; a run that does not end in time is killed by its worker."""
    monkeypatch.setattr(worker, "SAME_SIGNAL_S", 0.5)
    monkeypatch.setattr(worker, "ORDERLY_END_S", 0.5)
    monkeypatch.setattr(dg.DagsterInstance, "get", lambda: dg.DagsterInstance.from_ref(instance.get_ref()))
    deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    for program, stops_after_s, excused in (
        ("import os; os.kill(os.getpid(), 15)", 0.3, True),
        (deaf, 0.0, True),
        ("import os; os.kill(os.getpid(), 9)", None, False),
    ):
        one = launched(launcher, instance)
        with database.session() as session:
            workers.claim(session, worker="here:1", host=worker.this_host(), queue="dsa110-pipeline", version=launcher._version)
        here = Worker(config, queue="dsa110-pipeline", slots=1)
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            if stops_after_s is not None:
                threading.Timer(stops_after_s, here.is_stopping.set).start()
            job = worker._Job(one.run_id, process)
            here._end(job, here._wait(job, process))
        assert status_of(instance, one) == dg.DagsterRunStatus.FAILURE
        with database.session() as session:
            assert workers.was_stopped(session, one.run_id) == excused


def test_a_worker_finds_a_run_without_the_broker_and_makes_no_more_than_its_slots(
    launcher: ClusterRunLauncher, instance: dg.DagsterInstance, config: PipelineConfig, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [launched(launcher, instance) for _ in range(5)]
    at_once: list[int] = []
    one = Worker(config, queue="dsa110-pipeline", slots=2)

    def make(job: worker._Job) -> None:
        at_once.append(len(one._jobs))
        time.sleep(0.2)
        one._record(lambda session: workers.record_end(session, job.run_id, 0))

    monkeypatch.setattr(one, "_make", make)
    monkeypatch.setattr(worker, "BEAT_S", 0.05)
    threading.Thread(target=one.keep_beating, daemon=True).start()
    for _ in range(8):  # as if many messages came too
        threading.Thread(target=one.work_on, daemon=True).start()
    limit = time.monotonic() + 30.0
    while len(at_once) < len(runs) or one._jobs:
        assert time.monotonic() < limit
        time.sleep(0.05)
    one.leave()
    assert len(at_once) == len(runs), "each is made once"
    assert max(at_once) <= 2
    with database.session() as session:
        assert workers.open_runs(session) == []


# --- one machine ------------------------------------------------------------------------------------------------------
def test_one_machine_needs_neither_celery_nor_redis() -> None:
    program = (
        "import sys\nfor name in ('celery', 'kombu', 'redis', 'amqp', 'vine', 'billiard'): sys.modules[name] = None\n"
        "import dsa110_assets.definitions as d; d.defs\n"
        "from dsa110_assets.orchestration.launcher import WatchedRunLauncher\n"
        "import dsa110_assets.cli.main, dsa110_assets.api.app"
    )
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_profile_chooses_the_launcher(config: PipelineConfig) -> None:
    home = dagster_home(config)
    written = yaml.safe_load((home / "dagster.yaml").read_text())
    assert written["run_launcher"]["class"] == "ClusterRunLauncher"
    assert written["concurrency"]["runs"]["max_concurrent_runs"] == 40
    dagster_home(config.model_copy(update={"profile": "single"}))
    written = yaml.safe_load((home / "dagster.yaml").read_text())
    assert written["run_launcher"]["class"] == "WatchedRunLauncher"
    assert written["run_monitoring"]["start_timeout_seconds"] == 60


@pytest.mark.parametrize("missing", ["PIPELINE_BROKER_URL", "PIPELINE_DATABASE_URL", "dagster"])
def test_a_worker_says_what_it_lacks(
    config: PipelineConfig, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(missing, raising=False)
    assert run(["worker", "--concurrency", "2"]) == 2
    assert missing in capsys.readouterr().err


def test_the_broker_has_one_queue_for_each_version() -> None:
    assert broker.queue_of("a", "c-s") != broker.queue_of("a", "d-s")
