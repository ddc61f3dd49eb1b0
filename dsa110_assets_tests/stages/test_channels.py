"""Tiles imaged in channels give fluxes in channels; a new number of channels makes images stale."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from dsa110_assets.catalogs.calibrators import read_manual, write_calibrator_db
from dsa110_assets.config import PipelineConfig
from dsa110_assets.quality import gate
from dsa110_assets.registry.database import Database
from dsa110_assets.registry.queries import (
    channel_photometry,
    photometry,
    source_table,
    upsert_image,
    upsert_measurement_set,
    upsert_qa_metric,
    upsert_sources,
)
from dsa110_assets.registry.schema import GroupState
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.products import hour, tile
from dsa110_assets.stages.products.references import calibrators_path, reference_path
from dsa110_assets.stages.provenance import recipes
from dsa110_assets.stages.queue.work import TileRun
from dsa110_assets.times import datetime_to_mjd, group_time
from dsa110_assets_tests.catalogs.manual import MANUAL
from dsa110_assets_tests.imaging.synthetic_ms import offset_position
from dsa110_assets_tests.imaging.synthetic_ms import write_tile as write_ms
from dsa110_assets_tests.mosaicking.tile_files import DRIFT_DEG, TileTruth, write_tile
from dsa110_assets_tests.registry_fixture import add_observation

SOURCES = [(128.3, 54.6, 1.4, -0.8), (129.6, 54.2, 1.25, 1.0), (130.4, 55.0, 1.3, 0.0)]
GROUP = "2026-03-12T05:00:00"
START = datetime_to_mjd(group_time(GROUP))
FREQUENCIES_HZ = (1.358e9, 1.452e9)


@pytest.fixture
def platform(registry_config: PipelineConfig, database: Database) -> Platform:
    """Three good tiles, each in two channels, and three sources with spectra."""
    with database.session() as session:
        for i in range(3):
            truth = TileTruth(
                127.5 + i * DRIFT_DEG, size=160, cell_arcsec=60.0, start_mjd=START + i * 309.2376 / 86400, beam_arcsec=(180, 150, 25)
            )
            directory = registry_config.scratch_dir / f"t{i}"
            made = write_tile(directory, truth, [one[:3] for one in SOURCES], i)
            for channel, frequency in enumerate(FREQUENCIES_HZ):
                sources = [(ra, dec, flux * (frequency / 1.4e9) ** alpha) for ra, dec, flux, alpha in SOURCES]
                write_tile(directory, truth, sources, 10 * channel + i, channel=channel, frequency_hz=frequency)
            add_observation(session, made.group_id, dec_deg=truth.dec_deg)
            upsert_image(
                session, directory=str(made.directory), group_id=made.group_id, mid_mjd=made.mid_mjd, ra_deg=truth.ra_deg, dec_deg=truth.dec_deg,
                pointing_dec_deg=truth.dec_deg, noise_jy_per_beam=0.005, thermal_jy_per_beam=0.005, peak_jy_per_beam=0.4, bmaj_arcsec=150.0,
                bmin_arcsec=120.0, bpa_deg=25.0,
            )  # fmt: skip
            for check in gate.TILE_CHECKS:
                upsert_qa_metric(session, "tile_image", made.group_id, check, 1.0, passed=True)
        frame = pd.DataFrame([one[:3] for one in SOURCES], columns=["ra_deg", "dec_deg", "reference_flux_jy"]).assign(name=["a", "b", "c"])
        upsert_sources(session, frame, origin="nvss")
    return Platform.open(registry_config)


def test_tiles_in_channels_give_fluxes_in_channels_which_are_removed_if_a_tile_has_none(platform: Platform, database: Database):
    made = hour.make_mosaic(platform, "2026-03-12", "05", "run")
    assert made is not None
    assert made.figures["channel_mosaics"] == 2
    assert "without_channels" not in made.figures
    assert [row["frequency_mhz"] for row in made.tables["channels"]] == [1358.0, 1452.0]
    measured = hour.measure(platform, "2026-03-12", "05", "run")
    assert measured is not None
    assert (measured.figures["channels"], measured.figures["measured_in_channels"]) == (2, 6)
    with database.session() as session:
        names = source_table(session).set_index("source_id")["name"]
        fluxes = channel_photometry(session, mosaic_kind="hourly")
        band = photometry(session)
    assert len(band) == 3  # channels add no rows to the fluxes of the whole band
    assert set(fluxes["time_mjd"]) == set(band["time_mjd"])
    assert fluxes.groupby("source_id")["channel"].apply(list).tolist() == [[0, 1]] * 3
    np.testing.assert_allclose(fluxes["frequency_hz"], FREQUENCIES_HZ * 3)
    of_source = dict(zip("abc", SOURCES, strict=True))
    true = [
        of_source[names[s]][2] * (f / 1.4e9) ** of_source[names[s]][3]
        for s, f in zip(fluxes["source_id"], fluxes["frequency_hz"], strict=True)
    ]
    assert np.all(np.abs(fluxes["flux_jy"] - true) < 4 * np.hypot(fluxes["flux_err_jy"], 0.004 * np.array(true)))

    # after a tile was made again without channels, no channel fluxes remain
    for file in platform.config.scratch_dir.glob("t1/*-ch*"):
        file.unlink()
    made = hour.make_mosaic(platform, "2026-03-12", "05", "again")
    assert made is not None
    assert made.figures["channel_mosaics"] == 0
    assert made.figures["without_channels"] == "not imaged in channels: 2026-03-12T05:05:09"
    measured = hour.measure(platform, "2026-03-12", "05", "again")
    assert measured is not None
    assert measured.figures["channels"] == 0
    with database.session() as session:
        assert channel_photometry(session).empty
        assert len(photometry(session)) == 3


def test_the_metadata_of_a_tile_show_its_channels_and_the_spectra_of_the_brightest_sources(
    registry_config: PipelineConfig, database: Database
):
    from dsa110_assets.orchestration.metadata import metadata_of

    config = registry_config.model_copy(update={"image_size": 256, "cell_arcsec": 12.0, "image_channels": 2, "correct_smearing": False})
    platform = Platform.open(config)
    position = offset_position(150.0, 54.6, 0.05, 0.04)
    ms = platform.paths.calibrated_ms(GROUP)
    ms.parent.mkdir(parents=True)
    write_ms(ms, [(*position, 1.0, 0.5)], n_antenna=20, n_time=4, n_channel=8)
    platform.paths.catalogs_dir.mkdir(parents=True, exist_ok=True)
    sky = pd.DataFrame({"name": ["s"], "ra_deg": position[0], "dec_deg": position[1], "flux_jy": 1.0, "spectral_index": -0.7})
    sky.to_parquet(reference_path(platform))
    write_calibrator_db(read_manual(MANUAL), calibrators_path(platform))
    with database.session() as session:
        row = add_observation(session, GROUP, state=GroupState.PENDING)
        upsert_measurement_set(
            session, path=str(ms), group_id=GROUP, kind="calibrated", status="calibrated", start_mjd=row.start_mjd, mid_mjd=row.mid_mjd,
            end_mjd=row.end_mjd, ra_deg=150.0, dec_deg=54.6, pointing_dec_deg=54.6, calibrator=None, n_channels=8, flagged_fraction=0.0, size_bytes=1,
        )  # fmt: skip
    result = tile.make_image(platform, TileRun(GROUP, "run"))
    assert result.figures["channel_images"] == 2
    assert [row["channel"] for row in result.tables["channels"]] == [0, 1]
    (spectrum,) = result.tables["spectral indices of the brightest"]
    assert spectrum["alpha"] == pytest.approx(0.5, abs=4 * spectrum["error"])
    metadata = metadata_of([result])
    assert "spectral indices of the brightest" in metadata
    assert (platform.paths.image_dir(GROUP) / f"{GROUP}-ch01-image-pb.fits").is_file()


@pytest.mark.parametrize("setting", ["image_channels", "image_spectral_terms"])
def test_another_number_of_channels_makes_images_stale(registry_config: PipelineConfig, setting: str):
    before, after = recipes.recipes(registry_config), recipes.recipes(registry_config.model_copy(update={setting: 4}))
    assert {product for product in before if before[product] != after[product]} == {"tile_image", "injection_recovery"}
