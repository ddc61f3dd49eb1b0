"""Time of the registry's query for the light curve of one source among ten million measurements.

    python -m benchmarks.light_curve_query [--sources 60000] [--epochs 170] [--queries 200]

A separate server generates the measurements in `photometry` (partitioned by month) and the factors of the epochs.
Then `light_curve` reads light curves of random sources, as pages and notebooks do. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
from sqlalchemy import text

from dsa110_assets.registry import photometry_partitions
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import light_curve
from dsa110_assets.registry.server import EmbeddedServer

FIRST_MJD = 61_100.0


def fill(database: Database, sources: int, epochs: int) -> None:
    """Fill the database with ``epochs`` mosaics, a night apart, of ``sources`` sources."""
    with database.session() as session:
        photometry_partitions.ensure(session, FIRST_MJD, FIRST_MJD + epochs)
        numbers = {"sources": sources, "epochs": epochs - 1, "first": FIRST_MJD}
        session.execute(
            text(
                "INSERT INTO sources (name, ra_deg, dec_deg, origin) SELECT 's' || i, i * 360.0 / :sources, 54.6, 'nvss' FROM generate_series(1, :sources) i"
            ),
            numbers,
        )
        session.execute(
            text(
                "INSERT INTO mosaics SELECT 'hourly_' || e, 'hourly', 'd', :first + e, :first + e, :first + e, 0, 54.6, 1, 0.002, now() "
                "FROM generate_series(0, :epochs) e"
            ),
            numbers,
        )
        session.execute(
            text(
                "INSERT INTO photometry SELECT :first + e, i, 'hourly_' || e, 0.1 + 0.002 * random(), 0.002, 0.002, 0, 50, NULL, false, '', now() "
                "FROM generate_series(0, :epochs) e, generate_series(1, :sources) i"
            ),
            numbers,
        )
        session.execute(
            text(
                "INSERT INTO epoch_factors (mosaic_name, time_mjd, n_measured, factor, factor_err, n_reference, usable, updated_at) "
                "SELECT name, mid_mjd, :sources, 1, 0.001, 500, true, now() FROM mosaics"
            ),
            numbers,
        )
    with database.session() as session:
        session.execute(text("ANALYZE"))


def main() -> None:
    """Fill the database, run the queries, print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=170)
    parser.add_argument("--queries", type=int, default=200)
    arguments = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="dsa110-bench-"))
    directory.chmod(0o755)
    server = EmbeddedServer(directory / "postgres")
    try:
        database = Database(server.ensure().url("postgres"))
        database.migrate()
        begun = time.perf_counter()
        fill(database, arguments.sources, arguments.epochs)
        filled_s = time.perf_counter() - begun
        rng = np.random.default_rng(1)
        times: list[float] = []
        with database.session() as session:
            rows = session.scalar(text("SELECT count(*) FROM photometry"))
            for source in rng.integers(1, arguments.sources + 1, arguments.queries):
                begun = time.perf_counter()
                table = light_curve(session, int(source))
                times.append(time.perf_counter() - begun)
                assert len(table) == arguments.epochs
        milliseconds = 1e3 * np.array(times)
        print(
            json.dumps(
                {
                    "measurements": rows,
                    "epochs_of_a_source": arguments.epochs,
                    "first_ms": round(float(milliseconds[0]), 1),
                    "median_ms": round(float(np.median(milliseconds[1:])), 2),
                    "p95_ms": round(float(np.percentile(milliseconds[1:], 95)), 2),
                    "filled_s": round(filled_s),
                    "load_after": round(os.getloadavg()[0], 1),
                }
            )
        )
        database.dispose()
    finally:
        server.stop(immediate=True)
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
