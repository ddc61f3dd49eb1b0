"""Housekeeping removes what its rules name and a dry run lists, and nothing else."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from dsa110_assets import publication
from dsa110_assets.registry.provenance import Recipe, record_version
from dsa110_assets.registry.queries.images import upsert_image
from dsa110_assets.registry.queries.observations import upsert_measurement_set
from dsa110_assets.registry.schema import MeasurementSetRow, ProductVersion
from dsa110_assets.stages.operations import housekeeping
from dsa110_assets.stages.platform import Platform
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


def _measurement_set(platform: Platform, *columns: str) -> Path:
    from casacore.tables import makearrcoldesc, maketabdesc, table

    path = platform.paths.measurement_set(GROUP)
    path.parent.mkdir(parents=True, exist_ok=True)
    description = maketabdesc([makearrcoldesc(name, 0j, ndim=2, shape=[4, 2], valuetype="complex") for name in ("DATA", *columns)])
    with table(str(path), description, nrow=3, ack=False) as main:
        for name in ("DATA", *columns):
            main.putcol(name, np.full((3, 4, 2), 2.0 + 1j, np.complex64))
    with platform.database.session() as session:
        add_observation(session, GROUP)
        upsert_measurement_set(
            session, path=str(path), group_id=GROUP, kind="raw", status="flagged", start_mjd=61100.0, mid_mjd=61100.1, end_mjd=61100.2,
            ra_deg=1.0, dec_deg=16.0, pointing_dec_deg=16.0, calibrator=None, n_channels=4, flagged_fraction=0.0, size_bytes=1000,
        )  # fmt: skip
    return path


def _clean(platform: Platform, now: datetime = LATER) -> list[housekeeping.Removal]:
    planned = housekeeping.plan(platform, now)
    housekeeping.carry_out(platform, planned, now)
    return planned


def test_a_thorough_cleaning_finds_old_staging_of_releases_without_a_journal(platform) -> None:
    folder = platform.paths.scratch_dir / "images" / "2026-03-12" / ".staging"
    old, young = _old(folder / "aa" / "x.fits"), folder / "bb"
    young.mkdir(parents=True)
    (young / "y.fits").write_bytes(b"y")
    assert housekeeping.plan(platform, datetime.now(UTC)) == [], "the daily cleaning does not walk"
    (removal,) = planned = housekeeping.plan(platform, datetime.now(UTC), thorough=True)
    assert (removal.rule, removal.what, removal.size_bytes) == ("staging", str(old.parent), 1000)
    assert old.exists(), "a plan removes nothing"
    housekeeping.carry_out(platform, planned, datetime.now(UTC))
    assert not old.parent.exists()
    assert (young / "y.fits").exists()


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


def test_model_columns_are_removed_and_the_data_stay(platform) -> None:
    from casacore.tables import table

    path = _measurement_set(platform, "MODEL_DATA", "CORRECTED_DATA")
    assert housekeeping.plan(platform, datetime.now(UTC)) == [], "they are young"
    (removal,) = _clean(platform, datetime.now(UTC) + timedelta(days=8))
    assert removal.size_bytes == 2 * 3 * 4 * 2 * 8
    with table(str(path), ack=False) as main:
        assert main.colnames() == ["DATA"]
        assert (main.getcol("DATA") == 2.0 + 1j).all()


def test_measurement_sets_are_removed_only_if_configured_and_imaged(platform) -> None:
    path = _measurement_set(platform)
    configured = Platform(platform.config.model_copy(update={"keep_measurement_sets_days": 30.0}), platform.paths, platform.database)
    assert _clean(platform) == []
    assert _clean(configured) == [], "it has no image yet"
    with platform.database.session() as session:
        upsert_image(
            session, directory="/images/x", group_id=GROUP, mid_mjd=61100.1, ra_deg=1.0, dec_deg=16.0, pointing_dec_deg=16.0,
            noise_jy_per_beam=1e-3, thermal_jy_per_beam=1e-3, peak_jy_per_beam=1.0, bmaj_arcsec=30.0, bmin_arcsec=30.0, bpa_deg=0.0,
        )  # fmt: skip
    assert [one.rule for one in _clean(configured)] == ["measurement_sets"]
    assert not path.exists()
    with platform.database.session() as session:
        assert session.get(MeasurementSetRow, str(path)) is None


def test_superseded_versions_are_removed_unless_a_product_was_made_from_them(platform) -> None:
    def make(session, product, inputs=None):
        return record_version(session, product, GROUP, inputs=inputs or {}, recipe=Recipe("s", "c"))

    with platform.database.session() as session:
        unused, used = make(session, "measurement_set"), make(session, "measurement_set")
        image = make(session, "tile_image", {f"measurement_set/{GROUP}": used})
        newest = make(session, "measurement_set")
    assert _clean(platform, datetime.now(UTC)) == [], "they are young"
    assert [one.rule for one in _clean(platform)] == ["versions"]
    with platform.database.session() as session:
        left = {row.version_id for row in session.query(ProductVersion)}
    assert left == {used, image, newest}
    assert unused not in left
    assert _clean(platform) == []
