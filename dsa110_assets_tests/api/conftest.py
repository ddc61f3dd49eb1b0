"""The API over a small registry: three imaged observations, tables, two mosaics, three sources, a candidate."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import numpy as np
import pandas as pd
import pytest
import uvicorn
from astropy.io import fits
from astropy.wcs import WCS
from fastapi.testclient import TestClient

from dsa110_assets.api.app import create_app
from dsa110_assets.cli.services import free_port, stop_tree
from dsa110_assets.config import PipelineConfig
from dsa110_assets.products import ProductPaths, image_path
from dsa110_assets.quality import gate
from dsa110_assets.registry import queries
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries import people
from dsa110_assets.registry.queries.variability import save_events
from dsa110_assets.registry.schema import GroupState, SubbandFile
from dsa110_assets_tests.registry_fixture import Contents, add_observation

ROOT = Path(__file__).parents[2]
GROUPS = ("2026-03-01T05:00:09", "2026-03-01T05:05:18", "2026-03-01T05:10:27")
CALIBRATOR = GROUPS[0]
FAILED = "2026-03-01T05:15:36"
HOUR, NIGHT = "hourly_2026-03-01T05", "nightly_2026-03-01"
STRANGE = "<b>'; DROP TABLE sources; --"
"""Name of a source with markup and SQL in it."""
RA, DEC = 120.0, 16.0


@dataclass(frozen=True)
class Served:
    """A running API: ``get`` and ``client`` without a token, ``headers`` with the one of J. Doe."""

    client: TestClient
    headers: dict[str, str]
    config: PipelineConfig
    database: Database
    sources: list[int]
    versions: dict[str, int]

    def get(self, url: str, status: int = 200, **parameters: object):
        answer = self.client.get(url, params=parameters or None)  # an empty dictionary would remove the query of the address
        assert answer.status_code == status, answer.text
        return answer


def write_image(path: Path, size: int = 200) -> np.ndarray:
    """Write an image of 20 arcsec pixels around (`RA`, `DEC`), in which each pixel has its own value; return it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.cdelt = ["RA---SIN", "DEC--SIN"], [RA, DEC], [-20 / 3600, 20 / 3600]
    wcs.wcs.crpix = [size / 2 + 1] * 2
    header = wcs.to_header()
    header["BUNIT"], header["BMAJ"], header["BMIN"], header["BPA"] = "Jy/beam", 40 / 3600, 30 / 3600, 10.0
    pixels = np.arange(size * size, dtype=np.float32).reshape(size, size) * 1e-6
    fits.PrimaryHDU(pixels[None, None], header=header).writeto(path)
    return pixels


@dataclass(frozen=True)
class _Small:
    """The small registry that this process has made. ``home``: of its directories; ``kept``: copy of its products."""

    home: Path
    kept: Path
    contents: Contents
    sources: list[int]
    versions: dict[str, int]


_made: list[_Small] = []


def fill(database: Database, config: PipelineConfig) -> tuple[list[int], dict[str, int]]:
    """Fill the registry, and write the image of the second observation and the hour's mosaic.

    The first call in a process does the work; later ones copy what it has made.
    """
    home = config.scratch_dir.parent
    if not _made:
        sources, versions = _fill(database, config)
        kept = Path(tempfile.mkdtemp(prefix="dsa110-small-"))
        atexit.register(shutil.rmtree, kept, ignore_errors=True)
        shutil.copytree(config.scratch_dir, kept, dirs_exist_ok=True)
        _made.append(_Small(home, kept, Contents.of(database), sources, versions))
        return list(sources), dict(versions)
    small = _made[0]
    shutil.copytree(small.kept, config.scratch_dir, dirs_exist_ok=True)
    small.contents.moved(str(small.home), str(home)).put(database, photometry_mjd=61_100.21)
    return list(small.sources), dict(small.versions)


def _fill(database: Database, config: PipelineConfig) -> tuple[list[int], dict[str, int]]:
    paths = ProductPaths.of(config)
    versions: dict[str, int] = {}
    recipe = Recipe("code", "settings")
    with database.session() as session:
        for number, group_id in enumerate(GROUPS):
            row = add_observation(session, group_id)
            row.calibrator = "0834+555" if group_id == CALIBRATOR else None
            row.completed_at = datetime.now(UTC)
            queries.upsert_measurement_set(
                session, path=f"/ms/{group_id}.ms", group_id=group_id, kind="raw", status="flagged", start_mjd=row.start_mjd,
                mid_mjd=row.mid_mjd, end_mjd=row.end_mjd, ra_deg=RA, dec_deg=DEC, pointing_dec_deg=DEC, n_channels=768,
                flagged_fraction=0.1, size_bytes=1000,
            )  # fmt: skip
            directory = paths.image_dir(group_id)
            queries.upsert_image(
                session, directory=str(directory), group_id=group_id, mid_mjd=row.mid_mjd, ra_deg=RA + number, dec_deg=DEC,
                pointing_dec_deg=DEC, noise_jy_per_beam=1e-3 * (3 - number), thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0,
                bmaj_arcsec=40, bmin_arcsec=30, bpa_deg=10,
            )  # fmt: skip
            for name in gate.TILE_CHECKS:
                queries.upsert_qa_metric(
                    session, "tile_image", group_id, name, 1.0 + number, passed=number < 2 or name != "dynamic_range", reason="as measured"
                )
        add_observation(session, FAILED, state=GroupState.FAILED).error = "<script>alert(1)</script>"
        for subband in range(16):
            path = f"/in/{FAILED}_sb{subband:02d}.hdf5"
            session.add(SubbandFile(path=path, group_id=FAILED, subband=subband, state="accepted", size_bytes=5, mtime_ns=1))
        session.add(SubbandFile(path="/in/a.hdf5", group_id=GROUPS[1], subband=0, state="accepted", size_bytes=5, mtime_ns=1))
        session.flush()
        queries.upsert_caltables(
            session, directory="/cal/1", group_id=CALIBRATOR, night="2026-03-01", calibrator="0834+555", refant="103", mid_mjd=61_100.21,
            valid_from_mjd=61_099.0, valid_to_mjd=61_101.0, pointing_dec_deg=DEC, accepted=True, reasons=[], quality={"snr": 50.0},
        )  # fmt: skip
        queries.record_calibration_applied(session, group_id=GROUPS[1], caltable_directory="/cal/1", rung="same-night", hours_away=-0.1)
        for name, kind in ((HOUR, "hourly"), (NIGHT, "nightly")):
            queries.upsert_mosaic(
                session, name=name, kind=kind, directory=str(paths.mosaic_dir(name)), start_mjd=61_100.2, mid_mjd=61_100.21,
                end_mjd=61_100.25, ra_deg=RA, dec_deg=DEC, noise_jy_per_beam=5e-4, group_ids=GROUPS,
            )  # fmt: skip
        frame = pd.DataFrame({"name": ["J0800+1600", "J0804+1600", STRANGE], "ra_deg": [RA, RA + 1, 359.99], "dec_deg": [DEC, DEC, -5.0]})
        sources = [int(one) for one in queries.upsert_sources(session, frame, origin="nvss")]
        fluxes = pd.DataFrame(
            {
                "source_id": sources, "flux_jy": [0.1, 0.2, 0.3], "flux_err_jy": 1e-3, "calibration_err_jy": 6e-4, "noise_jy_per_beam": 8e-4,
                "background_jy_per_beam": 0.0, "snr": 100.0, "upper_limit_jy": np.nan, "is_limit": False,
            }
        )  # fmt: skip
        queries.replace_photometry(session, HOUR, fluxes, time_mjd=61_100.21)
        figures = pd.DataFrame(
            {
                "source_id": sources, "n_epochs": 5, "mean_flux_jy": [0.1, 0.2, 0.3], "eta": [1.0, 9.0, 3.0], "v": [0.1, 0.5, np.nan],
                "vs": 1.0, "m": 0.1, "chi2": 5.0, "chi2_probability": 0.4, "ese_score": [1.0, 8.0, 2.0],
            }
        )  # fmt: skip
        queries.replace_variability(session, "2026-03-01", figures)
        found = pd.DataFrame(
            {
                "source_id": sources[1:2], "event_id": 0, "kind": "dip", "rank": 1, "score": 8.0, "epoch_mjd": 61_100.2,
                "first_mjd": 61_100.1, "last_mjd": 61_100.3, "depth": 0.5, "false_alarm_probability": 1e-6, "reasons": "a dip",
            }
        )  # fmt: skip
        found["event_id"] = save_events(session, "2026-03-01", found)
        queries.replace_candidates(session, "2026-03-01", found)
    write_image(image_path(paths.image_dir(GROUPS[1]), GROUPS[1], "image-pb"))
    (paths.image_dir(GROUPS[1]) / f"{GROUPS[1]}-preview.png").write_bytes(b"\x89PNG picture")
    (paths.image_dir(GROUPS[1]) / "passwords.txt").write_text("not a product")
    write_image(image_path(paths.mosaic_dir(HOUR), HOUR, "image"), 400)  # covers the first two sources
    with database.session() as session:
        calibrated = record_version(session, "calibrated_ms", GROUPS[1], inputs={}, recipe=recipe)
        image = record_version(
            session,
            "tile_image",
            GROUPS[1],
            path=paths.image_dir(GROUPS[1]),
            inputs={f"calibrated_ms/{GROUPS[1]}": calibrated},
            recipe=recipe,
        )
        mosaic = record_version(
            session, "hourly_mosaic", "2026-03-01T05", path=paths.mosaic_dir(HOUR), inputs={str(paths.image_dir(GROUPS[1])): image},
            recipe=recipe,
        )  # fmt: skip
    return sources, versions | {"calibrated_ms": calibrated, "tile_image": image, "hourly_mosaic": mosaic}


@pytest.fixture
def served(database: Database, registry_config: PipelineConfig) -> Iterator[Served]:
    """The API over the small registry. Dagster does not run: its port is closed."""
    config = registry_config.model_copy(update={"dagster_port": 1})
    sources, versions = fill(database, config)
    with database.session() as session:
        token = people.new_token(session, "J. Doe")
    with TestClient(create_app(config), raise_server_exceptions=False) as client:
        yield Served(client, {"Authorization": f"Bearer {token}"}, config, database, sources, versions)


@contextmanager
def serving(config: PipelineConfig) -> Iterator[None]:
    """Serve the API of a configuration on its port."""
    server = uvicorn.Server(uvicorn.Config(create_app(config), host="127.0.0.1", port=config.api_port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield
    server.should_exit = True
    thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.fixture
def running(database: Database, registry_config: PipelineConfig, monkeypatch: pytest.MonkeyPatch) -> Iterator[PipelineConfig]:
    """The API on a port of this machine, over the small registry; the environment of J. Doe, who has a token."""
    config = registry_config.model_copy(
        update={"dagster_port": (port := free_port()), "api_port": free_port(), "ui_url": f"http://127.0.0.1:{port}"}
    )
    fill(database, config)
    with database.session() as session:
        monkeypatch.setenv("PIPELINE_API_TOKEN", people.new_token(session, "J. Doe"))
    monkeypatch.setenv("PIPELINE_API_PORT", str(config.api_port))
    with serving(config):
        yield config


@pytest.fixture
def dagster_ui(running: PipelineConfig, tmp_path: Path) -> Iterator[None]:
    """A Dagster UI with the platform's definitions and a history of its own. Without a daemon, runs stay queued."""
    home = tmp_path / "dagster-home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "PIPELINE_STATE_DIR": str(running.state_dir),
        "PIPELINE_DATABASE_URL": running.database_url.get_secret_value() if running.database_url else "",
    }
    command = [Path(sys.executable).parent / "dagster-webserver", "-w", ROOT / "workspace.yaml", "-p", str(running.dagster_port)]
    with (tmp_path / "webserver.log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=ROOT)
        try:
            deadline = time.monotonic() + 600
            while True:
                try:
                    httpx2.get(f"http://127.0.0.1:{running.dagster_port}/server_info", trust_env=False)
                    break
                except httpx2.HTTPError:
                    assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "webserver.log").read_text()  # noqa: PT018
                    time.sleep(0.2)
            yield
        finally:
            stop_tree(server.pid, 20)
