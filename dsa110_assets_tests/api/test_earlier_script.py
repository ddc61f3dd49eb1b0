"""A script that a user of the earlier pipeline had runs to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from dsa110_assets.catalogs import calibrators
from dsa110_assets.config import PipelineConfig
from dsa110_assets.quality import gate
from dsa110_assets.registry import queries
from dsa110_assets.registry.database import Database
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import calibrators_path
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.registry_fixture import add_observation


def add_transit_of_0834_555(platform: Platform, database: Database) -> None:
    """An image of the guide's calibrator when it crossed the meridian, and the catalog that knows it."""
    manual = calibrators.read_manual(MANUAL)
    star = calibrators.find(manual.entries, "0834+555")
    path = calibrators_path(platform)
    path.parent.mkdir(parents=True, exist_ok=True)
    calibrators.write_calibrator_db(manual, path)
    with database.session() as session:
        group_id = "2026-03-02T05:10:00"
        row = add_observation(session, group_id)
        queries.upsert_image(
            session, directory=str(platform.paths.image_dir(group_id)), group_id=group_id, mid_mjd=row.mid_mjd, ra_deg=star.ra_deg,
            dec_deg=star.dec_deg, pointing_dec_deg=star.dec_deg, noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3,
            peak_jy_per_beam=1.0, bmaj_arcsec=40, bmin_arcsec=30, bpa_deg=10,
        )  # fmt: skip
        for name in gate.TILE_CHECKS:
            queries.upsert_qa_metric(session, "tile_image", group_id, name, 1.0, passed=True)


def test_a_script_of_the_earlier_guide_runs_against_the_promised_addresses(
    running: PipelineConfig, database: Database, dagster_ui: None
) -> None:
    add_transit_of_0834_555(Platform.open(running), database)
    environment = os.environ | {
        f"PIPELINE_{name.upper()}": str(getattr(running, name)) for name in ("input_dir", "output_dir", "scratch_dir", "state_dir")
    }
    script = Path(__file__).parent / "earlier_script.py"
    done = subprocess.run([sys.executable, script], check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
