"""Times of the registry's bulk statements on a separate server.

    python -m benchmarks.registry_bulk [--positions 60000] [--mosaics 24]

The peer is SQLAlchemy's own bulk INSERT and `pandas.read_sql`, on the same server in the same run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sqlalchemy import insert, select

from dsa110_assets.registry import queries
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.schema import Photometry
from dsa110_assets.registry.server import EmbeddedServer


def fluxes(source_ids: np.ndarray, seed: int) -> pd.DataFrame:
    """One mosaic's photometry."""
    rng = np.random.default_rng(seed)
    n = len(source_ids)
    return pd.DataFrame(
        {
            "source_id": source_ids,
            "flux_jy": rng.lognormal(-4, 1, n),
            "flux_err_jy": 5e-4,
            "noise_jy_per_beam": 5e-4,
            "background_jy_per_beam": rng.normal(0, 1e-4, n),
            "snr": 20.0,
            "upper_limit_jy": np.nan,
            "is_limit": False,
        }
    )


def timed(work: Callable[[], object]) -> float:
    """Wall-clock seconds of one call."""
    begun = time.perf_counter()
    work()
    return round(time.perf_counter() - begun, 3)


def run(positions: int, mosaics: int) -> dict[str, float]:
    """Fill a new registry and measure."""
    directory = Path(tempfile.mkdtemp(prefix="dsa110-bench-"))
    directory.chmod(0o755)
    server = EmbeddedServer(directory / "postgres")
    figures: dict[str, float] = {"positions": positions, "mosaics": mosaics}
    try:
        figures["first_start_s"] = timed(server.ensure)
        database = Database(server.ensure().url("postgres"))
        figures["migrate_s"] = timed(database.migrate)
        names = pd.DataFrame({"name": [f"s{i}" for i in range(positions)], "ra_deg": np.linspace(0, 359, positions), "dec_deg": 16.0})
        with database.session() as session:
            figures["upsert_sources_s"] = timed(lambda: queries.upsert_sources(session, names, origin="nvss"))
            ids = queries.source_table(session)["source_id"].to_numpy()

        def write(number: int) -> None:
            with database.session() as session:
                queries.replace_photometry(session, f"m{number}", fluxes(ids, number), time_mjd=61100.0 + number / 24)

        times = [timed(lambda number=number: write(number)) for number in range(mosaics)]
        figures["photometry_of_a_mosaic_s"] = float(np.median(times))
        figures["photometry_of_a_mosaic_again_s"] = timed(lambda: write(0))

        def write_peer() -> None:
            rows = fluxes(ids, 0).assign(time_mjd=61099.0, mosaic_name="peer", upper_limit_jy=None).to_dict("records")
            with database.session() as session:
                session.execute(insert(Photometry), rows)

        with database.session() as session:
            queries.replace_photometry(session, "peer", fluxes(ids[:1], 0), time_mjd=61099.0)  # creates the partition
            session.execute(Photometry.__table__.delete().where(Photometry.mosaic_name == "peer"))
        figures["photometry_of_a_mosaic_peer_s"] = timed(write_peer)

        columns = ["source_id", "time_mjd", "mosaic_name", "flux_jy", "flux_err_jy", "is_limit"]
        with database.session() as session:
            figures["read_all_s"] = timed(lambda: queries.photometry(session, columns=columns))
            peer = select(*[getattr(Photometry, name) for name in columns]).order_by(Photometry.source_id, Photometry.time_mjd)
            figures["read_all_peer_s"] = timed(lambda: pd.read_sql(peer, session.connection()))
            frame = queries.photometry(session, columns=columns)
            figures["rows"] = len(frame)
        with database.session() as session:
            figures["light_curve_s"] = timed(lambda: queries.light_curve(session, int(ids[positions // 2])))
            figures["light_curve_again_s"] = timed(lambda: queries.light_curve(session, int(ids[positions // 3])))
        figures["start_again_s"] = 0.0
        database.dispose()
        server.stop()
        figures["start_again_s"] = timed(server.ensure)
        figures["answer_when_running_s"] = timed(server.ensure)
    finally:
        server.stop(immediate=True)
        shutil.rmtree(directory, ignore_errors=True)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--positions", type=int, default=60_000)
    parser.add_argument("--mosaics", type=int, default=24)
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.positions, arguments.mosaics), indent=1))
