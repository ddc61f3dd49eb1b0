"""No question of a sensor, a schedule, a page or a command that only shows something costs more as history grows.

The server itself counts what it reads, for every statement however it was sent. Two registries are compared, one with
three times the nights of the other. Times differ between machines; these counts do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import typer
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import text

from benchmarks.year import Year, fill_fluxes, fill_sources, make_raw_files, spoil
from benchmarks.year_registry import fill
from dsa110_assets.api.access import Remembered
from dsa110_assets.api.app import create_app
from dsa110_assets.cli.main import app, run
from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import antennas, timeline
from dsa110_assets.registry.queries.control import transits_of_night
from dsa110_assets.stages.operations import alerts, backfill, tile_quality
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.queue import intake, planning
from dsa110_assets.stages.queue.attempts import now
from dsa110_assets_tests.orchestration.work_counter import Work, WorkCounter
from dsa110_assets_tests.registry_fixture import empty

FEW, MANY = 60, 180
TILES_PER_NIGHT, SOURCES = 24, 240
LAST = (datetime.now(UTC) - timedelta(days=1)).date()
KEPT = dict.fromkeys(
    ("keep_mosaic_planes_days", "keep_tile_maps_days", "keep_mosaic_maps_days", "keep_hourly_images_days", "keep_nightly_images_days"), 14.0
)
"""The forecast of the alerts reads twice what retention keeps, which must be shorter than the shorter history."""

OBSERVATION = f"{LAST}T12:00:00"


def _dead_runs(platform: Platform) -> None:
    intake.in_progress(platform)
    with platform.database.session() as session:
        intake.completed_recently(session)


def _transits(platform: Platform) -> None:
    with platform.database.session() as session:
        transits_of_night(session, LAST)


SENSORS: dict[str, Callable[[Platform], object]] = {
    "raw_files": lambda platform: intake.tick(platform, most=20),
    "follow_up": planning.follow_ups,
    "dead_runs": _dead_runs,
    "alerts": lambda platform: alerts.conditions(platform, now()),
}
SCHEDULES: dict[str, Callable[[Platform], object]] = {
    "nightly_mosaic_at_0300_utc": lambda platform: planning.has_images(platform, LAST.isoformat()),
    "injection_recovery_at_0400_utc": lambda platform: planning.has_images(platform, LAST.isoformat()),
}


def _timeline(platform: Platform) -> None:
    with platform.database.session() as session:
        timeline.first_and_last_night(session)
        timeline.counts_of_nights(session, LAST - timedelta(days=20), LAST)
        timeline.noise_of_nights(session, LAST - timedelta(days=20), LAST)
        timeline.around_day(session, LAST)
        timeline.neighbors(session, OBSERVATION)
        timeline.mosaics_of(session, OBSERVATION)
        antennas.solutions(session, limit=60)


def _backfills(platform: Platform) -> None:
    backfill.plan(platform, LAST)
    backfill.plan(platform, LAST, only_failed=True)
    backfill.plan(platform, observation=OBSERVATION)
    backfill.estimates(platform, backfill.plan(platform, LAST - timedelta(days=20), LAST))


PAGES: dict[str, Callable[[Platform], object]] = {
    "plans of backfills": _backfills,
    "timeline": _timeline,
    "tile_quality": lambda platform: tile_quality.quality_of_last_day(platform, now()),
    "transits of a night": _transits,
}
COMMANDS: dict[str, list[list[str]]] = {
    "alerts": [[]],
    "candidates history": [["1"]],
    "candidates list": [[]],
    "catalogs list": [[]],
    "catalogs own": [[]],
    "config show": [[]],
    "db status": [[]],
    "ingest status": [
        [],
        [OBSERVATION],
        ["--refused"],
        ["--json"],
        *(["--state", state, "--limit", "10"] for state in ("completed", "failed", "pending")),
    ],
    "lightcurve epochs": [[]],
    "mark antennas": [[], ["--all"]],
    "mark list": [[], ["--all"]],
    "shift": [[]],
    "shift report": [[]],
    "targets list": [[]],
    "mosaic plan": [["--name", "a", "--since", f"{LAST}T04:00:00", "--until", f"{LAST}T06:00:00"]],
}
HOUR = f"hourly_{LAST}T12"
ADDRESSES: dict[str, str] = {
    "/api/actions": "",
    "/api/alerts": "",
    "/api/antennas": "",
    "/api/antennas/marks": "",
    "/api/calibrations": "",
    "/api/calibrations/{group_id}": "/api/calibrations/CALIBRATOR",
    "/api/candidates": "",
    "/api/candidates/{event_id}": "/api/candidates/1",
    "/api/data/images": "",
    "/api/data/images/addresses": "/api/data/images/addresses?limit=50",
    "/api/data/images/{group_id}": f"/api/data/images/{OBSERVATION}",
    "/api/data/mosaics": "",
    "/api/data/mosaics/addresses": "/api/data/mosaics/addresses?limit=50",
    "/api/data/mosaics/{name}": f"/api/data/mosaics/{HOUR}",
    "/api/data/mosaics/{name}/detections": f"/api/data/mosaics/{HOUR}/detections",
    "/api/data/mosaics/{name}/sources": f"/api/data/mosaics/{HOUR}/sources",
    "/api/data/observations": "",
    "/api/data/observations/{group_id}": f"/api/data/observations/{OBSERVATION}",
    "/api/data/observations/{group_id}/marks": f"/api/data/observations/{OBSERVATION}/marks",
    "/api/data/refused-files": "",
    "/api/data/timeline": "",
    "/api/data/timeline/{night}": f"/api/data/timeline/{LAST}",
    "/api/marks": "",
    "/api/epochs/excluded": "",
    "/api/epochs/{mosaic_name}": f"/api/epochs/{HOUR}",
    "/api/events": "",
    "/api/mosaic/status/{name}": f"/api/mosaic/status/{HOUR}",
    "/api/positions/fluxes": "/api/positions/fluxes?ra_deg=10&dec_deg=16",
    "/api/positions/images": "/api/positions/images?ra_deg=10&dec_deg=16&limit=10",
    "/api/positions/transit": "/api/positions/transit?ra_deg=10&dec_deg=16",
    "/api/products/{product}/versions": "/api/products/tile_image/versions",
    "/api/quality/{product}": "/api/quality/tile_image",
    "/api/ready": "",
    "/api/shift": "",
    "/api/shift/report": f"/api/shift/report?night={LAST}",
    "/api/sky-model": "",
    "/api/sources": "",
    "/api/sources/population": "",
    "/api/sources/{source_id}": "/api/sources/1",
    "/api/status": "",
    "/api/streaming/status": "",
    "/api/targets": "",
    "/api/versions/{version_id}": "/api/versions/100",
    "/metrics": "",
}
"""Addresses of the API that lists, details and pages read, each with an example. CALIBRATOR: the newest one."""
ORDERS = (
    *("/api/data/observations?order=asc", f"/api/data/observations?order=asc&since={LAST}", "/api/data/images?order=asc"),
    *(f"/api/data/{kind}?sort=noise&order={order}&limit=50" for kind in ("images", "mosaics") for order in ("asc", "desc")),
    *("/api/data/mosaics?order=asc", "/api/data/mosaics?kind=hourly&order=asc&limit=50", "/api/data/mosaics?noise_min_jy=0&limit=50"),
    *(f"/api/candidates?sort={sort}&order={order}" for sort in ("rank", "score", "depth", "time") for order in ("asc", "desc")),
    *("/api/calibrations?order=asc&limit=50", "/api/quality/tile_image?order=asc&limit=50"),
    *(f"/api/sources?sort={sort}&order={order}&limit=50" for sort in ("number", "eta", "flux") for order in ("asc", "desc")),
    "/api/sources?max_score=5&max_flux_jy=10&limit=50",
)
"""The same lists in their other orders, and with bounds on both sides."""
OF_ONE_SOURCE = {"/api/sources/{source_id}/channels", "/api/sources/{source_id}/epochs", "/api/sources/{source_id}/lightcurve"}
"""All measurements of one source, as `dsa110 lightcurve show`."""
NO_QUESTION_OF_THE_REGISTRY = {
    "/api/backfills", "/api/health", "/api/runs/{task_id}/log", "/api/services", "/api/services/{service}/log", "/api/stale", "/api/switches",
    "/api/positions/difference", "/api/trials", "/api/trials/{trial}/preview.png", "/api/absurd/metrics", "/api/absurd/task-types", "/api/absurd/tasks", "/api/absurd/tasks/{task_id}",
    "/api/data/images/{group_id}/cutout", "/api/data/mosaics/{name}/cutout", "/api/sources/{source_id}/epochs/{mosaic_name}/cutout",
    "/api/versions/{version_id}/files", "/api/versions/{version_id}/files/{name}",
}  # fmt: skip
"""Addresses that ask Dagster, read files, or do what the command `stale` does."""
NIGHT = "the stages of a night"
EXCEPTIONS = {
    NIGHT: "look at the row of each epoch, 24 a night: digest all factors, and compare them with those examined (`test_growth_of_nights`)",
    "stale": "compares each product with its inputs and today's code; a join, 10 s at a year",
    "db check": "compares each product with the disk, in parts, and shows its progress",
    "lightcurve show": "prints all measurements of one source, about one a night",
    "clean": "finds what is old enough to be removed",
}
NO_QUESTIONS = {
    "api", "api token", "api tokens", "apply", "backfill", "calibrate", "catalogs cone", "catalogs refresh", "catalogs strip", "catalogs transits", "convert groups", "convert ms",
    "db backup", "db export", "db relocate", "db migrate", "db query", "db restore", "db shell", "db start", "db stop", "demo", "docs search", "down", "export", "image",
    "ingest retry", "ingest scan", "lightcurve exclude", "lightcurve export", "lightcurve include", "lightcurve recompute",
    "alerts acknowledge", "alerts take-back", "candidates label", "candidates undo", "mark antenna", "mark remove", "mark solution", "mark tile", "photometry position",
    "shift write", "targets add", "targets remove",
    "mosaic build", "mosaic create", "photometry adaptive", "photometry peak", "preflight", "prepare", "service", "stale accept", "simulate night", "simulate tile", "up", "worker",
}  # fmt: skip
"""Commands that make, change, copy or remove something, ask only files, or run a person's own statement."""


def fill_history(database: Database, config: PipelineConfig, nights: int) -> None:
    """Rows of N nights, with light curves, variability and candidates of each night."""
    year = Year(config.state_dir, nights, SOURCES, LAST)
    fill(
        database, nights, config, tiles_per_night=TILES_PER_NIGHT, last=LAST, light_curve_nights=1,
        data=config.scratch_dir, incoming=config.input_dir, files_present=160,
    )  # fmt: skip
    spoil(database)
    fill_sources(database, year.sky)
    fill_fluxes(database, year, year.sky)
    for path in config.input_dir.iterdir():
        path.unlink()
    make_raw_files(database, config.input_dir)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("SET synchronous_commit = on"))  # else VACUUM does not see the rows as visible to all
        connection.execute(text(
            "INSERT INTO variability (source_id, night, n_epochs, mean_flux_jy) SELECT source_id, night, 10, 1 "
            "FROM sources, (SELECT DISTINCT night FROM ingest_queue) n"
        ))  # fmt: skip
        connection.execute(text(
            "INSERT INTO candidate_events (event_id, source_id, kind, peak_mjd, first_mjd, last_mjd, depth, score, first_night, first_seen_at) "
            "SELECT row_number() OVER (), source_id, 'dip', 61000, 60999, 61001, 0.5, 6, night, night "
            "FROM sources, (SELECT DISTINCT night FROM ingest_queue) n WHERE source_id <= 5"
        ))  # fmt: skip
        connection.execute(text(
            "INSERT INTO ese_candidates (source_id, night, event_id, rank, score, epoch_mjd, depth, false_alarm_probability, reasons) "
            "SELECT source_id, first_night, event_id, source_id, 6, 61000, 0.5, 1e-6, 'dip' FROM candidate_events"
        ))  # fmt: skip
        connection.execute(text("UPDATE epoch_factors SET factor = 1, factor_err = 0.01, n_reference = 9, usable = true, settled = true"))
        connection.execute(text("VACUUM ANALYZE"))


def questions(platform: Platform, client: TestClient, capsys: pytest.CaptureFixture[str]) -> dict[str, Callable[[], object]]:
    """All questions: sensors first as after a restart and then again, commands, and addresses of the API."""

    def command(arguments: list[str]) -> None:
        code = run(arguments)
        shown = capsys.readouterr()
        assert code in (0, 1), (arguments, shown.err)

    def get(url: str) -> None:
        answer = client.get(url)
        assert answer.status_code == 200, (url, answer.text)

    found: dict[str, Callable[[], object]] = {}
    for kind, asked in (("sensor", SENSORS), ("schedule", SCHEDULES), ("page", PAGES)):
        for name, ask in asked.items():
            for tick in ("first", "next") if kind == "sensor" else ("",):
                found[f"{kind} {name} {tick}".strip()] = lambda ask=ask: ask(platform)
    for name, variants in COMMANDS.items():
        for arguments in variants:
            found[" ".join(["dsa110", name, *arguments])] = lambda name=name, arguments=arguments: command([*name.split(), *arguments])
    with platform.database.session() as session:
        calibrator = session.execute(text("SELECT max(group_id) FROM caltables")).scalar_one()
    for path, example in ADDRESSES.items():
        found[f"GET {path}"] = partial(get, (example or path).replace("CALIBRATOR", calibrator))
    for url in ORDERS:
        found[f"GET {url}"] = partial(get, url)
    return found


def _forgetful(app: FastAPI) -> FastAPI:
    """Let an application find every answer anew: what it remembers for seconds depends on the speed of the machine."""
    for name, value in app.state._state.items():
        if isinstance(value, Remembered):
            app.state._state[name] = Remembered[Any](0.0)
    return app


def test_no_question_reads_more_when_history_grows(
    database: Database, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three times the nights: the same rows and buffers, up to levels of indexes and the months of the photometry."""
    monkeypatch.setenv("PIPELINE_DATABASE_URL", database.url)
    for name in ("input_dir", "output_dir", "scratch_dir", "state_dir"):
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(getattr(registry_config, name)))
    for name, days in KEPT.items():
        monkeypatch.setenv(f"PIPELINE_{name.upper()}", str(days))
    config = registry_config.model_copy(update=KEPT)
    work: dict[int, dict[str, Work]] = {}
    counter = WorkCounter(database.url)
    for nights in (FEW, MANY):
        empty(database.url)
        fill_history(database, config, nights)
        intake._scanners.clear()  # as after a restart
        platform = Platform.open(config)
        with TestClient(_forgetful(create_app(config))) as client:
            asked = questions(platform, client, capsys)
            work[nights] = {name: counter.work(ask) for name, ask in asked.items()}
        platform.database.dispose()
    intake._scanners.clear()
    counter.close()
    grown = {
        name: (work[FEW][name], many)
        for name, many in work[MANY].items()
        if many.rows > 1.1 * work[FEW][name].rows + 150 or many.buffers > 1.3 * work[FEW][name].buffers + 100
    }
    assert not grown, "\n".join(f"{name}: {few} -> {many}" for name, (few, many) in grown.items())


def test_every_sensor_schedule_and_command_is_among_the_questions(registry_config: PipelineConfig) -> None:
    defs = build_defs(registry_config)
    assert {sensor.name for sensor in defs.sensors or ()} == set(SENSORS)
    assert {schedule.name for schedule in defs.schedules or ()} >= set(SCHEDULES)
    commands = set(_names(typer.main.get_command(app)))
    kinds = (set(COMMANDS), set(EXCEPTIONS) - {NIGHT}, NO_QUESTIONS)
    assert commands == set().union(*kinds), "say of a new command whether it asks the registry, and with what arguments"
    assert sum(map(len, kinds)) == len(commands)
    assert len(EXCEPTIONS) <= 5


def test_every_address_of_the_api_is_among_the_questions(registry_config: PipelineConfig) -> None:
    described = {path for path, methods in create_app(registry_config).openapi()["paths"].items() if "get" in methods}
    kinds = (set(ADDRESSES), OF_ONE_SOURCE, NO_QUESTION_OF_THE_REGISTRY)
    assert described == set().union(*kinds), "say of a new address whether it asks the registry, and give an example"
    assert sum(map(len, kinds)) == len(described)


def _names(command: Any, path: str = "") -> Iterator[str]:
    for name, below in getattr(command, "commands", {}).items():
        yield from _names(below, f"{path} {name}".strip())
    if path and (not hasattr(command, "commands") or command.invoke_without_command):
        yield path
