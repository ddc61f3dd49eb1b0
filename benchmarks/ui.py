"""Times of the pages of Dagster's UI after N nights: `python -m benchmarks.ui [--nights 60 365]`.

A small night (four observations) runs through a real platform once. Its runs, events, tags and ticks are then cloned in
SQL to N nights of 252 observations, 24 hours, 24 updates and 48 hourly jobs: two and a half thousand runs a week, with
the real events, metadata and previews. Chromium loads each page from scratch and waits until it asks for nothing more.
Each page is timed with all history, and again after the retention (`orchestration.history`). Web server and code server
run as under `dsa110 up`; the daemon does not, so that nothing else uses the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from sqlalchemy import Connection, create_engine, text

from benchmarks.browser import Browser, Load, browser
from dsa110_assets.cli import services
from dsa110_assets.cli.demo_places import DemoPlaces
from dsa110_assets.config import PipelineConfig
from dsa110_assets.definitions import build_defs
from dsa110_assets.orchestration import history
from dsa110_assets.registry.server import DAGSTER_DATABASE, dagster_url, embedded_server, stop_server
from dsa110_assets_tests.chaos.running_platform import running
from dsa110_assets_tests.chaos.small_night import SmallNight, prepare

PAGES = {
    "asset catalog": "/assets",
    "lineage": "/asset-groups",
    "overview and plots of tile_image": "/assets/tile_image",
    "overview of light_curves": "/assets/light_curves",
    "partitions of tile_image": "/assets/tile_image?view=partitions",
    "events of tile_image": "/assets/tile_image?view=events",
    "checks of tile_quality": "/assets/tile_quality?view=checks",
    "runs": "/runs",
    "timeline": "/overview/activity/timeline",
    "backfills": "/overview/backfills",
    "automation": "/automation",
}
BUDGET_S = 2.0
TEMPLATE = "small_night"
SLOTS = tuple(f"{hour:02d}:{minute:02d}" for hour in range(24) for minute in range(0, 60, 5) if (12 * hour + minute // 5) % 8 != 7)
UPDATES = range(24)
SMALL_TIME_LIMIT_S = 1800.0

_TEMPLATES = """
CREATE TABLE tpl AS
WITH chosen AS (
    SELECT DISTINCT ON (pipeline_name) pipeline_name AS kind, run_id, partition FROM runs
    WHERE pipeline_name IN ('hour', 'night', 'calibration', 'look_for_stale', 'look_at_tiles', 'judge_again') ORDER BY pipeline_name, id DESC
), image AS (
    SELECT run_id, partition FROM event_logs
    WHERE asset_key = '["tile_image"]' AND dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id DESC LIMIT 1
), first_run AS (
    SELECT e.run_id FROM event_logs e JOIN image USING (partition)
    WHERE asset_key = '["measurement_set"]' AND dagster_event_type = 'ASSET_MATERIALIZATION' ORDER BY id DESC LIMIT 1
)
SELECT kind, run_id, run_id AS main, partition, 0 AS later FROM chosen
UNION ALL SELECT 'tile', first_run.run_id, first_run.run_id, image.partition, 0 FROM first_run, image
UNION ALL SELECT 'tile', image.run_id, first_run.run_id, image.partition, 60 FROM first_run, image WHERE image.run_id <> first_run.run_id;
CREATE TABLE tpl_events AS
SELECT tpl.kind, tpl.main, e.id, e.run_id, e.event, e.dagster_event_type, e.step_key, e.asset_key, e.partition,
    extract(epoch FROM e.timestamp - min(e.timestamp) OVER (PARTITION BY tpl.run_id)) + tpl.later AS rel
FROM tpl JOIN event_logs e USING (run_id)
WHERE later = 0 OR e.dagster_event_type LIKE 'STEP%' OR e.dagster_event_type LIKE 'ASSET%';
CREATE TABLE tpl_tags AS
SELECT DISTINCT ON (asset_key, key) asset_key, key, value FROM asset_event_tags ORDER BY asset_key, key, id DESC;
CREATE TABLE tpl_raw AS
SELECT event, asset_key, partition FROM event_logs
WHERE asset_key = '["raw_subbands"]' AND partition = (SELECT partition FROM tpl WHERE kind = 'tile' LIMIT 1) ORDER BY id DESC LIMIT 1;
CREATE FUNCTION moved(body text, kind text, was text, night text, slot text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE kind
        WHEN 'tile' THEN replace(replace(body, right(was, 5), slot), left(was, 10), night)
        WHEN 'hour' THEN replace(replace(replace(replace(body, was, night || '|' || slot), replace(was, '|', 'T'), night || 'T' || slot),
            '"dagster/partition/hour": "' || right(was, 2) || '"', '"dagster/partition/hour": "' || slot || '"'), left(was, 10), night)
        WHEN 'night' THEN replace(body, was, night)
        WHEN 'calibration' THEN replace(body, was, night)
        ELSE body
    END
$$
"""

_NIGHT = """
CREATE TEMP TABLE new_runs AS
SELECT gen_random_uuid()::text AS run_id, kind, slot, at, tpl.run_id AS was_run, tpl.partition AS was,
    CASE kind WHEN 'tile' THEN :night || '|' || slot WHEN 'hour' THEN :night || '|' || slot WHEN 'night' THEN :night
        WHEN 'calibration' THEN :night END AS partition
FROM (
    SELECT 'tile' AS kind, slot, (:night || ' ' || slot)::timestamp + interval '400 s' AS at FROM unnest(CAST(:slots AS text[])) slot
    UNION ALL SELECT 'hour', to_char(h, 'FM00'), CAST(:night AS timestamp) + h * interval '1 hour' + interval '70 min' FROM generate_series(0, 23) h
    UNION ALL SELECT 'night', '', CAST(:night AS timestamp) + h * interval '1 hour' + interval '75 min' FROM generate_series(0, 23) h
    UNION ALL SELECT 'calibration', '', CAST(:night AS timestamp) + interval '9 hours'
    UNION ALL SELECT kind, '', CAST(:night AS timestamp) + h * interval '1 hour' + after
        FROM generate_series(0, 23) h, (VALUES ('look_for_stale', interval '40 min'), ('look_at_tiles', interval '20 min')) j(kind, after)
    UNION ALL SELECT 'judge_again', '', CAST(:night AS timestamp) + h * interval '8 hours' FROM generate_series(0, 2) h
) wanted JOIN tpl USING (kind)
WHERE tpl.later = 0 AND at < :until AND (
    NOT :retained OR kind IN ('tile', 'hour', 'calibration') OR kind = 'night' AND at > CAST(:night AS timestamp) + interval '24 hours'
)
ORDER BY at;
INSERT INTO runs (run_id, snapshot_id, pipeline_name, mode, status, run_body, partition, partition_set, create_timestamp, update_timestamp,
    start_time, end_time)
SELECT n.run_id, r.snapshot_id, r.pipeline_name, r.mode, r.status,
    replace(moved(r.run_body, n.kind, n.was, :night, n.slot), n.was_run, n.run_id), n.partition, r.partition_set,
    at, at + (r.update_timestamp - r.create_timestamp), extract(epoch FROM at) + 2, extract(epoch FROM at) + 2 + r.end_time - r.start_time
FROM new_runs n JOIN runs r ON r.run_id = n.was_run WHERE NOT :retained ORDER BY at;
INSERT INTO run_tags (run_id, key, value)
SELECT n.run_id, t.key, CASE t.key WHEN 'dagster/partition/hour' THEN n.slot ELSE moved(t.value, n.kind, n.was, :night, n.slot) END
FROM new_runs n JOIN run_tags t ON t.run_id = n.was_run WHERE NOT :retained ORDER BY at;
WITH made AS (
    INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, step_key, asset_key, partition)
    SELECT n.run_id,
        regexp_replace(replace(moved(e.event, n.kind, n.was, :night, n.slot), e.run_id, n.run_id),
            '"timestamp": [0-9.]+', '"timestamp": ' || (extract(epoch FROM at) + e.rel)::numeric(20, 6), 'g'),
        e.dagster_event_type, at + e.rel * interval '1 s', e.step_key, e.asset_key, CASE WHEN e.partition IS NOT NULL THEN n.partition END
    FROM new_runs n JOIN tpl_events e USING (kind) WHERE NOT :retained OR e.dagster_event_type = 'ASSET_MATERIALIZATION'
    ORDER BY at, e.rel, e.id
    RETURNING id, run_id, dagster_event_type, timestamp, asset_key
)
INSERT INTO asset_event_tags (event_id, asset_key, key, value, event_timestamp)
SELECT made.id, made.asset_key, t.key, CASE t.key WHEN 'dagster/partition/date' THEN :night WHEN 'dagster/partition/tile' THEN n.slot
    WHEN 'dagster/partition/hour' THEN n.slot ELSE t.value END, made.timestamp
FROM made JOIN new_runs n USING (run_id) JOIN tpl_tags t USING (asset_key) WHERE dagster_event_type = 'ASSET_MATERIALIZATION';
INSERT INTO event_logs (run_id, event, dagster_event_type, timestamp, asset_key, partition)
SELECT '', regexp_replace(moved(event, 'tile', r.partition, :night, n.slot), '"timestamp": [0-9.]+', '"timestamp": ' || extract(epoch FROM at), 'g'),
    'ASSET_MATERIALIZATION', at - interval '5 s', asset_key, n.partition
FROM new_runs n, tpl_raw r WHERE n.kind = 'tile' ORDER BY at;
INSERT INTO asset_check_executions (asset_key, check_name, run_id, execution_status, evaluation_event, evaluation_event_timestamp,
    evaluation_event_storage_id, materialization_event_storage_id, create_timestamp)
SELECT c.asset_key, check_name, n.run_id, execution_status, replace(evaluation_event, n.was_run, n.run_id), n.at + interval '5 s',
    e.id, m.id, n.at
FROM new_runs n JOIN asset_check_executions c ON c.run_id = n.was_run
JOIN event_logs m ON m.run_id = n.run_id AND m.dagster_event_type = 'ASSET_MATERIALIZATION'
JOIN LATERAL (SELECT max(id) AS id FROM event_logs WHERE run_id = n.run_id AND dagster_event_type = 'ASSET_CHECK_EVALUATION') e ON true
ORDER BY n.at;
DROP TABLE new_runs
"""

_END = """
UPDATE asset_keys SET cached_status_data = NULL, last_materialization = newest.event, last_run_id = newest.run_id,
    last_materialization_timestamp = newest.timestamp
FROM (SELECT asset_key AS key, max(id) AS id FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION' GROUP BY 1) last
    JOIN event_logs newest USING (id) WHERE asset_keys.asset_key = last.key;
INSERT INTO job_ticks (job_origin_id, selector_id, status, type, timestamp, tick_body, create_timestamp, update_timestamp)
SELECT job_origin_id, selector_id, status, type, now() - n * interval '5 s',
    regexp_replace(tick_body, '"(timestamp|end_timestamp)": [0-9.]+', '"\\1": ' || extract(epoch FROM now() - n * interval '5 s'), 'g'), now(), now()
FROM (SELECT DISTINCT ON (selector_id) * FROM job_ticks WHERE status = 'SKIPPED' ORDER BY selector_id, id DESC) one, generate_series(17280, 1, -1) n
"""


def make_small_night(root: Path) -> None:
    """Run the small night, unless an earlier call did; its database is kept under the name `TEMPLATE`."""
    if (root / "made").is_file():
        return
    shutil.rmtree(root, ignore_errors=True)
    night, port = SmallNight.of(8), services.free_port()
    _, settings = prepare(root, night, port)
    with running(root, settings, port) as target:
        for tile in range(4):
            night.write(target.config.input_dir, tile)
        _wait_for_candidates(target.platform.database.url)
        definitions = build_defs(target.config)
        for job in ("look_for_stale", "look_at_tiles", "judge_again"):  # the last one fails: it names no night
            definitions.resolve_job_def(job).execute_in_process(instance=target.instance, raise_on_error=False)
    (root / "made").touch()


def _wait_for_candidates(url: str) -> None:
    engine, limit = create_engine(url), time.monotonic() + SMALL_TIME_LIMIT_S
    made = text("SELECT count(*) FROM product_versions WHERE product = 'ese_candidates'")
    while time.monotonic() < limit:
        with engine.connect() as connection:
            if connection.execute(made).scalar_one():
                time.sleep(10)
                engine.dispose()
                return
        time.sleep(5)
    raise SystemExit("the small night has no candidates; read its logs")


def _administer(config: PipelineConfig, *statements: str) -> None:
    server = create_engine(embedded_server(config).ensure().url("postgres"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    server.dispose()


def fill(config: PipelineConfig, nights: int, *, retained: bool = False) -> Mapping[str, float]:
    """Make Dagster's database anew: clones of the small night for N nights that end today. Returns its figures.

    ``retained``: earlier nights than `PIPELINE_KEEP_RUNS_DAYS` have only what the retention leaves of them.
    """
    names = f"SELECT count(*) FROM pg_database WHERE datname = '{TEMPLATE}'"
    server = create_engine(embedded_server(config).ensure().url("postgres"))
    with server.connect() as connection:
        kept = connection.execute(text(names)).scalar_one()
    server.dispose()
    if not kept:
        _administer(config, f"CREATE DATABASE {TEMPLATE} TEMPLATE {DAGSTER_DATABASE}")
    _administer(
        config, f"DROP DATABASE IF EXISTS {DAGSTER_DATABASE} WITH (FORCE)", f"CREATE DATABASE {DAGSTER_DATABASE} TEMPLATE {TEMPLATE}"
    )
    engine, began, now = create_engine(dagster_url(config)), time.monotonic(), datetime.now(UTC).replace(tzinfo=None)
    with engine.connect() as connection:
        _run(connection, _TEMPLATES, {})
        for back in range(nights - 1, -1, -1):
            values = {
                "night": (now - timedelta(days=back)).date().isoformat(),
                "slots": list(SLOTS),
                "until": now,
                "retained": retained and back > config.keep_runs_days,
            }
            _run(connection, _NIGHT, values)
        _run(connection, _END, {})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does in operation
        figures = {
            "runs": connection.execute(text("SELECT count(*) FROM runs")).scalar_one(),
            "events": connection.execute(text("SELECT count(*) FROM event_logs")).scalar_one(),
            "GB": round(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one() / 1e9, 2),
            "seconds to fill": round(time.monotonic() - began),
        }
    engine.dispose()
    return figures


def _run(connection: Connection, statements: str, values: Mapping[str, object]) -> None:
    with connection.begin():
        for statement in _split(statements):
            connection.execute(text(statement), values)


def _split(statements: str) -> list[str]:
    """Statements of a script; a semicolon ends one at the end of a line."""
    return [one for one in statements.strip().split(";\n") if one.strip()]


@contextmanager
def web_server(config: PipelineConfig) -> Iterator[tuple[str, list[psutil.Process]]]:
    """Code server and web server as `dsa110 up` starts them; yields the UI's address, and both and the database."""
    environment = services.environment(config)
    members = [one for one in services.services(config, services.free_port()) if one.name != "daemon"]
    supervisor = services.Supervisor(members, environment, config.state_dir / "logs")
    try:
        supervisor.start()
        database = embedded_server(config).ensure().pid
        processes = [psutil.Process(pid) for pid in (database, *(one.process.pid for one in members if one.process is not None))]
        yield f"http://127.0.0.1:{config.dagster_port}", processes
    finally:
        supervisor.stop()


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """CPU seconds of processes and all of their children, also of those that have ended."""
    spent = 0.0
    for process in processes:
        for one in (process, *process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                spent += sum(one.cpu_times()[:4])
    return spent


@dataclass(frozen=True)
class Page:
    """A page's loads, and the CPU seconds that web server, code server and database spent on each."""

    loads: Sequence[Load]
    cpu_s: Sequence[float]


def times(tab: Browser, address: str, servers: Sequence[psutil.Process], options: argparse.Namespace, pictures: Path) -> dict[str, Page]:
    """Load each page several times."""
    tab.load(address + "/runs")  # scripts and style sheets into the cache
    pictures.mkdir(parents=True, exist_ok=True)
    found: dict[str, Page] = {}
    for name in options.pages:
        loads: list[Load] = []
        cpu_s: list[float] = []
        for _ in range(options.repeat):
            before = cpu_seconds(servers)
            loads.append(tab.load(address + PAGES[name]))
            cpu_s.append(cpu_seconds(servers) - before)
        found[name] = Page(loads, cpu_s)
        worst = max(loads, key=lambda load: load.seconds)
        shown = ", ".join(f"{load.seconds:.1f}{'' if load.complete else '+'}" for load in loads)
        cpu = ", ".join(f"{one:.1f}" for one in cpu_s)
        print(f"    {name:33s} {shown:20s} CPU {cpu:18s} slowest: {worst.slowest[0]} {worst.slowest[1]:.1f} s", flush=True)
        tab.picture(pictures / f"{name.replace(' ', '_')}.png")
    return found


def main() -> None:
    """Print a table of seconds for each number of nights, with and without retention."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--nights", type=int, nargs="*", default=[60, 365])
    parser.add_argument("--directory", type=Path, default=Path("build/ui"))
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--pages", nargs="*", default=list(PAGES), choices=list(PAGES))
    parser.add_argument("--browser", default="chromium")
    parser.add_argument("--kept", action="store_true", help="time the database as it is; fill nothing, forget nothing")
    parser.add_argument(
        "--retained", action="store_true", help="leave out what the retention deletes, and time only that; five times faster"
    )
    options = parser.parse_args()
    root: Path = options.directory.absolute() / "small"
    make_small_night(root)
    port = services.free_port()
    settings = DemoPlaces(root).settings(port)
    del settings["PIPELINE_PARTITION_START"]  # the default of production: 400 000 slots since 2023
    os.environ.pop("PIPELINE_PARTITION_START", None)
    os.environ.update(settings)
    config = PipelineConfig.from_env()
    results: dict[str, dict[str, Page]] = {}
    try:
        for nights in options.nights:
            if not options.kept:
                print(f"{nights} nights: {json.dumps(fill(config, nights, retained=options.retained))}", flush=True)
            for step in ("as it is",) if options.kept else ("after retention",) if options.retained else ("all history", "after retention"):
                if step == "after retention":
                    began = time.monotonic()
                    gone = history.forget(config, datetime.now(UTC), longest_s=36000)
                    print(f"  retention: {gone.runs} runs, {gone.events} events in {time.monotonic() - began:.0f} s", flush=True)
                print(f"  {step}:", flush=True)
                with web_server(config) as (address, servers), browser(options.browser) as tab:
                    pictures = options.directory / f"{nights} {step}"
                    results[f"{nights}, {step}"] = times(tab, address, servers, options, pictures)
    finally:
        stop_server(config)
    _print_table(results)


def _print_table(results: dict[str, dict[str, Page]]) -> None:
    columns = list(results)
    print("median seconds; CPU seconds of the servers".ljust(46) + "".join(column.rjust(24) for column in columns))
    slow: list[str] = []
    for name in next(iter(results.values())):
        medians = [statistics.median(load.seconds for load in results[column][name].loads) for column in columns]
        cpu = [statistics.median(results[column][name].cpu_s) for column in columns]
        print(name.ljust(46) + "".join(f"{median:17.2f}; {spent:5.2f}" for median, spent in zip(medians, cpu, strict=True)))
        slow += [f"{name} ({column})" for column, median in zip(columns, medians, strict=True) if median > BUDGET_S]
    print(f"above {BUDGET_S:g} s: {', '.join(slow) or 'none'}")


if __name__ == "__main__":
    main()
