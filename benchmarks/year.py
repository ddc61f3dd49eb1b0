"""A registry like that of a year of operation, under the platform's own statements, stages and commands.

    python -m benchmarks.year [--nights 30 100 365] [--sources 60000] [--directory build/year]

For each number of nights it fills an embedded registry (`benchmarks.year_registry`, 250 observations a night, 24 hours
a day) and adds the fluxes of a sky with a known truth (`benchmarks.year_sky`): constant sources, variables, lensing
events, gains that differ from hour to hour. All but the last night are made into light curves as history. The last
night then arrives hour by hour, and the night's stages run. Each step runs in its own process. The table gives, for
each number of nights, CPU seconds of the client and of the server, peak memory of the client, and what was written
ahead (WAL); the results are compared with the truth.

Steps that are done are kept in the directory and not repeated; ``--again STEP`` repeats one and those after it. A
step that fails or takes longer than ``--limit`` seconds is reported as such, and the next ones run. ``--check`` ends
with exit code 1 if a promise is not kept; with ``--check truth``, costs do not count. Autovacuum is off, so that it
does not count for whatever runs at the same time; its work after a night is the step `vacuum`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import text

from benchmarks.year_registry import FILE_BYTES, TILES_PER_NIGHT, fill
from benchmarks.year_sky import COPY_BEGIN, COPY_COLUMNS, COPY_END, YearSky, copy_rows, draw_sky
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.photometry_partitions import month_bounds
from dsa110_assets.registry.server import embedded_server, stop_server
from dsa110_assets.stages.platform import Platform
from dsa110_assets.times import datetime_to_mjd

FILES_PRESENT = 100_000
TICKS = 20
REPEATS = 3


@dataclass(frozen=True)
class Cost:
    """Cost of a part of a step.

    ``client_s``, ``server_s``: CPU seconds. ``wall_s``: seconds. ``peak_mb``: memory of the client, NaN if the step's
    process did other work before. ``wal_mb``: written ahead. ``note``: what came out.
    """

    name: str
    client_s: float
    server_s: float
    wall_s: float
    peak_mb: float
    wal_mb: float
    note: str = ""


@dataclass(frozen=True)
class Year:
    """One registry: its directory, size, and last night."""

    directory: Path
    nights: int
    sources: int
    last: date

    @property
    def first_mjd(self) -> float:
        """0 h UTC of the first night."""
        return datetime_to_mjd(datetime(self.last.year, self.last.month, self.last.day, tzinfo=UTC)) - self.nights + 1

    @property
    def sky(self) -> YearSky:
        """The truth."""
        return draw_sky(self.sources, self.nights, self.first_mjd)

    def night(self, number: int) -> str:
        """UTC date of a night; -1 is the last one."""
        return (self.last - timedelta(days=(self.nights - 1 - number) if number >= 0 else -1 - number)).isoformat()

    def config(self) -> PipelineConfig:
        """Configuration of this registry; its settings are those of `environment`."""
        os.environ.update(self.environment())
        return PipelineConfig(_env_file=None)  # pyright: ignore[reportCallIssue]

    def environment(self) -> dict[str, str]:
        """Settings for commands. ``PIPELINE_`` variables of the caller are left out."""
        settings = {"INPUT_DIR": "incoming", "OUTPUT_DIR": "data/ms", "SCRATCH_DIR": "data", "STATE_DIR": "state"}
        others = {name: value for name, value in os.environ.items() if not name.startswith("PIPELINE_")}
        return others | {f"PIPELINE_{name}": str(self.directory / folder) for name, folder in settings.items()}


# --- what a step costs -----------------------------------------------------------------------------------------------
class Server:
    """The embedded server of a configuration, as processes."""

    def __init__(self, config: PipelineConfig) -> None:
        address = embedded_server(config).ensure()
        self.pid = address.pid
        self.database = Database(address.url("postgres"))

    def cpu_s(self) -> float:
        """CPU seconds of all its processes so far, also of those that have ended."""
        total = sum(_jiffies(self.pid, children=True))
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                if int(stat.read_text().rpartition(")")[2].split()[1]) == self.pid:
                    total += sum(_jiffies(int(stat.parent.name), children=False))
            except (OSError, IndexError):
                continue
        return total / os.sysconf("SC_CLK_TCK")

    def wal_mb(self) -> float:
        """Position in the log of writes, MB."""
        with self.database.engine.connect() as connection:
            return float(connection.execute(text("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn")).scalar_one()) / 1e6


def _jiffies(pid: int, *, children: bool) -> list[int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(one) for one in fields[11 : 15 if children else 13]]


class Meter:
    """Costs of the parts of a step."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.costs: list[Cost] = []

    @contextmanager
    def part(self, name: str, *, times: int = 1) -> Iterator[list[str]]:
        """Measure what is done ``times`` times in the block; the cost is that of one. Append notes to the list."""
        notes: list[str] = []
        wal, server, client, wall = self.server.wal_mb(), self.server.cpu_s(), time.process_time(), time.perf_counter()
        yield notes
        client, wall = time.process_time() - client, time.perf_counter() - wall
        server, wal = self.server.cpu_s() - server, self.server.wal_mb() - wal
        self.costs.append(Cost(name, client / times, server / times, wall / times, np.nan, wal / times, "; ".join(notes)))

    def command(self, name: str, arguments: list[str], environment: dict[str, str], *, repeats: int = REPEATS) -> None:
        """Measure a command line of `dsa110`: the least of several calls, because others may use the machine."""
        best: Cost | None = None
        for _ in range(repeats):
            wal, server, wall = self.server.wal_mb(), self.server.cpu_s(), time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, "-m", "dsa110_assets.cli.main", *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            output, errors = process.communicate()
            usage = _usage_of_last_child()
            cost = Cost(
                name, usage[0], self.server.cpu_s() - server, time.perf_counter() - wall, usage[1], self.server.wal_mb() - wal,
                f"exit {process.returncode}, {len(output.splitlines())} lines"
                + (f", {errors.decode().splitlines()[-1][:80]}" if process.returncode not in (0, 1) and errors else ""),
            )  # fmt: skip
            best = cost if best is None or cost.wall_s < best.wall_s else best
        assert best is not None
        self.costs.append(best)


_children = [0.0]


def _usage_of_last_child() -> tuple[float, float]:
    import resource

    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = usage.ru_utime + usage.ru_stime
    before, _children[0] = _children[0], spent
    return spent - before, usage.ru_maxrss / 1024  # of the largest child so far


# --- steps -----------------------------------------------------------------------------------------------------------
def fill_rows(year: Year, meter: Meter) -> None:
    """Rows of the registry, sources, and fluxes of all nights but the last; files and directories on disk."""
    config = year.config()
    database = Database.connect(config)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ALTER SYSTEM SET autovacuum = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    with meter.part("fill: rows"):
        fill(
            database, year.nights, config, last=year.last, light_curve_nights=30,
            data=year.directory / "data", incoming=config.input_dir, files_present=FILES_PRESENT,
        )  # fmt: skip
        spoil(database)
    sky = year.sky
    with meter.part("fill: fluxes") as notes:
        fill_sources(database, sky)
        notes.append(f"{fill_fluxes(database, year, sky)} fluxes")
    with meter.part("fill: directories and files"):
        make_directories(database)
        make_raw_files(database, config.input_dir)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))
    database.dispose()


def spoil(database: Database) -> None:
    """Let one observation of 125 fail, and refuse one tile of 50, as it happens in operation."""
    every = "(SELECT group_id FROM (SELECT group_id, row_number() OVER (ORDER BY start_mjd) AS n FROM ingest_queue) o WHERE n % {} = 7)"
    with database.session() as session:
        session.execute(
            text(
                f"UPDATE ingest_queue SET state = 'failed', completed_at = NULL, error = 'broken', error_type = 'ImagingError' WHERE group_id IN {every.format(125)}"
            )
        )
        session.execute(
            text(f"UPDATE qa_metrics SET passed = false, value = 3.0 WHERE metric = 'noise_over_thermal' AND key IN {every.format(50)}")
        )


def fill_sources(database: Database, sky: YearSky) -> None:
    """Register the sources of the sky."""
    values = [
        {"id": number + 1, "name": f"NVSS Y{number + 1:06d}", "ra": float(sky.ra_deg[number]), "dec": float(sky.dec_deg[number]),
         "flux": float(sky.reference_jy[number])}
        for number in range(sky.ra_deg.size)
    ]  # fmt: skip
    with database.session() as session:
        session.execute(
            text(
                "INSERT INTO sources (source_id, name, ra_deg, dec_deg, reference_flux_jy, origin) SELECT s.* , 'nvss' FROM "
                "jsonb_to_recordset(CAST(:rows AS jsonb)) AS s(id int8, name text, ra float8, dec float8, flux float8)"
            ),
            {"rows": json.dumps(values)},
        )
        session.execute(text("SELECT setval('sources_source_id_seq', (SELECT max(source_id) FROM sources))"))


def fill_fluxes(database: Database, year: Year, sky: YearSky) -> int:
    """Copy the fluxes of all nights but the last, month by month, into tables without indexes; then attach these."""
    months: dict[tuple[str, float, float], list[int]] = {}
    for number in range(year.nights - 1):
        months.setdefault(month_bounds(sky.first_mjd + number), []).append(number)
    months.setdefault(month_bounds(sky.first_mjd + year.nights - 1), [])
    total = 0
    for (name, first, last), numbers in months.items():
        with database.session() as session:
            session.execute(text("SET LOCAL maintenance_work_mem = '256MB'"))
            session.execute(text(f"CREATE TABLE {name} (LIKE photometry INCLUDING DEFAULTS)"))
            connection = session.connection().connection.dbapi_connection
            assert connection is not None
            with connection.cursor() as cursor:
                for number in numbers:
                    data = b"".join(copy_rows(sky, number, hour, f"hourly_{year.night(number)}T{hour:02d}") for hour in range(24))
                    cursor.copy_expert(f"COPY {name} ({COPY_COLUMNS}) FROM STDIN (FORMAT binary)", _Stream(COPY_BEGIN + data + COPY_END))
                    total += cursor.rowcount
            session.execute(
                text(
                    f"INSERT INTO epoch_factors (mosaic_name, time_mjd, n_measured) SELECT mosaic_name, min(time_mjd), count(*) FROM {name} GROUP BY mosaic_name"
                )
            )
            session.execute(text(f"ALTER TABLE photometry ATTACH PARTITION {name} FOR VALUES FROM ({first:.1f}) TO ({last:.1f})"))
    return total


class _Stream:
    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def read(self, size: int) -> bytes:
        self.place += size
        return self.data[self.place - size : self.place]


def make_directories(database: Database) -> None:
    """Make an empty directory for each registered product."""
    with database.engine.connect() as connection:
        for table, column in (("ms_index", "path"), ("images", "directory"), ("caltables", "directory"), ("mosaics", "directory")):
            for (path,) in connection.execute(text(f"SELECT {column} FROM {table}")):
                os.makedirs(path, exist_ok=True)  # noqa: PTH103  # a quarter of a million


def make_raw_files(database: Database, incoming: Path) -> None:
    """Make the raw files that are present by the registry (sparse)."""
    incoming.mkdir(exist_ok=True)
    with database.engine.connect() as connection:
        present = connection.execute(text("SELECT path, mtime_ns FROM subband_files WHERE state = 'accepted'")).tuples().all()
    for path, mtime_ns in present:
        with open(path, "wb") as file:  # noqa: PTH123
            file.truncate(FILE_BYTES)
        os.utime(path, ns=(mtime_ns, mtime_ns))


def history(year: Year, meter: Meter) -> None:
    """Light curves, metrics and candidates of all nights but the last, from the start."""
    from dsa110_assets.stages.products import night

    with meter.part("history: everything from the start") as notes:
        results = night.recompute(Platform.open(year.config()), "year", night=year.night(-2))
        notes.append(", ".join(f"{name} {value}" for one in results for name, value in list(one.figures.items())[:3]))


def hours(year: Year, meter: Meter) -> None:
    """The last night's fluxes arrive hour by hour, and each hour is looked at for new events."""
    from dsa110_assets.registry.queries.measurements import replace_photometry
    from dsa110_assets.stages.products.events import look_at_hour

    platform, sky = Platform.open(year.config()), year.sky
    last = year.nights - 1
    tables: list[tuple[str, pd.DataFrame]] = []
    for hour in range(24):
        source_id, flux, error, noise = sky.hour(last, hour)
        snr = flux / error
        tables.append((f"{year.night(-1)}T{hour:02d}", pd.DataFrame({
            "source_id": source_id, "flux_jy": flux, "flux_err_jy": error, "noise_jy_per_beam": noise, "background_jy_per_beam": 0.0,
            "snr": snr, "upper_limit_jy": np.where(snr < 5, 3 * error, np.nan), "is_limit": snr < 5, "time_mjd": sky.middle_mjd(last, hour),
        })))  # fmt: skip
    with meter.part("24 hours: fluxes written"):
        for key, table in tables:
            with platform.database.session() as session:
                replace_photometry(session, f"hourly_{key}", table)
    with meter.part("24 hours: looked at for new events") as notes:
        found = [look_at_hour(platform, key[:10], key[11:], "year") for key, _ in tables]
        notes.append(f"events {sum(int(str(one.figures.get('events', 0))) for one in found if one is not None)}")


def update(stage: str) -> Callable[[Year, Meter], None]:
    """One of the stages of a night, for the last night."""

    def step(year: Year, meter: Meter) -> None:
        from dsa110_assets.stages.products import night

        platform = Platform.open(year.config())
        with meter.part(f"night: {stage}") as notes:
            result = getattr(night, stage)(platform, year.night(-1), "year")
            notes.append(", ".join(f"{name} {value}" for name, value in list(result.figures.items())[:4]))

    return step


def vacuum(year: Year, meter: Meter) -> None:
    """What autovacuum does after a night."""
    database = Database.connect(year.config())
    with meter.part("vacuum after the night"), database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def sensors(year: Year, meter: Meter) -> None:
    """Ticks of the sensors in a new process: the first one, with empty caches, and later ones."""
    from dsa110_assets.stages.operations import alerts, tile_quality
    from dsa110_assets.stages.queue import intake, planning
    from dsa110_assets.stages.queue.attempts import now

    platform = Platform.open(year.config())

    def completed() -> object:
        with platform.database.session() as session:
            return intake.completed_recently(session)

    ticks: dict[str, Callable[[], object]] = {
        "sensor raw_files": lambda: intake.tick(platform, most=20),
        "sensor follow_up": lambda: planning.follow_ups(platform),
        "sensor dead_runs": lambda: (intake.in_progress(platform), completed()),
        "sensor alerts": lambda: alerts.conditions(platform, now()),
        "tile quality of the last day": lambda: tile_quality.quality_of_last_day(platform, now()),
    }
    for name, tick in ticks.items():
        with meter.part(f"{name}, first tick"):
            tick()
        if name == "sensor raw_files":
            with meter.part("sensor raw_files, sweep of all files to its end") as notes:
                number = 0
                while not intake.sweep_is_done(platform):
                    tick()
                    number += 1
                notes.append(f"{number} ticks")
        with meter.part(f"{name}, later ticks", times=TICKS):
            for _ in range(TICKS):
                tick()


def commands(year: Year, meter: Meter) -> None:
    """Commands that people call to look."""
    source, environment = str(year.sky.event_ids[0]), year.environment()
    tile = Platform.open(year.config())
    with tile.database.engine.connect() as connection:
        observation = connection.execute(text("SELECT max(group_id) FROM ingest_queue")).scalar_one()
    tile.database.dispose()
    for arguments in (
        ["--help"], ["ingest", "status"], ["ingest", "status", observation], ["ingest", "status", "--refused"], ["alerts"], ["db", "status"],
        ["lightcurve", "epochs"], ["lightcurve", "show", source], ["catalogs", "list"], ["config", "show"],
    ):  # fmt: skip
        meter.command(
            "dsa110 " + " ".join(arguments[:2] + ["OBSERVATION" if one == observation else one for one in arguments[2:]]),
            arguments,
            environment,
        )
    meter.command("dsa110 stale", ["stale"], environment, repeats=1)
    meter.command("dsa110 ingest scan", ["ingest", "scan"], environment, repeats=1)
    meter.command("dsa110 db check", ["db", "check"], environment, repeats=1)


def judge(year: Year, meter: Meter) -> None:
    """Compare the last night's figures with the truth."""
    from dsa110_assets.registry.queries.factors import listed_epochs
    from dsa110_assets.registry.queries.variability import candidates, variability

    platform, sky = Platform.open(year.config()), year.sky
    with meter.part("judge") as notes:
        with platform.database.session() as session:
            figures, found = variability(session, year.night(-1)), candidates(session, year.night(-1))
            epochs = pd.DataFrame(listed_epochs(session)).astype({"normalisation": float})
        notes.append(json.dumps(compare_with_truth(year, sky, figures, found, epochs)))


def compare_with_truth(year: Year, sky: YearSky, figures: pd.DataFrame, found: pd.DataFrame, epochs: pd.DataFrame) -> dict[str, object]:
    """Figures of the promises: chi-square of constants, ranks of events, false candidates, error of the factors."""
    table = figures.set_index("source_id")
    special = [*sky.event_ids, *sky.variable_ids]
    constant = table.drop(index=special, errors="ignore")
    constant = constant[constant["n_epochs"] > 1]
    ranked = list(table.sort_values("ese_score", ascending=False).index)
    listed = set(found["source_id"])
    names = {f"hourly_{year.night(n)}T{h:02d}": sky.gain(n, h)[0] for n in range(year.nights) for h in range(24)}
    factors = epochs.dropna(subset=["normalisation"])
    ratio = np.log(factors["normalisation"].to_numpy() / np.array([names[name] for name in factors["mosaic_name"]]))
    return {
        "sources": len(table),
        "constant_sources": len(constant),
        "reduced_chi2_of_constants_mean": round(float(constant["eta"].mean()), 3),
        "reduced_chi2_of_constants_median": round(float(constant["eta"].median()), 3),
        "gain_rms": round(float(np.std(np.log(list(names.values())))), 4),
        "epochs_with_factor": len(factors),
        "factor_error_rms": round(float(np.std(ratio)), 5),
        "event_ranks": [ranked.index(one) + 1 if one in table.index else None for one in sky.event_ids],
        "candidates": len(found),
        "candidates_that_are_variables": len(listed & set(sky.variable_ids)),
        "false_candidates": len(listed - set(special)),
    }


def sizes(year: Year, meter: Meter) -> None:
    """Sizes of the tables, largest first."""
    from dsa110_assets.registry.status import registry_status

    found = registry_status(year.config())
    for name, rows, size in sorted(found.tables, key=lambda one: -one[2]):
        if size > 1e6:
            meter.costs.append(Cost(f"table {name}", np.nan, np.nan, np.nan, np.nan, np.nan, f"{size / 1e6:.0f} MB, {rows} rows"))
    meter.costs.append(Cost("database", np.nan, np.nan, np.nan, np.nan, np.nan, f"{found.size_bytes / 1e6:.0f} MB"))


STEPS: dict[str, Callable[[Year, Meter], None]] = {
    "fill": fill_rows,
    "history": history,
    "hours": hours,
    "light_curves": update("update_light_curves"),
    "metrics": update("update_metrics"),
    "candidates": update("rank_candidates"),
    "vacuum": vacuum,
    "sensors": sensors,
    "commands": commands,
    "judge": judge,
    "sizes": sizes,
}


# --- running and showing ---------------------------------------------------------------------------------------------
def run(year: Year, name: str, limit_s: float) -> list[dict[str, object]]:
    """Run a step in its own process; its costs, or one row that says how it ended."""
    output = year.directory / "step.json"
    output.unlink(missing_ok=True)
    arguments = ["--directory", str(year.directory), "--nights", str(year.nights), "--sources", str(year.sources), "--step", name]
    log = (year.directory / f"{name}.log").open("wb")
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.year", *arguments], stdout=log, stderr=log, env=year.environment(), start_new_session=True
    )
    try:
        process.wait(limit_s)
        end = f"exit {process.returncode}"
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        end = f"stopped after {limit_s:.0f} s"
    log.close()
    if process.returncode == 0 and output.is_file():
        return json.loads(output.read_text())
    last = (year.directory / f"{name}.log").read_text().strip().splitlines()[-1:]
    took = time.perf_counter() - began
    return [asdict(Cost(f"{name}: FAILED", np.nan, np.nan, took, np.nan, np.nan, f"{end}; {' '.join(last)[:200]}"))]


def step(year: Year, name: str) -> None:
    """Do one step in this process and write its costs."""
    import resource

    meter = Meter(Server(year.config()))
    STEPS[name](year, meter)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [asdict(cost) for cost in meter.costs]
    if name != "commands":
        for row in rows:
            row["peak_mb"] = peak
    (year.directory / "step.json").write_text(json.dumps(rows))


def make(directory: Path, nights: int, sources: int, again: list[str], limit_s: float) -> dict[str, list[dict[str, object]]]:
    """Do the steps of one registry that are not done yet; return all results."""
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    state = directory / "results.json"
    results: dict[str, object] = json.loads(state.read_text()) if state.is_file() else {}
    if results and (results["nights"], results["sources"]) != (nights, sources):
        message = f"{directory} is of {results['nights']} nights and {results['sources']} sources; remove it, or give another directory"
        raise SystemExit(message)
    if not results:
        results = {"nights": nights, "sources": sources, "last": yesterday.isoformat(), "steps": {}}
    steps: dict[str, list[dict[str, object]]] = results["steps"]  # type: ignore[assignment]
    unfinished = "fill" not in steps or "fill" in again or "FAILED" in str(steps["fill"][0]["name"])
    if unfinished:
        if directory.exists():
            stop_server(Year(directory, nights, sources, yesterday).config())
            shutil.rmtree(directory)
        steps.clear()
        results["last"] = yesterday.isoformat()
        for folder in ("incoming", "data/ms", "state"):
            (directory / folder).mkdir(parents=True)
    year = Year(directory, nights, sources, date.fromisoformat(str(results["last"])))
    if year.last != yesterday:
        print(f"the last night is {year.last}: what sensors and alerts look back to is older than in operation")
    (directory / "year.json").write_text(json.dumps({"last": year.last.isoformat()}))
    repeat = False
    for name in STEPS:
        repeat = repeat or name not in steps or name in again or "FAILED" in str(steps[name][0]["name"])  # and all that follow
        if not repeat:
            continue
        print(f"{nights} nights: {name} ...", flush=True)
        steps[name] = run(year, name, limit_s)
        state.write_text(json.dumps(results))
        for row in steps[name]:
            print(f"    {_line(row)}", flush=True)
        if name == "fill" and "FAILED" in str(steps[name][0]["name"]):
            break
    stop_server(year.config())
    return steps


def _line(row: dict[str, object]) -> str:
    return f"{row['name']}: client {row['client_s']:.2f} s, server {row['server_s']:.2f} s, wall {row['wall_s']:.2f} s, {row['peak_mb']:.0f} MB, WAL {row['wal_mb']:.1f} MB {row['note']}"


def table(all_steps: dict[int, dict[str, list[dict[str, object]]]]) -> str:
    """Markdown: one row for each part; for each size CPU of client + server, memory, WAL; growth of CPU."""
    rows: dict[str, dict[int, dict[str, object]]] = {}
    for nights, steps in all_steps.items():
        for costs in steps.values():
            for cost in costs:
                rows.setdefault(str(cost["name"]), {})[nights] = cost
    sizes_ = list(all_steps)
    lines = [
        "| what | " + " | ".join(f"{nights} nights: CPU s client + server, wall s, MB, WAL MB" for nights in sizes_) + " | growth of CPU |",
        "|" + "---|" * (len(sizes_) + 2),
    ]
    for name, found in rows.items():
        cells: list[str] = []
        spent: list[float] = []
        for nights in sizes_:
            one = found.get(nights)
            if one is None:
                cells.append("")
            elif np.isnan(float(one["client_s"])):  # type: ignore[arg-type]
                cells.append(str(one["note"]))
            else:
                client, server, wall, peak, wal = (float(one[key]) for key in ("client_s", "server_s", "wall_s", "peak_mb", "wal_mb"))  # type: ignore[arg-type]
                spent.append(client + server)
                cells.append(f"{client:.2f} + {server:.2f}, {wall:.2f}, {peak:.0f}, {wal:.1f}")
        growth = f"{spent[-1] / max(spent[0], 0.01):.1f}" if len(spent) > 1 else ""
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {growth} |")
    return "\n".join(lines)


def too_costly(nights: int, steps: dict[str, list[dict[str, object]]]) -> list[str]:
    """Limits of CPU time and memory that a registry exceeds. They are those of a machine that is not busy."""
    found: list[str] = []
    costs = {str(row["name"]): row for rows in steps.values() for row in rows}

    def cpu(name: str) -> float:
        return float(costs[name]["client_s"]) + float(costs[name]["server_s"])  # type: ignore[arg-type]

    for name in costs:
        if name.startswith("sensor ") and name.endswith("later ticks") and cpu(name) > 0.2:
            found.append(f"{nights} nights: {name}: {cpu(name):.2f} CPU s, at most 0.2")
        quick = ("ingest status", "alerts", "db status", "lightcurve", "--help")
        took = min(float(costs[name]["wall_s"]), cpu(name))  # type: ignore[arg-type]  # on a busy machine, commands wait
        if name.startswith(tuple(f"dsa110 {one}" for one in quick)) and took > 1.0:
            found.append(f"{nights} nights: {name}: {took:.2f} s, at most 1")
    if "dsa110 stale" in costs and cpu("dsa110 stale") > 10:
        found.append(f"{nights} nights: dsa110 stale: {cpu('dsa110 stale'):.1f} CPU s, at most 10")
    night = [name for name in costs if name.startswith("night: ") and "FAILED" not in name]
    if (total := sum(cpu(name) for name in night)) > 60:
        found.append(f"{nights} nights: update of a night: {total:.0f} CPU s, at most 60")
    found += [
        f"{nights} nights: {name}: {costs[name]['peak_mb']:.0f} MB, at most 2000" for name in night if float(costs[name]["peak_mb"]) > 2000
    ]  # type: ignore[arg-type]
    return found


def untrue(nights: int, steps: dict[str, list[dict[str, object]]]) -> list[str]:
    """Steps that failed, and results that differ from the truth by more than is promised."""
    found = [f"{nights} nights: {row['name']}: {row['note']}" for rows in steps.values() for row in rows if "FAILED" in str(row["name"])]
    judged = [row for rows in steps.values() for row in rows if row["name"] == "judge"]
    if not judged:
        found.append(f"{nights} nights: the results were not compared with the truth")
    for row in judged:
        truth = json.loads(str(row["note"]))
        if not 0.9 <= truth["reduced_chi2_of_constants_mean"] <= 1.1:
            found.append(f"{nights} nights: chi-square of constants is {truth['reduced_chi2_of_constants_mean']}, 1.0 +- 0.1 promised")
        if any(rank is None or rank > 10 for rank in truth["event_ranks"]):
            found.append(f"{nights} nights: events have the ranks {truth['event_ranks']}, at most 10 promised")
        if truth["false_candidates"]:
            found.append(f"{nights} nights: {truth['false_candidates']} false candidates, none promised")
    return found


def main() -> None:
    """Do what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=int, nargs="+", default=[30, 100, 365])
    parser.add_argument("--sources", type=int, default=60_000)
    parser.add_argument("--directory", type=Path, default=Path("build/year"))
    parser.add_argument("--again", nargs="*", default=[], choices=list(STEPS), metavar="STEP", help=f"repeat: {', '.join(STEPS)}")
    parser.add_argument("--limit", type=float, default=3600, help="seconds after which a step is stopped")
    parser.add_argument(
        "--check", nargs="?", const="all", choices=("all", "truth"), help="exit code 1 if a promise is not kept; truth: costs do not count"
    )
    parser.add_argument("--remove", action="store_true", help="remove the registries at the end")
    parser.add_argument("--step", choices=list(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    directory: Path = arguments.directory.absolute()
    if arguments.step is not None:
        last = date.fromisoformat(json.loads((directory / "year.json").read_text())["last"])
        step(Year(directory, arguments.nights[0], arguments.sources, last), arguments.step)
        return
    found = {
        nights: make(
            directory / f"{nights}_nights_{arguments.sources}_sources", nights, arguments.sources, arguments.again, arguments.limit
        )
        for nights in arguments.nights
    }
    print(f"\n{arguments.sources} sources, {TILES_PER_NIGHT} observations a night, load {os.getloadavg()[0]:.1f}\n")
    print(table(found))
    untruths = [one for nights, steps in found.items() for one in untrue(nights, steps)]
    problems = untruths + [one for nights, steps in found.items() for one in too_costly(nights, steps)]
    print("\n".join(["", *problems]) if problems else "\nall promises kept")
    if arguments.remove:
        shutil.rmtree(directory)
    if (untruths and arguments.check) or (problems and arguments.check == "all"):
        sys.exit(1)


if __name__ == "__main__":
    main()
