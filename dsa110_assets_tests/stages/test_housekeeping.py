"""Housekeeping removes what its rules name and a dry run lists, and nothing else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from sqlalchemy import select
from sqlalchemy.orm import Session

from dsa110_assets import publication
from dsa110_assets.config import PipelineConfig
from dsa110_assets.photometry.cutouts import read_cutout
from dsa110_assets.products import CHANNEL_SUFFIXES, IMAGE_SUFFIXES, SPECTRAL_SUFFIXES
from dsa110_assets.registry import photometry_partitions
from dsa110_assets.registry.audit import audit
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.images import upsert_image
from dsa110_assets.registry.queries.observations import upsert_measurement_set
from dsa110_assets.registry.queries.quality import upsert_qa_metric
from dsa110_assets.registry.queries.sources import source_table, upsert_sources
from dsa110_assets.registry.queries.storage import record_parts, retired
from dsa110_assets.registry.schema import (
    FileState,
    GroupState,
    IngestGroup,
    MeasurementSetRow,
    Photometry,
    ProductVersion,
    QaMetric,
    Source,
    SubbandFile,
    Variability,
)
from dsa110_assets.stages.operations import housekeeping, old_rows
from dsa110_assets.stages.operations.retiring import sizes_of_parts
from dsa110_assets.stages.operations.staleness import stale_partitions
from dsa110_assets.stages.platform import Platform
from dsa110_assets.stages.product import Product
from dsa110_assets.stages.products.candidates import stamp_of
from dsa110_assets.stages.provenance.recording import Measured, StageResult
from dsa110_assets.stages.provenance.versions import register
from dsa110_assets.stages.table import MEASUREMENT_SET, TABLE, TILE_IMAGE
from dsa110_assets_tests.registry_fixture import add_observation

GROUP = "2026-03-12T05:03:21"
LATER = datetime.now(UTC) + timedelta(days=400)


@pytest.fixture
def platform(registry_config, database) -> Platform:
    return Platform.open(registry_config)


def _old(path: Path, days: float = 200.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1000)
    when = path.stat().st_mtime - days * 86400
    for one in (path, path.parent):
        os.utime(one, (when, when))
    return path


def _register(session: Session, product: Product, key: str, path: Path) -> None:
    """As `stages.provenance.versions.register` does, without reading the contents, which are no images here."""
    record_version(session, product.name, key, path=path, recipe=Recipe("s", "c"), size_bytes=publication.size_bytes(path))
    record_parts(session, product.name, key, str(path), sizes_of_parts(product, path))


def _registered(platform: Platform, product: Product, key: str, path: Path, files: dict[str, int]) -> Path:
    """A product on disk, registered as its stage does."""
    path.mkdir(parents=True)
    for name, size in files.items():
        (path / name).write_bytes(b"x" * size)
    with platform.database.session() as session:
        if len(key) == 19 and session.get(IngestGroup, key) is None:
            add_observation(session, key).state = GroupState.COMPLETED.value
            session.flush()
        _register(session, product, key, path)
        if product is MEASUREMENT_SET:
            upsert_measurement_set(
                session, path=str(path), group_id=key, kind="raw", status="flagged", start_mjd=61100.0, mid_mjd=61100.1, end_mjd=61100.2,
                ra_deg=1.0, dec_deg=16.0, pointing_dec_deg=16.0, calibrator=None, n_channels=4, flagged_fraction=0.0, size_bytes=1000,
            )  # fmt: skip
    return path


def _measurement_set(platform: Platform, key: str = GROUP) -> Path:
    return _registered(platform, MEASUREMENT_SET, key, platform.paths.measurement_set(key), {"table.dat": 10, "table.f0": 990})


def _tile_image(platform: Platform) -> Path:
    planes = {f"{GROUP}-{suffix}.fits": 100 for suffix in IMAGE_SUFFIXES}
    channels = {f"{GROUP}-ch00-{suffix}.fits": 10 for suffix in CHANNEL_SUFFIXES}
    spectral = {f"{GROUP}-{suffix}.fits": 10 for suffix in SPECTRAL_SUFFIXES}
    return _registered(platform, TILE_IMAGE, GROUP, platform.paths.image_dir(GROUP), {**planes, **channels, **spectral, "preview.png": 7})


def _clean(platform: Platform, now: datetime = LATER) -> list[housekeeping.Removal]:
    return housekeeping.carry_out(platform, housekeeping.plan(platform, now), now)


def test_a_thorough_cleaning_finds_old_staging_of_releases_without_a_journal(platform) -> None:
    folder = platform.paths.scratch_dir / "images" / "2026-03-12"
    old, young = _old(folder / ".staging" / "aa" / "x.fits").parents[1], folder / ".staging-bb"
    for directory in (old / "aa", old):
        os.utime(directory, (0, 0))
    young.mkdir(parents=True)
    (young / "y.fits").write_bytes(b"y")
    assert housekeeping.plan(platform, datetime.now(UTC)) == [], "the daily cleaning does not walk"
    (removal,) = planned = housekeeping.plan(platform, datetime.now(UTC), thorough=True)
    assert (removal.rule, removal.what, removal.size_bytes) == ("staging", str(old), 1000)
    assert old.exists(), "a plan removes nothing"
    housekeeping.carry_out(platform, planned, datetime.now(UTC))
    assert not old.exists()
    assert (young / "y.fits").exists()


def test_the_longest_times_that_settings_allow_keep_everything(platform) -> None:
    longest = {
        name: next(bound.le for bound in one.metadata if hasattr(bound, "le"))
        for name, one in PipelineConfig.model_fields.items()
        if name.startswith("keep_") and one.annotation is float
    }
    assert len(longest) > 15
    _tile_image(platform)
    patient = Platform(platform.config.model_copy(update=longest), platform.paths, platform.database)
    assert housekeeping.plan(patient, LATER, thorough=True) == []


def test_a_thorough_cleaning_leaves_what_a_stage_is_writing(platform) -> None:
    with publication.publish(platform.paths.image_dir(GROUP)) as staged:
        _old(staged / "x.fits")
        os.utime(staged.parent, (0, 0))
        assert housekeeping.plan(platform, datetime.now(UTC), thorough=True) == []
        assert housekeeping.plan(platform, LATER) == []


def test_output_of_old_runs_is_removed_and_dagsters_other_files_stay(platform) -> None:
    storage = platform.paths.state_dir / "dagster" / "storage"
    old, other = _old(storage / "run1" / "compute_logs" / "a.err"), _old(storage / "keep" / "something.txt")
    os.utime(old.parent.parent, (old.stat().st_mtime,) * 2)
    assert [one.what for one in _clean(platform)] == [str(storage / "run1")]
    assert not old.exists()
    assert other.exists()


def _in(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def test_a_measurement_set_is_removed_when_it_is_old_and_its_observation_has_ended(platform) -> None:
    path = _measurement_set(platform)
    _clean(platform, _in(6.9))
    assert path.exists(), "it is young"
    with platform.database.session() as session:
        session.get_one(IngestGroup, GROUP).state = GroupState.PENDING.value
    assert _clean(platform, _in(7.1)) == [], "its observation waits for tables"
    with platform.database.session() as session:
        session.get_one(IngestGroup, GROUP).state = GroupState.COMPLETED.value
    (removal,) = _clean(platform, _in(7.1))
    assert (removal.rule, removal.what, removal.size_bytes, removal.problem) == ("measurement_sets", str(path), 1000, "")
    assert not path.parent.exists(), "nor its empty folder"
    assert _clean(platform, _in(8)) == []
    with platform.database.session() as session:
        assert session.get(MeasurementSetRow, str(path)) is None


def test_the_planes_of_a_tile_go_by_their_own_rules_and_the_preview_stays(platform) -> None:
    path = _tile_image(platform)

    def left(days: float) -> set[str]:
        _clean(platform, _in(days))
        return {file.name.removeprefix(f"{GROUP}-").removesuffix(".fits") for file in path.iterdir()}

    everything = {*IMAGE_SUFFIXES, *(f"ch00-{suffix}" for suffix in CHANNEL_SUFFIXES), *SPECTRAL_SUFFIXES, "preview.png"}
    assert left(6) == everything
    assert left(8) == everything - {"dirty", "psf", "model", "residual"}
    assert left(31) == {"image-pb", "noise", "ch00-image-pb", "alpha", "alpha-error", "preview.png"}
    assert left(91) == {"preview.png"}


def test_what_retention_removed_is_neither_missing_nor_changed_nor_stale(platform) -> None:
    _measurement_set(platform)
    path = _tile_image(platform)
    with platform.database.session() as session:
        upsert_image(
            session, directory=str(path), group_id=GROUP, mid_mjd=61100.1, ra_deg=1.0, dec_deg=16.0, pointing_dec_deg=16.0,
            noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0, bmaj_arcsec=30.0, bmin_arcsec=30.0, bpa_deg=0.0,
        )  # fmt: skip
    other = Platform(platform.config.model_copy(update={"telescope_name": "ELSEWHERE"}), platform.paths, platform.database)
    assert "measurement_set" in {one.asset for one in stale_partitions(other)}
    _clean(platform, _in(8))
    assert audit(platform.database, platform.paths, contents="size", settling_s=0.0) == []
    with platform.database.session() as session:
        assert retired(session, [("measurement_set", GROUP), ("tile_image", GROUP)]) == {("measurement_set", GROUP)}
        assert retired(session, [("tile_image", GROUP)], ["working_planes"]) == {("tile_image", GROUP)}
    assert "measurement_set" not in {one.asset for one in stale_partitions(other)}


def test_a_product_that_was_made_again_is_kept_as_long_as_a_new_one(platform) -> None:
    path = _measurement_set(platform)
    _clean(platform, _in(8))
    assert not path.exists()
    _measurement_set(platform)
    with platform.database.session() as session:
        assert retired(session, [("measurement_set", GROUP)]) == set()
    (planned,) = housekeeping.plan(platform, _in(8))
    with platform.database.session() as session:  # made again between plan and removal
        _register(session, MEASUREMENT_SET, GROUP, path)
    housekeeping.carry_out(platform, [planned], _in(8))
    assert path.exists()


def test_an_observation_that_a_run_has_leased_keeps_its_sets(platform) -> None:
    path = _measurement_set(platform)
    (planned,) = housekeeping.plan(platform, _in(8))
    with platform.database.session() as session:
        group = session.get_one(IngestGroup, GROUP)
        group.state, group.lease_owner = GroupState.IN_PROGRESS.value, "a backfill"
    housekeeping.carry_out(platform, [planned], _in(8))
    assert path.exists()


def test_a_broken_product_is_named_and_marked_and_the_others_are_removed(platform, monkeypatch) -> None:
    keys = [f"2026-03-12T05:0{minute}:21" for minute in range(4)]
    paths = [_measurement_set(platform, key) for key in keys]
    (paths[0] / "table.dat").unlink()  # not a Measurement Set any more: that is no obstacle
    elsewhere = platform.paths.state_dir / "elsewhere"
    paths[1].rename(elsewhere)
    paths[1].symlink_to(elsewhere)
    rename = Path.rename
    monkeypatch.setattr(Path, "rename", lambda path, to: rename(path, to) if path != paths[2] else (_ for _ in ()).throw(PermissionError(13, "Permission denied", str(path))))  # fmt: skip
    problems = {one.what: one.problem for one in _clean(platform, _in(8))}
    assert [path.exists() for path in paths] == [False, True, True, False]
    assert "symbolic link" in problems[str(paths[1])]
    assert "Permission denied" in problems[str(paths[2])]
    assert problems[str(paths[0])] == problems[str(paths[3])] == ""
    assert _clean(platform, _in(9)) == [], "the marked ones are not tried every day"
    monkeypatch.setattr(Path, "rename", rename)
    thorough = housekeeping.carry_out(platform, housekeeping.plan(platform, _in(9), thorough=True), _in(9))
    assert {one.what: bool(one.problem) for one in thorough} == {str(paths[1]): True, str(paths[2]): False}
    assert elsewhere.exists()


def test_nothing_outside_the_folders_of_products_is_removed(platform) -> None:
    raw = platform.config.input_dir / "raw.ms"
    _registered(platform, MEASUREMENT_SET, GROUP, raw, {"table.dat": 1})
    (removal,) = _clean(platform, _in(8))
    assert "outside" in removal.problem
    assert raw.exists()


def test_zero_days_keep_a_part_forever(platform) -> None:
    path = _measurement_set(platform)
    forever = Platform(platform.config.model_copy(update={"keep_measurement_sets_days": 0.0}), platform.paths, platform.database)
    assert _clean(forever, _in(9000)) == []
    assert path.exists()


def test_every_image_suffix_has_a_rule() -> None:
    tile = {suffix for part in TILE_IMAGE.parts for suffix in part.suffixes}
    assert tile == {*IMAGE_SUFFIXES, *SPECTRAL_SUFFIXES}
    assert set(CHANNEL_SUFFIXES) == {suffix for part in TILE_IMAGE.parts for suffix in part.channel_suffixes}
    for part in [part for row in TABLE for part in row.parts]:
        assert part.setting in PipelineConfig.model_fields


def test_rows_of_deleted_raw_files_and_old_quality_figures_are_removed_in_batches(platform, monkeypatch) -> None:
    monkeypatch.setattr(old_rows, "BATCH", 7)
    with platform.database.session() as session:
        add_observation(session, GROUP)
        for number in range(20):
            state = FileState.GONE if number else FileState.ACCEPTED
            session.add(SubbandFile(path=f"/data/{number}", group_id=GROUP, subband=number, state=state, size_bytes=1, mtime_ns=1))
            upsert_qa_metric(session, "tile_image", GROUP, f"check {number}", 1.0, passed=True)
    assert _clean(platform, _in(29)) == []
    assert [one.what for one in _clean(platform, _in(31))] == ["19 raw files that were deleted from the input directory"]
    assert [one.rule for one in _clean(platform, _in(1096))] == ["quality"]
    with platform.database.session() as session:
        assert session.scalars(select(SubbandFile.path)).all() == ["/data/0"]
        assert session.scalars(select(QaMetric.metric)).all() == []


def test_variability_of_past_nights_goes_and_the_newest_night_stays(platform) -> None:
    today = datetime.now(UTC).date()
    with platform.database.session() as session:
        upsert_sources(session, pd.DataFrame({"name": ["a", "b"], "ra_deg": [1.0, 2.0], "dec_deg": 16.0}), origin="nvss")
        ids = source_table(session)["source_id"]
        for days in (3, 2, 1):
            night = today - timedelta(days=days)
            session.add_all([Variability(source_id=one, night=night, n_epochs=3, mean_flux_jy=1.0) for one in ids])
    assert _clean(platform, _in(87)) == []
    assert [(one.rule, one.what) for one in _clean(platform, _in(89))] == [
        ("variability", "4 variability figures of sources as of past nights")
    ]
    assert _clean(platform, _in(900)) == [], "the figures of the newest night are what pages and commands show"
    with platform.database.session() as session:
        assert set(session.scalars(select(Variability.night))) == {today - timedelta(days=1)}


def test_superseded_versions_are_removed_unless_a_product_was_made_from_them(platform) -> None:
    def make(session, product, inputs=None):
        return record_version(session, product, GROUP, inputs=inputs or {}, recipe=Recipe("s", "c"))

    with platform.database.session() as session:
        unused, used = make(session, "measurement_set"), make(session, "measurement_set")
        image = make(session, "tile_image", {f"measurement_set/{GROUP}": used})
        newest = make(session, "measurement_set")
    assert _clean(platform, datetime.now(UTC)) == [], "they are young"
    first = _clean(platform)
    assert [(one.rule, one.what) for one in first] == [("versions", "1 superseded versions that no version in the registry was made from")]
    with platform.database.session() as session:
        left = {row.version_id for row in session.query(ProductVersion)}
    assert left == {used, image, newest}
    assert unused not in left
    assert _clean(platform) == []


def test_the_image_of_an_hour_leaves_cutouts_of_the_sources_measured_in_it(platform) -> None:
    name = "hourly_2026-03-12T05"
    path = platform.paths.mosaic_dir(name)
    path.mkdir(parents=True)
    header = fits.Header({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN", "CRVAL1": 180.0, "CRVAL2": 16.0, "CRPIX1": 51, "CRPIX2": 51, "CDELT1": -1e-3,
                          "CDELT2": 1e-3, "CUNIT1": "deg", "CUNIT2": "deg", "BMAJ": 0.01, "BMIN": 0.01, "BPA": 0.0, "BUNIT": "Jy/beam"})  # fmt: skip
    pixels = np.random.default_rng(1).normal(0, 1e-3, (101, 101)).astype(np.float32)
    pixels[50, 50] = 1.0
    fits.writeto(path / f"{name}-image.fits", pixels, header)
    with platform.database.session() as session:
        photometry_partitions.ensure(session, 61111.0, 61111.0)
        for number, (measured, ra) in enumerate(((True, 180.0), (False, 180.01)), 1):
            session.add(Source(source_id=number, name=f"s{number}", ra_deg=ra, dec_deg=16.0, origin="nvss"))
            if measured:
                session.add(Photometry(time_mjd=61111.2, source_id=number, mosaic_name=name, flux_jy=1.0, flux_err_jy=1e-3, noise_jy_per_beam=1e-3, background_jy_per_beam=0.0, snr=1e3, is_limit=False))  # fmt: skip
        register(session, platform, StageResult(TABLE["hourly_mosaic"].name, name[7:]), path=path, inputs={}, cost=Measured(), run_id="run")
    before = stamp_of(path, name, 1, 180.0, 16.0)
    _clean(platform, _in(364))
    assert (path / f"{name}-image.fits").exists()
    _clean(platform, _in(366))
    assert [file.name for file in path.iterdir()] == [f"{name}-cutouts.fits"]
    after = stamp_of(path, name, 1, 180.0, 16.0)
    assert before is not None
    assert after is not None
    middle = before.shape[0] // 2
    assert after[after.shape[0] // 2, after.shape[1] // 2] == pytest.approx(before[middle, middle], abs=2e-4)
    assert read_cutout(path / f"{name}-cutouts.fits", 2) is None


def test_an_image_of_an_hour_that_cannot_be_read_stays_and_is_named(platform) -> None:
    name = "hourly_2026-03-12T05"
    path = _registered(platform, TABLE["hourly_mosaic"], "2026-03-12T05", platform.paths.mosaic_dir(name), {f"{name}-image.fits": 100})
    with platform.database.session() as session:
        photometry_partitions.ensure(session, 61111.0, 61111.0)
        session.add(Source(source_id=1, name="s", ra_deg=1.0, dec_deg=16.0, origin="nvss"))
        session.add(Photometry(time_mjd=61111.2, source_id=1, mosaic_name=name, flux_jy=1.0, flux_err_jy=1e-3, noise_jy_per_beam=1e-3, background_jy_per_beam=0.0, snr=1e3, is_limit=False))  # fmt: skip
    problems = {removal.rule: removal.problem for removal in _clean(platform, _in(366))}
    assert f"{name}-image.fits" in problems["hourly_images"]
    assert (path / f"{name}-image.fits").exists()
