"""A solution is registered with the figures of its antennas, taken from its own tables."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from dsa110_assets.calibration.quality import assess
from dsa110_assets.calibration.solve import SolveReport
from dsa110_assets.config import PipelineConfig
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import antennas, upsert_measurement_set
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import calibrator
from dsa110_assets_tests.reference_data import reference_data, unpack
from dsa110_assets_tests.registry_fixture import add_observation

TRANSIT = "2025-10-13T13:28:03"


def test_a_solution_keeps_the_figures_of_its_antennas(
    database: Database, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The solver is replaced by one that gives the telescope's real tables of 2025-10-13."""
    platform = Platform.open(registry_config)
    with database.session() as session:
        row = add_observation(session, TRANSIT)
        upsert_measurement_set(
            session, path=str(platform.paths.measurement_set(TRANSIT)), group_id=TRANSIT, kind="raw", status="flagged", start_mjd=row.start_mjd,
            mid_mjd=row.mid_mjd, end_mjd=row.end_mjd, ra_deg=150.0, dec_deg=16.0, pointing_dec_deg=16.0, n_channels=768, flagged_fraction=0.1,
            size_bytes=1000,
        )  # fmt: skip

    def solve(*_: Any, out_dir: Path, **__: Any) -> SolveReport:
        out_dir.mkdir(parents=True, exist_ok=True)
        for name, source in (("bandpass.cal", "bpcal"), ("gain.cal", "gpcal")):
            shutil.copytree(unpack(reference_data(f"caltables/2025-10-13T13-28-03_all_{source}.tar.gz"), tmp_path), out_dir / name)
        quality = {name: assess(out_dir / name) for name in ("bandpass.cal", "gain.cal")}
        return SolveReport(
            delay=None, bandpass=out_dir / "bandpass.cal", gain=out_dir / "gain.cal", refant="103", refant_fallback=False, mid_mjd=row.mid_mjd,
            duration_s=309.0, n_channels=768, solved_bins=1, model=None, quality=quality, accepted=True, plots={},
        )  # fmt: skip

    monkeypatch.setattr(calibrator, "_solve", solve)
    monkeypatch.setattr(calibrator, "_catalog", lambda _: [])
    monkeypatch.setattr(calibrator.calibrators, "find", lambda *_: None)
    calibrator.solve_transit(platform, TRANSIT, "3C286", "run")
    with database.session() as session:
        found = antennas.solutions(session, limit=5)
    assert [one["group_id"] for one in found] == [TRANSIT]
    assert len(found[0]["antennas"]) == 96
    assert found[0]["antennas"]["110"]["amplitude"] == [None, None], "it is dead in the real bandpass"
    assert found[0]["antennas"]["24"]["amplitude"][0] > 0.1
