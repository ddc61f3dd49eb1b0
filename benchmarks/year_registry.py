"""Rows of N nights of operation, and cost of the registry's queries: `python -m benchmarks.year_registry 30 100 365`.

The telescope observes all day. `fill` adds 250 observations in each of N nights, each with its Measurement Sets,
tables, image and quality figures, and the mosaic, catalog and photometry of each hour, with the versions of all of them
and of the night's products. The server itself generates the rows, 365 nights in about a minute. There are no fluxes
(`benchmarks.year` adds them), and raw files only if they are asked for.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import Session

from dsa110_assets.config import PipelineConfig
from dsa110_assets.ingest import ledger
from dsa110_assets.quality.gate import TILE_CHECKS
from dsa110_assets.registry import provenance
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import storage
from dsa110_assets.registry.queries.calibration import observations_with_other_tables
from dsa110_assets.registry.server import EmbeddedServer
from dsa110_assets.stages.operations import disk, old_rows, retiring
from dsa110_assets.stages.provenance.recipes import recipes
from dsa110_assets.stages.queue import intake, planning
from dsa110_assets.stages.table import TABLE

TILES_PER_NIGHT = 250
OVERLAP = timedelta(minutes=10)
DECLINATION_DEG = 16.0
FILE_BYTES = 4096

_TILES = """
CREATE OR REPLACE FUNCTION pg_temp.meridian_deg(mjd float8) RETURNS float8 IMMUTABLE LANGUAGE sql RETURN
    280.46061837 + 360.98564736629 * (mjd - 51544.5) - 360 * floor((280.46061837 + 360.98564736629 * (mjd - 51544.5)) / 360);
CREATE TEMP TABLE tile ON COMMIT DROP AS
SELECT at, to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS') AS group_id, at::date AS night, number,
    extract(epoch FROM at)::float8 / 86400 + 40587 AS start_mjd,
    pg_temp.meridian_deg(extract(epoch FROM at)::float8 / 86400 + 40587 + 154.5 / 86400) AS ra_deg,
    '/data/ms/' || to_char(at, 'YYYY-MM-DD/YYYY-MM-DD"T"HH24:MI:SS') AS ms,
    '/data/images/' || to_char(at, 'YYYY-MM-DD/YYYY-MM-DD"T"HH24:MI:SS') AS image,
    number = CAST(:tiles AS int) / 2 AS has_calibrator, to_char(night + interval '12 hours', 'YYYY-MM-DD"T"HH24:MI:SS') AS calibrator_tile,
    '/data/caltables/' || to_char(night + interval '12 hours', 'YYYY-MM-DD/YYYY-MM-DD"T"HH24:MI:SS') AS tables
FROM (
    SELECT night, date_trunc('second', night + number * interval '1 day' / CAST(:tiles AS int)) AS at, number
    FROM generate_series(CAST(:first AS timestamp), CAST(:last AS timestamp), interval '1 day') night,
        generate_series(0, CAST(:tiles AS int) - 1) number
) slots
"""

_ROWS = """
INSERT INTO ingest_queue (group_id, state, stage, start_mjd, mid_mjd, end_mjd, dec_deg, night, slot, n_subbands, attempt, calibrator,
    run_id, first_seen_at, last_file_at, pending_at, started_at, completed_at, updated_at)
SELECT group_id, 'completed', 'tile_image', start_mjd, start_mjd + 154.5 / 86400, start_mjd + 309.0 / 86400, :declination, night,
    to_char(date_bin('5 minutes', at, timestamp '2000-01-01'), 'HH24:MI'), 16, 1, CASE WHEN has_calibrator THEN '3C286' END,
    md5(group_id), at + interval '310 s', at + interval '330 s', at + interval '330 s', at + interval '335 s', at + interval '500 s', at + interval '500 s'
FROM tile ORDER BY at;
INSERT INTO ms_index (path, group_id, kind, status, start_mjd, mid_mjd, end_mjd, ra_deg, dec_deg, pointing_dec_deg, calibrator, n_channels,
    flagged_fraction, size_bytes, created_at)
SELECT ms || suffix, group_id, kind, status, start_mjd, start_mjd + 154.5 / 86400, start_mjd + 309.0 / 86400, ra_deg,
    :declination, :declination, CASE WHEN has_calibrator THEN '3C286' END, channels, 0.1, size, at + after
FROM tile, (VALUES ('.ms', 'raw', 'flagged', 768, 5000000000, interval '400 s'),
    ('.cal.ms', 'calibrated', 'calibrated', 48, 400000000, interval '420 s')) AS sets(suffix, kind, status, channels, size, after)
ORDER BY at, kind DESC;
INSERT INTO caltables (directory, group_id, night, calibrator, refant, mid_mjd, valid_from_mjd, valid_to_mjd, pointing_dec_deg, accepted,
    quality, created_at)
SELECT tables, group_id, night, '3C286', '103', start_mjd + 154.5 / 86400, start_mjd - 4, start_mjd + 4, :declination, true,
    (SELECT jsonb_object_agg('figure_' || i, 1.0 / i) FROM generate_series(1, 40) i), at + interval '410 s'
FROM tile WHERE has_calibrator;
INSERT INTO calibration_applied (group_id, caltable_directory, rung, hours_away, applied_at)
SELECT group_id, tables, 'same-night', 12 - 24.0 * number / :tiles, at + interval '420 s' FROM tile;
INSERT INTO images (directory, group_id, mid_mjd, ra_deg, dec_deg, pointing_dec_deg, noise_jy_per_beam, peak_jy_per_beam, bmaj_arcsec,
    bmin_arcsec, bpa_deg, created_at)
SELECT image, group_id, start_mjd + 154.5 / 86400, ra_deg, :declination, :declination, 5e-4, 1.0, 40, 30, 10, at + interval '500 s'
FROM tile ORDER BY at;
INSERT INTO qa_metrics (product, key, metric, value, limit_high, passed, measured_at)
SELECT 'tile_image', group_id, metric, 1.0, 2.0, true, at + interval '500 s'
FROM tile, unnest(CAST(:checks AS text[])) metric ORDER BY at;
CREATE TEMP TABLE hour ON COMMIT DROP AS
SELECT at, at::date AS night, to_char(at, 'YYYY-MM-DD"T"HH24') AS key, extract(epoch FROM at)::float8 / 86400 + 40587 AS start_mjd
FROM (SELECT DISTINCT date_trunc('hour', at) AS at FROM tile) hours;
INSERT INTO mosaics (name, kind, directory, start_mjd, mid_mjd, end_mjd, ra_deg, dec_deg, n_tiles, noise_jy_per_beam, created_at)
SELECT 'hourly_' || key, 'hourly', '/data/mosaics/hourly_' || key, start_mjd, start_mjd + 1 / 48.0, start_mjd + 1 / 24.0,
    pg_temp.meridian_deg(start_mjd + 1 / 48.0), :declination, 14, 2e-4, at + interval '85 min'
FROM hour;
CREATE TEMP TABLE hour_tile ON COMMIT DROP AS
SELECT hour.key, tile.group_id, tile.image FROM hour JOIN tile
    ON tile.at >= hour.at - CAST(:overlap AS interval) AND tile.at < hour.at + interval '1 hour' + CAST(:overlap AS interval);
INSERT INTO mosaic_tiles (mosaic_name, group_id) SELECT 'hourly_' || key, group_id FROM hour_tile;
INSERT INTO reference_catalogs (name, path, origin, n_rows, refreshed_at)
SELECT name, '/data/catalogs/' || name, '/data/' || name, 1, CAST(:first AS timestamp)
FROM unnest(ARRAY['calibrator_catalog', 'nvss_catalog', 'monitored_sources']) name
"""

_FILES = """
INSERT INTO subband_files (path, group_id, subband, state, size_bytes, mtime_ns, start_mjd, n_times, first_seen_at, judged_at)
SELECT CAST(:incoming AS text) || '/' || group_id || '_sb' || lpad(subband::text, 2, '0') || '.hdf5', group_id, subband,
    CASE WHEN at >= :present_from THEN 'accepted' ELSE 'gone' END, :file_bytes, (extract(epoch FROM at)::bigint + 310) * 1000000000,
    start_mjd, 24, at + interval '310 s', at + interval '330 s'
FROM tile, generate_series(0, 15) subband ORDER BY at, subband
"""

_VERSIONS = """
CREATE TEMP TABLE made ON COMMIT DROP AS
SELECT row_number() OVER (ORDER BY at, rank, key) AS version_id, product, key, path, coalesce(path, product || '/' || key) AS reference, at
FROM (
    SELECT CAST(:first AS timestamp) - interval '1 hour' AS at, 0 AS rank, name AS product, 'all' AS key, '/data/catalogs/' || name AS path
        FROM unnest(ARRAY['calibrator_catalog', 'nvss_catalog']) name
    UNION ALL SELECT CAST(:first AS timestamp) - interval '50 min', 0, 'monitored_sources', 'all', NULL
    UNION ALL SELECT at + interval '400 s', 1, 'measurement_set', group_id, ms || '.ms' FROM tile
    UNION ALL SELECT at + interval '410 s', 2, 'calibration_tables', group_id, tables FROM tile WHERE has_calibrator
    UNION ALL SELECT at + interval '420 s', 3, 'calibrated_ms', group_id, ms || '.cal.ms' FROM tile
    UNION ALL SELECT at + interval '500 s', 4, 'tile_image', group_id, image FROM tile
    UNION ALL SELECT at + interval '85 min', 5, 'hourly_mosaic', key, '/data/mosaics/hourly_' || key FROM hour
    UNION ALL SELECT at + interval '86 min', 6, 'source_catalog', key, NULL FROM hour
    UNION ALL SELECT at + interval '87 min', 7, 'forced_photometry', key, NULL FROM hour
    UNION ALL SELECT night + interval '26 hours' + after, 8, product, night::text, path || night
        FROM (SELECT DISTINCT night FROM tile) nights, (VALUES
            ('light_curves', NULL, interval '1 min'), ('variability_metrics', '/data/variability/', interval '2 min'),
            ('ese_candidates', '/data/candidates/', interval '3 min'), ('nightly_mosaic', '/data/mosaics/nightly_', interval '4 min')
        ) AS products(product, path, after)
) all_products;
CREATE INDEX ON made (product, key);
ANALYZE made;
CREATE TEMP TABLE made_from ON COMMIT DROP AS
SELECT 'calibration_tables' AS product, tile.group_id AS key, upstream.product AS input, CASE WHEN upstream.product = 'measurement_set' THEN group_id ELSE 'all' END AS input_key
    FROM tile, unnest(ARRAY['measurement_set', 'calibrator_catalog', 'nvss_catalog']) AS upstream(product) WHERE has_calibrator
UNION ALL SELECT 'calibrated_ms', group_id, 'measurement_set', group_id FROM tile
UNION ALL SELECT 'calibrated_ms', group_id, 'calibration_tables', calibrator_tile FROM tile
UNION ALL SELECT 'tile_image', group_id, 'calibrated_ms', group_id FROM tile
UNION ALL SELECT 'tile_image', group_id, 'nvss_catalog', 'all' FROM tile
UNION ALL SELECT 'hourly_mosaic', key, 'tile_image', group_id FROM hour_tile
UNION ALL SELECT product, key, 'hourly_mosaic', key FROM hour, unnest(ARRAY['source_catalog', 'forced_photometry']) product
UNION ALL SELECT 'source_catalog', key, 'nvss_catalog', 'all' FROM hour
UNION ALL SELECT 'forced_photometry', key, 'monitored_sources', 'all' FROM hour
UNION ALL SELECT 'nightly_mosaic', night::text, 'tile_image', group_id FROM tile
UNION ALL SELECT 'light_curves', nights.night::text, 'forced_photometry', hour.key
    FROM (SELECT DISTINCT night FROM tile) nights JOIN hour ON hour.night BETWEEN nights.night - CAST(:light_curve_nights AS int) AND nights.night
UNION ALL SELECT 'variability_metrics', night::text, 'light_curves', night::text FROM (SELECT DISTINCT night FROM tile) nights
UNION ALL SELECT 'ese_candidates', night::text, input, night::text
    FROM (SELECT DISTINCT night FROM tile) nights, unnest(ARRAY['light_curves', 'variability_metrics']) input;
CREATE TEMP TABLE recipe ON COMMIT DROP AS
    SELECT * FROM unnest(CAST(:products AS text[]), CAST(:codes AS text[]), CAST(:configs AS text[])) AS r(product, code, config);
INSERT INTO product_versions (version_id, product, key, path, inputs, code_version, config_hash, checksum, size_bytes, duration_s, peak_memory_mb,
    run_id, created_at)
SELECT made.version_id, product, key, path, coalesce(read.inputs, '{}'), recipe.code, recipe.config, md5(reference), 1000, 30, 1000, md5(key), at
FROM made JOIN recipe USING (product) LEFT JOIN (
    SELECT product, key, jsonb_object_agg(upstream.reference, upstream.version_id) AS inputs
    FROM made_from JOIN (SELECT product AS input, key AS input_key, reference, version_id FROM made) upstream USING (input, input_key)
    GROUP BY product, key
) read USING (product, key)
ORDER BY version_id;
SELECT setval('product_versions_version_id_seq', (SELECT max(version_id) FROM product_versions))
"""

_PARTS = """
INSERT INTO stored_parts (product, key, rule, path, size_bytes, made_at, retired_at)
SELECT product, key, rule, path, size, at, CASE WHEN at < now() - (days + 1) * interval '1 day' THEN at + days * interval '1 day' END
FROM made JOIN unnest(CAST(:part_products AS text[]), CAST(:part_rules AS text[]), CAST(:part_days AS float8[]), CAST(:part_sizes AS bigint[]))
    AS parts(product, rule, days, size) USING (product)
ORDER BY at
"""
"""What cleanings until yesterday removed is retired. 0 days are written as a century."""


def fill(
    database: Database,
    nights: int,
    config: PipelineConfig,
    *,
    tiles_per_night: int = TILES_PER_NIGHT,
    last: date | None = None,
    light_curve_nights: int | None = None,
    data: Path = Path("/data"),
    incoming: Path | None = None,
    files_present: int = 0,
) -> None:
    """Fill an empty, migrated registry with N whole nights of completed observations; all products are current.

    The calibrator transits at noon UTC, so a night's own tables are the nearest for all of its tiles.

    Args:
        database: the registry.
        nights: number of UTC dates.
        config: for the recipes.
        tiles_per_night: observations in each night, at equal intervals; an even number.
        last: the last night; None takes yesterday.
        light_curve_nights: earlier nights whose photometry is an input of a night's light curves; None takes all.
        data: directory of the products; nothing is written there.
        incoming: input directory of the raw files, 16 of each observation; None adds no rows for raw files.
        files_present: number of the newest raw files that are still there, of `FILE_BYTES` each, written 310 s after
            their start.
    """
    last = last or (datetime.now(UTC) - timedelta(days=1)).date()
    today = recipes(config)
    kept = -(-files_present // 16)
    kept_parts = [(row, part) for row in TABLE for part in row.parts]
    values = {
        "incoming": str(incoming),
        "present_from": datetime.combine(last, datetime.min.time()) + timedelta(days=1 - kept / tiles_per_night),
        "file_bytes": FILE_BYTES,
        "first": last - timedelta(days=nights - 1),
        "last": last,
        "tiles": tiles_per_night,
        "declination": DECLINATION_DEG,
        "overlap": OVERLAP,
        "light_curve_nights": nights if light_curve_nights is None else light_curve_nights,
        "checks": list(TILE_CHECKS),
        "part_products": [row.name for row, _ in kept_parts],
        "part_rules": [part.rule for _, part in kept_parts],
        "part_days": [retiring.keep_days(config, part) or 36500.0 for _, part in kept_parts],
        "part_sizes": [100_000_000 for _ in kept_parts],
        "products": list(today),
        "codes": [recipe.code_version for recipe in today.values()],
        "configs": [recipe.config_hash for recipe in today.values()],
    }
    with database.session() as session:
        session.execute(text("SET LOCAL work_mem = '256MB'"))
        session.execute(text("SET LOCAL synchronous_commit = on"))  # else VACUUM does not see these rows as visible to all
        session.execute(text("SET LOCAL timezone = 'UTC'"))
        parts = (_TILES, _ROWS, *((_FILES,) if incoming is not None else ()), _VERSIONS, _PARTS)
        for statement in ";\n".join(parts).replace("'/data/", f"'{data}/").split(";\n"):
            session.execute(text(statement), values)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))  # as autovacuum does in operation


@contextmanager
def filled_registry(nights: int, config: PipelineConfig) -> Iterator[Database]:
    """A filled registry on a separate server with the settings of operation; both are removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix="dsa110-year-"))
    directory.chmod(0o755)
    server = EmbeddedServer(directory / "postgres")
    try:
        database = Database(server.ensure().url("postgres"))
        database.migrate()
        fill(database, nights, config, incoming=Path("/data/incoming"), files_present=16 * TILES_PER_NIGHT)
        yield database
        database.dispose()
    finally:
        server.stop(immediate=True)
        shutil.rmtree(directory, ignore_errors=True)


def cpu_seconds(session: Session, query: Callable[[], object]) -> float:
    """CPU seconds of a query: those of this process and of the session's server process on this host."""
    pid = session.execute(text("SELECT pg_backend_pid()")).scalar_one()

    def spent() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return time.process_time() + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before = spent()
    query()
    return spent() - before


def queries(session: Session, config: PipelineConfig) -> dict[str, Callable[[], object]]:
    """Queries to measure, by name."""
    now = datetime.now(UTC)

    def sensor_tick() -> None:
        planning.calibrations_due(session)
        planning.hours_due(session, config, now)
        planning.nights_due(session, now)
        planning.nightly_mosaics_due(session)
        intake.completed_recently(session)
        ledger.n_in_progress(session)

    def cleaning() -> None:
        for rule, (_, days) in retiring.rules(config).items():
            if days:
                storage.parts_due(session, rule, now - timedelta(days=days))
        for rows in old_rows.RULES:
            rows.count(session, config, now)
        for rule, (_, days) in retiring.rules(config).items():
            storage.bytes_by_day(session, rule, now - timedelta(days=max(2 * days, disk.RATE_DAYS + 1)))

    return {
        "sensors, first tick": sensor_tick,
        "sensors, next tick": sensor_tick,
        "plan of a cleaning": cleaning,
        "other tables": lambda: observations_with_other_tables(
            session, borrow_days=config.cal_borrow_days, tolerance_deg=config.cal_declination_tolerance_deg
        ),
        "stale, nothing is": lambda: provenance.stale(session, recipes(config)),
        "stale, everything is": lambda: provenance.stale(
            session, {name: provenance.Recipe("other", recipe.config_hash) for name, recipe in recipes(config).items()}
        ),
    }


def bytes_per_row(session: Session) -> dict[str, tuple[int, int]]:
    """Rows and bytes, with indexes, of each table that is not empty."""
    found: dict[str, tuple[int, int]] = {}
    for name in session.scalars(text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace")).all():
        rows = session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one()
        if rows:
            found[name] = rows, session.execute(text("SELECT pg_total_relation_size(CAST(:name AS regclass))"), {"name": name}).scalar_one()
    return found


def main() -> None:
    """Print a table of CPU seconds, one column for each number of nights, and the sizes of the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nights", type=int, nargs="*", default=[30, 100, 365])
    config = PipelineConfig()
    figures: dict[str, list[float]] = {}
    numbers = parser.parse_args().nights
    for nights in numbers:
        began = time.monotonic()
        with filled_registry(nights, config) as database:
            figures.setdefault("filling it (wall clock)", []).append(time.monotonic() - began)
            sizes: dict[str, tuple[int, int]] = {}
            with database.session() as session:
                sizes = bytes_per_row(session)
                for name, query in queries(session, config).items():
                    figures.setdefault(name, []).append(cpu_seconds(session, query))
                session.execute(
                    text("DELETE FROM product_versions WHERE product = 'forced_photometry' AND created_at > now() - interval '8 days'")
                )
                query = queries(session, config)["sensors, next tick"]
                figures.setdefault("sensors, a week of hours due", []).append(cpu_seconds(session, query))
            print(f"{nights} nights: {'table':24s} {'rows a night':>12s} {'bytes a row':>12s} {'MB a year':>10s}", flush=True)
            for name, (rows, size) in sorted(sizes.items(), key=lambda one: -one[1][1]):
                print(f"{'':8s} {name:24s} {rows / nights:12.1f} {size / rows:12.0f} {size / nights * 365 / 1e6:10.1f}")
    print("CPU seconds".ljust(28), *(f"{nights:>8d}" for nights in numbers), "nights")
    for name, row in figures.items():
        print(name.ljust(28), *(f"{seconds:8.2f}" for seconds in row))


if __name__ == "__main__":
    main()
