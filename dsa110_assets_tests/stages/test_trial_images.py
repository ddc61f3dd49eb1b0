"""A trial image has the settings that were asked for, and changes nothing that exists."""

from __future__ import annotations

import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import text

from dsa110_assets.catalogs.calibrators import read_manual, write_calibrator_db
from dsa110_assets.config import PipelineConfig
from dsa110_assets.errors import InvalidRequestError, NonRetriableError
from dsa110_assets.registry.audit import audit
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import upsert_measurement_set
from dsa110_assets.stages.operations import trial_images
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products.references import calibrators_path, reference_path
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.imaging.synthetic_ms import offset_position, write_tile
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-12T05:00:00"


@pytest.fixture
def platform(registry_config: PipelineConfig, database: Database) -> Platform:
    """A calibrated observation with one source."""
    config = registry_config.model_copy(update={"image_size": 256, "cell_arcsec": 12.0, "correct_smearing": False})
    platform = Platform.open(config)
    position = offset_position(150.0, 54.6, 0.05, 0.04)
    ms = platform.paths.calibrated_ms(GROUP)
    ms.parent.mkdir(parents=True)
    write_tile(ms, [(*position, 1.0, 0.5)], n_antenna=20, n_time=4, n_channel=8)
    platform.paths.catalogs_dir.mkdir(parents=True, exist_ok=True)
    sky = pd.DataFrame({"name": ["s"], "ra_deg": position[0], "dec_deg": position[1], "flux_jy": 1.0, "spectral_index": -0.7})
    sky.to_parquet(reference_path(platform))
    write_calibrator_db(read_manual(MANUAL), calibrators_path(platform))
    with database.session() as session:
        row = add_observation(session, GROUP)
        upsert_measurement_set(
            session, path=str(ms), group_id=GROUP, kind="calibrated", status="calibrated", start_mjd=row.start_mjd, mid_mjd=row.mid_mjd,
            end_mjd=row.end_mjd, ra_deg=150.0, dec_deg=54.6, pointing_dec_deg=54.6, calibrator=None, n_channels=8, flagged_fraction=0.0, size_bytes=1,
        )  # fmt: skip
    return platform


def rows(database: Database) -> dict[str, int]:
    """Number of rows of each table that knows products."""
    tables = ("images", "product_versions", "qa_metrics", "ms_index", "calibration_applied")
    with database.session() as session:
        return {name: session.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in tables}


def _audit(database: Database, platform: Platform) -> list[str]:
    return [str(one) for one in audit(database, platform.paths, settling_s=0)]


def test_a_trial_has_its_settings_and_registers_nothing(platform: Platform, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    before, unregistered = rows(database), _audit(database, platform)
    folder, figures = trial_images.image_on_trial(platform, GROUP, {"image_size": 128, "briggs_robust": -1.0}, "aaaaaaaa-1")
    with fits.open(folder / f"{GROUP}-image-pb.fits") as hdus:
        assert hdus[0].header["NAXIS1"] == 128
        assert "briggs_robust" in hdus[0].header["DSATRIAL"]
    (one,) = trial_images.trials(platform.paths)
    assert (one.observation, one.settings, one.run_id) == (GROUP, {"image_size": 128, "briggs_robust": -1.0}, "aaaaaaaa-1")
    assert str(figures["verdict"]).startswith(one.verdict)
    assert trial_images.preview(platform.paths, one.name).read_bytes().startswith(b"\x89PNG")
    assert rows(database) == before
    assert _audit(database, platform) == unregistered
    assert not platform.paths.image_dir(GROUP).exists()
    monkeypatch.setattr(trial_images, "MOST", 1)
    trial_images.image_on_trial(platform, GROUP, {"niter": 0, "image_size": 128}, "bbbbbbbb-2")
    (newest,) = trial_images.trials(platform.paths)
    assert newest.settings == {"niter": 0, "image_size": 128}, "the oldest goes"
    trial_images.throw_away(platform.paths, newest.name)
    assert trial_images.trials(platform.paths) == []


@pytest.mark.parametrize(
    "settings", [{}, {"gridder": 1}, {"niter": 1.5}, {"niter": -1}, {"niter": True}, {"cell_arcsec": "3"}, {"cell_arcsec": float("nan")}]
)
def test_wrong_settings_of_a_trial_are_refused(settings: dict) -> None:
    with pytest.raises(InvalidRequestError, match="setting"):
        trial_images.checked(settings)


def test_a_trial_needs_a_calibrated_observation(registry_config: PipelineConfig, database: Database) -> None:
    with pytest.raises(NonRetriableError, match="no calibrated Measurement Set"):
        trial_images.image_on_trial(Platform.open(registry_config), GROUP, {"niter": 0}, "cccccccc")
